package ws_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/ws"
)

func get(path, etag string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	ws.ClientJS(w, r)
	return w
}

func TestClientJS(t *testing.T) {
	file, err := os.ReadFile("client.js")
	if err != nil {
		t.Fatal(err)
	}
	script, module := get("/client.js", ""), get("/client.mjs", "")
	if !bytes.Equal(script.Body.Bytes(), file) || !bytes.HasPrefix(module.Body.Bytes(), file) {
		t.Error("not the file")
	}
	if strings.Contains(script.Body.String(), "\nexport ") || !strings.Contains(module.Body.String(), "\nexport ") {
		t.Error("the module exports, and the script does not")
	}
	for _, w := range []*httptest.ResponseRecorder{script, module} {
		if typ := w.Header().Get("Content-Type"); w.Code != http.StatusOK || typ != "text/javascript; charset=utf-8" {
			t.Errorf("%d %s", w.Code, typ)
		}
	}
	tag := script.Header().Get("ETag")
	if w := get("/client.js", tag); w.Code != http.StatusNotModified || get("/client.mjs", tag).Code != http.StatusOK {
		t.Errorf("with the tag: %d", w.Code)
	}
	if n := bytes.Count(file, []byte("\n")); n > 350 {
		t.Errorf("client.js has %d lines, more than 350", n)
	}
}

// TestClientJSLogic runs the script's own tests, which need no browser. Those with a browser, in the module
// browsertest, always run in CI.
func TestClientJSLogic(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("SKIPPED: no node on the PATH")
	}
	module := filepath.Join(t.TempDir(), "client.mjs")
	if err := os.WriteFile(module, get("/client.mjs", "").Body.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/client_test.mjs")
	cmd.Env = append(os.Environ(), "CLIENT="+module)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

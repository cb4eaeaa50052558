package ws_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	if n := bytes.Count(file, []byte("\n")); n > 780 {
		t.Errorf("client.js has %d lines, more than 780", n)
	}
}

// TestClientTypes: they have every member of the class, and every option that the script's documentation names. The
// module interop checks them with the compiler.
func TestClientTypes(t *testing.T) {
	file, err := os.ReadFile("client.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	global, module := get("/client.d.ts", ""), get("/client.d.mts", "")
	if !bytes.Equal(global.Body.Bytes(), file) || !bytes.HasPrefix(module.Body.Bytes(), file) ||
		!strings.Contains(module.Body.String(), "\nexport import Client ") || strings.Contains(string(file), "\nexport ") {
		t.Error("not the file, or not the module's")
	}
	script := get("/client.js", "").Body.String()
	names := regexp.MustCompile(`(?m)^    (?:async |get )?(\w+)\(|\b(on[a-z]+|giveUp|[a-z]+Backoff|dialTimeout|requestTimeout|awayBytes|writeLimit|stream[A-Z][a-z]+)\(?[:,(; ]`)
	found := 0
	for _, m := range names.FindAllStringSubmatch(script, -1) {
		name := m[1] + m[2]
		if slices.Contains([]string{"onopen", "onmessage", "onclose", "once", "only", "one", "send", "limit"}, name) {
			continue // not the client's
		}
		found++
		if !regexp.MustCompile(`\b` + name + `\b`).Match(file) {
			t.Errorf("client.d.ts has no %s", name)
		}
	}
	if found < 30 {
		t.Errorf("only %d names were found in client.js", found)
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
	for _, tests := range []string{"client_test.mjs", "stream_test.mjs"} {
		cmd := exec.CommandContext(t.Context(), node, "testdata/"+tests)
		cmd.Env = append(os.Environ(), "CLIENT="+module)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", tests, err, out)
		}
	}
}

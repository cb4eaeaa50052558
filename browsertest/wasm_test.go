package browsertest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

const wasmPage = `<!doctype html><ol id="log"></ol><script src="/wasm_exec.js"></script><script type="module">
const go = new Go();
const program = await WebAssembly.instantiateStreaming(fetch("/program.wasm"), go.importObject);
await go.run(program.instance);
</script>`

// TestWasm runs package ws/client as a WebAssembly program in a page.
func TestWasm(t *testing.T) {
	browser := findBrowser(t)
	program := filepath.Join(t.TempDir(), "program.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./wasm")
	build.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	node, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(context.Background())
	server, err := ws.New(node.Namespace, ws.Options{Events: ws.Events{
		"add": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, n []int) (int, error) { return n[0] + n[1], nil }),
		"twice": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, b []byte) (any, error) {
			return crosscast.Bytes(append(b, b...)), nil
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", server)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, wasmPage) })
	for path, file := range map[string]string{
		"/program.wasm": program,
		"/wasm_exec.js": filepath.Join(strings.TrimSpace(string(root)), "lib", "wasm", "wasm_exec.js"),
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	}
	web := httptest.NewServer(mux)
	defer web.Close()
	tab, closeBrowser := startBrowser(t, browser)
	defer closeBrowser()
	if err := chromedp.Do(tab, chromedp.Navigate(web.URL)); err != nil {
		t.Fatal(err)
	}
	p := &page{t, tab, "wasm"}
	p.sees("#log li", "sum 5")
	p.sees("#log li", "bytes [0 255 0 255] <nil>")
	p.sees("#log li", "msgpack [0 255 0 255] <nil>")
	p.sees("#log li", "closed <nil>")
	p.sees("#log li", "the browser makes the request")
}

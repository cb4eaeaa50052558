package browsertest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

const eventSourcePage = `<!doctype html><ol id="log"></ol><script>
function note(...what) {
  const li = document.createElement("li");
  li.textContent = what.join(" ");
  document.getElementById("log").append(li);
}
let token;
(function listen() {
  const stream = new EventSource("/events");
  stream.addEventListener("hello", e => { token = JSON.parse(e.data).token; note("hello", e.lastEventId !== ""); });
  stream.addEventListener("close", e => note("close", JSON.parse(e.data).code));
  stream.onmessage = e => {
    const m = JSON.parse(e.data);
    note(m.event ?? "", m.data ?? "", m.gap ? m.gap.ago.length : "");
  };
  stream.onerror = () => { if (stream.readyState === 2) { note("closed"); setTimeout(listen, 10); } };
})();
const post = m => fetch("/events", {method: "POST", body: JSON.stringify(m), headers: {"Crosscast-Stream": token}}).then(r => String(r.status));
</script>`

// TestEventSource: the browser's own class reads the stream, sends what it was told, comes back by itself, and then learns
// first what it might have missed. After a status such as 503 it is closed, and the page makes another one.
func TestEventSource(t *testing.T) {
	browser := findBrowser(t)
	node, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(context.Background())
	chat, err := ws.New(node.Namespace, ws.Options{
		OnConnect: func(ctx context.Context, s *crosscast.Socket) { _ = s.Emit(ctx, "welcome", "\u2028\r\n") },
		Events: ws.Events{"say": ws.Typed(func(ctx context.Context, s *crosscast.Socket, text string) error {
			return s.Emit(ctx, "said", text)
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	clients, err := sse.New(node, chat, sse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	var unavailable atomic.Bool // for one request
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		if unavailable.CompareAndSwap(true, false) {
			http.Error(w, "restarting", http.StatusServiceUnavailable)
			return
		}
		_ = clients.Accept(w, r, ws.Client{User: "ann"})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, eventSourcePage) })
	web := httptest.NewServer(mux)
	defer web.Close()
	defer web.CloseClientConnections()
	tab, closeBrowser := startBrowser(t, browser)
	defer closeBrowser()
	if err := chromedp.Do(tab, chromedp.Navigate(web.URL)); err != nil {
		t.Fatal(err)
	}
	p := &page{t, tab, "events"}
	p.sees("#log li", "welcome")
	if got := run(p, "posting", chromedp.Evaluate[string](`post({event: "say", data: "hello"})`, chromedp.EvalAwaitPromise)); got != "204" {
		t.Errorf("a POST: status %s", got)
	}
	p.sees("#log li", "said hello")
	if err := node.ToUser("ann").Disconnect(t.Context(), "closed for a test"); err != nil {
		t.Fatal(err)
	}
	p.sees("#log li:nth-child(7)", "welcome") // after one to three seconds
	unavailable.Store(true)
	if err := node.ToUser("ann").Disconnect(t.Context(), "closed for a test"); err != nil {
		t.Fatal(err)
	}
	p.sees("#log li:nth-child(11)", "welcome")
	const want = "hello true|welcome \u2028\r\n |said hello |close 1000|hello true|  2|welcome \u2028\r\n |" +
		"close 1000|closed|hello true|welcome \u2028\r\n "
	if got := run(p, "reading", chromedp.Evaluate[string](`[...document.querySelectorAll("li")].map(e => e.textContent).join("|")`)); got != want {
		t.Errorf("happened: %q\nwant: %q", got, want)
	}
}

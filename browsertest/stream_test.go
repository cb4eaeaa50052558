package browsertest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

const streamPage = `<!doctype html><ol id="log"></ol><script src="/client.js"></script><script>
function note(...what) {
  const li = document.createElement("li");
  li.textContent = what.join(" ");
  document.getElementById("log").append(li);
}
globalThis.client = new crosscast.Client("/ws", {
  stream: true, streamAfter: 500, streamRetry: 100, minBackoff: 10, maxBackoff: 50,
  events: {said: text => note("said", text, client.transport), "sure?": async text => "sure of " + text},
  onstate: (_, state) => note(state, client.transport),
  ongap: (_, gap) => note("gap", gap.away),
  ondisconnect: (_, reason) => note("disconnected", reason),
});
client.join("room1").then(() => note("joined", client.rooms));
client.presence("room1", ({members}) => note("members", ...members.keys(), client.transport));
</script>`

// TestStreamFallback: behind a proxy that blocks websockets, or swallows them, the client has a stream, with the same API.
// It goes back to a websocket when it can, and falls back again.
func TestStreamFallback(t *testing.T) {
	browser := findBrowser(t)
	node, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(context.Background())
	chat, err := ws.New(node.Namespace, ws.Options{
		AllowJoin:     func(context.Context, *crosscast.Socket, string) error { return nil },
		AllowPresence: func(context.Context, *crosscast.Socket, string) error { return nil },
		Events: ws.Events{
			"twice": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, b []byte) (any, error) {
				return crosscast.Bytes(append(b, b...)), nil
			}),
			"echo": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, text string) (string, error) { return text, nil }),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	clients, err := sse.New(node, chat, sse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		user, _ := r.Cookie("user")
		if user == nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		_ = clients.Accept(w, r, ws.Client{User: user.Value})
	})
	mux.HandleFunc("/client.js", ws.ClientJS)
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "user", Value: "ann"})
		_, _ = io.WriteString(w, streamPage)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	to, _ := url.Parse(server.URL)
	behind := httputil.NewSingleHostReverseProxy(to)
	var websockets atomic.Value // "blocked", "swallowed" or "pass"
	var most atomic.Int64       // bytes of a POST
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			switch websockets.Load() {
			case "blocked":
				http.Error(w, "no websockets here", http.StatusBadRequest)
				return
			case "swallowed":
				<-r.Context().Done()
				return
			}
		}
		if r.ContentLength > most.Load() {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	tab, closeBrowser := startBrowser(t, browser)
	defer closeBrowser()
	for _, how := range []string{"blocked", "swallowed"} {
		t.Run(how, func(t *testing.T) {
			websockets.Store(how)
			most.Store(1 << 20)
			began := time.Now()
			if err := chromedp.Do(tab, chromedp.Navigate(proxy.URL+"/page")); err != nil {
				t.Fatal(err)
			}
			p := &page{t, tab, how}
			js := func(expression string) string {
				t.Helper()
				return run(p, expression, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
			}
			p.sees("#log li", "connected stream")
			t.Logf("connected %v after the page was asked for", time.Since(began))
			p.sees("#log li", "joined room1")
			p.sees("#log li", "members ann stream")
			say := func(text, want string) {
				t.Helper()
				if err := node.To("room1").Emit(t.Context(), "said", text); err != nil {
					t.Fatal(err)
				}
				p.sees("#log li", want)
			}
			say("one", "said one stream")
			if got := js(`Promise.all([1, 2, 3, "\r\n\u2028"].map(n => client.request("echo", "é" + n))).then(r => JSON.stringify(r.join()))`); got != `"é1,é2,é3,é\r\n`+"\u2028"+`"` {
				t.Errorf("replied was %s", got)
			}
			if got := js(`client.request("twice", new Uint8Array([0, 255])).then(b => String([b instanceof Uint8Array, ...b]))`); got != "true,0,255,0,255" {
				t.Errorf("bytes came back as %s", got)
			}
			const sizes = `echo = n => client.request("echo", "x".repeat(n)).then(text => text.length, e => e.message);`
			const limit = sizes + ` (async () => {
				const refused = await echo(65536), more = parseInt(refused.match(/\d+/)) - 65536;
				const fits = 65534 - more; // two for the digits of an id
				return [refused.replace(/\d+/, "…"), await echo(fits) === fits, client.transport].join();
			})()`
			if got := js(limit); got != "too large: … bytes (at most 65536),true,stream" {
				t.Errorf("large messages: %s", got)
			}
			most.Store(1000)
			if got := js(sizes + ` Promise.all([10, 2000, 20].map(echo)).then(r => r.join())`); got != "10,too large: status 413,20" {
				t.Errorf("with a proxy that takes less: %s", got)
			}
			answers, got := node.ToUser("ann").EmitAck(t.Context(), "sure?", "this"), ""
			for r := range answers.All() {
				got = string(r.Payload.Data)
			}
			if got != `"sure of this"` {
				t.Errorf("replied was %s, %v", got, answers.Err())
			}

			websockets.Store("pass")
			p.sees("#log li", "connected websocket")
			p.sees("#log li", "members ann websocket")
			say("two", "said two websocket")
			p.sees("#log li", "gap true")
			const changed = "disconnected changes to a websocket"
			if log := js(`[...document.querySelectorAll("li")].map(e => e.textContent).join("|")`); strings.Count(log, "disconnected") != 1 || !strings.Contains(log, changed) {
				t.Errorf("happened: %s", log)
			}
			js(`document.getElementById("log").replaceChildren(); ""`)

			websockets.Store(how)
			if err := node.ToUser("ann").Disconnect(t.Context(), "closed for a test"); err != nil {
				t.Fatal(err)
			}
			p.sees("#log li", "connected stream")
			say("three", "said three stream")
			if got := js(`client.close(); client.state + client.transport`); got != "closed" {
				t.Errorf("after close: %s", got)
			}
		})
	}
}

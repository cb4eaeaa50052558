package browsertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

// clientPages load ws/client.js in the two ways there are.
var clientPages = map[string]string{
	"/script": `<script src="/client.js"></script><script>globalThis.Client = crosscast.Client;`,
	"/module": `<script type="module">import { Client } from "/client.mjs"; globalThis.Client = Client;`,
}

const clientPage = `<!doctype html><ol id="log"></ol>%s
function note(...what) {
  const li = document.createElement("li");
  li.textContent = what.join(" ");
  document.getElementById("log").append(li);
}
globalThis.client = new Client("/ws", {
  minBackoff: 10,
  events: {said: text => note("said", text), "sure?": async text => "sure of " + text, bytes: b => b, never: () => { throw new Error("no"); }},
  onconnect: () => note("connected"),
  ondisconnect: (_, reason) => note("disconnected", reason),
  ongap: (_, gap) => note("gap", gap.since <= gap.until),
});
client.join("room1").then(() => note("joined", client.rooms));
</script>`

// TestClientJS: the browsers' client asks, answers, and after a lost connection is in its room again.
func TestClientJS(t *testing.T) {
	browser := findBrowser(t)
	node, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(context.Background())
	var busy atomic.Int32
	sockets := make(chan *crosscast.Socket, 10)
	server, err := ws.New(node.Namespace, ws.Options{
		OnConnect: func(_ context.Context, s *crosscast.Socket) { sockets <- s },
		AllowJoin: func(_ context.Context, _ *crosscast.Socket, room string) error {
			switch {
			case room == "secret":
				return ws.Errorf("members only")
			case room == "busy" && busy.Add(1)%3 != 0:
				return ws.Errorf("%w", ws.ErrBusy)
			}
			return nil
		},
		Events: ws.Events{
			"echo": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, text string) (string, error) { return text, nil }),
			"twice": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, b []byte) (any, error) {
				return crosscast.Bytes(append(b, b...)), nil
			}),
			"say": ws.Typed(func(ctx context.Context, s *crosscast.Socket, text string) error {
				return node.To("room1").Emit(ctx, "said", text)
			}),
			"wait": ws.Typed(func(ctx context.Context, s *crosscast.Socket, _ any) error {
				<-ctx.Done()
				return nil
			}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", server)
	mux.HandleFunc("/client.js", ws.ClientJS)
	mux.HandleFunc("/client.mjs", ws.ClientJS)
	for path, head := range clientPages {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, fmt.Sprintf(clientPage, head)) })
	}
	web := httptest.NewServer(mux)
	defer web.Close()
	tab, closeBrowser := startBrowser(t, browser)
	defer closeBrowser()
	for path := range clientPages {
		t.Run(path[1:], func(t *testing.T) {
			if err := chromedp.Do(tab, chromedp.Navigate(web.URL+path)); err != nil {
				t.Fatal(err)
			}
			p := &page{t, tab, path}
			js := func(expression string) string {
				t.Helper()
				return run(p, expression, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
			}
			p.sees("#log li", "joined room1")
			socket := receive(t, sockets)
			js(`client.emit("say", "one"); "";`)
			p.sees("#log li", "said one")

			// Requests. The last one's handler holds up what this client sends after it.
			for _, r := range []struct{ expression, want string }{
				{`client.request("echo", "this")`, "this"},
				{`client.request("twice", new Uint8Array([0, 255])).then(b => String([b instanceof Uint8Array, ...b]))`, "true,0,255,0,255"},
				{`client.request("shout").catch(e => e.code + ": " + e.message)`, `remote: unknown event "shout"`},
				{`client.join("room2").then(() => client.leave("room2")).then(() => client.rooms.join())`, "room1"},
				{`client.join("busy").then(() => client.leave("busy")).then(() => client.rooms.join())`, "room1"},
				{`client.join("secret").catch(e => e.code + ": " + e.message)`, "remote: members only"},
				{`client.request("say", 7).catch(e => e.code)`, "remote"},
				{`client.request("wait", 0, {timeout: 10}).catch(e => e.code)`, "timeout"},
			} {
				if got := js(r.expression); got != r.want {
					t.Errorf("%s: %s, want %s", r.expression, got, r.want)
				}
			}

			// The handler of "wait" is still at it; replies do not wait for it.
			for event, want := range map[string]string{"sure?": `"sure of this"`, "never": "", "unknown": ""} {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				answers, began, got := node.ToSocket(socket.ID()).EmitAck(ctx, event, "this"), time.Now(), ""
				for r := range answers.All() {
					got = string(r.Payload.Data)
				}
				var incomplete *crosscast.IncompleteError
				if got != want || (want == "") != errors.As(answers.Err(), &incomplete) || time.Since(began) > patience/2 {
					t.Errorf("%s: %s, %v after %v", event, got, answers.Err(), time.Since(began))
				}
			}

			reply := ""
			for r := range node.ToSocket(socket.ID()).EmitAck(t.Context(), "bytes", crosscast.MsgPack([]byte{0, 255})).All() {
				reply = fmt.Sprintf("%s %x", r.Payload.Encoding, r.Payload.Data)
			}
			if reply != "binary 00ff" {
				t.Errorf("the reply to bytes is %q", reply)
			}

			// A lost connection.
			js(`globalThis.lost = client.request("wait").catch(e => e.code); "";`)
			socket.Close("closed for a test")
			p.sees("#log li", "disconnected closed for a test")
			p.sees("#log li", "gap true")
			if got := js(`lost`); got != "uncertain" {
				t.Errorf("a request whose connection was lost: %s", got)
			}
			if err := node.To("room1").Emit(t.Context(), "said", "two"); err != nil {
				t.Fatal(err)
			}
			p.sees("#log li", "said two")
			receive(t, sockets)
			const order = "connected|joined room1|said one|disconnected closed for a test|connected|gap true|said two"
			if got := js(`[...document.querySelectorAll("li")].map(e => e.textContent).join("|")`); got != order {
				t.Errorf("happened: %s\nwant: %s", got, order)
			}
			if got := js(`client.close(); try { client.emit("x"); "" } catch (e) { e.code }`); got != "closed" {
				t.Errorf("after close: %s", got)
			}
		})
	}
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("timed out")
		panic("unreachable")
	}
}

package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/ws"
)

const networkPage = `<!doctype html><script src="/client.js"></script><script>
globalThis.got = [], globalThis.gaps = [], globalThis.states = [], globalThis.fetched = [];
globalThis.client = new crosscast.Client("/ws", {
  minBackoff: 10, maxBackoff: 100, dialTimeout: 300, gapSpread: 10,
  events: {n: ({id}) => got.push(id)},
  onstate: (_, state) => states.push(state),
  ongap: (_, {room, since, until, away}) => gaps.push({room, since: +since, until: until ? +until : 0, away}),
  refetch: (_, gap) => { fetched.push(gap.room); },
});
client.join("room1").then(() => { globalThis.joined = true; });
</script>`

// pageGap is a gap as the page has it, in milliseconds.
type pageGap struct {
	Room         string
	Since, Until int64
	Away         bool
}

// TestNetwork: with the network between Chromium and the server cut, dead and slow, client.js comes back by itself, is in
// its room again, and whatever it misses is in a gap.
func TestNetwork(t *testing.T) {
	browser := findBrowser(t)
	node, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(context.Background())
	server, err := ws.New(node.Namespace, ws.Options{
		AllowJoin: func(context.Context, *crosscast.Socket, string) error { return nil },
		Queue:     crosscast.QueueOptions{Limit: 64 << 10, BurstTime: -1, Policy: crosscast.QueueDropNewest},
		GapSpread: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", server)
	mux.HandleFunc("/client.js", ws.ClientJS)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, networkPage) })
	web := httptest.NewServer(mux)
	defer web.Close()
	proxy := faultproxy.Start(t, web.Listener.Addr().String())
	both := func(f faultproxy.Faults) {
		proxy.Set(faultproxy.Up, f)
		proxy.Set(faultproxy.Down, f)
	}
	tab, closeBrowser := startBrowser(t, browser)
	defer closeBrowser()
	if err := chromedp.Do(tab, chromedp.Navigate("http://"+proxy.Addr())); err != nil {
		t.Fatal(err)
	}
	p := &page{t, tab, "the page"}
	read := func(expression string, v any) {
		t.Helper()
		text := run(p, expression, chromedp.Evaluate[string](`JSON.stringify(`+expression+`)`))
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatal(err)
		}
	}
	eventually := func(what, expression string) {
		t.Helper()
		for begin := time.Now(); !run(p, what, chromedp.Evaluate[bool](expression)); time.Sleep(10 * time.Millisecond) { // poll
			if time.Since(begin) > patience {
				t.Fatalf("%s: never. The page has %s; the node dropped %d", what,
					run(p, "all", chromedp.Evaluate[string](`JSON.stringify({states, gaps, got: got.length, state: client.state})`)), node.Stats().Queues.Dropped)
			}
		}
	}
	sent := make(map[int]time.Time)
	emit := func(size int) int {
		t.Helper()
		id := len(sent)
		sent[id] = time.Now()
		if err := node.To("room1").Emit(t.Context(), "n", map[string]any{"id": id, "text": strings.Repeat("x", size)}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	arrives := func(what string) {
		t.Helper()
		id := emit(1)
		eventually(what, fmt.Sprintf(`got.includes(%d)`, id))
	}
	lost := func(what string) {
		t.Helper()
		eventually(what, `states.includes("waiting")`)
	}
	// back waits until the client is connected again, and in its room.
	back := func(what string) {
		t.Helper()
		eventually(what, `client.state === "connected" && states.lastIndexOf("connected") > states.lastIndexOf("waiting")`)
		arrives(what)
		if states := run(p, "states", chromedp.Evaluate[string](`states.splice(0).join()`)); !strings.HasSuffix(states, "waiting,connecting,connected") {
			t.Errorf("%s: the states were %s", what, states)
		}
		if rooms := run(p, "rooms", chromedp.Evaluate[string](`client.rooms.join()`)); rooms != "room1" {
			t.Errorf("%s: the client keeps %q", what, rooms)
		}
	}
	eventually("joining", `globalThis.joined === true`)
	arrives("at first")
	run(p, "states", chromedp.Evaluate[string](`states.splice(0).join()`))

	// Cut. Attempts to connect get no answer until the network is back.
	both(faultproxy.Faults{Swallow: true})
	proxy.Reset()
	lost("the cut")
	emit(1)
	eventually("an attempt without an answer", `states.filter(s => s === "waiting").length > 1`)
	both(faultproxy.Faults{})
	back("after the cut")

	// Dead: what is sent goes nowhere, and nobody notices before the connection breaks.
	both(faultproxy.Faults{Swallow: true})
	for range 5 {
		emit(1)
	}
	proxy.Reset()
	lost("the dead connection")
	both(faultproxy.Faults{})
	back("after the dead connection")

	// Slow: the queue of the client drops messages, which is a gap of a connection that stands.
	proxy.Set(faultproxy.Down, faultproxy.Faults{Rate: 1 << 20})
	slow, before := len(sent), node.Stats().Queues.Dropped
	for i := 0; node.Stats().Queues.Dropped == before; i++ {
		if emit(32 << 10); i > 10000 {
			t.Fatal("nothing was dropped")
		}
	}
	proxy.Set(faultproxy.Down, faultproxy.Faults{})
	eventually("the gap of a slow client", `gaps.some(g => !g.away)`)
	arrives("after the slow network")
	if n := run(p, "states", chromedp.Evaluate[int](`states.length`)); n != 0 {
		t.Errorf("the slow network has changed the state %d times", n)
	}
	eventually("refetch", `fetched.length > 0`)

	var got []int
	var gaps []pageGap
	read(`got`, &got)
	read(`gaps`, &gaps)
	away := 0
	for _, id := range got {
		delete(sent, id)
	}
	for _, g := range gaps {
		if g.Away {
			away++
		}
		if g.Room != "" || g.Until < g.Since {
			t.Errorf("gap %+v", g)
		}
	}
	missed := len(sent)
	for id, at := range sent {
		covered := false
		for _, g := range gaps {
			covered = covered || g.Away == (id < slow) && g.Since <= at.UnixMilli() && at.UnixMilli() <= g.Until
		}
		if !covered {
			t.Errorf("message %d of %v is missing without a gap: %+v", id, at.UnixMilli(), gaps)
		}
	}
	if missed < 7 || away != 2 {
		t.Errorf("%d messages are missing, and %d gaps are absences", missed, away)
	}
}

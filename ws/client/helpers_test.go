package client_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a node with a server of package ws.
type server struct {
	*crosscast.Node
	url     string
	sockets chan *crosscast.Socket // those that connected
}

func serve(t testing.TB, o ws.Options) *server {
	t.Helper()
	n := wstest.StartNode(t, crosscast.Options{})
	s := &server{Node: n, sockets: make(chan *crosscast.Socket, 100)}
	o.OnConnect = func(_ context.Context, socket *crosscast.Socket) { s.sockets <- socket }
	handler, err := ws.New(n.Namespace, o)
	if err != nil {
		t.Fatal(err)
	}
	s.url = wstest.Serve(t, handler).URL
	return s
}

// serveRaw is a server that passes its connections to f, one after the other. f ends them.
func serveRaw(t testing.TB, f func(conn *websocket.Conn)) string {
	t.Helper()
	return wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		f(conn)
	})).URL
}

// dial connects with short pauses; the client is closed with the test.
func dial(t testing.TB, url string, o client.Options) *client.Client {
	t.Helper()
	if o.MinBackoff == 0 {
		o.MinBackoff, o.MaxBackoff = time.Millisecond, 10*time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), wstest.Patience)
	defer cancel()
	c, err := client.Dial(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient(t, c) })
	return c
}

func closeClient(t testing.TB, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wstest.Patience)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// A record is a list of events, in order.
type record struct {
	mu    sync.Mutex
	lines []string
	grown chan struct{}
}

func newRecord() *record { return &record{grown: make(chan struct{}, 1000)} }

func (l *record) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
	l.grown <- struct{}{}
}

// now returns the lines so far.
func (l *record) now() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// sort sorts the lines, for events whose order is random.
func (l *record) sort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.lines)
}

// expect waits until the lines are those.
func (l *record) expect(t testing.TB, want ...string) {
	t.Helper()
	for range want {
		wstest.Wait(t, l.grown, fmt.Sprintf("%q", want))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if fmt.Sprintf("%q", l.lines) != fmt.Sprintf("%q", want) {
		t.Fatalf("happened:\n%q, want\n%q", l.lines, want)
	}
	l.lines = nil
}

// acceptAs passes connections with a subprotocol to f, which ends them.
func acceptAs(t testing.TB, subprotocol string, f func(conn *websocket.Conn)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		f(conn)
	})
}

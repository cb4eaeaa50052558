package redisadapter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// member is a node with one socket, user "u-name", in the room "room".
type member struct {
	*crosscast.Node
	socket *crosscast.Socket
	conn   conn
	gaps   chan crosscast.Gap
}

// conn is a crosscast.Conn that keeps its messages.
type conn chan string

func (c conn) Send(m *crosscast.Message) error {
	c <- m.Event + " " + string(m.Payload.Data)
	return nil
}

func (c conn) Close(crosscast.Reason) {}

func join(t *testing.T, name string, rdb redis.UniversalClient, change ...func(o *crosscast.Options)) *member {
	t.Helper()
	m := &member{conn: make(conn, 1<<16), gaps: make(chan crosscast.Gap, 1<<10)}
	o := crosscast.Options{
		Name: name, Heartbeat: 250 * time.Millisecond, OnGap: func(_ *crosscast.Node, g crosscast.Gap) { m.gaps <- g },
		Adapter: redisadapter.New(rdb, redisadapter.Options{}),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	m.Node, err = crosscast.Start(redistest.Within(t, redistest.Patience), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What a fault lost is Close's to report; that it ends is what counts here.
		if err := m.Close(redistest.Within(t, redistest.Patience)); err != nil && !errors.As(err, new(*crosscast.LossError)) {
			t.Errorf("close %s: %v", name, err)
		}
	})
	m.socket, err = m.Connect(redistest.Within(t, redistest.Patience), m.conn, crosscast.ConnectOptions{
		User: "u-" + name, Rooms: []string{"room"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *member) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-m.conn:
		if got != want {
			t.Fatalf("%s got %q, want %q", m.Name(), got, want)
		}
	case <-time.After(redistest.Patience):
		t.Fatalf("%s gets nothing, want %q", m.Name(), want)
	}
}

func (m *member) expectGap(t *testing.T, reason crosscast.GapReason) {
	t.Helper()
	select {
	case g := <-m.gaps:
		if g.Reason != reason {
			t.Fatalf("%s: gap %+v, want %q", m.Name(), g, reason)
		}
	case <-time.After(redistest.Patience):
		t.Fatalf("%s: no gap, want %q", m.Name(), reason)
	}
}

// hear returns once emissions of a reach b: those before are lost, or came too.
func hear(t *testing.T, a, b *member) {
	t.Helper()
	for ctx := redistest.Within(t, redistest.Patience); ; {
		text := fmt.Sprint("try", time.Now().UnixNano())
		_ = a.To("room").Emit(ctx, text, nil)
		for deadline := time.After(200 * time.Millisecond); ; {
			select {
			case got := <-b.conn:
				if got == text+" " {
					return
				}
				continue
			case <-deadline:
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%s does not hear %s", b.Name(), a.Name())
		}
	}
}

func TestNodes(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		talk(t, func() redis.UniversalClient { return redistest.Client(t, options()) })
	})
	t.Run("default settings", func(t *testing.T) {
		rdb := redistest.Client(t, &redis.Options{Addr: redistest.Start(t, redistest.Config{}).Addr()})
		talk(t, func() redis.UniversalClient { return rdb })
	})
	t.Run("TLS and ACL", func(t *testing.T) {
		s := redistest.Start(t, redistest.Config{TLS: true, Users: []string{
			"alice on >pw resetchannels &cc:* +publish +subscribe +unsubscribe +ping",
		}})
		o := s.Options()
		o.Username, o.Password = "alice", "pw"
		talk(t, func() redis.UniversalClient { return redistest.Client(t, o) })
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, 3)
		talk(t, func() redis.UniversalClient { return c.Client() })
	})
}

// talk has three nodes talk to each other in every way.
func talk(t *testing.T, rdb func() redis.UniversalClient) {
	ctx := redistest.Within(t, redistest.Patience)
	a, b, c := join(t, "a", rdb()), join(t, "b", rdb()), join(t, "c", rdb())
	emit := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		emit(a.To("room").Emit(ctx, fmt.Sprint(i), nil))
	}
	for i := range 1000 {
		for _, m := range []*member{a, b, c} {
			m.expect(t, fmt.Sprint(i, " "))
		}
	}
	emit(a.To("room").ExceptSocket(b.socket.ID()).Emit(ctx, "but not b", nil))
	emit(a.ToUser("u-b").Emit(ctx, "user", "b"))
	emit(a.ToSocket(c.socket.ID()).Emit(ctx, "socket", crosscast.Bytes("\x00c")))
	emit(a.Emit(ctx, "everyone", nil))
	for m, want := range map[*member][]string{
		a: {"but not b ", "everyone "},
		b: {`user "b"`, "everyone "},
		c: {"but not b ", "socket \x00c", "everyone "},
	} {
		for _, w := range want {
			m.expect(t, w)
		}
	}
	emit(b.socket.Join(ctx, "late"))
	emit(c.To("late").Emit(ctx, "late", nil))
	b.expect(t, "late ")
	emit(a.Flush(ctx))
	for _, m := range []*member{a, b, c} {
		if n := len(m.gaps); n != 0 {
			t.Errorf("%s: %d gaps, the first %+v", m.Name(), n, <-m.gaps)
		}
	}
}

// TestNodesOutliveTheServer: an outage is one gap for each node, and its emissions arrive after it.
func TestNodesOutliveTheServer(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	a, b := join(t, "a", s.Client()), join(t, "b", s.Client())
	s.Kill()
	for ctx := redistest.Within(t, redistest.Patience); a.Stats().Connected; {
		if ctx.Err() != nil {
			t.Fatal("the outage is not noticed")
		}
		time.Sleep(time.Millisecond) // poll
	}
	start := time.Now()
	if err := a.To("room").Emit(t.Context(), "kept", nil); err != nil {
		t.Error(err)
	}
	if err := a.To("room").Volatile().Emit(t.Context(), "dropped", nil); err != nil {
		t.Errorf("volatile: %v", err)
	}
	if err := a.socket.Join(t.Context(), "new"); err != nil {
		t.Errorf("join: %v", err)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("the outage held callers up for %v", d)
	}
	s.Restart()
	a.expect(t, "kept ")
	a.expect(t, "dropped ")
	b.expect(t, "kept ")
	for _, m := range []*member{a, b} {
		m.expectGap(t, reasons.GapLinkLost)
	}
	// What was joined in the outage is heard after it.
	if err := a.socket.Synced(redistest.Within(t, redistest.Patience)); err != nil {
		t.Error(err)
	}
	if err := b.To("new").Emit(t.Context(), "new", nil); err != nil {
		t.Error(err)
	}
	a.expect(t, "new ")
	for _, m := range []*member{a, b} {
		if n := len(m.gaps); n != 0 {
			t.Errorf("%s: another gap %+v", m.Name(), <-m.gaps)
		}
	}
}

func TestNodesOutliveTheirConnections(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	admin := s.Client()
	a, b := join(t, "a", s.Client()), join(t, "b", s.Client())
	for range 5 {
		redistest.KillConnections(t, "pubsub", admin)
		a.expectGap(t, reasons.GapLinkLost)
		b.expectGap(t, reasons.GapLinkLost)
		redistest.KillConnections(t, "normal", admin)
		hear(t, a, b)
		hear(t, b, a)
	}
}

// TestNodesNoticeADeadLink: the subscribing connection stands and receives nothing, while publishing works. Nothing in
// go-redis would notice, ever.
func TestNodesNoticeADeadLink(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	a := join(t, "a", s.Client())

	p := faultproxy.Start(t, s.Addr())
	o := s.Options()
	var dials atomic.Int32
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 { // the first connection of a node is its link
			addr = p.Addr()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	b := join(t, "b", redistest.Client(t, o))
	hear(t, a, b)
	if n := p.Conns(); n != 1 {
		t.Fatalf("%d connections through the proxy", n)
	}

	start := time.Now()
	p.Set(faultproxy.Down, faultproxy.Faults{Swallow: true})
	b.expectGap(t, reasons.GapMoved)               // because the next connection leads to another address
	if d := time.Since(start); d > 5*time.Second { // about two heartbeats, which are 250 ms here
		t.Errorf("noticed after %v", d)
	}
	hear(t, a, b)
	hear(t, b, a)
	if n := len(a.gaps); n != 0 {
		t.Errorf("a: gap %+v, but its link was never dead", <-a.gaps)
	}
}

// TestNodesOutliveAStandstill: the server stops for a while, connections stand, and what it was sent it executes
// afterwards. Nothing is delivered twice, and callers were not held up.
func TestNodesOutliveAStandstill(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	a, b := join(t, "a", s.Client()), join(t, "b", s.Client())
	s.Pause()
	start := time.Now()
	for i := range 100 {
		if err := a.To("room").Emit(t.Context(), fmt.Sprint(i), nil); err != nil {
			t.Error(err)
		}
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("a server that stands still held callers up for %v", d)
	}
	for ctx := redistest.Within(t, redistest.Patience); a.Stats().Connected || b.Stats().Connected; {
		if ctx.Err() != nil {
			t.Fatal("the standstill is not noticed")
		}
		time.Sleep(10 * time.Millisecond) // poll
	}
	s.Resume()
	if err := a.To("room").Emit(t.Context(), "end", nil); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for timeout := time.After(redistest.Patience); !seen["end "]; {
		select {
		case text := <-b.conn:
			if seen[text] {
				t.Errorf("%q was delivered twice", text)
			}
			seen[text] = true
		case <-timeout:
			t.Fatal("delivery does not resume")
		}
	}
	if len(seen) < 101 && len(b.gaps) == 0 {
		t.Errorf("%d of 101 were delivered, and no gap was reported", len(seen))
	}
}

func TestStartErrors(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Password: "right"})
	wrong := s.Options()
	wrong.Password = "wrong-secret"
	nobody := s.Options()
	nobody.Addr = redistest.ClosedPort()
	for name, tt := range map[string]struct {
		rdb    redis.UniversalClient
		o      redisadapter.Options
		says   string
		denied bool
	}{
		"no client":      {rdb: nil, says: "no Redis client"},
		"wrong password": {rdb: redistest.Client(t, wrong), says: wrong.Addr, denied: true},
		"nobody listens": {rdb: redistest.Client(t, nobody), says: nobody.Addr},
		"bad prefix":     {rdb: s.Client(), o: redisadapter.Options{Prefix: "a b"}, says: "Prefix"},
		"bad size":       {rdb: s.Client(), o: redisadapter.Options{MaxFrame: 1}, says: "MaxFrame"},
	} {
		ctx := redistest.Within(t, redistest.Patience)
		node, err := crosscast.Start(ctx, crosscast.Options{Adapter: redisadapter.New(tt.rdb, tt.o)})
		if err == nil {
			_ = node.Close(context.Background())
			t.Errorf("%s: it starts", name)
			continue
		}
		if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %q", name, err)
		}
		if errors.Is(err, crosscast.ErrDenied) != tt.denied {
			t.Errorf("%s: error %q: denied is not %v", name, err, tt.denied)
		}
	}
}

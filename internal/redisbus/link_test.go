package redisbus_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

func (l *listener) ping(t testing.TB, name string) {
	t.Helper()
	if err := l.link.Ping(name); err != nil {
		t.Fatal("Ping:", err)
	}
}

// TestPing: the answer has the ping's name, whether something is subscribed, or not yet, or not any more; and on a real
// server it is behind what was published before.
func TestPing(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		onEachConn(t, func(t *testing.T, client func(*redis.Options) redis.UniversalClient) {
			ordered := strings.Contains(t.Name(), "/redis/")
			bus := newBus(client(options()))
			l := listen(t, bus)
			l.ping(t, "first")
			l.expect(t, wire.Pong, "first")
			l.subscribe(t, "cc:a")
			for i, text := range numbered(200) {
				mustPublish(t, bus, frames("cc:a", text))
				l.ping(t, text)
				if ordered {
					l.expectData(t, "cc:a", text)
					l.expect(t, wire.Pong, text)
				} else {
					l.next(t)
					l.next(t)
				}
				if i == 100 {
					l.ping(t, "one")
					l.ping(t, "two")
					l.expect(t, wire.Pong, "one")
					l.expect(t, wire.Pong, "two")
				}
			}
			if err := l.link.Unsubscribe([]string{"cc:a"}); err != nil {
				t.Fatal(err)
			}
			l.ping(t, "last")
			l.expect(t, wire.Unsubscribed, "cc:a")
			l.expect(t, wire.Pong, "last")
		})
	})
}

// TestAnErrorIsOfTheOldestRequest: whatever its text says. A user who may not ping is answered all the same.
func TestAnErrorIsOfTheOldestRequest(t *testing.T) {
	onEachConn(t, func(t *testing.T, client func(*redis.Options) redis.UniversalClient) {
		for _, protocol := range []int{2, 3} {
			s := redistest.Start(t, redistest.Config{Users: []string{
				"alice on >pw resetchannels &cc:a* +publish +subscribe +unsubscribe",
			}})
			o := s.Options()
			o.Username, o.Password, o.Protocol = "alice", "pw", protocol
			bus := newBus(client(o))
			l := listen(t, bus, "cc:a1")
			l.ping(t, "1")
			if err := l.link.Subscribe([]string{"cc:secret"}); err != nil {
				t.Fatal(err)
			}
			l.ping(t, "2")
			if err := l.link.Subscribe([]string{"cc:a2", "cc:a3"}); err != nil {
				t.Fatal(err)
			}
			l.ping(t, "3")
			denied := func(kind wire.EventKind, topic string) {
				t.Helper()
				if ev := l.next(t); ev.Kind != kind || ev.Topic != topic || !errors.Is(ev.Err, crosscast.ErrDenied) {
					t.Fatalf("RESP%d: got event %d of %q (%v), want %d of %q, denied", protocol, ev.Kind, ev.Topic, ev.Err, kind, topic)
				}
			}
			denied(wire.Pong, "1")
			denied(wire.Denied, "")
			denied(wire.Pong, "2")
			l.expect(t, wire.Subscribed, "cc:a2")
			l.expect(t, wire.Subscribed, "cc:a3")
			denied(wire.Pong, "3")
			mustPublish(t, bus, frames("cc:a3", "x"))
			l.expectData(t, "cc:a3", "x")
		}
	})
}

// cannotSave starts a server that cannot save, and has tried.
func cannotSave(t *testing.T) *redistest.Server {
	t.Helper()
	dir := t.TempDir()
	s := redistest.Start(t, redistest.Config{Args: []string{"--dir", dir, "--save", "3600 1"}})
	if err := os.Mkdir(filepath.Join(dir, "dump.rdb"), 0o700); err != nil {
		t.Fatal(err)
	}
	redistest.FailToSave(t, s.Client())
	return s
}

// TestAServerThatCannotSave: while its snapshots fail PING is an error, but Pub/Sub goes on: so links can be made, and
// their pings are answered.
func TestAServerThatCannotSave(t *testing.T) {
	s := cannotSave(t)
	if err := s.Client().Ping(t.Context()).Err(); err == nil || !strings.HasPrefix(err.Error(), "MISCONF") {
		t.Fatalf("PING: %v: the test proves nothing", err)
	}
	for _, protocol := range []int{2, 3} {
		o := s.Options()
		o.Protocol = protocol
		bus := newBus(redistest.Client(t, o))
		l := listen(t, bus, "cc:a")
		l.ping(t, "1")
		mustPublish(t, bus, frames("cc:a", "x"))
		if ev := l.next(t); ev.Kind != wire.Pong || ev.Topic != "1" || ev.Err == nil {
			t.Errorf("RESP%d: got %+v", protocol, ev)
		}
		l.expectData(t, "cc:a", "x")
	}
}

// TestHeard: bytes count before the message that they belong to is complete, with TLS too.
func TestHeard(t *testing.T) {
	for _, config := range []redistest.Config{{}, {TLS: true}} {
		s := redistest.Start(t, config)
		rdb, p := through(t, s)
		l := listen(t, newBus(rdb), "cc:a")
		if got := redisbus.Remote(l.link); got != p.Addr() {
			t.Errorf("connected to %s, want %s", got, p.Addr())
		}
		quiet := l.link.Heard()
		if age := time.Since(quiet); age < 0 || age > redistest.Patience {
			t.Errorf("heard %v ago", age)
		}
		p.Set(faultproxy.Down, faultproxy.Faults{Rate: 1 << 20})
		mustPublish(t, newBus(s.Client()), frames("cc:a", strings.Repeat("x", 1<<20)))
		moved := 0
		for last := quiet; len(l.events) == 0; {
			if at := l.link.Heard(); at.After(last) {
				last = at
				moved++
			}
		}
		if moved < 5 { // a busy machine looks less often
			t.Errorf("TLS %v: of a message of 1 MiB that took a second, bytes were heard %d times", config.TLS, moved)
		}
	}
}

// TestTheLinksClient has the options of the user's client, the second time, too.
func TestTheLinksClient(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	o := s.Options()
	o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = -1, -2, -1, -1, -1
	o.MinIdleConns, o.ClientName, o.DB = 3, "the name", 2
	user := redistest.Client(t, o)
	got, err := redisbus.SubscriberOptions(t.Context(), newBus(user))
	if err != nil {
		t.Fatal(err)
	}
	want := *user.Options()
	want.MinIdleConns = 0
	if got.ReadTimeout != want.ReadTimeout || got.WriteTimeout != want.WriteTimeout || got.MaxRetries != want.MaxRetries ||
		got.MinRetryBackoff != want.MinRetryBackoff || got.MaxRetryBackoff != want.MaxRetryBackoff ||
		got.MinIdleConns != 0 || got.ClientName != want.ClientName || got.DB != want.DB || got.Addr != want.Addr {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestClosingALinkLeavesNothing: no connection of the link's own client either.
func TestClosingALinkLeavesNothing(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	admin := s.Client()
	o := s.Options()
	o.MinIdleConns = 5
	o.ClientName = "linked"
	bus := newBus(redistest.Client(t, o))
	linked := func() int { // connections that subscribe
		list, err := admin.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, line := range strings.Split(list, "\n") {
			if strings.Contains(line, " name=linked ") && !strings.Contains(line, " sub=0 ") {
				n++
			}
		}
		return n
	}
	for range 5 {
		l := listen(t, bus, "cc:a")
		if n := linked(); n != 1 {
			t.Errorf("%d connections for a link", n)
		}
		_ = l.link.Close()
		for ctx := redistest.Within(t, redistest.Patience); linked() != 0; {
			if ctx.Err() != nil {
				t.Fatal("the connection stands")
			}
		}
	}
}

// wrapped is a client of the user's own making.
type wrapped struct{ redis.UniversalClient }

// TestAClientOfAnotherKind: what it has to itself can be used; what a message is made of is not heard then.
func TestAClientOfAnotherKind(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	bus := newBus(wrapped{s.Client()})
	l := listen(t, bus, "cc:a")
	before := l.link.Heard()
	mustPublish(t, bus, frames("cc:a", "x"))
	l.expectData(t, "cc:a", "x")
	if !l.link.Heard().After(before) {
		t.Error("a message was received, and nothing heard")
	}
}

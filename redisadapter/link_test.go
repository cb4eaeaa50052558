package redisadapter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// operated is a member as who operates it sees it: what its OnLink is told, and what it logs.
type operated struct {
	*member
	saw *sights
}

// sights are the reports about one node's link.
type sights struct {
	mu    sync.Mutex           // guards what follows
	first crosscast.LinkStatus // before those in hooks
	hooks []crosscast.LinkStatus
	lines []string
}

func (s *sights) onLink(n *crosscast.Node, now crosscast.LinkStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, now)
}

// sights is a slog.Handler, too.
func (s *sights) Enabled(context.Context, slog.Level) bool { return true }
func (s *sights) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *sights) WithGroup(string) slog.Handler            { return s }
func (s *sights) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	return nil
}

// operate starts a member with heartbeats of 250 ms.
func operate(t *testing.T, name string, rdb redis.UniversalClient, change ...func(o *crosscast.Options)) *operated {
	t.Helper()
	saw := new(sights)
	m := join(t, name, rdb, append(change, func(o *crosscast.Options) {
		o.OnLink = saw.onLink
		o.Adapter = redisadapter.New(rdb, redisadapter.Options{Logger: slog.New(saw), PublishTimeout: time.Second})
	})...)
	return &operated{m, saw}
}

type half func(s crosscast.LinkStatus) crosscast.LinkHalf

func publishing(s crosscast.LinkStatus) crosscast.LinkHalf  { return s.Publishing }
func subscribing(s crosscast.LinkStatus) crosscast.LinkHalf { return s.Subscribing }

// sees returns when a half is in a state, and fails unless the node's value, its hook and one line of its log say so.
// causes are what the error of the state, and the line, contain.
func (o *operated) sees(t *testing.T, name string, of half, state crosscast.LinkState, causes ...string) {
	t.Helper()
	var now crosscast.LinkStatus
	o.eventually(t, fmt.Sprintf("%s is %s", name, state), func() bool {
		now = o.Link()
		return of(now).State == state
	})
	if live := of(now).State == reasons.LinkLive; live != (of(now).Err == nil) || of(now).Since.IsZero() {
		t.Errorf("%s: %+v", name, of(now))
	}
	for _, cause := range causes {
		if err := of(now).Err; err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("%s is %s because of %v, want %q", name, state, err, cause)
		}
	}
	if s := o.Stats(); s.Connected != s.Adapter.Link.Live() || s.Connected && of(s.Adapter.Link).State != reasons.LinkLive {
		t.Errorf("%s is %s, and the node says: connected %v, %+v", name, state, s.Connected, s.Adapter.Link)
	}
	o.eventually(t, "the hook is told", func() bool {
		o.saw.mu.Lock()
		defer o.saw.mu.Unlock()
		return slices.ContainsFunc(o.saw.hooks, func(s crosscast.LinkStatus) bool { return of(s) == of(now) })
	})
	text := fmt.Sprintf("the %s half of the link is %s", name, state)
	o.saw.mu.Lock()
	defer o.saw.mu.Unlock()
	n := 0
	for _, line := range o.saw.lines {
		if strings.Contains(line, text) {
			n++
			for _, cause := range causes {
				if !strings.Contains(line, cause) {
					t.Errorf("logged %q, want %q", line, cause)
				}
			}
		}
	}
	told := 0 // how often it entered the state, as the hook was told
	before := of(o.saw.first)
	for _, s := range o.saw.hooks {
		if h := of(s); h != before {
			before = h
			if h.State == state {
				told++
			}
		}
	}
	if n != told {
		t.Errorf("%d lines, and told %d times, that %s:\n%s", n, told, text, strings.Join(o.saw.lines, "\n"))
	}
}

// forget begins anew with what the operator has seen.
func (o *operated) forget() {
	o.saw.mu.Lock()
	defer o.saw.mu.Unlock()
	o.saw.first = o.Link()
	o.saw.hooks, o.saw.lines = nil, nil
}

func (o *operated) live(t *testing.T) {
	t.Helper()
	o.sees(t, "publishing", publishing, reasons.LinkLive)
	o.sees(t, "subscribing", subscribing, reasons.LinkLive)
	o.eventually(t, "it is connected", func() bool { return o.Stats().Connected })
}

func (m *member) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(redistest.Patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v; the link is %+v", what, redistest.Patience, m.Link())
		}
		time.Sleep(time.Millisecond) // poll
	}
}

// behind makes a client of s whose connections go through a proxy.
func behind(t *testing.T, s *redistest.Server) (*redis.Client, *faultproxy.Proxy) {
	p := faultproxy.Start(t, s.Addr())
	o := s.Options()
	o.Addr = p.Addr()
	return redistest.Client(t, o), p
}

func acl(t *testing.T, s *redistest.Server, rules ...any) {
	t.Helper()
	if err := s.Client().Do(t.Context(), append([]any{"acl", "setuser"}, rules...)...).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestStateOfADeadServer: down, and live again.
func TestStateOfADeadServer(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	m := operate(t, "m", s.Client())
	m.live(t)
	m.forget()
	s.Kill()
	m.sees(t, "subscribing", subscribing, reasons.LinkDown, "connection refused", s.Addr())
	s.Restart()
	m.live(t)
	if n := m.Stats().Adapter.Reconnects; n != 1 {
		t.Errorf("%d reconnects", n)
	}
}

// TestStateOfAServerThatStandsStill: the publishing half says so before its batch fails, and a link that cannot be made
// yet is connecting.
func TestStateOfAServerThatStandsStill(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb, p := behind(t, s)
	started := make(chan *operated)
	s.Pause()
	saw := new(sights)
	go func() { // the link of a node that starts is connecting, too
		o := crosscast.Options{Heartbeat: 250 * time.Millisecond, OnLink: saw.onLink}
		o.Adapter = redisadapter.New(rdb, redisadapter.Options{Logger: slog.New(saw)})
		n, err := crosscast.Start(redistest.Within(t, redistest.Patience), o)
		if err != nil {
			t.Error(err)
		}
		started <- &operated{&member{Node: n}, saw}
	}()
	for ctx := redistest.Within(t, redistest.Patience); ; {
		saw.mu.Lock()
		n := len(saw.hooks)
		ok := n > 0 && saw.hooks[n-1].Publishing.State == reasons.LinkConnecting &&
			saw.hooks[n-1].Subscribing.State == reasons.LinkConnecting
		saw.mu.Unlock()
		if ok {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("a node that starts is not connecting")
		}
		time.Sleep(time.Millisecond) // poll
	}
	s.Resume()
	m := <-started
	defer m.Close(redistest.Within(t, redistest.Patience))
	m.live(t)
	m.forget()

	// Something is always under way, so that a publication stands still, and not just the link.
	quit, busy := make(chan struct{}), sync.WaitGroup{}
	busy.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
				_ = m.To("nobody").Emit(t.Context(), "x", nil)
			case <-quit:
				tick.Stop()
				return
			}
		}
	})
	stop := sync.OnceFunc(func() {
		close(quit)
		busy.Wait()
	})
	defer stop()
	start := time.Now()
	s.Pause()
	m.sees(t, "publishing", publishing, reasons.LinkDown, "has not answered")
	stop()
	if d := time.Since(start); d > 3*time.Second { // three heartbeats, and one until it stands still
		t.Errorf("noticed after %v", d)
	}
	p.Reset()
	m.sees(t, "subscribing", subscribing, reasons.LinkConnecting)
	m.sees(t, "subscribing", subscribing, reasons.LinkDown, "cannot connect")
	s.Resume()
	m.live(t)
}

// TestStateOfAQueueThatWaits: after an outage of both nodes, emissions wait for the peer.
func TestStateOfAQueueThatWaits(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	o, lines := s.Options(), new(redistest.Lines)
	o.Dialer = lines.Dial
	b := operate(t, "b", redistest.Client(t, o))
	m := operate(t, "m", s.Client())
	hear(t, m.member, b.member)
	hear(t, b.member, m.member)
	m.live(t)
	m.forget()
	lines.Cut(true)
	redistest.KillConnections(t, "pubsub", s.Client())
	m.sees(t, "publishing", publishing, reasons.LinkHeld, "waits")
	lines.Cut(false)
	m.live(t)
	b.live(t)
}

// TestStatesOfDenial: a password that is revoked, a command that is, and one channel.
func TestStatesOfDenial(t *testing.T) {
	const secret = "hunter2-secret"
	s := redistest.Start(t, redistest.Config{Users: []string{
		"alice on >" + secret + " resetchannels &cc:* +publish +subscribe +unsubscribe +ping",
	}})
	o := s.Options()
	o.Username, o.Password = "alice", secret
	losses := make(chan crosscast.Loss, 1000)
	m := operate(t, "m", redistest.Client(t, o), func(o *crosscast.Options) {
		o.OnLoss = func(_ *crosscast.Node, l crosscast.Loss) { losses <- l }
	})
	m.live(t)
	m.forget()

	acl(t, s, "alice", "-publish")
	m.sees(t, "publishing", publishing, reasons.LinkDenied, "NOPERM", "+publish")
	if st := m.Link().Subscribing.State; st != reasons.LinkLive {
		t.Errorf("the other half is %s", st)
	}
	acl(t, s, "alice", "+publish")
	m.live(t)
	m.forget()

	// One channel is a matter of what is sent there.
	acl(t, s, "alice", "resetchannels", "&cc:all", "&cc:n:*", "&cc:r:/:room", "&cc:u:*")
	m.eventually(t, "the link is replaced, because it heard what is forbidden, or stands", func() bool { return m.Stats().Connected })
	for len(losses) > 0 {
		<-losses
	}
	if err := m.To("secret").Emit(t.Context(), "x", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case l := <-losses:
		if !errors.Is(l.Err, crosscast.ErrDenied) {
			t.Errorf("loss %+v", l)
		}
	case <-time.After(redistest.Patience):
		t.Error("no loss")
	}
	if st := m.Link().Publishing.State; st != reasons.LinkLive {
		t.Errorf("because of one channel publishing is %s", st)
	}
	m.forget()

	acl(t, s, "alice", "resetpass", ">another")
	redistest.KillConnections(t, "pubsub", s.Client())
	m.sees(t, "subscribing", subscribing, reasons.LinkDenied, "WRONGPASS")
	redistest.KillConnections(t, "normal", s.Client())
	acl(t, s, "alice", ">"+secret)
	m.live(t)
	m.saw.mu.Lock()
	defer m.saw.mu.Unlock()
	if all := strings.Join(m.saw.lines, "\n"); strings.Contains(all, secret) {
		t.Errorf("the log shows the password:\n%s", all)
	}
}

// rerouted is a connection to another server than it says, as behind a proxy.
type rerouted struct {
	net.Conn
	addr net.Addr
}

func (r *rerouted) RemoteAddr() net.Addr { return r.addr }

// dialsALink reports whether a dialer was called for a link, and not for the pool.
func dialsALink() bool {
	pcs := make([]uintptr, 64)
	for frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)]); ; {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.File, "redisbus/subscriber.go") {
			return true
		}
		if !more {
			return false
		}
	}
}

// TestStateOfADeafLink: it stands at a server that is not fed, and answers there, while publishing goes to the right one.
func TestStateOfADeafLink(t *testing.T) {
	s, other := redistest.Start(t, redistest.Config{}), redistest.Start(t, redistest.Config{})
	o := s.Options()
	var elsewhere atomic.Bool
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil || !elsewhere.Load() || !dialsALink() {
			return c, err
		}
		_ = c.Close()
		second, err := d.DialContext(ctx, network, other.Addr())
		if err != nil {
			return nil, err
		}
		return &rerouted{second, c.RemoteAddr()}, nil
	}
	m := operate(t, "m", redistest.Client(t, o))
	a := operate(t, "a", s.Client())
	hear(t, a.member, m.member)
	m.live(t)
	m.forget()
	elsewhere.Store(true)
	redistest.KillConnections(t, "pubsub", s.Client())
	m.expectGap(t, reasons.GapLinkLost)
	resumed := time.Now()
	m.sees(t, "subscribing", subscribing, reasons.LinkDeaf, "does not come back")
	if d := time.Since(resumed); d > 3*time.Second {
		t.Errorf("noticed after %v", d)
	}
	m.expectGap(t, reasons.GapDeaf)
	if st := m.Link().Subscribing.State; st != reasons.LinkDeaf {
		t.Errorf("with another deaf link it is %s", st)
	}
	elsewhere.Store(false)
	m.live(t)
	hear(t, a.member, m.member)
}

// TestStateOfABusyReader: one call of the application's takes two seconds. That is a flag and a line; the link is not
// replaced, and nothing is lost in other rooms.
func TestStateOfABusyReader(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	a, m := operate(t, "a", s.Client()), operate(t, "m", s.Client())
	if _, err := m.Connect(t.Context(), slowConn{}, crosscast.ConnectOptions{Rooms: []string{"slow"}}); err != nil {
		t.Fatal(err)
	}
	hear(t, a.member, m.member)
	m.forget()
	if err := a.To("slow").Emit(t.Context(), "slow", nil); err != nil {
		t.Fatal(err)
	}
	busy := false
	for i := range 40 {
		if err := a.To("room").Emit(t.Context(), fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // lasts
		busy = busy || m.Link().Busy
	}
	for i := range 40 {
		m.expect(t, fmt.Sprint(i, " "))
	}
	if n := len(m.gaps); n != 0 {
		t.Errorf("%d gaps, the first %+v", n, <-m.gaps)
	}
	m.eventually(t, "it is not busy any more", func() bool { return !m.Link().Busy })
	m.saw.mu.Lock()
	defer m.saw.mu.Unlock()
	told := slices.ContainsFunc(m.saw.hooks, func(s crosscast.LinkStatus) bool { return s.Busy })
	if len(m.saw.lines) != 1 || !told || !busy {
		t.Errorf("busy: the value says %v, the hook %v, the log %q", busy, told, m.saw.lines)
	}
}

type slowConn struct{}

func (slowConn) Send(*crosscast.Message) error {
	time.Sleep(2 * time.Second) // lasts
	return nil
}
func (slowConn) Close(crosscast.Reason) {}

// TestAnOnGapThatWaits does not make the next gap.
func TestAnOnGapThatWaits(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	var gaps atomic.Int32
	m := operate(t, "m", s.Client(), func(o *crosscast.Options) {
		o.OnGap = func(*crosscast.Node, crosscast.Gap) {
			gaps.Add(1)
			time.Sleep(1300 * time.Millisecond) // lasts
		}
	})
	redistest.KillConnections(t, "pubsub", s.Client())
	m.eventually(t, "the gap", func() bool { return gaps.Load() == 1 })
	for i := range 10 {
		if err := m.To("room").Emit(t.Context(), fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
		m.expect(t, fmt.Sprint(i, " "))
		time.Sleep(300 * time.Millisecond) // lasts
	}
	if n, r := gaps.Load(), m.Stats().Adapter.Reconnects; n != 1 || r != 1 {
		t.Errorf("%d gaps, %d reconnects", n, r)
	}
}

// TestASlowLink: a frame may take many heartbeats to arrive.
func TestASlowLink(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb, p := behind(t, s)
	a, m := operate(t, "a", s.Client()), operate(t, "m", rdb)
	hear(t, a.member, m.member)
	p.Set(faultproxy.Down, faultproxy.Faults{Rate: 512 << 10})
	text := strings.Repeat("x", 512<<10)
	for i := range 5 {
		if err := a.To("room").Emit(t.Context(), fmt.Sprint(i), text); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		m.expect(t, fmt.Sprintf("%d %q", i, text))
	}
	if n := len(m.gaps); n != 0 {
		t.Errorf("%d gaps, the first %+v", n, <-m.gaps)
	}
	if d := m.Stats().Adapter.EchoRoundTrip; d <= 0 {
		t.Errorf("the last echo took %v", d)
	}
}

// TestPingsThatAreErrors: of a server that cannot save, and of a user who may not ping. Links can be made all the same,
// and a deaf one is found.
func TestPingsThatAreErrors(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (*redistest.Server, *redis.Options){
		"MISCONF": func(t *testing.T) (*redistest.Server, *redis.Options) {
			dir := t.TempDir()
			s := redistest.Start(t, redistest.Config{Args: []string{"--dir", dir, "--save", "3600 1"}})
			if err := os.Mkdir(filepath.Join(dir, "dump.rdb"), 0o700); err != nil {
				t.Fatal(err)
			}
			redistest.FailToSave(t, s.Client())
			return s, s.Options()
		},
		"NOPERM": func(t *testing.T) (*redistest.Server, *redis.Options) {
			s := redistest.Start(t, redistest.Config{Users: []string{
				"alice on >pw resetchannels &cc:* +publish +subscribe +unsubscribe",
			}})
			o := s.Options()
			o.Username, o.Password = "alice", "pw"
			return s, o
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, o := start(t)
			p := faultproxy.Start(t, s.Addr())
			var link atomic.Bool // the next connection is the link's
			link.Store(true)
			o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if ctx.Err() == nil && link.Swap(false) { // go-redis also tries where it cannot
					addr = p.Addr()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			m := operate(t, "m", redistest.Client(t, o))
			m.live(t)
			link.Store(true)
			redistest.KillConnections(t, "pubsub", s.Client())
			m.expectGap(t, reasons.GapLinkLost)
			m.live(t)
			// An echo that is late has the link pinged.
			before := pings(t, s)
			p.Set(faultproxy.Down, faultproxy.Faults{Delay: 200 * time.Millisecond})
			m.eventually(t, "pings", func() bool { return pings(t, s) >= before+3 })
			p.Set(faultproxy.Down, faultproxy.Faults{})
			if err := m.To("room").Emit(t.Context(), "x", nil); err != nil {
				t.Fatal(err)
			}
			m.expect(t, "x ")
			m.live(t)
			if n := m.Stats().Adapter.Reconnects; n != 1 {
				t.Errorf("%d reconnects", n)
			}
		})
	}
}

// pings is how many PINGs a server has refused.
func pings(t *testing.T, s *redistest.Server) (n int) {
	t.Helper()
	stats, err := s.Client().Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, stats, _ = strings.Cut(stats, "cmdstat_ping:")
	_, stats, _ = strings.Cut(stats, "rejected_calls=")
	_, _ = fmt.Sscanf(stats, "%d", &n)
	return n
}

// TestPublishingIsTheUsersClients: every PUBLISH goes through the client that the adapter was given, and its hooks; and
// nothing but Pub/Sub goes over another.
func TestPublishingIsTheUsersClients(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb := s.Client()
	published := new(redistest.Publications)
	rdb.AddHook(published)
	m := operate(t, "m", rdb)
	for i := range 100 {
		if err := m.To("room").Emit(t.Context(), fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	redistest.KillConnections(t, "pubsub", s.Client())
	m.expectGap(t, reasons.GapLinkLost)
	if err := m.Close(redistest.Within(t, redistest.Patience)); err != nil {
		t.Fatal(err)
	}
	stats, err := s.Client().Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("cmdstat_publish:calls=%d,", len(published.Seen()))
	if !strings.Contains(stats, want) || len(published.Seen()) == 0 {
		t.Errorf("the hook saw %d, and the server\n%s", len(published.Seen()), stats)
	}
}

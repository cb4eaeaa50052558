package natsadapter_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/natsadapter"
)

// TestFaults: whatever happens to the connections and to the server, nothing is missed without a gap in its place, and
// all hear each other again.
func TestFaults(t *testing.T) {
	rows := map[string]func(t *testing.T, s *natsServer, p *faultproxy.Proxy, b *member){
		"restart": func(_ *testing.T, s *natsServer, _ *faultproxy.Proxy, _ *member) {
			s.stop()
			s.start()
		},
		"reset": func(_ *testing.T, _ *natsServer, p *faultproxy.Proxy, _ *member) { p.Reset() },
		"half-open": func(t *testing.T, _ *natsServer, p *faultproxy.Proxy, b *member) {
			swallow(p, true)
			eventually(t, "the dead link is noticed", func() bool { return !b.Link().Live() })
			swallow(p, false)
			eventually(t, "a gap", func() bool { return b.gapsSoFar() > 0 })
		},
		"half-open, up": func(t *testing.T, _ *natsServer, p *faultproxy.Proxy, b *member) {
			p.Set(faultproxy.Up, faultproxy.Faults{Swallow: true})
			eventually(t, "the dead link is noticed", func() bool { return !b.Link().Live() })
			swallow(p, false)
		},
		"paused": func(t *testing.T, _ *natsServer, p *faultproxy.Proxy, b *member) {
			for _, d := range []faultproxy.Direction{faultproxy.Up, faultproxy.Down} {
				p.Set(d, faultproxy.Faults{Hold: true})
			}
			eventually(t, "the pause is noticed", func() bool { return !b.Link().Live() })
			swallow(p, false)
		},
		"cut in a message": func(t *testing.T, _ *natsServer, p *faultproxy.Proxy, b *member) {
			p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: 1001})
			eventually(t, "a gap", func() bool { return b.gapsSoFar() > 0 })
		},
	}
	for name, fault := range rows {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, server.Options{})
			p := faultproxy.Start(t, strings.TrimPrefix(s.url(), "nats://"))
			o := natsadapter.Options{PublishTimeout: time.Second}
			a := join(t, "a", s.url(), o, nil)
			b := join(t, "b", "nats://"+p.Addr(), o, nil)
			under(t, func() { fault(t, s, p, b) }, a, b)
		})
	}
}

func swallow(p *faultproxy.Proxy, swallow bool) {
	for _, d := range []faultproxy.Direction{faultproxy.Up, faultproxy.Down} {
		p.Set(d, faultproxy.Faults{Swallow: swallow})
	}
}

// TestPublisherEnds: the server ends the connection over which a node publishes. What was in flight is uncertain. The
// batch that comes next goes over another connection, whether or not the node has noticed before.
func TestPublisherEnds(t *testing.T) {
	s := startServer(t, server.Options{})
	ended := make(chan struct{}, 1000)
	a := join(t, "a", s.url(), natsadapter.Options{}, nil, nats.SetCustomDialer(dialFunc(func(network, address string) (net.Conn, error) {
		c, err := net.Dial(network, address)
		return endsConn{c, ended}, err
	})))
	for range 50 {
		a.emit()
		if err := a.Flush(within(t)); err != nil && !errors.As(err, new(*crosscast.LossError)) {
			t.Fatal(err)
		}
		list, err := s.Connz(&server.ConnzOptions{Subscriptions: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list.Conns {
			if !slices.Contains(c.Subs, "cc.all") && s.DisconnectClientByID(c.Cid) == nil {
				<-ended
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.losses {
		if !errors.Is(l.Err, crosscast.ErrUncertain) {
			t.Errorf("a loss: %v", l.Err)
		}
	}
}

// endsConn tells when the connection ends.
type endsConn struct {
	net.Conn
	ended chan<- struct{}
}

func (c endsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended <- struct{}{}
	}
	return n, err
}

// TestPasswordChanges: the server ends the connections of a user whose password has changed. The node logs in again at
// once, because it has the new one.
func TestPasswordChanges(t *testing.T) {
	s := startServer(t, server.Options{})
	u := &users{s: s}
	u.add("a", "cc.>")
	var password atomic.Value
	password.Store("pw")
	denied := make(chan error, 1000)
	a := join(t, "a", s.url(), natsadapter.Options{}, func(o *crosscast.Options) {
		o.OnLink = func(_ *crosscast.Node, l crosscast.LinkStatus) {
			for _, half := range []crosscast.LinkHalf{l.Publishing, l.Subscribing} {
				if half.State == reasons.LinkDenied {
					denied <- half.Err
				}
			}
		}
	}, nats.UserInfoHandler(func() (string, string) { return "a", password.Load().(string) }))
	password.Store("new")
	s.o.Users = []*server.User{{Username: "a", Password: "new", Permissions: permissions("cc.>")}}
	s.reload()
	eventually(t, "the link is back", func() bool { return a.gapsSoFar() > 0 })
	select {
	case err := <-denied:
		t.Errorf("a login was denied: %v", err)
	default:
	}
}

// TestStartWithoutDeadline: the context of Start needs none.
func TestStartWithoutDeadline(t *testing.T) {
	s := startServer(t, server.Options{})
	n, err := crosscast.Start(context.Background(), crosscast.Options{Adapter: natsadapter.Dial(s.url(), natsadapter.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestRoutes: the connections between the servers break and come back. What was emitted meanwhile is a gap, whether or
// not the peers have been taken for dead.
func TestRoutes(t *testing.T) {
	for _, dead := range []bool{false, true} {
		servers, proxies := startProxied(t, 3)
		var members []*member
		for i, s := range servers {
			members = append(members, join(t, "n"+string(rune('0'+i)), s.url(), natsadapter.Options{}, nil, nats.IgnoreDiscoveredServers()))
		}
		under(t, func() {
			cutRoutes(t, servers, proxies)
			if dead {
				eventually(t, "the peers are taken for dead", func() bool { return len(members[0].Nodes()) == 0 })
			}
			heal(t, servers, proxies)
		}, members...)
	}
}

// TestJoinWithoutProof: while the connections between the servers are broken, Join returns nil, and a message that was
// emitted at once, before anything else of its node arrived, is a gap of the room. Nobody is taken for dead.
func TestJoinWithoutProof(t *testing.T) {
	servers, proxies := startProxied(t, 2)
	slow := func(o *crosscast.Options) { o.Heartbeat = 2 * time.Second }
	a := join(t, "a", servers[0].url(), natsadapter.Options{}, slow, nats.IgnoreDiscoveredServers())
	b := join(t, "b", servers[1].url(), natsadapter.Options{}, slow, nats.IgnoreDiscoveredServers())
	eventually(t, "the nodes know each other", func() bool { return len(a.Nodes()) == 1 && len(b.Nodes()) == 1 })
	cutRoutes(t, servers, proxies)
	gaps := make(chan crosscast.Gap, 100)
	if _, err := b.Subscribe(within(t), crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { t.Errorf("got %s", m.Event) },
		OnGap:     func(_ *crosscast.Subscription, g crosscast.Gap) { gaps <- g },
	}, "later"); err != nil {
		t.Fatal(err)
	}
	if err := a.To("later").Emit(t.Context(), "missed", nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	heal(t, servers, proxies)
	select {
	case g := <-gaps:
		if !g.Covers(crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "later"}) {
			t.Errorf("the gap is %+v", g)
		}
	case <-within(t).Done():
		t.Error("a message was missed in silence")
	}
}

// TestJoinWaitsForProof: between the servers everything takes long. What is emitted right after a Join has returned
// arrives all the same.
func TestJoinWaitsForProof(t *testing.T) {
	servers, proxies := startProxied(t, 2)
	a := join(t, "a", servers[0].url(), natsadapter.Options{}, nil, nats.IgnoreDiscoveredServers())
	b := join(t, "b", servers[1].url(), natsadapter.Options{}, nil, nats.IgnoreDiscoveredServers())
	eventually(t, "the nodes know each other", func() bool { return len(a.Nodes()) == 1 && len(b.Nodes()) == 1 })
	for _, p := range proxies {
		for _, d := range []faultproxy.Direction{faultproxy.Up, faultproxy.Down} {
			p.Set(d, faultproxy.Faults{Delay: 50 * time.Millisecond})
		}
	}
	got := make(chan string, 100)
	s, err := b.Subscribe(within(t), crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { got <- m.Event },
	}, "first")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []string{"x", "y", "z"} {
		if err := s.Add(within(t), room); err != nil {
			t.Fatal(err)
		}
		if err := a.To(room).Emit(t.Context(), room, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case event := <-got:
			if event != room {
				t.Errorf("got %s instead of %s", event, room)
			}
		case <-within(t).Done():
			t.Fatalf("what was emitted to %s after the Join did not arrive", room)
		}
	}
}

// startProxied is startCluster with a proxy before the cluster's port of each server.
func startProxied(t *testing.T, n int) (servers []*natsServer, proxies []*faultproxy.Proxy) {
	t.Helper()
	var routes []string
	for range n {
		p := faultproxy.Start(t, "127.0.0.1:1")
		s := startServer(t, server.Options{
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: -1, Advertise: p.Addr()},
			Routes:  server.RoutesFromStr(strings.Join(routes, ",")),
		})
		p.Lead(s.ClusterAddr().String())
		routes = append(routes, "nats://"+p.Addr())
		servers, proxies = append(servers, s), append(proxies, p)
	}
	whole(t, servers)
	return servers, proxies
}

func cutRoutes(t *testing.T, servers []*natsServer, proxies []*faultproxy.Proxy) {
	t.Helper()
	for _, p := range proxies {
		p.Refuse()
	}
	for _, p := range proxies {
		p.Reset()
	}
	eventually(t, "all servers are alone", func() bool {
		for _, s := range servers {
			if routed(s) > 0 {
				return false
			}
		}
		return true
	})
}

func heal(t *testing.T, servers []*natsServer, proxies []*faultproxy.Proxy) {
	t.Helper()
	for _, p := range proxies {
		if err := p.Admit(); err != nil {
			t.Fatal(err)
		}
	}
	whole(t, servers)
}

// blocking is a conn whose Send waits for the gate.
type blocking struct{ gate chan struct{} }

func (c blocking) Send(*crosscast.Message) error { <-c.gate; return nil }
func (blocking) Close(crosscast.Reason)          {}

// TestSlowConsumer: a node stands still in the application until the server ends its connection. It reports a gap, and
// publishes meanwhile.
func TestSlowConsumer(t *testing.T) {
	s := startServer(t, server.Options{MaxPending: 2 << 20, WriteDeadline: 200 * time.Millisecond})
	a := join(t, "a", s.url(), natsadapter.Options{}, nil)
	b := join(t, "b", s.url(), natsadapter.Options{}, nil)
	c := blocking{make(chan struct{})}
	open := sync.OnceFunc(func() { close(c.gate) })
	defer open()
	if _, err := b.Connect(within(t), c, crosscast.ConnectOptions{Rooms: []string{"large"}}); err != nil {
		t.Fatal(err)
	}
	under(t, func() {
		payload := crosscast.Bytes(make([]byte, 256<<10))
		for ctx := within(t); s.NumSlowConsumers() == 0; {
			if err := a.To("large").Emit(ctx, "large", payload); err != nil {
				t.Fatal(err)
			}
			if err := a.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		now := a.last(b)
		eventually(t, "it publishes meanwhile", func() bool { return a.last(b) > now+10 })
		open()
		eventually(t, "a gap", func() bool { return b.gapsSoFar() > 0 })
	}, a, b)
}

// TestDeniedToPublish: what the server does not allow to publish is a loss that matches ErrDenied, and nothing else is.
func TestDeniedToPublish(t *testing.T) {
	s := startServer(t, server.Options{})
	u := &users{s: s}
	a := join(t, "a", s.url(), natsadapter.Options{}, nil, u.add("a", "cc.>"))
	b := join(t, "b", s.url(), natsadapter.Options{}, nil, u.add("b", "cc.>"))
	s.o.Users[0] = &server.User{Username: "a", Password: "pw", Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"cc.>"}, Deny: []string{"cc.r./.denied"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"cc.>"}},
	}}
	s.reload()
	under(t, func() {
		for _, room := range []string{"denied", "open"} {
			r, err := a.To(room).Deliver(within(t), "event", nil)
			if (err != nil) != (room == "denied") || err != nil && !errors.Is(err, crosscast.ErrDenied) {
				t.Errorf("to %s: %+v, %v", room, r, err)
			}
		}
	}, a, b)
}

// TestLameDuck: before a server shuts down it ends its connections. Its nodes go to another server of the cluster.
func TestLameDuck(t *testing.T) {
	all := startCluster(t, 2)
	a := join(t, "a", all[0].url(), natsadapter.Options{}, nil)
	b := join(t, "b", all[1].url(), natsadapter.Options{}, nil)
	under(t, func() {
		all[0].lameDuckShutdown()
		eventually(t, "a is at the other server", func() bool { return all[1].NumClients() == 4 })
	}, a, b)
}

// TestOneServerForBoth: a node that cannot publish through the server of its link publishes on the link.
func TestOneServerForBoth(t *testing.T) {
	all := startCluster(t, 2)
	var dialled atomic.Int32
	balancer := dialFunc(func(network, _ string) (net.Conn, error) { // each connection to another server
		s := all[dialled.Add(1)%2]
		return net.Dial(network, strings.TrimPrefix(s.url(), "nats://"))
	})
	a := join(t, "a", "nats://balancer.invalid:4222", natsadapter.Options{}, nil, nats.SetCustomDialer(balancer), nats.SkipHostLookup(),
		nats.IgnoreDiscoveredServers())
	b := join(t, "b", all[0].url(), natsadapter.Options{}, nil)
	under(t, func() {
		if n := all[0].NumClients() + all[1].NumClients(); n != 3 {
			t.Errorf("the nodes have %d connections, want 3", n)
		}
	}, a, b)
}

type dialFunc func(network, address string) (net.Conn, error)

func (f dialFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// TestMaxPayload: a server that carries less than expected is refused; with its own limit, the largest payload arrives.
func TestMaxPayload(t *testing.T) {
	const most = 300 << 10
	s := startServer(t, server.Options{MaxPayload: most})
	_, err := crosscast.Start(within(t), crosscast.Options{Adapter: natsadapter.Dial(s.url(), natsadapter.Options{})})
	if err == nil || !strings.Contains(err.Error(), "Options.MaxMessage") {
		t.Fatalf("Start: %v", err)
	}
	o := natsadapter.Options{MaxMessage: most}
	a, b := join(t, "a", s.url(), o, nil), join(t, "b", s.url(), o, nil)
	largest := natsadapter.Dial(s.url(), o).MaxPayload()
	got := make(chan int, 10)
	if _, err := b.Subscribe(within(t), crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { got <- len(m.Payload.Data) },
	}, "large"); err != nil {
		t.Fatal(err)
	}
	if err := a.To("large").Emit(t.Context(), "e", crosscast.Bytes(make([]byte, largest+1))); !errors.Is(err, crosscast.ErrTooLarge) {
		t.Errorf("what is too large: %v", err)
	}
	for range 5 {
		if err := a.To("large").Emit(t.Context(), "e", crosscast.Bytes(make([]byte, largest))); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if n := <-got; n != largest {
			t.Errorf("%d bytes arrived, want %d", n, largest)
		}
	}
}

// TestEmitterOnlyPublishes: an emitter needs no permission to subscribe.
func TestEmitterOnlyPublishes(t *testing.T) {
	s := startServer(t, server.Options{})
	u := &users{s: s}
	b := join(t, "b", s.url(), natsadapter.Options{}, nil, u.add("b", "cc.>"))
	login := u.add("e", "cc.>")
	s.o.Users[1] = &server.User{Username: "e", Password: "pw", Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"cc.>"}},
		Subscribe: &server.SubjectPermission{Deny: []string{">"}},
	}}
	s.reload()
	e, err := crosscast.Start(within(t), crosscast.Options{
		Name: "e", EmitOnly: true, Adapter: natsadapter.Dial(s.url(), natsadapter.Options{}, login),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.To("room").Emit(t.Context(), "e 1", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the emission arrives", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.heard["e"] == 1
	})
	if err := e.Close(within(t)); err != nil {
		t.Error(err)
	}
}

// TestWrongURLs: a mistake is an error of Start, and no error has the password.
func TestWrongURLs(t *testing.T) {
	s := startServer(t, server.Options{Username: "u", Password: "right"})
	for url, want := range map[string]string{
		strings.Replace(s.url(), "//", "//u:secret@", 1): "denied",
		"nats://u:secret@127.0.0.1:1":                    "refused",
		"nats://u:secret%zz@127.0.0.1":                   "URL",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := crosscast.Start(ctx, crosscast.Options{Adapter: natsadapter.Dial(url, natsadapter.Options{})})
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Start: %v, want it to have %q", err, want)
		}
	}
	for _, prefix := range []string{"$SYS", "a..b", ".a", "a.>", "a.\x01"} {
		_, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: natsadapter.Dial(s.url(), natsadapter.Options{Prefix: prefix})})
		if err == nil || !strings.Contains(err.Error(), "Prefix") {
			t.Errorf("the prefix %q: %v", prefix, err)
		}
	}
}

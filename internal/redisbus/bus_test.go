package redisbus_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

func TestOrderAndReceivers(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		bus := newBus(redistest.Client(t, options()))
		both, one := listen(t, bus, "cc:a", "cc:b"), listen(t, bus, "cc:a")

		var batch []wire.Frame
		for i, s := range numbered(1000) {
			topic := "cc:a"
			if i%3 == 0 {
				topic = "cc:b"
			}
			batch = append(batch, wire.Frame{Topic: topic, Data: []byte(s)})
		}
		batch = append(batch, wire.Frame{Topic: "cc:nobody", Data: []byte("x")})
		mustPublish(t, bus, batch)

		for i, f := range batch {
			want := map[string]int{"cc:a": 2, "cc:b": 1, "cc:nobody": 0}[f.Topic]
			if f.Receivers != want {
				t.Fatalf("frame %d to %s: %d receivers, want %d", i, f.Topic, f.Receivers, want)
			}
			if want >= 1 {
				both.expectData(t, f.Topic, string(f.Data))
			}
			if want == 2 {
				one.expectData(t, f.Topic, string(f.Data))
			}
		}
	})
}

// TestSharded: sharded channels are others than plain ones of the same name, and work alike.
func TestSharded(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			o := s.Options()
			o.Protocol = protocol
			rdb := redistest.Client(t, o)
			plain, sharded := newBus(rdb), redisbus.New(rdb, redisbus.Config{Sharded: true})
			p, q := listen(t, plain, "cc:a"), listen(t, sharded, "cc:a", "cc:b")
			mustPublish(t, plain, frames("cc:a", "plain"))
			batch := frames("cc:a", "1", "2", "3")
			mustPublish(t, sharded, batch)
			mustPublish(t, plain, frames("cc:a", "fence"))
			for i, f := range batch {
				if f.Receivers != 1 {
					t.Errorf("frame %d: %d receivers, want 1", i, f.Receivers)
				}
				q.expectData(t, "cc:a", string(f.Data))
			}
			p.expectData(t, "cc:a", "plain")
			p.expectData(t, "cc:a", "fence")
			if err := q.link.Unsubscribe([]string{"cc:b"}); err != nil {
				t.Fatal(err)
			}
			q.expect(t, wire.Unsubscribed, "cc:b")
		})
	}
}

func TestAnyBytes(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		bus := newBus(redistest.Client(t, options()))
		topic := "cc:\x00\r\n\xff"
		l := listen(t, bus, topic)
		texts := []string{"", "\r\n$5\r\n", "\x00\xff", strings.Repeat("+\r\n", 500_000), "end"}
		mustPublish(t, bus, frames(topic, texts...))
		for _, s := range texts {
			l.expectData(t, topic, s)
		}
		bus.Publish(t.Context(), nil)
	})
}

func TestConfirmationsInTheOrderOfRequests(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		bus := newBus(redistest.Client(t, options()))
		l := listen(t, bus)
		topics := numbered(2000)
		l.subscribe(t, topics...)
		l.subscribe(t, topics[7]) // once more: confirmed once more

		for _, ask := range []func([]string) error{l.link.Unsubscribe, l.link.Subscribe} {
			if err := ask(topics[5:7]); err != nil {
				t.Fatal(err)
			}
		}
		l.expect(t, wire.Unsubscribed, topics[5])
		l.expect(t, wire.Unsubscribed, topics[6])
		l.expect(t, wire.Subscribed, topics[5])
		l.expect(t, wire.Subscribed, topics[6])

		// After the confirmation nothing comes any more; the fence is on the same connection.
		if err := l.link.Unsubscribe(topics[:1]); err != nil {
			t.Fatal(err)
		}
		l.expect(t, wire.Unsubscribed, topics[0])
		mustPublish(t, bus, append(frames(topics[0], "no"), frames(topics[1], "fence")...))
		l.expectData(t, topics[1], "fence")
	})
}

func TestCloseWakesReceive(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		onEachConn(t, func(t *testing.T, client func(*redis.Options) redis.UniversalClient) {
			l := listen(t, newBus(client(options())), "cc:a")
			if err := l.link.Close(); err != nil {
				t.Fatal(err)
			}
			_ = l.expectEnd(t)
			if err := l.link.Subscribe([]string{"cc:b"}); err == nil {
				t.Error("Subscribe on a closed link succeeds")
			}
		})
	})
}

// TestConnectErrors: what is wrong is said in words, with the address, without the password, and errors.Is and
// errors.As see the cause. What is published then was received by nobody.
func TestConnectErrors(t *testing.T) {
	const secret = "hunter2-secret"
	server := func(c redistest.Config) func(t *testing.T) *redis.Options {
		return func(t *testing.T) *redis.Options { return redistest.Start(t, c).Options() }
	}
	mini := func(t *testing.T) *redis.Options {
		m := miniredis.RunT(t)
		m.RequireAuth("right")
		return &redis.Options{Addr: m.Addr()}
	}
	for _, tt := range []struct {
		name   string
		server func(t *testing.T) *redis.Options
		change func(o *redis.Options)
		denied bool
		says   []string
		check  func(err error) bool
	}{
		{
			name: "wrong password", server: server(redistest.Config{Password: "right"}),
			change: func(o *redis.Options) { o.Password = secret },
			denied: true, says: []string{"WRONGPASS", "password"}, check: redis.IsAuthError,
		},
		{
			name: "wrong password on miniredis", server: mini,
			change: func(o *redis.Options) { o.Password = secret },
			denied: true, says: []string{"WRONGPASS"}, check: redis.IsAuthError,
		},
		{
			name: "no password", server: server(redistest.Config{Password: "right"}),
			change: func(o *redis.Options) { o.Password = "" },
			denied: true, says: []string{"NOAUTH", "Authentication required"}, check: redis.IsAuthError,
		},
		{
			name: "no password on miniredis", server: mini,
			change: func(*redis.Options) {},
			denied: true, says: []string{"NOAUTH"}, check: redis.IsAuthError,
		},
		{
			name: "nobody listens", server: server(redistest.Config{}),
			change: func(o *redis.Options) { o.Addr = redistest.ClosedPort() },
			says:   []string{"connection refused"},
			check:  func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) },
		},
		{
			name: "unknown authority", server: server(redistest.Config{TLS: true}),
			change: func(o *redis.Options) { o.TLSConfig = &tls.Config{} },
			says:   []string{"certificate", "unknown authority"},
			check:  func(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) },
		},
		{
			name: "TLS to a plain port", server: server(redistest.Config{}),
			change: func(o *redis.Options) {
				o.TLSConfig, o.DialTimeout = &tls.Config{InsecureSkipVerify: true}, 200*time.Millisecond
			},
			says:  []string{"speaks TLS"},
			check: func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
		},
		{
			name: "plain to a TLS port", server: server(redistest.Config{TLS: true}),
			change: func(o *redis.Options) { o.TLSConfig = nil },
			says:   []string{"want TLS"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.server(t)
			o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redistest.Patience, redistest.Patience, redistest.Patience
			tt.change(o)
			bus := newBus(redistest.Client(t, o))
			link, err := bus.Dial(redistest.Within(t, redistest.Patience))
			if err == nil {
				_ = link.Close()
				t.Fatal("it connects")
			}
			mustContain(t, err, append(tt.says, o.Addr, "cannot connect")...)
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q shows the password", err)
			}
			if got := errors.Is(err, crosscast.ErrDenied); got != tt.denied {
				t.Errorf("error %q matches ErrDenied: %v, want %v", err, got, tt.denied)
			}
			if tt.check != nil && !tt.check(err) {
				t.Errorf("error %q does not show its cause", err)
			}

			all := frames("cc:a", "x", "y")
			bus.Publish(redistest.Within(t, redistest.Patience), all)
			for _, f := range all {
				if !errors.Is(f.Err, crosscast.ErrRefused) {
					t.Fatalf("published: %v, want refused", f.Err)
				}
				if !f.Down {
					t.Errorf("published: %v, and not down", f.Err)
				}
				if got := errors.Is(f.Err, crosscast.ErrDenied); got != tt.denied {
					t.Errorf("published: %v: matches ErrDenied: %v, want %v", f.Err, got, tt.denied)
				}
				mustContain(t, f.Err, o.Addr)
			}
		})
	}
}

func TestRefusalsOfTheServer(t *testing.T) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	bus := newBus(redistest.Client(t, &redis.Options{Addr: m.Addr(), Protocol: 2}))
	for _, tt := range []struct {
		reply        string
		denied, down bool
	}{
		{reply: "OOM command not allowed when used memory > 'maxmemory'."},
		{reply: "ERR something else"},
		{reply: "NOPERM no permissions", denied: true},
		{reply: "NOAUTH Authentication required.", denied: true, down: true},
		{reply: "WRONGPASS invalid", denied: true, down: true},
		{reply: "DENIED Redis is running in protected mode", denied: true, down: true},
		{reply: "ERR AUTH <password> called without any password configured", denied: true, down: true},
		{reply: "LOADING Redis is loading the dataset in memory", down: true},
		{reply: "CLUSTERDOWN The cluster is down", down: true},
		{reply: "MASTERDOWN Link with MASTER is down", down: true},
		{reply: "READONLY You can't write against a read only replica.", down: true},
		{reply: "TRYAGAIN later", down: true},
		{reply: "ERR max number of clients reached", down: true},
	} {
		m.SetError(tt.reply)
		all := frames("cc:a", "x", "y")
		start := time.Now()
		bus.Publish(redistest.Within(t, redistest.Patience), all)
		if d := time.Since(start); d > time.Second {
			t.Errorf("%s: took %v", tt.reply, d)
		}
		for _, f := range all {
			if !errors.Is(f.Err, crosscast.ErrRefused) || errors.Is(f.Err, crosscast.ErrDenied) != tt.denied ||
				f.Down != tt.down {
				t.Errorf("%s: %v, down %v; want refused, denied %v, down %v", tt.reply, f.Err, f.Down, tt.denied, tt.down)
			}
			if !isServerError(f.Err) {
				t.Errorf("%s: errors.As does not see it in %v", tt.reply, f.Err)
			}
		}
	}
	m.SetError("")
	mustPublish(t, bus, frames("cc:a", "x"))
}

func isServerError(err error) bool {
	var e redis.Error
	return errors.As(err, &e)
}

// TestDenied: a user may use some channels only. A refused frame or subscription says nothing about the others.
func TestDenied(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{Users: []string{
				"alice on >pw resetchannels &cc:a* +publish +subscribe +unsubscribe +ping",
			}})
			o := s.Options()
			o.Username, o.Password, o.Protocol = "alice", "pw", protocol
			bus := newBus(redistest.Client(t, o))
			l := listen(t, bus)
			for _, topics := range [][]string{{"cc:a1"}, {"cc:a2", "cc:b1", "cc:b2"}, {"cc:b3"}, {"cc:a3"}} {
				if err := l.link.Subscribe(topics); err != nil {
					t.Fatal(err)
				}
			}
			l.expect(t, wire.Subscribed, "cc:a1")
			for range 2 {
				ev := l.next(t)
				if ev.Kind != wire.Denied || !errors.Is(ev.Err, crosscast.ErrDenied) || !redis.IsPermissionError(ev.Err) {
					t.Fatalf("got %+v, want Denied", ev)
				}
				mustContain(t, ev.Err, "&cc:*", "+subscribe", s.Addr())
			}
			l.expect(t, wire.Subscribed, "cc:a3")

			all := append(frames("cc:a1", "1"), append(frames("cc:b1", "2"), frames("cc:a1", "3")...)...)
			bus.Publish(redistest.Within(t, redistest.Patience), all)
			if all[0].Err != nil || all[2].Err != nil || all[0].Receivers != 1 {
				t.Errorf("allowed frames: %+v", all)
			}
			if err := all[1].Err; !errors.Is(err, crosscast.ErrRefused) || !errors.Is(err, crosscast.ErrDenied) || all[1].Down {
				t.Errorf("denied frame: %+v", all[1])
			}
			l.expectData(t, "cc:a1", "1")
			l.expectData(t, "cc:a1", "3")

			// Allowed now, and on the same connection.
			admin := s.Client()
			acl := func(rules ...any) {
				t.Helper()
				if err := admin.Do(t.Context(), append([]any{"acl", "setuser", "alice"}, rules...)...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			acl("&cc:b*")
			l.subscribe(t, "cc:b1")

			// Forbidden again: Redis closes the connection of who listens to a channel that he may not hear.
			acl("resetchannels", "&cc:a*")
			_ = l.expectEnd(t)
		})
	}
}

func TestMissingUnsubscribeEndsTheLink(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw &cc:* +publish +subscribe +ping"}})
	o := s.Options()
	o.Username, o.Password = "alice", "pw"
	l := listen(t, newBus(redistest.Client(t, o)), "cc:a")
	if err := l.link.Unsubscribe([]string{"cc:a"}); err != nil {
		t.Fatal(err)
	}
	err := l.expectEnd(t)
	if !errors.Is(err, crosscast.ErrDenied) {
		t.Errorf("got %v", err)
	}
	mustContain(t, err, "+unsubscribe")
}

func TestClientsThatCannotBeUsed(t *testing.T) {
	rdb := redistest.Client(t, &redis.Options{Addr: redistest.ClosedPort()})
	auto, err := rdb.AutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": redistest.ClosedPort()}})
	t.Cleanup(func() { _ = ring.Close() })
	for text, c := range map[string]redis.UniversalClient{
		"no Redis client": nil, "Ring": ring, "AutoPipeliner": auto,
	} {
		err := newBus(c).(wire.Checked).Check()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%T: %v, want an error that mentions %s", c, err, text)
		}
	}
}

// TestHooks: a hook of the user's may stop a pipeline without a word to its commands.
func TestHooks(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb := s.Client()
	h := &hook{}
	rdb.AddHook(h)
	bus := newBus(rdb)
	mustPublish(t, bus, frames("cc:a", "12345"))
	if h.saw != "publish cc:a <5 bytes>: 0" {
		t.Errorf("the hook saw %q", h.saw)
	}
	h.err = errors.New("the breaker is open")
	all := frames("cc:a", "x")
	bus.Publish(t.Context(), all)
	if f := all[0]; !errors.Is(f.Err, crosscast.ErrRefused) || !errors.Is(f.Err, h.err) || !f.Down {
		t.Errorf("stopped by a hook: %+v", f)
	}
	h.err, h.mute = nil, true
	all = frames("cc:a", "x")
	bus.Publish(t.Context(), all)
	if f := all[0]; !errors.Is(f.Err, crosscast.ErrRefused) || !f.Down {
		t.Errorf("stopped by a hook without an error: %+v", f)
	}
}

type hook struct {
	saw  string
	err  error
	mute bool
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "publish" {
			return next(ctx, cmds)
		}
		if h.err != nil || h.mute {
			return h.err
		}
		err := next(ctx, cmds)
		h.saw = cmds[0].String()
		return err
	}
}

// TestCluster: one batch to many topics keeps its order over all nodes of a cluster.
func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	bus := newBus(c.Client())
	topics := numbered(30)
	var listeners []*listener
	for range 6 { // each at a node by chance
		listeners = append(listeners, listen(t, bus, topics...))
	}
	for round := range 5 {
		var batch []wire.Frame
		for i := range 300 {
			batch = append(batch, wire.Frame{Topic: topics[i*7%len(topics)], Data: fmt.Appendf(nil, "%d/%d", round, i)})
		}
		mustPublish(t, bus, batch)
		for _, l := range listeners {
			for _, f := range batch {
				l.expectData(t, f.Topic, string(f.Data))
			}
		}
		if n := batch[0].Receivers; n != -1 {
			t.Fatalf("%d receivers of a cluster, want -1: unknown", n)
		}
	}
	for _, s := range c.Servers {
		s.Kill()
	}
	all := frames("cc:a", "x")
	bus.Publish(redistest.Within(t, redistest.Patience), all)
	if f := all[0]; f.Err == nil || !f.Down {
		t.Errorf("published to a dead cluster: %+v", f)
	}
	if _, err := bus.Dial(redistest.Within(t, redistest.Patience)); err == nil {
		t.Error("dialled a dead cluster")
	} else {
		mustContain(t, err, "cluster", c.Servers[0].Addr())
	}
}

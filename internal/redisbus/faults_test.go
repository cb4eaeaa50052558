package redisbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
)

// through makes a client of s whose connections go through a proxy.
func through(t *testing.T, s *redistest.Server, change ...func(o *redis.Options)) (*redis.Client, *faultproxy.Proxy) {
	t.Helper()
	p := faultproxy.Start(t, s.Addr())
	o := s.Options()
	o.Addr = p.Addr()
	for _, c := range change {
		c(o)
	}
	return redistest.Client(t, o), p
}

// subscribers is how many connections are subscribed to a topic.
func subscribers(t *testing.T, admin *redis.Client, topic string) int {
	t.Helper()
	n, err := admin.PubSubNumSub(t.Context(), topic).Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(n[topic])
}

// TestKilledServer: a link ends with the server and does not come back by itself; what is published meanwhile is
// refused at once; after the restart both work again without a loss, though the pooled connections are dead.
func TestKilledServer(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	bus := newBus(s.Client())
	l := listen(t, bus, "cc:a")
	mustPublish(t, bus, frames("cc:a", "before"))
	l.expectData(t, "cc:a", "before")

	s.Kill()
	mustContain(t, l.expectEnd(t), s.Addr())
	start := time.Now()
	all := frames("cc:a", "x", "y")
	bus.Publish(redistest.Within(t, redistest.Patience), all)
	for _, f := range all {
		if !errors.Is(f.Err, crosscast.ErrRefused) || !f.Down {
			t.Errorf("published without a server: %+v", f)
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("which took %v", d)
	}
	if _, err := bus.Dial(redistest.Within(t, redistest.Patience)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialled without a server: %v", err)
	}

	s.Restart()
	if n := subscribers(t, s.Client(), "cc:a"); n != 0 {
		t.Errorf("%d links came back by themselves", n)
	}
	if err := l.link.Subscribe([]string{"cc:b"}); err == nil {
		t.Error("a broken link takes a subscription")
	}
	l = listen(t, bus, "cc:a")
	mustPublish(t, bus, frames("cc:a", "after"))
	l.expectData(t, "cc:a", "after")
}

// TestKilledSubscriber: go-redis would have reconnected by the time that the error is seen.
func TestKilledSubscriber(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			admin, o := s.Client(), s.Options()
			o.Protocol = protocol
			l := listen(t, newBus(redistest.Client(t, o)), "cc:a")
			redistest.KillConnections(t, "pubsub", admin)
			_ = l.expectEnd(t)
			if n := subscribers(t, admin, "cc:a"); n != 0 {
				t.Errorf("%d links came back by themselves", n)
			}
		})
	}
	// go-redis's TLS dialer pays no attention to the context, so there it does reconnect; but the link has ended all
	// the same, and Close ends what came back.
	t.Run("TLS", func(t *testing.T) {
		s := redistest.Start(t, redistest.Config{TLS: true})
		admin := s.Client()
		l := listen(t, newBus(s.Client()), "cc:a")
		redistest.KillConnections(t, "pubsub", admin)
		_ = l.expectEnd(t)
		if err := l.link.Close(); err != nil {
			t.Fatal(err)
		}
		for ctx := redistest.Within(t, redistest.Patience); subscribers(t, admin, "cc:a") != 0; {
			if ctx.Err() != nil {
				t.Fatal("it is still subscribed")
			}
		}
	})
}

// TestKilledPublisher: nothing is lost or doubled when idle connections of the pool were closed by the server.
func TestKilledPublisher(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	admin, bus := s.Client(), newBus(s.Client())
	l := listen(t, bus, "cc:a")
	for _, text := range numbered(50) {
		mustPublish(t, bus, frames("cc:a", text))
		redistest.KillConnections(t, "normal", admin)
		l.expectData(t, "cc:a", text)
	}
}

// TestHalfOpenLink: the connection stands and is deaf. Nothing can tell but the absence of what must come, so the link
// just waits, and Close ends the wait.
func TestHalfOpenLink(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb, p := through(t, s)
	l := listen(t, newBus(rdb), "cc:a")
	p.Set(faultproxy.Down, faultproxy.Faults{Swallow: true})

	direct := newBus(s.Client())
	lost := frames("cc:a", "lost")
	mustPublish(t, direct, lost)
	if lost[0].Receivers != 1 {
		t.Errorf("%d receivers: Redis counts a deaf one", lost[0].Receivers)
	}
	if err := l.link.Subscribe([]string{"cc:b"}); err != nil {
		t.Errorf("Subscribe: %v", err)
	}
	for ctx := redistest.Within(t, redistest.Patience); subscribers(t, s.Client(), "cc:b") != 1; {
		if ctx.Err() != nil {
			t.Fatal("the request does not arrive")
		}
	}
	select {
	case ev := <-l.events:
		t.Errorf("got %+v", ev)
	case <-l.ended:
		t.Errorf("ended: %v", l.err)
	default:
	}
	_ = l.link.Close()
	_ = l.expectEnd(t)
}

// TestNoReply: the server takes the batch and the replies never come. It is sent once, and not four times as go-redis
// would; it is uncertain; and it lasts one time-out, or less if the client obeys the context.
func TestNoReply(t *testing.T) {
	for name, tt := range map[string]struct {
		obeys                bool
		readTimeout, ctx, at time.Duration
	}{
		"by the context":      {true, redistest.Patience, 300 * time.Millisecond, 300 * time.Millisecond},
		"by the read timeout": {false, 300 * time.Millisecond, redistest.Patience, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			rdb, p := through(t, s, func(o *redis.Options) {
				o.ContextTimeoutEnabled, o.ReadTimeout = tt.obeys, tt.readTimeout
			})
			bus, direct := newBus(rdb), newBus(s.Client())
			l := listen(t, direct, "cc:a")
			mustPublish(t, bus, frames("cc:a", "warm"))
			l.expectData(t, "cc:a", "warm")

			p.Set(faultproxy.Down, faultproxy.Faults{Swallow: true})
			all := frames("cc:a", "1", "2", "3")
			start := time.Now()
			bus.Publish(redistest.Within(t, tt.ctx), all)
			if d := time.Since(start); d < tt.at/2 || d > tt.at*3 {
				t.Errorf("took %v", d)
			}
			for _, f := range all {
				if f.Err == nil || errors.Is(f.Err, crosscast.ErrRefused) || !f.Down {
					t.Errorf("got %+v, want uncertain and down", f)
				}
				mustContain(t, f.Err, p.Addr())
			}
			p.Set(faultproxy.Down, faultproxy.Faults{})
			mustPublish(t, direct, frames("cc:a", "fence"))
			if got := l.until(t, "fence"); !slices.Equal(got, []string{"1", "2", "3"}) {
				t.Errorf("delivered %q", got)
			}
			mustPublish(t, bus, frames("cc:a", "again"))
		})
	}
}

// TestPartialOutcome: the connection breaks in the middle of the replies. Frames with a reply are accepted, with their
// receivers. The others are sent again, or are uncertain if that is not possible.
func TestPartialOutcome(t *testing.T) {
	const replied = 4
	for _, reset := range []bool{false, true} {
		for _, refuse := range []bool{false, true} {
			t.Run(fmt.Sprintf("reset %v refuse %v", reset, refuse), func(t *testing.T) {
				s := redistest.Start(t, redistest.Config{})
				rdb, p := through(t, s)
				bus, direct := newBus(rdb), newBus(s.Client())
				l := listen(t, direct, "cc:a")
				mustPublish(t, bus, frames("cc:a", "warm"))
				l.expectData(t, "cc:a", "warm")

				if refuse {
					p.Refuse()
				}
				p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: replied*len(":1\r\n") + 2, Reset: reset})
				texts := numbered(10)
				all := frames("cc:a", texts...)
				bus.Publish(redistest.Within(t, redistest.Patience), all)
				for i, f := range all {
					switch {
					case i < replied || !refuse:
						if f.Err != nil || f.Receivers != 1 {
							t.Errorf("frame %d: %+v, want accepted", i, f)
						}
					case f.Err == nil || errors.Is(f.Err, crosscast.ErrRefused) || !f.Down:
						t.Errorf("frame %d: %+v, want uncertain", i, f)
					}
				}
				want := slices.Clone(texts)
				if !refuse {
					want = append(want, texts[replied:]...) // copies
				}
				mustPublish(t, direct, frames("cc:a", "fence"))
				if got := l.until(t, "fence"); !slices.Equal(got, want) {
					t.Errorf("delivered %q, want %q", got, want)
				}
			})
		}
	}
}

// TestOnce: if receivers cannot recognize copies, a frame without a reply is uncertain, and not sent again. A pooled
// connection that the server has closed loses no frame.
func TestOnce(t *testing.T) {
	const replied = 4
	s := redistest.Start(t, redistest.Config{})
	admin := s.Client()
	rdb, p := through(t, s)
	bus := redisbus.New(rdb, redisbus.Config{Once: true})
	l := listen(t, newBus(s.Client()), "cc:a")
	mustPublish(t, bus, frames("cc:a", "warm"))
	l.expectData(t, "cc:a", "warm")
	p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: replied*len(":1\r\n") + 2})
	texts := numbered(10)
	all := frames("cc:a", texts...)
	bus.Publish(redistest.Within(t, redistest.Patience), all)
	for i, f := range all[replied:] {
		if f.Err == nil || errors.Is(f.Err, crosscast.ErrRefused) || !f.Down {
			t.Errorf("frame %d: %+v, want uncertain", replied+i, f)
		}
	}
	mustPublish(t, bus, frames("cc:a", "fence"))
	if got := l.until(t, "fence"); !slices.Equal(got, texts) {
		t.Errorf("delivered %q, want %q", got, texts)
	}

	direct := s.Client()
	bus = redisbus.New(direct, redisbus.Config{Once: true})
	for _, text := range texts {
		mustPublish(t, bus, frames("cc:a", text))
		redistest.KillConnections(t, "normal", admin)
		l.expectData(t, "cc:a", text)
	}
}

// TestRefusedTheSecondTime: if the server refuses a frame that is sent again, the first attempt might have succeeded.
func TestRefusedTheSecondTime(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw &cc:* +@all"}})
	admin := s.Client()
	rdb, p := through(t, s, func(o *redis.Options) { o.Username, o.Password = "alice", "pw" })
	bus := newBus(rdb)
	mustPublish(t, bus, frames("cc:a", "warm"))
	rdb.AddHook(beforePipeline(func(n int) {
		if n == 2 {
			if err := admin.Do(t.Context(), "acl", "setuser", "alice", "resetchannels").Err(); err != nil {
				t.Error(err)
			}
		}
	}))
	p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: len(":0\r\n")})
	all := frames("cc:a", "1", "2")
	bus.Publish(redistest.Within(t, redistest.Patience), all)
	if all[0].Err != nil {
		t.Errorf("the first: %+v", all[0])
	}
	if f := all[1]; !errors.Is(f.Err, crosscast.ErrDenied) || errors.Is(f.Err, crosscast.ErrRefused) {
		t.Errorf("the second: %+v, want denied, and uncertain", f)
	}
}

// beforePipeline returns a hook that calls f with 1 before the first pipeline of PUBLISH, 2 before the second, …
func beforePipeline(f func(n int)) redis.Hook { return &counting{f: f} }

type counting struct {
	hook
	f func(n int)
	n int
}

func (h *counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "publish" {
			h.n++
			h.f(h.n)
		}
		return next(ctx, cmds)
	}
}

// TestOutcomesAreTrue cuts the publishing connection at random places. Accepted frames were delivered, refused frames
// were not, and first arrivals are in order.
func TestOutcomesAreTrue(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	direct := newBus(s.Client())
	var accepted, refused, uncertain int
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			topic := fmt.Sprint("cc:", seed) // the bytes of an abandoned connection may be executed late
			l := listen(t, direct, topic)
			rdb, p := through(t, s)
			bus := newBus(rdb)
			if r.IntN(4) > 0 { // else the set-up of the connection is cut
				mustPublish(t, bus, frames("cc:other", "warm"))
			}
			texts := make([]string, 1+r.IntN(40))
			size := []int{8, 500, 100_000, 500_000}[r.IntN(4)]
			for i := range texts {
				texts[i] = fmt.Sprintf("%06d", i) + strings.Repeat("x", r.IntN(size))
			}
			f := faultproxy.Faults{CutAfter: 1 + r.IntN(len(texts)*4), Reset: r.IntN(2) == 0}
			if r.IntN(2) == 0 {
				f.CutAfter = 1 + r.IntN(len(texts)*(size/2+40))
				p.Set(faultproxy.Up, f)
			} else {
				p.Set(faultproxy.Down, f)
			}
			if r.IntN(2) == 0 {
				p.Refuse()
			}
			all := frames(topic, texts...)
			bus.Publish(redistest.Within(t, redistest.Patience), all)
			mustPublish(t, direct, frames(topic, "fence"))
			got := l.until(t, "fence")

			last := ""
			seen := map[string]bool{}
			for _, s := range got {
				if !seen[s] && s <= last {
					t.Errorf("%.6s arrived after %.6s", s, last)
				}
				seen[s] = true
				last = max(last, s)
			}
			for i, f := range all {
				switch {
				case f.Err == nil:
					accepted++
					if !seen[texts[i]] {
						t.Errorf("frame %d was accepted, and not delivered", i)
					}
				case errors.Is(f.Err, crosscast.ErrRefused):
					refused++
					if seen[texts[i]] {
						t.Errorf("frame %d was refused (%v), and delivered", i, f.Err)
					}
				default:
					uncertain++
				}
				if f.Err != nil && !f.Down {
					t.Errorf("frame %d: %v, and not down", i, f.Err)
				}
			}
		})
	}
	t.Logf("%d accepted, %d refused, %d uncertain", accepted, refused, uncertain)
	if !t.Failed() && (accepted == 0 || refused == 0 || uncertain == 0) {
		t.Error("the faults do not bring out every outcome")
	}
}

// TestHugeMessage: one message near the limit of Redis's output buffer for subscribers, from whomever, ends the link.
func TestHugeMessage(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	bus := newBus(s.Client())
	l := listen(t, bus, "cc:a")
	foreign := s.Client()
	if n, err := foreign.Publish(t.Context(), "cc:a", bytes.Repeat([]byte("x"), 31<<20)).Result(); err != nil || n != 1 {
		t.Errorf("%d receivers, %v: Redis counts those that it disconnects", n, err)
	}
	_ = l.expectEnd(t)
	l = listen(t, bus, "cc:a")
	mustPublish(t, bus, frames("cc:a", "again"))
	l.expectData(t, "cc:a", "again")
}

// TestSlowLink: a message may take longer than every time-out of the client. A payload that looks like the protocol
// stays a payload.
func TestSlowLink(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			var held heldConn
			rdb, p := through(t, s, func(o *redis.Options) {
				o.Protocol, o.ReadTimeout = protocol, 50*time.Millisecond
				o.Dialer = held.dial
			})
			l := listen(t, newBus(rdb), "cc:a")
			p.Set(faultproxy.Down, faultproxy.Faults{Rate: 100_000})
			held.release(t)
			forged := "*3\r\n$7\r\nmessage\r\n$4\r\ncc:a\r\n$6\r\nforged\r\n"
			texts := []string{strings.Repeat("+++\r\n"+forged, 600), "end"}
			mustPublish(t, newBus(s.Client()), frames("cc:a", texts...))
			for _, s := range texts {
				l.expectData(t, "cc:a", s)
			}
		})
	}
}

func TestFragments(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		for split := 1; split <= 3; split++ {
			t.Run(fmt.Sprintf("RESP%d by %d", protocol, split), func(t *testing.T) {
				s := redistest.Start(t, redistest.Config{})
				rdb, p := through(t, s, func(o *redis.Options) { o.Protocol = protocol })
				for _, d := range []faultproxy.Direction{faultproxy.Up, faultproxy.Down} {
					p.Set(d, faultproxy.Faults{Split: split})
				}
				bus := newBus(rdb)
				l := listen(t, bus, "cc:a")
				texts := numbered(200)
				mustPublish(t, bus, frames("cc:a", texts...))
				for _, s := range texts {
					l.expectData(t, "cc:a", s)
				}
			})
		}
	}
}

// TestCutInAMessage: at whatever byte a connection ends, no part of a message is delivered.
func TestCutInAMessage(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	direct := newBus(s.Client())
	const wire1 = "*3\r\n$7\r\nmessage\r\n$4\r\ncc:a\r\n$5\r\nhello\r\n"
	for _, protocol := range []int{2, 3} {
		rdb, p := through(t, s, func(o *redis.Options) { o.Protocol = protocol })
		bus := newBus(rdb)
		for n := 1; n < 2*len(wire1); n++ {
			l := listen(t, bus, "cc:a")
			p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: n, Reset: n%2 == 0})
			mustPublish(t, direct, frames("cc:a", "hello", "world"))
			_ = l.expectEnd(t)
			for i := range n / len(wire1) {
				l.expectData(t, "cc:a", []string{"hello", "world"}[i])
			}
			select {
			case ev := <-l.events:
				t.Errorf("RESP%d cut after %d bytes: got %+v", protocol, n, ev)
			default:
			}
		}
	}
}

// TestDialIsBounded: also when the client does not obey the context, and when the context has no deadline.
func TestDialIsBounded(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	o := s.Options()
	o.ContextTimeoutEnabled = false
	o.DialTimeout, o.ReadTimeout = redistest.Patience, redistest.Patience
	bus := newBus(redistest.Client(t, o))
	s.Pause()
	defer s.Resume()

	start := time.Now()
	_, err := bus.Dial(redistest.Within(t, 100*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	} else {
		mustContain(t, err, s.Addr(), "no answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := bus.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > redistest.Patience/2 {
		t.Errorf("took %v", d)
	}
}

// The remaining tests pin the behaviour of go-redis. If one of them fails after an update, the code that avoids that
// behaviour might be unnecessary.

// TestGoRedisEntersTheLastError: when a pipeline fails, commands that were replied to carry the failure too, as if they
// had not been sent, whether it was repeated or not. This is why publishing.SetErr.
func TestGoRedisEntersTheLastError(t *testing.T) {
	for _, retries := range []int{-1, 1} {
		s := redistest.Start(t, redistest.Config{})
		rdb, p := through(t, s, func(o *redis.Options) { o.MaxRetries = retries })
		l := listen(t, newBus(s.Client()), "cc:a")
		pipe := rdb.Pipeline()
		pipe.Ping(t.Context())
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Refuse()
		p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: len(":1\r\n")})
		first := pipe.Publish(t.Context(), "cc:a", "1")
		pipe.Publish(t.Context(), "cc:a", "2")
		_, _ = pipe.Exec(t.Context())
		l.expectData(t, "cc:a", "1")
		if first.Val() != 1 || first.Err() == nil {
			t.Errorf("%d retries: the command that was replied to: %d, %v", retries, first.Val(), first.Err())
		}
	}
}

// TestGoRedisRepeats: when the connection breaks it sends the whole batch again, replied to or not. This is why
// publishing.NoRetry.
func TestGoRedisRepeats(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb, p := through(t, s)
	direct := newBus(s.Client())
	l := listen(t, direct, "cc:a")
	pipe := rdb.Pipeline()
	pipe.Ping(t.Context())
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: len(":1\r\n")})
	for _, text := range []string{"1", "2"} {
		pipe.Publish(t.Context(), "cc:a", text)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, direct, frames("cc:a", "fence"))
	if got := l.until(t, "fence"); !slices.Equal(got, []string{"1", "2", "1", "2"}) {
		t.Errorf("delivered %q", got)
	}
}

// TestGoRedisReconnectsInReceive: this is why a link's calls have a context that has ended.
func TestGoRedisReconnectsInReceive(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	admin := s.Client()
	ps := s.Client().Subscribe(t.Context(), "cc:a")
	defer ps.Close()
	if _, err := ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	redistest.KillConnections(t, "pubsub", admin)
	if _, err := ps.Receive(t.Context()); err == nil {
		t.Fatal("no error")
	}
	for ctx := redistest.Within(t, redistest.Patience); subscribers(t, admin, "cc:a") == 0; {
		if ctx.Err() != nil {
			t.Fatal("it does not come back by itself")
		}
	}
}

package wire_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// A link that stands but does not receive is replaced within two heartbeats. It is a gap that begins when the last
// frame that came back was sent. A link without any byte is dead. A link on which the bus answers is deaf.
func TestALinkThatDoesNotHearIsReplaced(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(p *membus.Port)
		want  crosscast.GapReason
	}{
		"dead":                          {(*membus.Port).Deafen, reasons.GapLinkLost},
		"deaf":                          {(*membus.Port).Starve, reasons.GapDeaf},
		"deaf, and pings are errors":    {starveAndFailPings, reasons.GapDeaf},
		"deaf, and others are heard":    {missOwn, reasons.GapDeaf},
		"dead, and nothing came before": {(*membus.Port).Deafen, reasons.GapLinkLost},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.peers[1]
				subscribe(t, b, "A")
				since := time.Now()
				if !strings.Contains(name, "nothing came before") {
					c.beat(2 * time.Second)
					since = time.Now()
				}
				time.Sleep(500 * time.Millisecond)
				tt.spoil(b.port)
				begin := time.Now()
				mustPublish(t, a, emitTo("A"))
				time.Sleep(500 * time.Millisecond)
				for len(b.seen()) == 0 && time.Since(begin) < 10*time.Second {
					c.beat(time.Second)
				}
				b.port.SetFate(nil)
				heard := len(b.got())
				if g := b.seen(); len(g) != 1 || g[0].Reason != tt.want || !g[0].Covers(room("A")) {
					t.Fatalf("gaps %+v", g)
				} else if !g[0].Since.Equal(since) || g[0].Until.Sub(begin) > 2*time.Second {
					t.Errorf("the gap is from %v to %v after it began, want from %v, to 2 s",
						g[0].Since.Sub(begin), g[0].Until.Sub(begin), since.Sub(begin))
				}
				mustPublish(t, a, emitTo("B"), emitTo("A"))
				synctest.Wait()
				if len(b.got()) != heard+1 {
					t.Error("delivered", b.got())
				}
				if n := b.port.Links(); n != 1 {
					t.Error(n, "links are open")
				}
			})
		})
	}
}

// missOwn makes the port miss its own frames.
func missOwn(p *membus.Port) {
	p.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Skip: "node0001"} })
}

func starveAndFailPings(p *membus.Port) {
	p.FailPings(errors.New("MISCONF scripted"))
	p.Starve()
}

// A late echo is no verdict while bytes arrive.
func TestALateEchoIsNoVerdict(t *testing.T) {
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		prepare func(p *membus.Port)
		size    int
	}{
		"a frame that takes two heartbeats":     {func(p *membus.Port) { p.SetRate(mib / 2) }, mib},
		"frames that take six heartbeats":       {func(p *membus.Port) { p.SetRate(mib / 6) }, mib},
		"answers that do not come":              {func(p *membus.Port) { p.Mute() }, 10},
		"answers that are errors":               {func(p *membus.Port) { p.FailPings(errors.New("MISCONF")); p.SetRate(mib / 3) }, mib},
		"an answer that overtakes the messages": {overtaken, 10},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.peers[1]
				subscribe(t, b, "A")
				c.beat(time.Second)
				tt.prepare(b.port)
				for i := range 5 {
					inst := emitTo("A")
					inst.Event, inst.Payload = fmt.Sprint(i), crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, tt.size)}
					mustPublish(t, a, inst)
				}
				c.beat(5 * time.Second)
				err := b.a.Subscribe(t.Context(), room("late")) // its confirmation waits, too
				c.beat(60 * time.Second)
				if n := len(b.got()); n != 5 || len(b.seen()) != 0 || err != nil {
					t.Errorf("%d of 5 delivered, gaps %+v, Subscribe: %v", n, b.seen(), err)
				}
			})
		})
	}
}

// overtaken makes what the port publishes arrive 240 ms later than what is asked for meanwhile.
func overtaken(p *membus.Port) {
	p.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Delay: 240 * time.Millisecond} })
}

// A call of the application's may take its time: nothing is concluded, nothing is lost, and this node's own heartbeats
// go on.
func TestBusyIsNoVerdict(t *testing.T) {
	for _, heartbeat := range []time.Duration{250 * time.Millisecond, time.Second} {
		for name, slow := range map[string]func(event string) time.Duration{
			"one call": func(event string) time.Duration {
				if event == "0" {
					return 1500 * time.Millisecond
				}
				return 0
			},
			"a series of calls": func(string) time.Duration { return 200 * time.Millisecond },
		} {
			t.Run(fmt.Sprint(name, ", heartbeats of ", heartbeat), func(t *testing.T) {
				inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
					c.heartbeat = heartbeat
					a, b := c.peers[0], c.add(wire.Options{})
					subscribe(t, b, "A", "B")
					c.beat(2 * heartbeat)
					b.onEmit = func(event string) { time.Sleep(slow(event)) }
					var beats atomic.Int64
					c.hub.OnExecute(func(f wire.Frame) {
						if f.Topic == "cc:all" {
							beats.Add(1)
						}
					})
					for i := range 40 {
						inst := emitTo([]string{"A", "B"}[i%2])
						inst.Event = fmt.Sprint(i)
						mustPublish(t, a, inst)
						c.beat(heartbeat / 10)
					}
					busy := beats.Load()
					c.beat(10 * time.Second)
					if n := len(b.got()); n != 40 || len(b.seen()) != 0 {
						t.Errorf("%d of 40 delivered, gaps %+v", n, b.seen())
					}
					if busy < 100 {
						t.Errorf("%d heartbeats of 120 while it was busy", busy)
					}
				})
			})
		}
	}
}

// An OnGap may take its time, too: its link is as good as any other.
func TestAnOnGapThatWaitsDoesNotLoop(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		c.beat(time.Second)
		b.onGap = func() { time.Sleep(1300 * time.Millisecond) }
		b.port.Cut()
		time.Sleep(100 * time.Millisecond)
		mustPublish(t, a, emitTo("A"))
		c.beat(20 * time.Second)
		if len(b.seen()) != 1 || len(b.got()) != 1 {
			t.Errorf("gaps %+v, delivered %v", b.seen(), b.got())
		}
	})
}

// A confirmation that the bus has forgotten is not waited for, however much else arrives.
func TestAConfirmationThatNeverComes(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[1]
		b.port.Forget("cc:r:/:A", true)
		begin := time.Now()
		var took time.Duration
		var err error
		go func() {
			err = b.a.Subscribe(t.Context(), room("A"))
			took = time.Since(begin)
		}()
		c.beat(6 * time.Second)
		if !errors.Is(err, crosscast.ErrNotConnected) {
			t.Errorf("%v, after %v", err, took)
		}
		b.port.Forget("cc:r:/:A", false)
		c.beat(10 * time.Second)
		if len(b.seen()) != 1 {
			t.Errorf("gaps %+v", b.seen())
		}
	})
}

// Pings are for echoes that are late: a link that works costs none.
func TestNoPingsOnALinkThatWorks(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		for range 100 {
			c.beat(time.Second)
			for range 10 {
				everyone := emitTo()
				everyone.Target.Everyone = true
				mustPublish(t, c.peers[0], everyone)
			}
		}
		if n := c.peers[0].port.Pings() + c.peers[1].port.Pings(); n != 0 {
			t.Errorf("%d pings", n)
		}
	})
}

// A link whose node cannot publish to everyone has no echoes. It is dead when nothing comes on it, not even an answer, and
// the bus answers what is published all the time. A bus that answers nothing at all says nothing about the link.
func TestADeadLinkOfWhoIsRefused(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[1]
		refuse := func(f wire.Frame) membus.Fate {
			return membus.Fate{Err: fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrDenied), Lost: true}
		}
		b.port.SetFate(refuse)
		c.beat(60 * time.Second)
		if len(b.seen()) != 0 {
			t.Fatalf("gaps %+v", b.seen())
		}
		b.port.Deafen()
		begin := time.Now()
		c.beat(10 * time.Second)
		if g := b.seen(); len(g) != 1 || g[0].Reason != reasons.GapLinkLost || g[0].Until.Sub(begin) > 5*time.Second {
			t.Fatalf("gaps %+v, from %v to %v after it began", g, g[0].Since.Sub(begin), g[0].Until.Sub(begin))
		}
		if n := b.port.Links(); n != 1 {
			t.Error(n, "links are open")
		}

		b.port.SetFate(func(f wire.Frame) membus.Fate {
			time.Sleep(4 * time.Second)
			return refuse(f)
		})
		b.port.Mute()
		c.peers[0].port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Lost: true} })
		c.beat(3900 * time.Millisecond)
		if len(b.seen()) != 1 {
			t.Fatalf("gaps %+v", b.seen()[1:])
		}
	})
}

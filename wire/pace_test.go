package wire_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// sized is an emission to a room with a payload of n bytes.
func sized(room string, n int) *crosscast.Instruction {
	inst := emitTo(room)
	inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, n)}
	return inst
}

// flood emits 1 KiB again and again, as fast as the queue has room, for d.
func (c *cluster) flood(p *peer, d time.Duration) (accepted int) {
	ctx, cancel := context.WithTimeout(c.t.Context(), d)
	defer cancel()
	inst := sized("A", 1<<10)
	for ctx.Err() == nil {
		if err := p.a.Publish(ctx, inst); err == nil {
			accepted++
		} else if ctx.Err() == nil {
			c.t.Fatal("Publish:", err)
		}
	}
	return accepted
}

// beats publishes heartbeats of all peers until the returned function is called.
func (c *cluster) beats() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			for _, p := range c.peers {
				p.a.Publish(c.t.Context(), heartbeat())
			}
			select {
			case <-time.After(c.heartbeat):
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

func heartbeat() *crosscast.Instruction {
	return &crosscast.Instruction{Kind: kind.Heartbeat, Target: crosscast.Target{Everyone: true}}
}

// A link that is slower than the emissions makes callers wait. Nothing is lost, and heartbeats go on.
func TestASlowLinkEndsInBackPressure(t *testing.T) {
	for _, link := range []struct {
		name        string
		first, rate int
	}{
		{"very slow", 100 << 10, 100 << 10},
		{"slow", 900 << 10, 900 << 10},
		{"becomes slow", 50 << 20, 900 << 10},
		{"fast", 5 << 20, 5 << 20},
	} {
		if memtest.Race && link.first > 1<<20 {
			continue // hundreds of megabytes, which the race detector follows byte for byte
		}
		t.Run(link.name, func(t *testing.T) {
			inBubble(t, 2, wire.Options{PublishTimeout: 2 * time.Second}, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.peers[1]
				subscribe(t, b, "A")
				var mu sync.Mutex // guards last and longest
				var last time.Time
				longest := time.Duration(0)
				c.hub.OnExecute(func(f wire.Frame) {
					mu.Lock()
					defer mu.Unlock()
					if f.Topic == "cc:all" && string(f.Data[6:14]) == string(a.id) {
						if !last.IsZero() {
							longest = max(longest, time.Since(last))
						}
						last = time.Now()
					}
				})
				stop := c.beats()
				a.port.SetUpRate(link.first)
				accepted := c.flood(a, 2*time.Second)
				a.port.SetUpRate(link.rate)
				accepted += c.flood(a, 20*time.Second) // what was under way may be as large as the fast link carried
				mu.Lock()
				longest = 0
				mu.Unlock()
				accepted += c.flood(a, 30*time.Second)
				if err := a.a.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				stop()
				synctest.Wait()
				if l := a.lost(); len(l) > 0 {
					t.Errorf("losses %+v", l)
				}
				if n := len(b.got()); n != accepted {
					t.Errorf("%d of %d arrived", n, accepted)
				}
				if least := 30 * link.rate * 9 / 10 >> 10; accepted < least {
					t.Errorf("%d accepted: the link carries more than %d", accepted, least)
				}
				mu.Lock()
				defer mu.Unlock()
				if longest > 3*c.heartbeat {
					t.Errorf("%v without a heartbeat", longest)
				}
			})
		})
	}
}

// If answers take long, but bytes do not, a batch takes all waiting frames.
func TestALongRoundTripKeepsItsThroughput(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		const trip, queue, most = 400 * time.Millisecond, 4 << 20, 8
		a := c.peers[0]
		a.port.SetLatency(trip)
		stop := c.beats()
		defer stop()
		c.flood(a, 6*time.Second) // it was not known yet
		enough := func(what string, d time.Duration) {
			t.Helper()
			n := c.flood(a, d)
			if most := int(d/trip) * queue >> 10; n < most*8/10 {
				t.Errorf("%s: %d KiB within %v, of %d", what, n, d, most)
			}
		}
		enough("at first", 20*time.Second)
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		enough("after a rest", 5*trip)
	})
}

// One frame goes out however large it is, and has the time that its bytes need.
func TestALargeFrameOnASlowLink(t *testing.T) {
	inBubble(t, 2, wire.Options{PublishTimeout: 2 * time.Second}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		a.port.SetUpRate(200 << 10)
		for range 3 {
			if err := a.a.Publish(t.Context(), sized("A", 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(b.got()) != 3 || len(a.lost()) != 0 {
			t.Errorf("%d of 3 arrived; losses %+v", len(b.got()), a.lost())
		}
	})
}

// A frame that has missed its batch takes no more instructions.
func TestAFrameLeftBehindIsClosed(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		sizes := map[string][]int{}
		c.hub.OnExecute(func(f wire.Frame) { sizes[f.Topic] = append(sizes[f.Topic], len(f.Data)) })
		a.port.SetUpRate(64 << 10)
		emit := func(room string, n int) {
			t.Helper()
			if err := a.a.Publish(t.Context(), sized(room, n)); err != nil {
				t.Fatal(err)
			}
		}
		emit("first", 10)
		synctest.Wait() // under way
		emit("A", 60<<10)
		emit("B", 30<<10)
		time.Sleep(500 * time.Millisecond) // A is under way
		emit("B", 10)
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := sizes["cc:r:/:B"]; len(n) != 2 {
			t.Errorf("frames to B of %v bytes, want two", n)
		}
	})
}

// attempts has p's bus decide over frames, and counts them.
func (p *peer) attempts(fate func(wire.Frame) membus.Fate) *atomic.Int64 {
	var n atomic.Int64
	p.port.SetFate(func(f wire.Frame) membus.Fate {
		n.Add(1)
		return fate(f)
	})
	return &n
}

// Repeated attempts are rare, even if each works for a moment.
func TestAttemptsBackOff(t *testing.T) {
	const most = 40 // in 10 s
	down := membus.Fate{Err: fmt.Errorf("%w: scripted", crosscast.ErrRefused), Down: true, Lost: true}
	denied := membus.Fate{Err: fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrDenied), Lost: true}
	t.Run("publishing denied after an outage", func(t *testing.T) {
		for _, emitOnly := range []bool{false, true} {
			inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
				a := c.addAs(wire.Options{}, emitOnly)
				n := a.attempts(func(wire.Frame) membus.Fate { return down })
				a.a.Publish(t.Context(), emitTo("A"))
				time.Sleep(5 * time.Second)
				if n.Load() > most {
					t.Errorf("%d frames while the bus was down", n.Load())
				}
				n = a.attempts(func(wire.Frame) membus.Fate { return denied })
				a.a.Publish(t.Context(), emitTo("A"))
				time.Sleep(10 * time.Second)
				if n.Load() > most {
					t.Errorf("%d frames to a bus that denies", n.Load())
				}
				if s := a.a.AdapterStats().Link.Publishing; s.State != reasons.LinkDenied {
					t.Errorf("the publishing half is %+v", s)
				}
				if l := a.lost(); len(l) != 2 || l[1].Reason != reasons.LossDenied {
					t.Errorf("losses %+v, want one that was denied last", l)
				}
			})
		}
	})
	t.Run("publishing works for a moment", func(t *testing.T) {
		for _, emitOnly := range []bool{false, true} {
			inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
				a := c.addAs(wire.Options{}, emitOnly)
				n := a.attempts(func(f wire.Frame) membus.Fate {
					if f.Topic == "cc:all" {
						return membus.Fate{}
					}
					return down
				})
				for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
					a.a.Publish(t.Context(), emitTo("A"))
				}
				if n.Load() > 2*most { // probes, and what they let go
					t.Errorf("%d frames", n.Load())
				}
			})
		}
	})
	t.Run("notices of an emitter that waits for its peers are denied", func(t *testing.T) {
		inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
			e := c.addAs(wire.Options{}, true)
			e.port.SetLatency(time.Millisecond)
			everyone := emitTo()
			everyone.Target.Everyone = true
			e.a.Publish(t.Context(), everyone)
			time.Sleep(time.Second)
			e.attempts(func(wire.Frame) membus.Fate { return down })
			e.a.Publish(t.Context(), emitTo("A"))
			c.peers[0].port.Down()
			time.Sleep(time.Second)
			passed := false
			n := e.attempts(func(wire.Frame) membus.Fate {
				if passed {
					return denied
				}
				passed = true
				return membus.Fate{}
			})
			e.a.Publish(t.Context(), emitTo("A"))
			time.Sleep(10 * time.Second)
			if n.Load() > most {
				t.Errorf("%d frames", n.Load())
			}
		})
	})
	t.Run("a link that breaks when it has resumed", func(t *testing.T) {
		inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
			a := c.peers[0]
			before := a.a.AdapterStats().Reconnects
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				a.port.Cut()
			}
			if n := a.a.AdapterStats().Reconnects - before; n > most || n < 5 {
				t.Errorf("%d reconnects", n)
			}
		})
	})
}

// Whoever waits for room is told when publishing fails, as when the link is down.
func TestWaitingForRoomEndsWhenPublishingFails(t *testing.T) {
	inBubble(t, 1, wire.Options{QueueBytes: 4096}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		a.port.SetLatency(time.Second)
		a.attempts(func(wire.Frame) membus.Fate {
			return membus.Fate{Err: errors.New("scripted"), Down: true, Lost: true}
		})
		a.a.Publish(t.Context(), emitTo("A"))
		synctest.Wait() // under way
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		var err error
		for range 10_000 {
			if err = a.a.Publish(ctx, emitTo("A")); err != nil {
				break
			}
		}
		if !errors.Is(err, crosscast.ErrNotConnected) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// slowLoss is a Handler that takes its time with losses.
type slowLoss struct {
	*peer
	entered, release chan struct{}
}

func (s *slowLoss) Loss(l crosscast.Loss) {
	close(s.entered)
	<-s.release
	s.peer.Loss(l)
}

// Flush, Deliver and Close return after the Handler has got the losses.
func TestLossesAreToldBeforeFlushReturns(t *testing.T) {
	for name, wait := range map[string]func(a *wire.Adapter) error{
		"Flush":   func(a *wire.Adapter) error { return a.Flush(context.Background()) },
		"Close":   func(a *wire.Adapter) error { return a.Close(context.Background()) },
		"Deliver": nil,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
				p := &peer{id: "node0000", port: c.hub.Port("node0000")}
				s := &slowLoss{p, make(chan struct{}), make(chan struct{})}
				p.a = wire.New(p.port, wire.Options{})
				if err := p.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: p.id, Heartbeat: time.Second}, s)); err != nil {
					t.Fatal(err)
				}
				c.peers = append(c.peers, p)
				p.attempts(func(f wire.Frame) membus.Fate {
					if f.Topic == "cc:all" {
						return membus.Fate{}
					}
					return membus.Fate{Err: fmt.Errorf("%w: scripted", crosscast.ErrRefused), Lost: true}
				})
				returned := make(chan error, 1)
				if wait == nil {
					go func() {
						_, err := p.a.Deliver(context.Background(), emitTo("A"))
						returned <- err
					}()
				} else {
					p.a.Publish(t.Context(), emitTo("A"))
				}
				<-s.entered
				if wait != nil {
					go func() { returned <- wait(p.a) }()
				}
				synctest.Wait()
				select {
				case err := <-returned:
					t.Errorf("returned %v before the Handler had heard of the loss", err)
					returned <- err
				default:
				}
				close(s.release)
				synctest.Wait()
				if err := <-returned; (err != nil) != (wait == nil) {
					t.Error(err)
				}
				if len(p.lost()) != 1 {
					t.Errorf("losses %+v", p.lost())
				}
			})
		})
	}
}

// An error is as long as what it says, however many callers share its cause.
func TestABrokenLinkIsOneError(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		a.port.SetLatency(time.Second)
		const callers = 8
		errs := make(chan error, callers)
		for i := range callers {
			var names []crosscast.Address
			for k := range 4096 {
				names = append(names, room(fmt.Sprint("room", i, "-", k)))
			}
			go func() { errs <- a.a.Subscribe(context.Background(), names...) }()
		}
		synctest.Wait()
		a.port.Cut()
		for range callers {
			if err := <-errs; !errors.Is(err, crosscast.ErrNotConnected) || len(err.Error()) > 200 {
				t.Errorf("%d bytes: %.100v", len(err.Error()), err)
			}
		}

		// And that of an emission to several rooms.
		a.port.SetLatency(0)
		time.Sleep(5 * time.Second)
		a.attempts(func(wire.Frame) membus.Fate { return membus.Fate{Err: errors.New("scripted"), Down: true, Lost: true} })
		_, err := a.a.Deliver(t.Context(), emitTo("A", "B", "C", "D", "E", "F", "G", "H"))
		if !errors.Is(err, crosscast.ErrUncertain) || len(err.Error()) > 200 {
			t.Errorf("%d bytes: %v", len(err.Error()), err)
		}
	})
}

// Whatever arrives of a peer is a sign of its life: while heartbeats are missing it is not suspected.
func TestAnyFrameIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		told := make(chan crosscast.NodeEvent, 16)
		events := func() (all []crosscast.NodeEvent) { // since the last look
			synctest.Wait()
			for len(told) > 0 {
				all = append(all, <-told)
			}
			return all
		}
		start := func(name string, onNode func(*crosscast.Node, crosscast.NodeEvent)) (*crosscast.Node, *membus.Port) {
			port := hub.Port(name)
			n, err := crosscast.Start(t.Context(), crosscast.Options{
				Name: name, Heartbeat: time.Second, Adapter: wire.New(port, wire.Options{}), OnNode: onNode,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close(context.Background()) })
			return n, port
		}
		a, port := start("a", nil)
		b, _ := start("b", func(_ *crosscast.Node, e crosscast.NodeEvent) { told <- e })
		if _, err := b.Subscribe(t.Context(), crosscast.Receiver{
			OnMessage: func(*crosscast.Subscription, *crosscast.Message) {}}, "A"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		events()
		port.SetFate(func(f wire.Frame) membus.Fate {
			return membus.Fate{Skip: map[bool]string{true: "b"}[f.Topic == "cc:all"]}
		})
		for range 20 {
			if err := a.To("A").Emit(t.Context(), "said", nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := events(); len(got) != 0 {
			t.Errorf("while a was heard: %+v", got)
		}
		time.Sleep(3500 * time.Millisecond)
		if got := events(); len(got) != 1 || got[0].Kind != crosscast.NodeSuspect {
			t.Errorf("when it was not any more: %+v", got)
		}
		a.To("A").Emit(t.Context(), "said", nil)
		time.Sleep(2 * time.Second)
		if got := events(); len(got) != 1 || got[0].Kind != crosscast.NodeAlive {
			t.Errorf("when it was again: %+v", got)
		}
	})
}

// Nothing says of a link that was not measured yet that it works at all: its first batch, however large, waits for an
// answer for three time-outs at most.
func TestTheFirstBatchIsNotWaitedForForLong(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		a.port.SetUpRate(1)
		begin := time.Now()
		mustPublish(t, a, sized("A", 2<<20-1000))
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 15*time.Second || len(a.lost()) != 1 {
			t.Errorf("it took %v, and the losses are %+v", took, a.lost())
		}
		a.port.SetUpRate(0)
	})
}

// No frame is larger than MaxFrame, also of many small instructions.
func TestFramesArePackedUpToMaxFrame(t *testing.T) {
	inBubble(t, 2, wire.Options{MaxFrame: 4 << 10}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		frames, largest := 0, 0
		c.hub.OnExecute(func(f wire.Frame) {
			if f.Topic == "cc:r:/:A" {
				frames, largest = frames+1, max(largest, len(f.Data))
			}
		})
		a.port.SetLatency(10 * time.Millisecond)
		for range 1000 {
			mustPublish(t, a, sized("A", 100))
		}
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if largest > 4<<10 || frames > 100 || len(b.got()) != 1000 {
			t.Errorf("%d frames of up to %d bytes, %d of 1,000 arrived", frames, largest, len(b.got()))
		}
	})
}

// After a batch of many small frames of a few instructions each, the next ones gather for a moment. After any other
// batch, the next one goes at once.
func TestScatteredInstructionsGather(t *testing.T) {
	for _, c := range []struct {
		name        string
		rooms, each int
		deliver     bool
		pause       time.Duration
	}{
		{"many rooms", 300, 3, false, 2 * time.Millisecond},
		{"few rooms", 100, 9, false, 0},
		{"once a room", 300, 1, false, 0},
		{"somebody waits", 300, 3, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 1, wire.Options{}, func(t *testing.T, cl *cluster) {
				a := cl.peers[0]
				a.port.SetLatency(5 * time.Millisecond)
				var at time.Time // of the last batch
				cl.hub.OnExecute(func(f wire.Frame) {
					if f.Topic == "cc:r:/:last" {
						at = time.Now()
					}
				})
				emit := func(name string) {
					if err := a.a.Publish(t.Context(), emitTo(name)); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				emit("first") // the others wait for its batch
				synctest.Wait()
				for range c.each {
					for i := range c.rooms {
						emit(strconv.Itoa(i))
					}
				}
				if c.deliver {
					go a.a.Deliver(t.Context(), emitTo("0"))
				}
				time.Sleep(6 * time.Millisecond) // that batch is under way
				emit("last")
				if err := a.a.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := at.Sub(began) - at.Sub(began).Truncate(5*time.Millisecond); got != c.pause {
					t.Errorf("the next batch went %v late", got)
				}
			})
		})
	}
}

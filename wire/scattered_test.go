package wire_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// onScattered runs f with n started peers on a patchy bus whose topics are on several servers, if it says so.
func onScattered(t *testing.T, n int, says bool, f func(t *testing.T, c *cluster)) {
	t.Helper()
	inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
		for range n {
			id := crosscast.NodeID(fmt.Sprintf("node%04d", len(c.peers)))
			p := &peer{id: id, port: c.hub.Port(string(id)), emitted: map[string]emission{}, joined: map[crosscast.Address]time.Time{}}
			p.port.SetPatchy()
			if says {
				p.port.SetScattered()
			}
			p.a = wire.New(p.port, wire.Options{})
			if err := p.a.Start(c.t.Context(), starting(crosscast.NodeInfo{ID: id, Heartbeat: time.Second}, p, false)); err != nil {
				t.Fatal(err)
			}
			c.peers = append(c.peers, p)
		}
		c.beat(2 * time.Second)
		f(t, c)
	})
}

// slow makes some of the frames that p publishes arrive later than others, as if another server had them.
func (p *peer) slow(by time.Duration, topics func(topic string) bool) {
	p.port.SetFate(func(f wire.Frame) membus.Fate {
		if topics(f.Topic) {
			return membus.Fate{Delay: by}
		}
		return membus.Fate{}
	})
}

// TestScatteredOrder: one server is slower than the others. Nothing is dropped, and there is no gap. If the bus does not say
// that its topics are on several servers, a slow room has gaps.
func TestScatteredOrder(t *testing.T) {
	slow := map[string]func(string) bool{
		"everyone": func(topic string) bool { return !aRoom(topic) },
		"a room":   func(topic string) bool { return strings.HasSuffix(topic, "room0") },
	}
	for name, topics := range slow {
		for _, says := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, says=%v", name, says), func(t *testing.T) {
				onScattered(t, 2, says, func(t *testing.T, c *cluster) {
					a, b := c.peers[0], c.peers[1]
					rooms := numberedRooms(4)
					subscribe(t, b, rooms...)
					c.beat(2 * time.Second)
					a.slow(400*time.Millisecond, topics)
					sent := 0
					for range 20 {
						for range 5 {
							for _, r := range rooms {
								mustPublish(t, a, emitTo(r))
								sent++
							}
							time.Sleep(190 * time.Millisecond)
							synctest.Wait()
						}
						c.beat(0)
					}
					a.port.SetFate(nil)
					time.Sleep(time.Second)
					c.beat(3 * time.Second)
					if whole := len(b.got()) == sent && len(b.seen()) == 0; whole != (says || name == "everyone") {
						t.Errorf("%d of %d delivered, gaps %+v", len(b.got()), sent, b.seen())
					}
				})
			})
		}
	}
}

// TestScatteredMissed: single messages that are missed are gaps of their rooms, as on any patchy bus.
func TestScatteredMissed(t *testing.T) {
	onScattered(t, 2, true, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		rooms := numberedRooms(90)
		subscribe(t, b, rooms...)
		c.beat(3 * time.Second)
		missed := emitMissing(t, a, b, rooms)
		c.beat(2 * time.Second)
		wantGaps(t, b, a.id, missed)
	})
}

// TestScatteredDoubts: after an outage, what was missed before anything proves that it is newer is a gap of everything, which
// comes at most once a heartbeat; then there are no more.
func TestScatteredDoubts(t *testing.T) {
	onScattered(t, 2, true, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		rooms := numberedRooms(30)
		subscribe(t, b, rooms...)
		c.beat(3 * time.Second)
		emitEach(t, a, rooms)
		b.port.Down()
		emitEach(t, a, rooms)
		b.port.Up()
		time.Sleep(200 * time.Millisecond)
		began := time.Now()
		a.missing(b, anything)
		emitEach(t, a, rooms)
		a.port.SetFate(nil)
		had := len(b.seen())
		emitEach(t, a, rooms)
		c.beat(4 * time.Second)
		gaps := b.seen()[had:]
		if len(gaps) == 0 || len(gaps) > 4 {
			t.Errorf("%d gaps: %+v", len(gaps), gaps)
		}
		for _, r := range rooms {
			if !b.told(a.id, r, began) {
				t.Errorf("what was missed in %s is not told: %+v", r, gaps)
			}
		}
		had = len(b.seen())
		for range 5 {
			emitEach(t, a, rooms)
			c.beat(time.Second)
		}
		if more := b.seen()[had:]; len(more) > 0 {
			t.Errorf("gaps go on: %+v", more)
		}
	})
}

// TestScatteredForged: a stranger's number in a room hides the room's frames for some heartbeats. Then that is a gap, and all
// goes on.
func TestScatteredForged(t *testing.T) {
	onScattered(t, 2, true, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		mustPublish(t, a, emitTo("A"), emitTo("B"))
		c.beat(20 * time.Second)
		c.forge("A", wire.FrameHeader{Origin: a.id, Number: absurd}, 0, emitTo("A"))
		missed := time.Now()
		mustPublish(t, a, emitTo("A"), emitTo("B"))
		c.beat(6 * time.Second)
		if !b.told(a.id, "A", missed) || !slices.ContainsFunc(b.seen(), func(g crosscast.Gap) bool { return g.Reason == reasons.GapForged }) {
			t.Errorf("what was sent is not told: %+v", b.seen())
		}
		had, told := len(b.got()), len(b.seen())
		for range 10 {
			mustPublish(t, a, emitTo("A"), emitTo("B"))
			c.beat(time.Second)
		}
		if n := len(b.got()) - had; n != 20 || len(b.seen()) != told {
			t.Errorf("%d of 20 delivered, gaps %+v", n, b.seen()[told:])
		}
	})
}

// emitMissing emits to each room, while by misses every third frame. It returns the rooms that by has missed.
func emitMissing(t *testing.T, p, by *peer, rooms []string) (missed []string) {
	t.Helper()
	n := 0
	p.missing(by, func(topic string) bool {
		if n++; !aRoom(topic) || n%3 != 0 {
			return false
		}
		missed = append(missed, topic[strings.LastIndexByte(topic, ':')+1:])
		return true
	})
	emitEach(t, p, rooms)
	p.port.SetFate(nil)
	return missed
}

// TestScatteredTold: a frame that comes after a gap of it, or of what is newer in its room, is dropped, and part of a gap. What
// the application has repaired is not undone. Other rooms miss nothing, and then all goes on.
func TestScatteredTold(t *testing.T) {
	uncertain := errors.New("scripted: no answer")
	refused := fmt.Errorf("%w: scripted", crosscast.ErrRefused)
	for name, fates := range map[string][]membus.Fate{ // of the frames to the room A
		"it was uncertain":    {{Delay: 10 * time.Second, Err: uncertain}},
		"the next was a loss": {{Delay: 1200 * time.Millisecond}, {Lost: true, Err: refused}},
		"its peer was lost":   {{Delay: 9500 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			onScattered(t, 2, true, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.peers[1]
				subscribe(t, b, "A", "B")
				mustPublish(t, a, emitTo("A"), emitTo("B"))
				c.beat(8 * time.Second)
				had, silent := len(b.got()), false
				a.port.SetFate(func(f wire.Frame) membus.Fate {
					switch {
					case strings.HasSuffix(f.Topic, ":A") && len(fates) > 0:
						fate := fates[0]
						fates = fates[1:]
						return fate
					default:
						return membus.Fate{Lost: silent}
					}
				})
				sent := time.Now()
				for range fates {
					mustPublish(t, a, emitTo("A"))
					time.Sleep(10 * time.Millisecond)
				}
				mustPublish(t, a, emitTo("B"))
				synctest.Wait()
				if name == "its peer was lost" {
					silent = true
					time.Sleep(9 * time.Second)
					b.a.Expire(a.id)
					time.Sleep(time.Second)
					silent = false
				}
				c.beat(5 * time.Second)
				if !b.told(a.id, "A", sent) {
					t.Errorf("what is late is not told: %+v", b.seen())
				}
				c.beat(15 * time.Second)
				if n := len(b.got()) - had; n != 1 {
					t.Errorf("%d delivered, and not only that to B", n)
				}
				told := len(b.seen())
				for range 5 {
					mustPublish(t, a, emitTo("A"), emitTo("B"))
					c.beat(time.Second)
				}
				if n := len(b.got()) - had; n != 11 || len(b.seen()) != told {
					t.Errorf("%d of 11 delivered, gaps %+v", n, b.seen()[told:])
				}
			})
		})
	}
}

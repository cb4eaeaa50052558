package wire_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// absurd is a number that no node reaches.
const absurd = 1 << 63

// forge publishes a frame in the name of a peer, as whoever may publish can: to everyone, or to a room.
func (c *cluster) forge(to string, h wire.FrameHeader, copyNumber uint64, insts ...*crosscast.Instruction) {
	name := crosscast.Address{}
	if to != "" {
		name = room(to)
	}
	var items []byte
	for _, inst := range insts {
		items = wire.AppendItem(items, inst, name, copyNumber)
	}
	c.forgeItems(to, h, items)
}

func (c *cluster) forgeItems(to string, h wire.FrameHeader, items []byte) {
	topic := "cc:all"
	if to != "" {
		topic = "cc:r:/:" + to
	}
	frame := wire.Frame{Topic: topic, Data: append(wire.AppendFrameHeader(nil, &h), items...)}
	c.hub.Port("stranger").Publish(c.t.Context(), []wire.Frame{frame})
	synctest.Wait()
}

// highest has the hub note the highest number of a peer's frames.
func (c *cluster) highest(id crosscast.NodeID) func() uint64 {
	var highest uint64
	var reader wire.FrameReader
	c.hub.OnExecute(func(f wire.Frame) {
		if h, err := reader.Reset(f.Data, &crosscast.Address{}); err == nil && h.Origin == id {
			highest = max(highest, h.Number)
		}
	})
	return func() uint64 {
		synctest.Wait()
		return highest
	}
}

// told reports whether a gap says that something of an origin may have been missed in a room at a time.
func (p *peer) told(origin crosscast.NodeID, name string, at time.Time) bool {
	return slices.ContainsFunc(p.seen(), func(g crosscast.Gap) bool {
		return (g.Origin == "" || g.Origin == origin) && g.Covers(room(name)) && !g.Since.After(at) && !g.Until.Before(at)
	})
}

// Frames with a stranger's numbers make a receiver miss the origin's frames for at most two heartbeats. The receiver
// gets a gap, and then everything works as before.
func TestForgedNumbers(t *testing.T) {
	for name, forge := range map[string]func(c *cluster, h wire.FrameHeader){
		"to a room": func(c *cluster, h wire.FrameHeader) { c.forge("A", h, 0, emitTo("A")) },
		"to a room that is new": func(c *cluster, h wire.FrameHeader) {
			subscribe(c.t, c.peers[1], "new")
			c.forge("new", h, 0, emitTo("new"))
		},
		"a heartbeat": func(c *cluster, h wire.FrameHeader) {
			h.Control = true
			c.forge("", h, 0, heartbeat())
		},
		"to everyone": func(c *cluster, h wire.FrameHeader) {
			inst := emitTo()
			inst.Target.Everyone = true
			c.forge("", h, 0, inst)
		},
		"nothing":            func(c *cluster, h wire.FrameHeader) { c.forge("A", h, 0) },
		"with a predecessor": func(c *cluster, h wire.FrameHeader) { h.Previous = h.Number - 1; c.forge("A", h, 0) },
		"some thousand more": func(c *cluster, h wire.FrameHeader) { h.Number = 5000; c.forge("A", h, 0) },
		"one behind the other": func(c *cluster, h wire.FrameHeader) {
			h.Control = true
			for range 50 {
				c.forge("", h, 0, heartbeat())
				h.Number++
			}
		},
		"for a minute": func(c *cluster, h wire.FrameHeader) {
			h.Control = true
			for range 40 {
				c.forge("", h, 0, heartbeat())
				h.Number++
				c.beat(time.Second)
				time.Sleep(500 * time.Millisecond)
			}
		},
		"the highest that there is": func(c *cluster, h wire.FrameHeader) { h.Number = 1<<64 - 1; c.forge("A", h, 0) },
	} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, known=%v", name, known), func(t *testing.T) {
				inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
					a, b := c.peers[0], c.peers[1]
					subscribe(t, b, "A", "B")
					if known {
						mustPublish(t, a, emitTo("A"), emitTo("B"))
						c.beat(20 * time.Second)
					}
					had, gaps := len(b.got()), len(b.seen())
					forge(c, wire.FrameHeader{Origin: a.id, Number: absurd})
					forged := len(b.got()) - had
					missed := time.Now()
					mustPublish(t, a, emitTo("A"), emitTo("B"))
					c.beat(2 * time.Second)
					if len(b.got()) < had+forged+2 && (!b.told(a.id, "A", missed) || !b.told(a.id, "B", missed)) {
						t.Errorf("what was sent is not told: %+v", b.seen())
					}
					c.beat(4 * time.Second)
					had = len(b.got())
					told := len(b.seen())
					for range 10 {
						mustPublish(t, a, emitTo("A"), emitTo("B"))
						c.beat(time.Second)
					}
					if n := len(b.got()) - had; n != 20 {
						t.Errorf("%d of 20 delivered", n)
					}
					if n := len(b.seen()); n != told {
						t.Errorf("gaps go on: %+v", b.seen()[told:])
					}
					healed := 0
					for _, g := range b.seen()[gaps:] {
						if g.Reason == reasons.GapForged {
							healed++
							if g.Origin != a.id || g.Names != nil {
								t.Errorf("gap %+v", g)
							}
						}
					}
					if healed != 1 && name != "for a minute" {
						t.Errorf("%d gaps of forged numbers: %+v", healed, b.seen())
					}
				})
			})
		}
	}
}

// Frames that came before are copies, whatever else was forged: a minute of them, played again, heals nothing, and nothing
// of it is delivered, also after the books have healed.
func TestReplayedFramesHealNothing(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		c.beat(5 * time.Second)
		type captured struct {
			at time.Time
			f  wire.Frame
		}
		var frames []captured
		c.hub.OnExecute(func(f wire.Frame) {
			if strings.Contains(string(f.Data), string(a.id)) {
				frames = append(frames, captured{time.Now(), wire.Frame{Topic: f.Topic, Data: slices.Clone(f.Data)}})
			}
		})
		begun := time.Now()
		for range 60 {
			mustPublish(t, a, emitTo("A"), emitTo("C"), emitTo("B"))
			c.beat(0)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		c.hub.OnExecute(nil)
		had, gaps := len(b.got()), len(b.seen())
		replay := func(what string, from time.Time) {
			t.Helper()
			start := time.Now()
			for _, x := range frames {
				if x.at.Before(from) {
					continue
				}
				time.Sleep(time.Until(start.Add(x.at.Sub(from))))
				c.hub.Port("stranger").Publish(t.Context(), []wire.Frame{x.f})
			}
			synctest.Wait()
			if n := len(b.got()); n != had {
				t.Errorf("%s: %d delivered again", what, n-had)
			}
			for _, g := range b.seen()[gaps:] {
				if g.Reason == reasons.GapForged {
					t.Errorf("%s: gap %+v", what, g)
				}
			}
			gaps = len(b.seen())
		}
		replay("at once", begun)
		replay("the last ten seconds", begun.Add(50*time.Second))
		c.forge("A", wire.FrameHeader{Origin: a.id, Number: absurd}, 0)
		replay("after a forged one", begun)
		replay("the last ten seconds after a forged one", begun.Add(50*time.Second))
		for range 3 {
			mustPublish(t, a, heartbeat())
			time.Sleep(time.Second)
		}
		if g := b.seen()[gaps:]; len(g) != 1 || g[0].Reason != reasons.GapForged {
			t.Errorf("gaps %+v, want one of forged numbers", g)
		}
		gaps = len(b.seen())
		replay("after the books have healed", begun)
		mustPublish(t, a, emitTo("A"))
		synctest.Wait()
		if n := len(b.got()); n != had+1 || len(b.seen()) != gaps {
			t.Errorf("%d delivered, gaps %+v", n-had, b.seen()[gaps:])
		}
	})
}

// A frame whose predecessor is not before it is none of a node's.
func TestForgedPrevious(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		number := c.highest(a.id)
		c.beat(5 * time.Second)
		for _, control := range []bool{true, false} {
			c.forge("", wire.FrameHeader{Origin: a.id, Number: number() + 1, Previous: absurd, Control: control}, 0)
		}
		inst := emitTo()
		inst.Target.Everyone, inst.Event = true, "all"
		mustPublish(t, a, heartbeat(), inst)
		wantEvents(t, b, "all")
		if n := b.a.AdapterStats().Dropped["malformed"]; n != 2 || len(b.seen()) != 0 {
			t.Errorf("%d malformed, gaps %+v", n, b.seen())
		}
	})
}

// A forged number of copies hides none of those that come later.
func TestForgedCopies(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		number := c.highest(a.id)
		c.beat(5 * time.Second)
		c.forge("A", wire.FrameHeader{Origin: a.id, Number: number() + 1}, absurd, emitTo("A", "B"))
		c.beat(2 * time.Second)
		had := len(b.got())
		for range 10 {
			mustPublish(t, a, emitTo("A", "B"))
		}
		c.beat(time.Second)
		if n := len(b.got()) - had; n != 10 {
			t.Errorf("%d of 10 delivered", n)
		}
	})
}

// A forged count of losses hides none of those that come later.
func TestForgedLosses(t *testing.T) {
	for _, before := range []int{0, 1} {
		inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
			a, b := c.peers[0], c.peers[1]
			subscribe(t, b, "A", "B")
			number := c.highest(a.id)
			lose := func() {
				a.port.SetFate(func(f wire.Frame) membus.Fate {
					if f.Topic != "cc:r:/:A" {
						return membus.Fate{}
					}
					return membus.Fate{Err: crosscast.ErrRefused, Lost: true}
				})
				mustPublish(t, a, emitTo("A"))
				synctest.Wait()
				a.port.SetFate(nil)
			}
			c.beat(5 * time.Second)
			for range before {
				lose()
			}
			c.beat(2 * time.Second)
			c.forge("", wire.FrameHeader{Origin: a.id, Number: number() + 1, Control: true, LossCount: absurd}, 0, heartbeat())
			c.beat(5 * time.Second)
			for i := range 3 {
				at, told := time.Now(), len(b.seen())
				lose()
				c.beat(5 * time.Second)
				g := b.seen()[told:]
				if len(g) != 1 || g[0].Reason != reasons.GapLoss || !b.told(a.id, "A", at) {
					t.Errorf("loss %d after it: gaps %+v", i, g)
				}
			}
		})
	}
}

// A forged count of quiet topics hides none of those that are named later.
func TestForgedQuiet(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		number := c.highest(a.id)
		mustPublish(t, a, emitTo("A"), emitTo("B"))
		c.beat(15 * time.Second)
		quiet := mpack.AppendBin(nil, append(slices.Repeat([]byte{0xff}, 8), 0x7f, 0)) // a count of nearly 2⁶³
		c.forgeItems("", wire.FrameHeader{Origin: a.id, Number: number() + 1, Control: true}, quiet)
		c.beat(5 * time.Second)
		for i := range 3 {
			a.port.SetFate(func(f wire.Frame) membus.Fate {
				if f.Topic != "cc:r:/:A" {
					return membus.Fate{}
				}
				return membus.Fate{Skip: string(b.id)}
			})
			at := time.Now()
			mustPublish(t, a, emitTo("A"))
			c.beat(10 * time.Second)
			a.port.SetFate(nil)
			if !b.told(a.id, "A", at) {
				t.Errorf("message %d after it is missed in silence: %+v", i, b.seen())
			}
		}
	})
}

// A forged frame while a peer is lost does not count as its return for good.
func TestForgedReturn(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		c.beat(5 * time.Second)
		b.a.Expire(a.id)
		synctest.Wait()
		c.forge("A", wire.FrameHeader{Origin: a.id, Number: absurd}, 0)
		c.beat(5 * time.Second)
		had := len(b.got())
		missing := func(rooms ...string) {
			a.port.SetFate(func(f wire.Frame) membus.Fate {
				return membus.Fate{Skip: map[bool]string{true: string(b.id)}[strings.HasSuffix(f.Topic, ":A")]}
			})
			for _, r := range rooms {
				mustPublish(t, a, emitTo(r))
				synctest.Wait()
				a.port.SetFate(nil)
			}
		}
		mustPublish(t, a, emitTo("A"))
		synctest.Wait()
		at := time.Now()
		missing("A", "A")
		if n := len(b.got()) - had; n != 2 || !b.told(a.id, "A", at) {
			t.Errorf("%d of 2 delivered, gaps %+v", n, b.seen())
		}
	})
}

// A peer that is heard after a goodbye has not left: when it expires, that is a gap.
func TestForgedGoodbye(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		number := c.highest(a.id)
		c.beat(5 * time.Second)
		goodbye := &crosscast.Instruction{Kind: kind.Goodbye, Target: crosscast.Target{Everyone: true}}
		c.forge("", wire.FrameHeader{Origin: a.id, Number: number() + 1}, 0, goodbye)
		c.beat(5 * time.Second)
		b.a.Expire(a.id)
		synctest.Wait()
		if g := b.seen(); len(g) != 1 || g[0].Reason != reasons.GapPeerLost {
			t.Errorf("gaps %+v", g)
		}
	})
}

// An echo with a number that this node has not drawn proves nothing: a link that turns deaf is still found out.
func TestForgedEcho(t *testing.T) {
	t.Run("frames", func(t *testing.T) {
		inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
			b := c.peers[1]
			c.beat(2 * time.Second)
			c.forge("", wire.FrameHeader{Origin: b.id, Number: absurd, Control: true}, 0)
			c.beat(2 * time.Second)
			missOwn(b.port)
			c.beat(4 * time.Second)
			b.port.SetFate(nil)
			if g := b.seen(); len(g) == 0 || g[0].Reason != reasons.GapDeaf {
				t.Errorf("gaps %+v", g)
			}
			if n := b.a.AdapterStats().Dropped["undrawn echo"]; n != 1 {
				t.Errorf("%d counted", n)
			}
		})
	})
	t.Run("dialect", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hub := membus.New()
			d := &plain{}
			p := &peer{id: "node0000", port: hub.Port("node0000")}
			p.a = wire.Speak(p.port, d, wire.Options{})
			if err := p.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: p.id, Heartbeat: time.Second}, p)); err != nil {
				t.Fatal(err)
			}
			beat := func(n int) {
				for range n {
					_ = p.a.Publish(t.Context(), heartbeat()) // an error while the link is replaced
					time.Sleep(time.Second)
					synctest.Wait()
				}
			}
			beat(3)
			topic, data := d.Echo(absurd)
			hub.Port("stranger").Publish(t.Context(), []wire.Frame{{Topic: topic, Data: data}})
			beat(3)
			p.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Skip: "node0000"} })
			beat(4)
			p.port.SetFate(nil)
			if g := p.seen(); len(g) == 0 || g[0].Reason != reasons.GapDeaf {
				t.Errorf("gaps %+v", g)
			}
			if n := p.a.AdapterStats().Dropped["undrawn echo"]; n != 1 {
				t.Errorf("%d counted", n)
			}
			if err := p.a.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
}

// If books have healed, and were then forgotten because their node was silent for long, the frames from before are not
// reported as missing when the node is heard again.
func TestHealedBooksAreForgotten(t *testing.T) {
	inBubble(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		c.beat(5 * time.Second)
		c.forge("A", wire.FrameHeader{Origin: a.id, Number: absurd}, 0)
		c.beat(5 * time.Second)
		mustPublish(t, a, emitTo("A"))
		synctest.Wait()
		had, gaps := len(b.got()), len(b.seen())
		for range 12 {
			time.Sleep(time.Minute)
			c.peers[2].beatOnce(t)
		}
		mustPublish(t, a, emitTo("A"))
		synctest.Wait()
		if n := len(b.got()); n != had+1 || len(b.seen()) != gaps {
			t.Errorf("%d delivered, gaps %+v", n-had, b.seen()[gaps:])
		}
	})
}

// A fast heartbeat replayed heals nothing, either: as many are remembered as come before a number is kept.
func TestReplayedFastHeartbeatsHealNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, hub: membus.New(), heartbeat: 20 * time.Millisecond}
		a, b := c.add(wire.Options{}), c.add(wire.Options{})
		defer func() { a.a.Close(t.Context()); b.a.Close(t.Context()) }()
		var frames []wire.Frame
		c.hub.OnExecute(func(f wire.Frame) {
			if f.Topic == "cc:all" && strings.Contains(string(f.Data), string(a.id)) {
				frames = append(frames, wire.Frame{Topic: f.Topic, Data: slices.Clone(f.Data)})
			}
		})
		for range 500 {
			mustPublish(t, a, heartbeat())
			time.Sleep(20 * time.Millisecond)
		}
		c.hub.OnExecute(nil)
		for i := len(frames) - 30; i < len(frames); i += 14 {
			c.hub.Port("stranger").Publish(t.Context(), []wire.Frame{frames[i]})
			time.Sleep(300 * time.Millisecond)
		}
		if g := b.seen(); len(g) != 0 {
			t.Errorf("gaps %+v", g)
		}
	})
}

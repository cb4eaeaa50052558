package wire_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// begun returns the outages that the handler has heard of since the last call.
func (p *peer) begun() []crosscast.Gap {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.outages
	p.outages = nil
	return all
}

// TestOutageBegins: the handler hears of an outage while it lasts, once, and its gap begins no later. On a patchy bus both
// begin before the outage.
func TestOutageBegins(t *testing.T) {
	for _, patchy := range []bool{false, true} {
		inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
			add := func() *peer { return c.add(wire.Options{}) }
			if patchy {
				add = func() *peer { return c.addPatchy(false) }
			}
			add()
			p := add()
			c.beat(10 * time.Second)
			for what, breaks := range map[string]func(){"link lost": p.port.Down, "link deaf": p.port.Starve} {
				p.begun()
				before := len(p.seen())
				breaks()
				c.beat(5 * time.Second)
				told, gaps := p.begun(), p.seen()[before:]
				if len(told) != 1 || string(told[0].Reason) != what {
					t.Fatalf("%s: %+v", what, told)
				}
				if what == "link lost" && len(gaps) > 0 {
					t.Errorf("a gap before the link is back: %+v", gaps)
				}
				p.port.Up()
				c.beat(20 * time.Second)
				if gaps = p.seen()[before:]; len(gaps) == 0 || gaps[0].Until.IsZero() || !gaps[0].Since.Equal(told[0].Since) {
					t.Errorf("%s: begun %+v, gaps %+v", what, told, gaps)
				}
				if more := p.begun(); len(more) > 0 {
					t.Errorf("%s: told again: %+v", what, more)
				}
			}
			p.port.Cut() // and back at once
			c.beat(20 * time.Second)
			if n := len(p.begun()); n != 1 {
				t.Errorf("a short outage was told %d times", n)
			}
		})
	}
}

// TestOutageSinceStart: a node that starts without a bus is in an outage, whose gap begins at its start.
func TestOutageSinceStart(t *testing.T) {
	for _, patchy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := &peer{id: "node0001", port: membus.New().Port("p")}
			if patchy {
				p.port.SetPatchy()
			}
			p.a = wire.New(p.port, wire.Options{})
			p.port.Down()
			began := time.Now()
			s := starting(crosscast.NodeInfo{ID: p.id, Heartbeat: time.Second}, p)
			s.Offline = true
			if err := p.a.Start(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if told := p.begun(); len(told) != 1 || told[0].Since.After(began) || told[0].Reason != reasons.GapLinkLost {
				t.Errorf("patchy %v: %+v", patchy, told)
			}
			time.Sleep(time.Minute)
			p.port.Up()
			time.Sleep(time.Minute)
			synctest.Wait()
			if gaps := p.seen(); len(gaps) == 0 || gaps[0].Since.After(began) || gaps[0].Until.IsZero() {
				t.Errorf("patchy %v: began %v, gaps %+v", patchy, began, gaps)
			}
			if err := p.a.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

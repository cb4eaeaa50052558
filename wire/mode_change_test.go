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
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// A changing cluster has nodes with one bus, and nodes with parts of which that bus is Home. So they hear each other on
// everyone's topic, and not in rooms.
type changing struct {
	*partCluster
	everyone, one, two *membus.Hub
	all                []changingEmission
}

type changingEmission struct {
	event string
	from  crosscast.NodeID
	room  string // empty: to everyone
	at    time.Time
	to    []*partNode // that are there
}

var changingRooms = []string{"room0", "room1", "room2", "room3"} // on both parts

func (c *changing) add(inParts bool) *partNode {
	c.t.Helper()
	name := fmt.Sprint("n", len(c.nodes))
	home := c.everyone.Port(name)
	var a crosscast.Adapter = wire.New(home, wire.Options{})
	if inParts {
		a = wire.NewParts([]wire.Part{
			{Name: "home", Bus: home, Home: true}, {Name: "one", Bus: c.one.Port(name)}, {Name: "two", Bus: c.two.Port(name)},
		}, wire.Options{})
	}
	return c.start(&partNode{}, a, crosscast.ConnectOptions{Rooms: changingRooms})
}

// talk has each node emit to each room and to everyone.
func (c *changing) talk(now []*partNode) {
	c.t.Helper()
	for _, n := range now {
		for _, name := range append([]string{""}, changingRooms...) {
			e := changingEmission{fmt.Sprint(len(c.all), " to ", name), n.ID(), name, time.Now(), slices.Clone(now)}
			emit := n.Emit
			if name != "" {
				emit = n.To(name).Emit
			}
			if err := emit(c.t.Context(), e.event, nil); err != nil {
				c.t.Error(err)
			}
			c.all = append(c.all, e)
		}
	}
	time.Sleep(700 * time.Millisecond)
	synctest.Wait()
}

// TestModeChangesInTwoSteps: nodes are replaced by nodes of another mode, one by one. What these do not hear of each other
// is part of a gap, and nothing comes twice. When the last node of before is gone, its peers report the last gap, and from
// then on all is heard.
func TestModeChangesInTwoSteps(t *testing.T) {
	for _, inParts := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := &changing{partCluster: &partCluster{t: t}, everyone: membus.New(), one: membus.New(), two: membus.New()}
			var now []*partNode
			for range 3 {
				now = append(now, c.add(!inParts))
			}
			for i := range now {
				for range 3 {
					c.talk(now)
				}
				if err := now[i].Node.Close(t.Context()); err != nil {
					t.Error(err)
				}
				now[i] = c.add(inParts)
			}
			time.Sleep(2 * time.Second)
			changed := len(c.all)
			c.talk(now)
			missing := 0
			for i, e := range c.all {
				for _, n := range e.to {
					missing += c.mustAccount(n, e, i < changed, slices.Contains(now, n))
				}
			}
			if missing == 0 {
				t.Error("all was heard, so nothing was tested")
			}
			for _, n := range now {
				if err := n.Node.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// mustAccount fails unless an emission came to a node once. While nodes differ, one to a room may be part of a gap instead; or
// come later than a gap of its origin, if the node has closed, because then its clients have to go elsewhere.
func (c *changing) mustAccount(n *partNode, e changingEmission, differ, stays bool) (missing int) {
	c.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	came := 0
	for _, event := range n.got {
		if event == e.event {
			came++
		}
	}
	if came == 1 {
		return 0
	}
	if came > 1 || !differ || e.room == "" || !slices.ContainsFunc(n.gaps, func(g crosscast.Gap) bool {
		return g.Reason == reasons.GapRouting && g.Origin == e.from && g.Covers(room(e.room)) && !e.at.Before(g.Since) && (!stays || !e.at.After(g.Until))
	}) {
		var gaps []string
		for _, g := range n.gaps {
			gaps = append(gaps, fmt.Sprintf("%s of %s, %v to %v", g.Reason, g.Origin, g.Since, g.Until))
		}
		c.t.Errorf("%q of %s at %v came %d times to %s, with the gaps\n%s", e.event, e.from, e.at, came, n.Name(), strings.Join(gaps, "\n"))
	}
	return 1
}

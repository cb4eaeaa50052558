package crosscast_test

import (
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
)

// funcConn calls a function for each message, and counts them.
type funcConn struct {
	n    int
	send func()
}

func (c *funcConn) Send(*crosscast.Message) error {
	c.n++
	if c.send != nil {
		c.send()
	}
	return nil
}
func (c *funcConn) Close(crosscast.Reason) {}

// A delivery to a crowd reads the group's own lists. While it does, sockets leave, join, connect and close: all that
// were members, and stay open, get the message, each once.
func TestCrowdThatChangesDuringADelivery(t *testing.T) {
	for _, c := range []struct {
		name   string
		target func(n *crosscast.Node, first *crosscast.Socket) crosscast.BoundTarget
	}{
		{"room", func(n *crosscast.Node, _ *crosscast.Socket) crosscast.BoundTarget { return n.To("r") }},
		{"rooms", func(n *crosscast.Node, _ *crosscast.Socket) crosscast.BoundTarget { return n.To("r", "s") }},
		{"others", func(_ *crosscast.Node, first *crosscast.Socket) crosscast.BoundTarget { return first.To("r") }},
		{"everyone", func(n *crosscast.Node, _ *crosscast.Socket) crosscast.BoundTarget { return n.Everyone() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, crosscast.Options{})
			const members = 2000
			conns, sockets := make([]*funcConn, members), make([]*crosscast.Socket, members)
			for i := range conns {
				conns[i] = new(funcConn)
				sockets[i] = connect(t, n.Namespace, conns[i], "r", "s")
			}
			equal(t, "crowds", checkGroups(t, n.Namespace), 3)
			left := 0
			for i := 10; i < 100; i += 10 {
				conns[i].send = func() { // sockets from the middle, those before and behind this one, leave
					for ; left < i*10; left++ {
						ok(t, sockets[left].Leave("r", "s"))
					}
					sockets[1000+i].Close(crosscast.ReasonLeft)
					connect(t, n.Namespace, new(funcConn), "r")
					ok(t, sockets[left-1].Join(ctx, "r"))
				}
			}
			first := 1
			if c.name == "others" {
				first = 0
			}
			ok(t, c.target(n, sockets[0]).Emit(ctx, "e", nil))
			equal(t, "messages of the first", conns[0].n, first)
			for i, conn := range conns[1:] {
				if conn.n != 1 {
					t.Errorf("member %d got %d messages", i+1, conn.n)
				}
			}
			checkGroups(t, n.Namespace)
		})
	}
}

// A group is a crowd only while it is large. Afterwards it holds no more than before.
func TestCrowdBeginsAndEnds(t *testing.T) {
	n := start(t, crosscast.Options{})
	var sockets []*crosscast.Socket
	for i := range 600 {
		sockets = append(sockets, connect(t, n.Namespace, new(funcConn), "large", fmt.Sprint("r", i%2)))
	}
	equal(t, "crowds", checkGroups(t, n.Namespace), 2) // everyone and the large room
	for _, s := range sockets[100:] {
		ok(t, s.Leave("large"))
	}
	equal(t, "crowds", checkGroups(t, n.Namespace), 1)
	ok(t, n.To("large").Emit(ctx, "e", nil))
	for _, s := range sockets {
		ok(t, s.Join(ctx, "large"))
	}
	equal(t, "crowds", checkGroups(t, n.Namespace), 2)
}

// Conns of sockets whose Connect waits are entered once it has succeeded, also while a delivery reads the lists.
func TestCrowdOfConnectingSockets(t *testing.T) {
	crosscast.SmallCrowds(t)
	cluster := crosscast.NewCluster()
	n := start(t, crosscast.Options{Adapter: cluster.Adapter()})
	var conns []*funcConn
	for i := range 20 {
		conns = append(conns, new(funcConn))
		connect(t, n.Namespace, conns[i], "r", fmt.Sprint("own", i))
		ok(t, n.To("r").Emit(ctx, "e", nil))
		checkGroups(t, n.Namespace)
	}
	for i, c := range conns {
		equal(t, fmt.Sprint("messages of ", i), c.n, 20-i)
	}
}

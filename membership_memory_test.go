package crosscast_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
)

// What a socket with its queue and a membership hold, while nothing happens.
func TestMemoryOfSocketsAndMemberships(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	for _, c := range []struct{ sockets, each, rooms int }{{20_000, 10, 2000}, {100_000, 1, 1}} {
		t.Run(fmt.Sprintf("%dx%dof%d", c.sockets, c.each, c.rooms), func(t *testing.T) {
			n := start(t, crosscast.Options{})
			sockets := make([]*crosscast.Socket, c.sockets)
			before := memtest.Heap()
			for i := range sockets {
				sockets[i] = connect(t, n.Namespace, crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{}))
			}
			connected := memtest.Heap()
			for i, s := range sockets {
				for j := range c.each {
					ok(t, s.Join(ctx, fmt.Sprint("room", (i*c.each+j*7919)%c.rooms)))
				}
			}
			joined := memtest.Heap()
			socket, membership := (connected-before)/c.sockets, (joined-connected)/(c.sockets*c.each)
			t.Logf("a socket takes %d bytes, a membership %d", socket, membership)
			if socket > 530 || membership > 64 {
				t.Errorf("a socket takes %d bytes, and a membership %d; want at most 530 and 64", socket, membership)
			}
			runtime.KeepAlive(sockets)
		})
	}
}

// A Connect to a room of its own makes five objects: the socket, its ID and list of memberships, the room and its name.
// Many rooms of many clients begin at the same time when a server has been replaced.
func TestObjectsOfAConnect(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes objects of its own")
	}
	n := start(t, crosscast.Options{})
	const many = 10_000
	rooms := make([]string, many+1)
	for i := range rooms {
		rooms[i] = fmt.Sprint("room", i)
	}
	next, conn := 0, new(recorder)
	if got := testing.AllocsPerRun(many, func() {
		_, err := n.Connect(ctx, conn, crosscast.ConnectOptions{Rooms: rooms[next : next+1]})
		ok(t, err)
		next++
	}); got > 5 {
		t.Errorf("%v objects a Connect, want 5", got)
	}
}

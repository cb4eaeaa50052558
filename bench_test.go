package crosscast_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
)

// countConn counts what it is sent.
type countConn struct{ n int }

func (c *countConn) Send(*crosscast.Message) error { c.n++; return nil }
func (c *countConn) Close(crosscast.Reason)        {}

var benchPayload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, 128)}

// BenchmarkFanOut emits to local sockets whose conns count; ns/member is the whole cost, shared among them.
func BenchmarkFanOut(b *testing.B) {
	for _, members := range []int{1, 100, 10_000, 100_000} {
		n := start(b, crosscast.Options{})
		var last *crosscast.Socket
		for i := range members {
			rooms := []string{"r"}
			if i%2 == 0 {
				rooms = append(rooms, "half")
			}
			if i%10 == 0 {
				rooms = append(rooms, "muted")
			}
			last = connect(b, n.Namespace, &countConn{}, rooms...)
		}
		for _, c := range []struct {
			name   string
			target crosscast.BoundTarget
		}{
			{"room", n.To("r")},
			{"rooms", n.To("r", "half")},
			{"except", n.To("r").Except("muted")},
			{"others", last.To("r")},
			{"everyone", n.Everyone()},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, members), func(b *testing.B) {
				var p any = benchPayload
				b.ReportAllocs()
				for b.Loop() {
					if err := c.target.Emit(ctx, "e", p); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(members), "ns/member")
			})
		}
		n.Close(ctx)
	}
}

// BenchmarkJoinLeave is one pair: a room of one's own (which is made and deleted each time), and a large one.
func BenchmarkJoinLeave(b *testing.B) {
	n := start(b, crosscast.Options{})
	for range 10_000 {
		connect(b, n.Namespace, &countConn{}, "large")
	}
	for _, c := range []struct {
		name string
		room func(i int64) string
	}{
		{"own", func(i int64) string { return fmt.Sprint("room", i) }},
		{"large", func(int64) string { return "large" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var goroutines atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				s := connect(b, n.Namespace, &countConn{})
				room := c.room(goroutines.Add(1))
				for pb.Next() {
					s.Join(ctx, room)
					s.Leave(room)
				}
				s.Close(crosscast.ReasonLeft)
			})
		})
	}
}

// BenchmarkConnect is a socket's whole life, with a user and a room.
func BenchmarkConnect(b *testing.B) {
	n := start(b, crosscast.Options{})
	o := crosscast.ConnectOptions{User: "u", Rooms: []string{"r"}}
	b.ReportAllocs()
	for b.Loop() {
		s, err := n.Connect(ctx, &countConn{}, o)
		if err != nil {
			b.Fatal(err)
		}
		s.Close(crosscast.ReasonLeft)
	}
}

// BenchmarkMemory reports the bytes of a socket in no room, its conn aside, and of each membership.
func BenchmarkMemory(b *testing.B) {
	for _, c := range []struct{ sockets, each, rooms int }{{100_000, 10, 10_000}, {1_000_000, 1, 1}} {
		b.Run(fmt.Sprintf("%dx%dof%d", c.sockets, c.each, c.rooms), func(b *testing.B) {
			for b.Loop() {
				n := start(b, crosscast.Options{})
				conn := &countConn{}
				sockets := make([]*crosscast.Socket, c.sockets)
				start := float64(memtest.Heap())
				for i := range sockets {
					sockets[i] = connect(b, n.Namespace, conn)
				}
				connected := float64(memtest.Heap())
				for i, s := range sockets {
					for j := range c.each {
						// Steps of a prime, so that the rooms are as full as each other and no socket's are neighbours.
						if err := s.Join(ctx, fmt.Sprint("room", (i*c.each+j*7919)%c.rooms)); err != nil {
							b.Fatal(err)
						}
					}
				}
				joined := float64(memtest.Heap())
				if got := n.Stats().Memberships; got != c.sockets*c.each {
					b.Fatalf("%d memberships", got)
				}
				b.ReportMetric((connected-start)/float64(c.sockets), "B/socket")
				b.ReportMetric((joined-connected)/float64(c.sockets*c.each), "B/membership")
				runtime.KeepAlive(sockets)
				n.Close(ctx)
			}
		})
	}
}

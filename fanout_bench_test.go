package crosscast_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// lineConn counts what it is sent. It fills a cache line, as the part of a real conn does that Send touches.
type lineConn struct {
	n int
	_ [56]byte
}

func (c *lineConn) Send(*crosscast.Message) error { c.n++; return nil }
func (c *lineConn) Close(crosscast.Reason)        {}

// connectShuffled connects members sockets to the room "r", every second of them to "half", and every tenth to "muted".
// The order in which conns are allocated, the order in which sockets are, and the order in the room differ, as on a
// server whose clients come and go. It also returns the conns in an order of their own: the limit walks over them.
func connectShuffled(
	tb testing.TB, n *crosscast.Node, members int,
) (conns []*lineConn, last *crosscast.Socket) {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	conns = make([]*lineConn, members)
	for i := range conns {
		conns[i] = new(lineConn)
	}
	sockets := make([]*crosscast.Socket, members)
	for i, at := range random.Perm(members) {
		sockets[i] = connect(tb, n.Namespace, conns[at])
	}
	for i, at := range random.Perm(members) {
		rooms := []string{"r"}
		if i%2 == 0 {
			rooms = append(rooms, "half")
		}
		if i%10 == 0 {
			rooms = append(rooms, "muted")
		}
		last = sockets[at]
		if err := last.Join(ctx, rooms...); err != nil {
			tb.Fatal(err)
		}
	}
	random.Shuffle(members, func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	return conns, last
}

// emitTo returns a function that emits to target.
func emitTo(tb testing.TB, target crosscast.BoundTarget) func() {
	var p any = benchPayload
	return func() {
		if err := target.Emit(ctx, "e", p); err != nil {
			tb.Fatal(err)
		}
	}
}

// A contest measures functions in short rounds that alternate, so that all of them see the same machine.
type contest struct {
	names []string
	funcs []func()
	times [][]float64 // ns a call, of each round
}

func (c *contest) add(name string, f func()) {
	c.names, c.funcs, c.times = append(c.names, name), append(c.funcs, f), append(c.times, nil)
}

// round calls each function as often as given, after one call that brings its data into the caches.
func (c *contest) round(calls int) {
	for i, f := range c.funcs {
		f()
		start := time.Now()
		for range calls {
			f()
		}
		c.times[i] = append(c.times[i], float64(time.Since(start))/float64(calls))
	}
}

// least returns the shortest time of a function: the one with the least disturbance.
func (c *contest) least(name string) float64 { return slices.Min(c.times[slices.Index(c.names, name)]) }

// ratio returns the median of the rounds' ratios of two functions.
func (c *contest) ratio(name, to string) float64 {
	x, y := c.times[slices.Index(c.names, name)], c.times[slices.Index(c.names, to)]
	ratios := make([]float64, len(x))
	for i := range ratios {
		ratios[i] = x[i] / y[i]
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// BenchmarkFanOutShuffled emits to sockets in no order of memory, beside the limits of such a walk: a slice of the
// members, and one cache line touched a member, by an increment or by a call of Send. It reports the shortest ns a
// member of the room "r"; the room as a multiple of the limits, and the other targets as multiples of the room.
func BenchmarkFanOutShuffled(b *testing.B) {
	for _, members := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			n := start(b, crosscast.Options{})
			lines, last := connectShuffled(b, n, members)
			conns := make([]crosscast.Conn, members)
			for i, l := range lines {
				conns[i] = l
			}
			m := new(crosscast.Message)
			var c contest
			c.add("line", func() {
				for _, l := range lines {
					l.n++
				}
			})
			c.add("send", func() {
				for _, conn := range conns {
					if err := conn.Send(m); err != nil {
						b.Fatal(err)
					}
				}
			})
			c.add("room", emitTo(b, n.To("r")))
			c.add("rooms", emitTo(b, n.To("r", "half")))
			c.add("except", emitTo(b, n.To("r").Except("muted")))
			c.add("others", emitTo(b, last.To("r")))
			c.add("everyone", emitTo(b, n.Everyone()))
			b.ReportAllocs()
			for b.Loop() {
				c.round(100_000 / members)
			}
			for i, name := range c.names {
				b.ReportMetric(c.least(name)/float64(members), name+"-ns")
				if i > 2 {
					b.ReportMetric(c.ratio(name, "room"), name+"/room")
				}
			}
			b.ReportMetric(c.ratio("room", "line"), "room/line")
			b.ReportMetric(c.ratio("room", "send"), "room/send")
			b.ReportMetric(0, "ns/op")
		})
	}
}

//go:build unix

package wire_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/wire"
)

// BenchmarkPresenceChange is what a change costs in a room of 100,000 members on 16 nodes, each of which watches it by user:
// bytes on the bus, and CPU time of all nodes together. Each member shows 45 bytes.
//
//	go test -run '^$' -bench PresenceChange -benchtime 5000x ./wire
func BenchmarkPresenceChange(b *testing.B) {
	const nodes, members = 16, 100_000
	hub := membus.New()
	var bytes, frames, told atomic.Int64
	hub.OnExecute(func(f wire.Frame) {
		bytes.Add(int64(len(f.Data)))
		frames.Add(1)
	})
	shows := func(i, version int) any {
		return map[string]string{"name": fmt.Sprintf("User %06d", i), "status": fmt.Sprintf("here%04d", version%10_000)}
	}
	before := memtest.Heap()
	var all []*crosscast.Node
	for range nodes {
		n, err := crosscast.Start(b.Context(), crosscast.Options{Adapter: wire.New(hub.Port("n"), wire.Options{})})
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close(b.Context())
		all = append(all, n)
	}
	var sockets []*crosscast.Socket
	connect := func(i int) *crosscast.Socket {
		s, err := all[i%nodes].Connect(b.Context(), nobody{}, crosscast.ConnectOptions{
			User: fmt.Sprintf("user%06d", i), Rooms: []string{"r"}, Presence: shows(i, 0),
		})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	for i := range members {
		sockets = append(sockets, connect(i))
	}
	connected, sent, began := memtest.Heap(), bytes.Load(), time.Now()
	for _, n := range all {
		w, err := n.Watch(b.Context(), "r", crosscast.WatchOptions{Users: true})
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		w.Follow(func(e crosscast.PresenceEvent) bool {
			told.Add(int64(len(e.Changed) + len(e.Left) + len(e.Joined)))
			return true
		})
	}
	wait := func(n int64) {
		for told.Load() < n {
			time.Sleep(100 * time.Microsecond) // poll
		}
	}
	wait(nodes * members)
	b.Logf("a member takes %d bytes; %d watches know all of them after %v and %.1f MB, and take %d bytes for each member",
		(connected-before)/members, nodes, time.Since(began).Round(time.Millisecond), float64(bytes.Load()-sent)/1e6,
		(memtest.Heap()-connected)/(members*nodes))

	measure := func(name string, changes int, change func(i int)) {
		b.Run(name, func(b *testing.B) {
			done, sent, packed, cpu := told.Load(), bytes.Load(), frames.Load(), cpuTime()
			for i := range b.N {
				change(i)
				if i%100 == 99 || i == b.N-1 { // so that few are merged
					wait(done + int64((i+1)*changes*nodes))
				}
			}
			per := func(v int64) float64 { return float64(v) / float64(b.N) }
			b.ReportMetric(per(bytes.Load()-sent), "bus-bytes/op")
			b.ReportMetric(per(frames.Load()-packed), "frames/op")
			b.ReportMetric(per(int64(cpuTime()-cpu))/1000, "cpu-µs/op")
		})
	}
	version := 0
	measure("set", 1, func(int) {
		version++
		i := version * 7919 % members
		if err := sockets[i].SetPresence(shows(i, version)); err != nil {
			b.Fatal(err)
		}
	})
	var gone []int
	measure("leave", 1, func(int) {
		i := len(gone) * 31 % members
		gone = append(gone, i)
		sockets[i].Close(crosscast.ReasonServer)
	})
	measure("join", 1, func(int) {
		connect(gone[0])
		gone = gone[1:]
	})
}

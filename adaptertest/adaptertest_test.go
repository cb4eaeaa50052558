package adaptertest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// inProcess is the harness of the in-process adapter.
func inProcess(testing.TB) Cluster { return Cluster{Adapter: crosscast.NewCluster().Adapter} }

// overWire is a harness of package wire over a bus in memory, which offers everything.
func overWire(testing.TB) Cluster { return wireCluster(0) }

// slowWire is the same, with a bus that takes its time.
func slowWire(testing.TB) Cluster { return wireCluster(20 * time.Millisecond) }

func wireCluster(latency time.Duration) Cluster {
	hub := membus.New()
	var mu sync.Mutex // guards what follows
	var ports []*membus.Port
	var seen []Packet
	hub.OnExecute(func(f wire.Frame) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, Packet{f.Topic, f.Data})
	})
	port := func(i int) *membus.Port {
		mu.Lock()
		defer mu.Unlock()
		return ports[i]
	}
	stranger := hub.Port("stranger")
	return Cluster{
		Adapter: func() crosscast.Adapter {
			mu.Lock()
			defer mu.Unlock()
			p := hub.Port(fmt.Sprint("port", len(ports)))
			p.SetLatency(latency)
			ports = append(ports, p)
			return wire.New(p, wire.Options{})
		},
		Cut:     func(i int) { port(i).Down() },
		Restore: func(i int) { port(i).Up() },
		Deafen:  func(i int) { port(i).Deafen() },
		Deny: func(i int, name crosscast.Address, denied bool) {
			port(i).Deny("cc:r:/:"+name.Name, denied)
			if denied {
				port(i).Cut() // as Redis does where the subscription stands
			}
		},
		Peek: func() []Packet {
			mu.Lock()
			defer mu.Unlock()
			return seen[:len(seen):len(seen)]
		},
		Inject: func(p Packet) { stranger.Publish(context.Background(), []wire.Frame{{Topic: p.Topic, Data: p.Data}}) },
	}
}

func TestWire(t *testing.T) { Run(t, Harness{New: overWire}) }

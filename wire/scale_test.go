//go:build unix

package wire_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/wire"
)

var scaleNodes = flag.Int("scale", 30, "nodes that TestScale runs in one process; docs/scale.md has the figures of 1,000")

// TestScale runs many nodes in one process and in fake time. They find each other, are idle, answer a query, and bury
// those that die. The log has what that costs.
func TestScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := *scaleNodes
		bus := &plaza{links: map[string][]*visitor{}}
		heap := heapInUse()
		began, used := time.Now(), cpuTime()
		nodes := make([]*crosscast.Node, n)
		doors := make([]*door, n)
		for i := range nodes {
			doors[i] = &door{plaza: bus}
			node, err := crosscast.Start(t.Context(), crosscast.Options{
				Name: fmt.Sprint("s", i), Adapter: wire.New(doors[i], wire.Options{}), Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer node.Close(context.WithoutCancel(t.Context()))
			nodes[i] = node
			if _, err := node.Connect(t.Context(), nobody{}, crosscast.ConnectOptions{Rooms: []string{"r"}}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		known := func(of []*crosscast.Node, peers int) bool {
			for _, node := range of {
				if node.Stats().Peers != peers {
					return false
				}
			}
			return true
		}
		if !known(nodes, n-1) {
			t.Error("not everybody knows everybody")
		}
		t.Logf("%d nodes know each other after %v, and %v of a processor", n, time.Since(began), cpuTime()-used)

		const beats = 5
		before, frames, used := nodes[0].Stats().Adapter, bus.frames(), cpuTime()
		time.Sleep(beats*time.Second + time.Millisecond)
		synctest.Wait()
		after := nodes[0].Stats().Adapter
		deliveries := float64(n * n * beats)
		perBeat := float64(after.BytesIn-before.BytesIn) / float64((n-1)*beats)
		t.Logf("idle: a heartbeat has %.0f bytes, and costs %.2f µs of a processor to deliver and handle; in a second the bus "+
			"gets %d frames, and a node %d", perBeat, float64((cpuTime()-used).Microseconds())/deliveries,
			(bus.frames()-frames)/beats, int(after.FramesIn-before.FramesIn)/beats)
		t.Logf("a node takes %d KiB of memory, and has %.1f goroutines", (heapInUse()-heap)/n>>10, float64(runtime.NumGoroutine())/float64(n))
		if perBeat > 160 || bus.frames()-frames > n*(beats+1) {
			t.Errorf("an idle node sends %.0f bytes to each peer in a heartbeat, and all of them %d frames in %d", perBeat, bus.frames()-frames, beats)
		}

		used, asked := cpuTime(), time.Now()
		if count, err := nodes[0].To("r").Count(t.Context()); count != n || err != nil {
			t.Errorf("%d of %d sockets are counted: %v", count, n, err)
		}
		t.Logf("a query takes %v of the processor, and %v of the clock", cpuTime()-used, time.Since(asked))

		dead := max(n/10, 1)
		for _, d := range doors[n-dead:] {
			d.shut()
		}
		died := time.Now()
		for !known(nodes[:n-dead], n-dead-1) {
			if time.Since(died) > 20*time.Second {
				t.Fatal("dead nodes are known after 20 s")
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		t.Logf("%d dead nodes are buried after %v", dead, time.Since(died))
	})
}

func heapInUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// cpuTime is the time of the processor that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A plaza is a bus in memory that finds the links of a topic at once.
type plaza struct {
	mu    sync.Mutex // guards what follows, and the fields of doors and visitors
	links map[string][]*visitor
	count int
}

func (p *plaza) frames() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// A door is a node's access to a plaza. It implements wire.Bus.
type door struct {
	plaza  *plaza
	closed bool
	inside []*visitor
}

// shut cuts the node off.
func (d *door) shut() {
	d.plaza.mu.Lock()
	defer d.plaza.mu.Unlock()
	d.closed = true
	for _, v := range d.inside {
		v.gone = true
		v.signal()
	}
}

func (d *door) Publish(_ context.Context, frames []wire.Frame) {
	p := d.plaza
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range frames {
		f := &frames[i]
		if d.closed {
			f.Err, f.Down = errCut, true
			continue
		}
		p.count++
		data := append([]byte(nil), f.Data...)
		for _, v := range p.links[f.Topic] {
			if v.gone {
				continue
			}
			f.Receivers++
			v.push(wire.Event{Kind: wire.Message, Topic: f.Topic, Data: data})
		}
	}
}

func (d *door) Dial(context.Context) (wire.Link, error) {
	d.plaza.mu.Lock()
	defer d.plaza.mu.Unlock()
	if d.closed {
		return nil, errCut
	}
	v := &visitor{plaza: d.plaza, wake: make(chan struct{}, 1)}
	d.inside = append(d.inside, v)
	return v, nil
}

// A visitor implements wire.Link.
type visitor struct {
	plaza *plaza
	queue []wire.Event
	gone  bool
	wake  chan struct{}
}

func (v *visitor) push(ev wire.Event) {
	v.queue = append(v.queue, ev)
	v.signal()
}

func (v *visitor) signal() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

func (v *visitor) answer(kind wire.EventKind, topics ...string) error {
	v.plaza.mu.Lock()
	defer v.plaza.mu.Unlock()
	for _, t := range topics {
		if kind == wire.Subscribed {
			v.plaza.links[t] = append(v.plaza.links[t], v)
		}
		v.push(wire.Event{Kind: kind, Topic: t})
	}
	return nil
}

func (v *visitor) Subscribe(t []string) error   { return v.answer(wire.Subscribed, t...) }
func (v *visitor) Unsubscribe(t []string) error { return v.answer(wire.Unsubscribed, t...) }
func (v *visitor) Ping(name string) error       { return v.answer(wire.Pong, name) }
func (v *visitor) Heard() time.Time             { return time.Now() }

func (v *visitor) Receive() (wire.Event, error) {
	for {
		v.plaza.mu.Lock()
		if v.gone {
			v.plaza.mu.Unlock()
			return wire.Event{}, errCut
		}
		if len(v.queue) > 0 {
			ev := v.queue[0]
			v.queue = v.queue[1:]
			v.plaza.mu.Unlock()
			return ev, nil
		}
		v.plaza.mu.Unlock()
		<-v.wake
	}
}

func (v *visitor) Close() error {
	v.plaza.mu.Lock()
	defer v.plaza.mu.Unlock()
	v.gone = true
	v.signal()
	return nil
}

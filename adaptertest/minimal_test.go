package adaptertest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// TestMinimal runs the suite on a driver that implements what it must and nothing more.
func TestMinimal(t *testing.T) {
	adaptertest.Run(t, adaptertest.Harness{Heartbeat: 250 * time.Millisecond, New: func(testing.TB) adaptertest.Cluster {
		m := new(medium)
		return adaptertest.Cluster{Adapter: func() crosscast.Adapter { return newMinimal(m) }}
	}})
}

// A medium carries bytes between the nodes of one process: each to all others.
type medium struct {
	mu    sync.Mutex // guards nodes
	nodes []*minimal // never changed in place
}

// minimal is one node's access to a medium. It owns one goroutine, from Start to Close.
type minimal struct {
	medium *medium
	self   crosscast.NodeInfo
	h      crosscast.AdapterHandler
	wake   chan struct{} // capacity 1
	ended  chan struct{}

	mu      sync.Mutex // guards what follows
	started bool
	closed  bool
	queue   []parcel
	bytes   int
	room    chan struct{} // closed when there may be room in the queue again, and replaced
}

// A parcel is a frame with one instruction, in the library's own format, or, without data, the place of what was lost.
type parcel struct {
	data     []byte
	from, to crosscast.NodeID
	gap      crosscast.Gap
}

const queueLimit = 4 << 20

func newMinimal(m *medium) *minimal {
	return &minimal{medium: m, wake: make(chan struct{}, 1), ended: make(chan struct{}), room: make(chan struct{})}
}

func (a *minimal) Start(_ context.Context, s crosscast.AdapterStart) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return crosscast.ErrClosed
	}
	if a.started {
		return fmt.Errorf("in use by node %q", a.self.Name)
	}
	a.self, a.h, a.started = s.Self, s.Handler, true
	go a.work()
	a.medium.mu.Lock()
	defer a.medium.mu.Unlock()
	a.medium.nodes = append(slices.Clip(a.medium.nodes), a)
	return nil
}

func (a *minimal) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	a.mu.Lock()
	closed := a.closed
	a.mu.Unlock()
	if closed {
		return crosscast.ErrClosed
	}
	data, err := crosscast.AppendInstruction(nil, inst) // a copy: nothing of inst is kept
	if err != nil {
		return err
	}
	a.medium.mu.Lock()
	nodes := a.medium.nodes
	a.medium.mu.Unlock()
	for _, p := range nodes {
		if p == a || inst.To != "" && inst.To != p.self.ID {
			continue
		}
		if perr := p.put(ctx, slices.Clone(data), inst); perr != nil {
			err = perr
		}
	}
	return err
}

// put queues an instruction at a peer. While the queue is full it waits; hellos and heartbeats never do.
func (a *minimal) put(ctx context.Context, data []byte, inst *crosscast.Instruction) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.closed && a.bytes > 0 && a.bytes+len(data) > queueLimit {
		if inst.Kind.Control() {
			return nil
		}
		room := a.room
		a.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		a.mu.Lock()
		if ctx.Err() == nil || a.closed {
			continue
		}
		// One gap stands for all that is lost in a row.
		if last := len(a.queue) - 1; a.queue[last].data != nil || a.queue[last].gap.Origin != inst.From {
			now := time.Now()
			a.queue = append(a.queue, parcel{
				gap: crosscast.Gap{Origin: inst.From, Since: now, Until: now, Reason: reasons.GapOverflow},
			})
		}
		return ctx.Err()
	}
	if a.closed {
		return nil
	}
	a.queue = append(a.queue, parcel{data: data, from: inst.From, to: inst.To})
	a.bytes += len(data)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return nil
}

// work hands over what is queued until Close.
func (a *minimal) work() {
	defer close(a.ended)
	var reader crosscast.InstructionReader
	for range a.wake {
		for p, ok := a.next(); ok; p, ok = a.next() {
			if p.data == nil {
				a.h.Gap(p.gap)
				continue
			}
			inst, _, err := reader.Read(p.data)
			if err != nil {
				continue // not ours; a driver would count it
			}
			inst.From, inst.To = p.from, p.to
			if inst.Kind.Control() {
				inst.Node.ID = p.from
			}
			a.h.Handle(inst)
			scribble(inst)
		}
	}
}

func (a *minimal) next() (p parcel, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.queue) == 0 {
		return p, false
	}
	p, a.queue = a.queue[0], a.queue[1:]
	a.bytes -= len(p.data)
	a.free()
	return p, true
}

// free wakes who waits for room; a.mu is held.
func (a *minimal) free() {
	close(a.room)
	a.room = make(chan struct{})
}

func (a *minimal) Close(ctx context.Context) error {
	m := a.medium
	m.mu.Lock()
	m.nodes = slices.DeleteFunc(slices.Clone(m.nodes), func(p *minimal) bool { return p == a })
	m.mu.Unlock()
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		a.free()
		if a.started {
			close(a.wake) // put does not write to it any more
		} else {
			close(a.ended)
		}
	}
	a.mu.Unlock()
	select {
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// scribble overwrites an instruction after Handle, which may keep nothing of it: this is what tests the node. Every
// driver that uses its memory again does as much.
func scribble(inst *crosscast.Instruction) {
	t := &inst.Target
	for _, names := range [][]string{t.Rooms, t.Users, t.ExceptRooms, t.ExceptUsers} {
		for i := range names {
			names[i] = "BAD"
		}
	}
	for _, ids := range [][]crosscast.SocketID{t.Sockets, t.ExceptSockets} {
		for i := range ids {
			ids[i] = "BAD"
		}
	}
	clear(inst.Payload.Data)
	for i := range inst.Meta {
		inst.Meta[i] = crosscast.KeyValue{Key: "BAD", Value: "BAD"}
	}
	*inst = crosscast.Instruction{Kind: kind.Emit, Namespace: "BAD", Event: "BAD"}
}

package redisadapter_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/wire"
)

// listener keeps the instructions and reports of an adapter.
type listener struct {
	*wire.Adapter
	mu   sync.Mutex
	got  map[string]bool // rooms; guarded by mu, like everything below
	gaps []crosscast.Gap
	beat map[crosscast.NodeID]bool // whose heartbeats came since it was cleared
}

func (l *listener) Handle(in *crosscast.Instruction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch in.Kind {
	case kind.Emit:
		l.got[in.Event] = true
	case kind.Heartbeat:
		l.beat[in.From] = true
	}
}

// hears returns once a heartbeat of each of n peers has come, from now on.
func (l *listener) hears(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	clear(l.beat)
	l.mu.Unlock()
	for heard := 0; heard < n; time.Sleep(time.Millisecond) { // poll
		if ctx.Err() != nil {
			t.Fatalf("heard of %d of %d peers", heard, n)
		}
		l.mu.Lock()
		heard = len(l.beat)
		l.mu.Unlock()
	}
}

func (l *listener) Gap(g crosscast.Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, g)
}

func (l *listener) Loss(crosscast.Loss)       {}
func (l *listener) Awaits(string) bool        { return true }
func (l *listener) Link(crosscast.LinkStatus) {}

func (l *listener) Outage(time.Time, crosscast.GapReason) {}

// has returns how many of the messages, one to each of the rooms, arrived, were missed with a gap, and were missed in silence.
func (l *listener) has(rooms, events []string) (got, gapped, silent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range events {
		address := crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: rooms[i]}
		switch {
		case l.got[e]:
			got++
		case slices.ContainsFunc(l.gaps, func(g crosscast.Gap) bool { return g.Covers(address) }):
			gapped++
		default:
			silent++
		}
	}
	return got, gapped, silent
}

// settled returns once none of the messages is missed in silence. It returns how many were told as gaps.
func settled(ctx context.Context, t *testing.T, listeners []*listener, rooms, events []string) int {
	t.Helper()
	for ; ; time.Sleep(10 * time.Millisecond) { // poll
		got, gapped, silent := 0, 0, 0
		for _, l := range listeners {
			a, b, c := l.has(rooms, events)
			got, gapped, silent = got+a, gapped+b, silent+c
		}
		if silent == 0 {
			t.Logf("%d delivered, %d told as gaps", got, gapped)
			return gapped
		}
		if ctx.Err() != nil {
			t.Fatalf("%d delivered, %d told as gaps, %d missed in silence", got, gapped, silent)
		}
	}
}

// TestMastersLoseMessages: single messages to many rooms, while the masters of a Redis Cluster lose the connections over
// which they pass messages on. Each arrives, or is told as a gap.
func TestMastersLoseMessages(t *testing.T) {
	const heartbeat = 250 * time.Millisecond
	cluster := redistest.StartCluster(t, 3)
	ctx := redistest.Within(t, time.Minute)
	var nodes []*listener
	for i := range 6 {
		l := &listener{
			Adapter: redisadapter.New(cluster.Client(), redisadapter.Options{}).(*wire.Adapter),
			got:     make(map[string]bool), beat: make(map[crosscast.NodeID]bool),
		}
		self := crosscast.NodeInfo{ID: crosscast.NodeID(fmt.Sprintf("listen%02d", i)), Heartbeat: heartbeat}
		if err := l.Start(ctx, crosscast.AdapterStart{Self: self, Handler: l}); err != nil {
			t.Fatal(err)
		}
		defer l.Close(context.WithoutCancel(ctx))
		nodes = append(nodes, l)
	}
	rooms := make([]string, 160)
	addresses := make([]crosscast.Address, len(rooms))
	for i := range rooms {
		rooms[i] = fmt.Sprint("room", i)
		addresses[i] = crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: rooms[i]}
	}
	for _, l := range nodes[1:] {
		if err := l.Subscribe(ctx, addresses...); err != nil {
			t.Fatal(err)
		}
	}
	everyone := crosscast.Target{Everyone: true}
	stop := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() {
		for {
			for _, l := range nodes {
				_ = l.Publish(ctx, &crosscast.Instruction{Kind: kind.Heartbeat, Target: everyone})
			}
			select {
			case <-time.After(heartbeat):
			case <-stop:
				return
			}
		}
	})
	defer beats.Wait()
	defer close(stop)
	for _, l := range nodes {
		l.hears(ctx, t, len(nodes)-1) // since it has subscribed
	}

	// The masters may connect again before anything is lost: again, with other messages, until one is missed.
	for round := 0; ; round++ {
		events := make([]string, len(rooms))
		for i, room := range rooms {
			if i%20 == 10 {
				cluster.CutBus(t)
			}
			events[i] = fmt.Sprint(room, " ", round)
			inst := &crosscast.Instruction{
				Kind: kind.Emit, Namespace: "/", Event: events[i], Target: crosscast.Target{Rooms: []string{room}},
			}
			if _, err := nodes[0].Deliver(ctx, inst); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond) // lasts: the masters connect again ten times a second
		}
		if settled(ctx, t, nodes[1:], rooms, events) > 0 {
			return
		}
	}
}

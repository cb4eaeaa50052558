package crosscast

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/kind"
)

// quietAdapter publishes to nobody. It counts the names of rooms that peers are asked about.
type quietAdapter struct {
	h AdapterHandler

	mu      sync.Mutex
	rooms   map[NodeID]int // by whom they are for
	refused map[NodeID]int
}

func (a *quietAdapter) Start(_ context.Context, s AdapterStart) error { a.h = s.Handler; return nil }
func (a *quietAdapter) Close(context.Context) error                   { return nil }
func (a *quietAdapter) Publish(_ context.Context, inst *Instruction) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if inst.Presence != nil && inst.Presence.Full {
		a.refused[inst.To] += len(inst.Rooms)
		return nil
	}
	a.rooms[inst.To] += len(inst.Rooms)
	return nil
}

// watching starts a node that watches rooms and knows nobody.
func watchingNode(t *testing.T, rooms int) (*Node, *quietAdapter) {
	a := &quietAdapter{rooms: make(map[NodeID]int), refused: make(map[NodeID]int)}
	n, err := Start(context.Background(), Options{Adapter: a})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(context.Background()) })
	for i := range rooms {
		if _, err := n.Watch(context.Background(), fmt.Sprint("room", i), WatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	return n, a
}

func (a *quietAdapter) hello(id NodeID) {
	a.h.Handle(&Instruction{Kind: kind.Hello, From: id, Node: NodeInfo{ID: id, Heartbeat: time.Minute}})
}

func (a *quietAdapter) tell(from NodeID, p Presence, rooms ...string) {
	a.h.Handle(&Instruction{Kind: kind.Presence, Namespace: "/", From: from, Rooms: rooms, Presence: &p})
}

// TestPeersThatAreMadeUp: however many rooms are watched, a peer of which nothing is heard but its name takes what one
// takes, and is not asked about them. One that answers is asked.
func TestPeersThatAreMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const watches, names = 1000, 2000
		n, a := watchingNode(t, watches)
		before := memtest.Heap()
		for range 2 { // heard twice, even
			for i := range names {
				a.hello(NodeID(fmt.Sprintf("name%04d", i)))
			}
		}
		synctest.Wait()
		time.Sleep(20 * time.Second) // of heartbeats
		synctest.Wait()
		if got := (memtest.Heap() - before) / names; got > 8<<10 {
			t.Errorf("each of %d names takes %d bytes", names, got)
		}
		if asked := len(a.rooms) - 1; asked != 0 && a.rooms["name0000"] != 0 {
			t.Errorf("asked %d about rooms", asked)
		}
		if got := len(n.Nodes()); got != names {
			t.Fatal(got, "peers")
		}
		n.presence.mu.Lock()
		round := n.presence.mates["name0007"].sent
		n.presence.mu.Unlock()
		a.tell("name0007", Presence{Round: round, Sums: []uint64{0}})
		synctest.Wait()
		if got := a.rooms["name0007"]; got != watches {
			t.Errorf("a peer that answers was asked about %d rooms", got)
		}
		runtime.KeepAlive(n)
	})
}

// TestWhatPeersTellIsBounded: what does not end, what is told of many rooms, and that rooms are not told of.
func TestWhatPeersTellIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a := watchingNode(t, 3000)
		n.presence.maxKept = 1 << 20
		kept := func() int {
			n.presence.mu.Lock()
			defer n.presence.mu.Unlock()
			sum, fulls := 0, 0
			for _, m := range n.presence.mates {
				sum += m.bytes
				fulls += len(m.full)
				for v := range m.full {
					if n.presence.views[v.at] != v {
						t.Fatal("a watch that has ended is kept")
					}
				}
			}
			if fulls != n.presence.fulls {
				t.Errorf("%d rooms are not told of, and %d are counted", fulls, n.presence.fulls)
			}
			if sum != n.presence.kept {
				t.Errorf("%d bytes are noted, and there are %d", n.presence.kept, sum)
			}
			lists := 0
			for _, v := range n.presence.views {
				for id, l := range v.roster.nodes {
					if id != n.id {
						lists += l.bytes()
					}
				}
			}
			if lists != sum {
				t.Errorf("%d bytes are noted, and lists have %d", sum, lists)
			}
			return sum
		}
		members := func(from NodeID, part int) []PresenceChange {
			all := make([]PresenceChange, 100)
			for i := range all {
				all[i].Member = Member{SocketID(fmt.Sprintf("%s%06d%06d", from, part, i)), "user", json.RawMessage(`"here"`)}
			}
			return all
		}
		a.hello("endless0")
		for part := range 1000 {
			a.tell("endless0", Presence{Version: 1, Part: part, Changes: members("endless0", part)}, "room0")
		}
		if got := kept(); got > 2<<20 {
			t.Errorf("%d bytes of a list that does not end", got)
		}
		for i := range 100 {
			id := NodeID(fmt.Sprintf("tell%04d", i))
			a.hello(id)
			for j := range 3000 {
				a.tell(id, Presence{Version: 1, Last: true}, fmt.Sprint("room", j))
			}
		}
		if got := kept(); got > 12<<20 { // space, shares, and names of rooms that are not told of
			t.Errorf("%d bytes of empty rooms", got)
		}
		// A peer has its share all the same, and is known to tell.
		a.hello("modest00")
		a.tell("modest00", Presence{Version: 1, Last: true, Changes: members("modest00", 0)}, "room1")
		v := n.presence.views[Address{"/", SpaceRoom, "room1"}]
		if got := v.roster.version("modest00"); got != 1 {
			t.Error("a small list is refused")
		}
		var w *Watch
		for _, w = range n.presence.views[Address{"/", SpaceRoom, "room0"}].watches {
		}
		found := false
		for _, m := range w.Missing() {
			found = found || m.ID == "endless0" && m.Err == errFull
		}
		if !found {
			t.Error("who told too much is not missing")
		}
		for _, v := range maps.Clone(n.presence.views) {
			if v.hash%2 == 0 {
				v.watches[0].Close()
			}
		}
		kept()
		for id := range n.presence.mates {
			a.h.Handle(&Instruction{Kind: kind.Goodbye, From: id})
		}
		if got := kept(); got != 0 || n.presence.fulls != 0 {
			t.Errorf("%d bytes are noted of nobody, and %d rooms", got, n.presence.fulls)
		}
	})
}

// TestWatchersThatAreMadeUp: names that somebody made up take no places of nodes.
func TestWatchersThatAreMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a := watchingNode(t, 0)
		watch := func(from NodeID) {
			a.h.Handle(&Instruction{Kind: kind.Watch, Namespace: "/", From: from, TTL: time.Hour, Rooms: []string{"r"}})
			synctest.Wait()
		}
		names := func(kind string, n int, hellos int) {
			for i := range n {
				id := NodeID(fmt.Sprintf("%s%04d", kind, i))
				for range hellos {
					a.hello(id)
				}
				watch(id)
			}
		}
		names("none", 2000, 0)
		if got := len(n.presence.watchers); got != 256 {
			t.Errorf("%d strangers watch", got)
		}
		names("once", 2000, 1)
		if got := len(n.presence.watchers); got != 1024 {
			t.Errorf("%d watch", got)
		}
		clear(a.rooms)
		clear(a.refused)
		names("real", 100, 2)
		for i := range 100 {
			id := NodeID(fmt.Sprintf("real%04d", i))
			if a.rooms[id] != 1 || a.refused[id] != 0 {
				t.Fatalf("%s was told of %d rooms, and refused %d", id, a.rooms[id], a.refused[id])
			}
		}
	})
}

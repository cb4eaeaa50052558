package faults_test

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
)

var _ = register(&row{
	number: 48, fault: "Redis restarts under 200 nodes with 50 rooms each, in one process", heartbeat: time.Second,
	expect: "each hears each within 5 s; no peer is taken for dead",
	kinds:  []kind{resp2, cluster, sharded, shards, natsOne}, alone: true, fullOnly: true, run: many,
})

// A listener is the client of one node, which notes whom it has heard since the restart.
type listener struct {
	mu    sync.Mutex // guards what follows
	heard map[crosscast.NodeID]bool
	on    bool
}

func (l *listener) Send(m *crosscast.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on && m.Event == "after" {
		l.heard[m.From] = true
	}
	return nil
}

func (l *listener) Close(crosscast.Reason) {}

// listen starts a node and its client. lost is called when it takes a peer for dead.
func (b *bed) listen(i int, rooms []string, lost func(what string)) (*crosscast.Node, *listener) {
	l := &listener{heard: map[crosscast.NodeID]bool{}}
	n := b.member(fmt.Sprint("n", i), func(o *crosscast.Options) {
		o.OnNode = func(n *crosscast.Node, e crosscast.NodeEvent) {
			if e.Kind == crosscast.NodeExpired {
				lost(fmt.Sprint(n.Name(), " has lost ", e.Peer.Name))
			}
		}
	})
	if _, err := n.Connect(redistest.Within(b, patience), l, crosscast.ConnectOptions{Rooms: rooms}); err != nil {
		b.Errorf("connect: %v", err)
	}
	return n, l
}

func many(b *bed) {
	b.startSite(siteConfig{redis: redistest.Config{Args: []string{"--maxclients", "5000"}}})
	nodes, rooms := 200, make([]string, 50)
	if b.kind == sharded { // each node sends a heartbeat 17 times: those of 200 are too much for one machine
		nodes, b.unproved = 40, "with 40 nodes, because each sends its heartbeats for 16 groups"
	}
	for i := range rooms {
		rooms[i] = fmt.Sprint("room", i)
	}
	var mu sync.Mutex // guards lost
	var lost []string
	all, listeners := make([]*crosscast.Node, nodes), make([]*listener, nodes)
	var starts sync.WaitGroup
	places := make(chan struct{}, 8)
	for i := range nodes {
		places <- struct{}{}
		starts.Go(func() {
			defer func() { <-places }()
			all[i], listeners[i] = b.listen(i, rooms, func(what string) {
				mu.Lock()
				defer mu.Unlock()
				lost = append(lost, what)
			})
		})
	}
	starts.Wait()
	if b.Failed() {
		return
	}
	knowAll := func() bool {
		for _, n := range all {
			if len(n.Nodes()) != nodes-1 {
				return false
			}
		}
		return true
	}
	for until := time.Now().Add(2 * patience); !knowAll(); b.last(50 * time.Millisecond) {
		if time.Now().After(until) {
			b.Fatal("the nodes do not know each other")
		}
	}
	mu.Lock()
	lost = nil
	mu.Unlock()
	b.site.kill()
	b.last(pick(b, time.Second, 3*time.Second))
	for _, l := range listeners {
		l.mu.Lock()
		l.on = true
		l.mu.Unlock()
	}
	b.site.restart()
	began := time.Now()
	pairs, emitAt := 0, began
	for until := began.Add(2 * patience); time.Now().Before(until) && pairs < nodes*nodes; b.last(20 * time.Millisecond) {
		heard := map[crosscast.NodeID]int{}
		pairs = 0
		for _, l := range listeners {
			l.mu.Lock()
			pairs += len(l.heard)
			for id := range l.heard {
				heard[id]++
			}
			l.mu.Unlock()
		}
		if time.Now().Before(emitAt) {
			continue
		}
		emitAt = time.Now().Add(time.Second)
		for i, n := range all { // what is emitted before all are back is missed by some
			if heard[n.ID()] < nodes {
				_ = n.To(rooms[i%len(rooms)]).Emit(b.Context(), "after", nil)
			}
		}
	}
	b.recovery = time.Since(began)
	b.note = fmt.Sprintf("%d pairs", pairs)
	if pairs != nodes*nodes || b.recovery > 5*time.Second {
		b.Errorf("%d of %d pairs hear each other after %v", pairs, nodes*nodes, b.recovery)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(lost) > 0 || !knowAll() {
		b.Errorf("peers were lost: %s", strings.Join(lost[:min(len(lost), 10)], ", "))
	}
}

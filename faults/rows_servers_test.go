package faults_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/crosscast/crosscast/faults/books"
)

// Rows about one of several servers.

var _ = register(
	&row{
		number: 50, fault: "3 Redises, or masters: one SIGKILL that does not carry what goes to everyone, restart after 3 s",
		expect: "rooms of the others miss nothing, and no peer is suspected; gaps are of that one's rooms; these are back 1.5 s " +
			"after the restart",
		kinds: []kind{shards, sharded}, alone: true, run: func(b *bed) { oneRedisDies(b, false) }, not: noShards,
	},
	&row{
		number: 51, fault: "3 Redises, or masters: that one SIGKILL that carries what goes to everyone, restart after 3 s",
		expect: "as before, and each node's gap is of everything",
		kinds:  []kind{shards, sharded}, alone: true, fullOnly: true, run: func(b *bed) { oneRedisDies(b, true) }, not: noShards,
	},
	&row{
		number: 52, fault: "3 NATS servers: one SIGKILL",
		expect: "its node goes to another server, with gaps; the others have gaps of that node only; all hear each other after 1.5 s",
		kinds:  []kind{natsMany}, alone: true, not: noRoutes,
		run: func(b *bed) { oneNATSGoes(b, (*natsServer).Kill) },
	},
	&row{
		number: 53, fault: "3 NATS servers: the connections between them break, for 10 heartbeats",
		expect: "gaps of the nodes of other servers, in the room; all hear each other 1.5 s after the servers are connected",
		kinds:  []kind{natsMany}, alone: true, run: routesBreak, not: noRoutes,
	},
	&row{
		number: 54, fault: "3 NATS servers: one goes away in lame duck mode",
		expect: "as in row 52",
		kinds:  []kind{natsMany}, alone: true, fullOnly: true, not: noRoutes,
		run: func(b *bed) { oneNATSGoes(b, func(s *natsServer) { s.do(command{Do: "lame duck"}) }) },
	},
)

var (
	noShards = map[kind]string{natsOne: "it is about several Redises", natsMany: "it is about several Redises"}
	noRoutes = map[kind]string{sharded: "it is about NATS", shards: "it is about NATS", natsOne: "there is one server"}
)

// home is which of three Redises carries what goes to everyone: the hash of their names says so. Heartbeats go over all.
const home = 1

// oneRedisDies kills the Redis that carries everyone's topic, or another one that carries rooms.
func oneRedisDies(b *bed, everyones bool) {
	rooms := []string{room}
	for i := range 11 {
		rooms = append(rooms, fmt.Sprint("room", i))
	}
	b.every *= 4
	b.start(func(c *childConfig) { c.Rooms = rooms })
	bus := redisBus{b.site}
	victim := home
	if b.kind == sharded {
		victim = bus.anchor()
	}
	if !everyones {
		victim = (victim + 1) % len(b.site.servers)
	}
	var own, others []string
	for _, r := range rooms {
		if bus.concerns(victim, "cc:r:/:"+r) {
			own = append(own, r)
		} else {
			others = append(others, r)
		}
	}
	if len(own) == 0 || len(others) == 0 {
		b.Fatalf("one Redis concerns %q, and the others %q", own, others)
	}
	for _, n := range b.live() {
		for _, r := range rooms {
			n.do(command{Do: "stream", Room: r, Time: b.every})
		}
	}
	gap := books.Allow{Reasons: []string{"link lost"}, Origins: []string{""}, Rooms: own}
	if everyones {
		gap.Rooms = nil
	}
	b.allow(gap)
	b.allow(books.Allow{Reasons: []string{"loss"}, Rooms: own})
	mended := b.fault("SIGKILL of a Redis that concerns %q", own)
	b.site.servers[victim].Kill()
	b.last(pick(b, 2*time.Second, 3*time.Second))
	for _, r := range others {
		b.meetIn(r, b.ledger.Len())
	}
	b.site.servers[victim].Restart()
	mended()
	began := time.Now()
	for _, r := range own {
		b.meetIn(r, b.ledger.Len())
	}
	b.recovery = time.Since(began)
	if b.recovery > 1500*time.Millisecond {
		b.Errorf("the rooms of that Redis were back after %v", b.recovery)
	}
	b.settleIn(rooms...)
	b.notBlocked(2 * time.Second)
	for _, n := range b.live() {
		if got := b.count(func(e *books.Entry) bool {
			return e.Is == books.GapOf && e.Node == n.id && e.Gap.Reason == "link lost" && e.Gap.All == everyones
		}); got < 1 || got > 1 && (b.kind != sharded || everyones) { // a master has several groups of rooms
			b.Errorf("%s has reported %d such gaps", n, got)
		}
	}
	b.noPeerChanged(0)
	b.note = fmt.Sprintf("it concerns %d of %d rooms", len(own), len(rooms))
}

// noPeerChanged checks that no node has told of a peer since an entry, except that it has joined.
func (b *bed) noPeerChanged(from int) {
	b.Helper()
	for _, e := range b.ledger.Entries()[from:] {
		if e.Is == books.Peer && e.Text != "joined" {
			b.Errorf("%s: %s is %s", e.Node, e.Origin, e.Text)
		}
	}
}

// oneNATSGoes has the server of n1 go away. The other nodes are at other servers.
func oneNATSGoes(b *bed, away func(*natsServer)) {
	b.start()
	b.allow(books.Allow{Nodes: []string{"n1"}, Reasons: []string{"link lost"}, Origins: []string{""}, Most: 1})
	b.allow(books.Allow{Nodes: []string{"n2", "n3"}, Origins: []string{"n1"}, Reasons: []string{"hole", "late", "peer lost"}})
	b.allowLosses("n1")
	first := b.site.nats[0]
	mended := b.fault("the server of n1 goes away")
	away(first)
	for until := time.Now().Add(patience); len(first.links()) > 0; b.last(5 * time.Millisecond) {
		if time.Now().After(until) {
			b.Fatal("n1 stays")
		}
	}
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(1500 * time.Millisecond)
	b.notBlocked(2 * time.Second)
	if n := b.count(func(e *books.Entry) bool { return e.Is == books.Peer && e.Text == "expired" }); n > 0 {
		b.Errorf("%d times a peer was taken for dead", n)
	}
}

// routesBreak cuts the servers from each other.
func routesBreak(b *bed) {
	b.start()
	b.allow(books.Allow{Origins: []string{"n1", "n2", "n3"}, Reasons: []string{"hole", "late", "peer lost"}})
	mended := b.fault("the servers are cut from each other")
	for _, p := range b.site.routes {
		p.Refuse()
	}
	for _, p := range b.site.routes {
		p.Reset()
	}
	for _, s := range b.site.nats {
		s.awaitRoutes(0)
	}
	b.last(10 * b.heartbeat)
	for _, p := range b.site.routes {
		if err := p.Admit(); err != nil {
			b.Fatal(err)
		}
	}
	for _, s := range b.site.nats {
		s.awaitRoutes(len(b.site.nats) - 1)
	}
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(1500 * time.Millisecond)
	for _, n := range b.live() {
		if !slices.ContainsFunc(b.ledger.Entries(), func(e books.Entry) bool { return e.Is == books.GapOf && e.Node == n.id }) {
			b.Errorf("%s has reported no gap", n)
		}
	}
}

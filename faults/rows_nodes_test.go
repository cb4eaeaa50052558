package faults_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/faults/books"
)

var _ = register(
	&row{
		number: 14, fault: "a node SIGKILL",
		expect: "peers suspect it after 3 heartbeats and take it for dead after 6, once; a request that waits for it ends " +
			"with its own deadline; its clients are not counted any more",
		kinds: every, alone: true, run: killNode,
	},
	&row{
		number: 15, fault: "a node closes",
		expect: "peers know within 100 ms; nothing that it accepted is lost; its clients are told",
		kinds:  every, alone: true, run: closeNode,
	},
	&row{
		number: 16, part: "a", fault: "a node SIGSTOP for 20 heartbeats, SIGCONT",
		expect: "peers take it for dead; it notices, and reports one gap; it is back once; no copies; no request from then " +
			"is executed",
		kinds: every, alone: true, run: func(b *bed) { pauseNode(b, 20) },
	},
	&row{
		number: 16, part: "b", fault: "a node SIGSTOP for 4 heartbeats, SIGCONT",
		expect: "peers suspect it, and it is back; no copies, and no gap if it missed nothing",
		kinds:  single, alone: true, run: func(b *bed) { pauseNode(b, 4) },
	},
	&row{
		number: 17, fault: "two processes with one name",
		expect: "they are two nodes, which hear each other", kinds: single, run: sameName,
	},
	&row{
		number: 18, fault: "a process is killed and started again at once, with the same name",
		expect: "the new one is a node of its own, which is heard at once, without a gap of its own",
		kinds:  single, alone: true, run: restartNode,
	},
	&row{
		number: 19, fault: "the wall clock of a node is an hour off, or steps",
		expect: "peers, order and gaps do not depend on it; after a step ahead, a request might be refused as expired for two " +
			"heartbeats",
		alone: true, fullOnly: true, run: wrongClock, not: otherwise("it is about nodes, and the servers' clocks are not looked at"),
	},
)

// peerEvents returns what a node has told of a peer since an entry.
func (b *bed) peerEvents(from int, n *node, peer string) (events []string) {
	for _, e := range b.ledger.Entries()[from:] {
		if e.Is == books.Peer && e.Node == n.id && e.Origin == peer {
			events = append(events, e.Text)
		}
	}
	return events
}

// killNode kills n1.
func killNode(b *bed) {
	b.start()
	victim, others := b.nodes[0], b.nodes[1:]
	b.allow(books.Allow{Origins: []string{"n1"}, Reasons: []string{"peer lost"}, Most: 1})
	from := b.ledger.Len()
	b.fault("SIGKILL of n1")
	at := time.Now()
	victim.kill()
	b.ledger.Add(books.Entry{Is: books.Gone, Node: victim.id})
	const deadline = 700 * time.Millisecond
	asked := others[0].send(command{Do: "ask", Time: deadline})
	var suspected, gone time.Duration
	for _, n := range others {
		for text, at1 := range map[string]*time.Duration{"suspect": &suspected, "expired": &gone} {
			e := b.wait(from, n.String()+": n1 is "+text, func(e *books.Entry) bool {
				return e.Is == books.Peer && e.Node == n.id && e.Origin == victim.id && e.Text == text
			})
			*at1 = max(*at1, time.Duration(e.At-at.UnixNano()))
		}
	}
	// A heartbeat might have come just before, and peers are looked after once a heartbeat.
	for what, took := range map[string][2]time.Duration{"suspected": {suspected, 3}, "taken for dead": {gone, 6}} {
		least, most := (took[1]-1)*b.heartbeat, (took[1]+2)*b.heartbeat
		if took[0] < least-200*time.Millisecond || took[0] > most {
			b.Errorf("n1 was %s after %v, and should be between %v and %v", what, took[0], least, most)
		}
	}
	b.recovery = gone
	b.note = "suspected after " + figure(suspected)
	r := <-asked
	if r.Err == "" || r.N != int64(len(others)-1) || r.Took > deadline+300*time.Millisecond {
		b.Errorf("a request that waits for n1 ended after %v with %d answers: %s", r.Took, r.N, r.Err)
	}
	for _, n := range others {
		if events := b.peerEvents(from, n, victim.id); !slices.Equal(events, []string{"suspect", "expired"}) {
			b.Errorf("%s: n1 is %q", n, events)
		}
		if r, err := n.try(command{Do: "count", Room: room, Time: deadline}); err != nil || r.N != int64(len(others)) {
			b.Errorf("%s counts %d clients: %v", n, r.N, err)
		}
	}
	b.settle()
}

// closeNode closes n1, which has just emitted.
func closeNode(b *bed) {
	b.start()
	victim, others := b.nodes[0], b.nodes[1:]
	from := b.ledger.Len()
	b.fault("n1 closes")
	victim.do(command{Do: "stop"})
	last := victim.do(command{Do: "emit", Room: room, N: 500}).N
	if _, err := victim.try(command{Do: "close", Time: 5 * time.Second}); err != nil {
		b.Errorf("close: %v", err)
	}
	victim.end()
	closed := b.wait(from, "n1 has closed", func(e *books.Entry) bool { return e.Is == books.End }).At
	for _, n := range others {
		e := b.wait(from, n.String()+" knows", func(e *books.Entry) bool {
			return e.Is == books.Peer && e.Node == n.id && e.Origin == victim.id && e.Text == "left"
		})
		b.recovery = max(b.recovery, time.Duration(e.At-closed))
		if !b.await(patience, func(heard map[heardKey]int64) bool { return heard[heardKey{n.id, victim.id, room}] >= last }) {
			b.Errorf("%s did not get all of n1", n)
		}
	}
	if b.recovery > 100*time.Millisecond {
		b.Errorf("peers know after %v", b.recovery)
	}
	b.recovery = max(b.recovery, time.Millisecond)
	if b.count(func(e *books.Entry) bool { return e.Is == books.Shut && e.Text == string(crosscast.ReasonShutdown) }) != 1 {
		b.Error("the client of n1 was not told")
	}
	b.settle()
}

// pauseNode stops n1 for some heartbeats.
func pauseNode(b *bed, heartbeats int) {
	b.start()
	victim, others := b.nodes[0], b.nodes[1:]
	dead := heartbeats > 8
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{""}, Reasons: []string{"paused"}, Most: 1})
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{""}, Reasons: []string{"link lost"}, Most: 1})
	if dead {
		// The second one is when it returns.
		b.allow(books.Allow{Nodes: []string{"n2", "n3"}, Origins: []string{"n1"}, Reasons: []string{"peer lost"}, Most: 2})
	}
	b.allowLosses("n1")
	from := b.ledger.Len()
	worked := victim.stats().Worked
	mended := b.fault("SIGSTOP of n1")
	victim.pause()
	b.last(b.heartbeat)
	asked := others[0].send(command{Do: "ask", Time: 2 * b.heartbeat})
	b.last(time.Duration(heartbeats-1) * b.heartbeat)
	if r := <-asked; r.Err == "" || r.N != int64(len(others)-1) {
		b.Errorf("a request to a node that stands still: %d answers, %s", r.N, r.Err)
	}
	victim.resume()
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(2 * time.Second)
	for _, n := range others {
		events := strings.Join(b.peerEvents(from, n, victim.id), ", ")
		want := "suspect, alive"
		if dead {
			want = "suspect, expired, joined"
		}
		if events != want {
			b.Errorf("%s: n1 is %s", n, events)
		}
	}
	if now := victim.stats().Worked; dead && now != worked {
		b.Errorf("n1 has executed %d requests that nobody waits for", now-worked)
	}
	if n := b.count(func(e *books.Entry) bool { return e.Is == books.GapOf && e.Gap.Reason == "paused" }); dead && n != 1 {
		b.Errorf("n1 has reported %d gaps of its pause", n)
	}
}

// sameName starts a second n1.
func sameName(b *bed) {
	b.start()
	again := b.node("n1")
	again.do(command{Do: "stream", Room: room, Time: b.every})
	b.meet(b.ledger.Len())
	b.last(4 * b.heartbeat)
	for _, n := range b.nodes {
		want := []string{"n1", "n1", "n2", "n3"}
		i := slices.Index(want, n.config.Name)
		if got := n.stats().Peers; !slices.Equal(got, slices.Delete(want, i, i+1)) {
			b.Errorf("the peers of %s are %q", n, got)
		}
	}
	b.settle()
}

// restartNode kills n1, and starts another one.
func restartNode(b *bed) {
	b.start()
	old := b.nodes[0]
	b.allow(books.Allow{Origins: []string{"n1"}, Reasons: []string{"peer lost"}, Most: 1})
	from := b.ledger.Len()
	b.fault("SIGKILL of n1")
	old.kill()
	b.ledger.Add(books.Entry{Is: books.Gone, Node: old.id})
	began := time.Now()
	young := b.node("n1")
	young.do(command{Do: "stream", Room: room, Time: b.every})
	b.meet(b.ledger.Len())
	b.recovery = time.Since(began)
	for _, n := range b.nodes[1:3] {
		b.wait(from, fmt.Sprint(n, " takes the old n1 for dead"), func(e *books.Entry) bool {
			return e.Is == books.Peer && e.Node == n.id && e.Origin == old.id && e.Text == "expired"
		})
		if events := b.peerEvents(from, n, young.id); !slices.Equal(events, []string{"joined"}) {
			b.Errorf("%s: the new n1 is %q", n, events)
		}
	}
	b.settle()
	if n := b.count(func(e *books.Entry) bool { return e.Is == books.GapOf && e.Gap.Origin == young.id }); n > 0 {
		b.Errorf("there are %d gaps of the new n1", n)
	}
}

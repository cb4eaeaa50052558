package faults_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/faultproxy"
)

// A bed is one run of a row on one kind of server: its servers, its nodes and its ledger.
type bed struct {
	*testing.T
	row       *row
	kind      kind
	short     bool
	heartbeat time.Duration
	every     time.Duration // between two emissions of a node
	rand      *rand.Rand    // for all that is random: the same seed makes the same schedule
	ledger    *books.Ledger
	site      *site
	nodes     []*node
	keys      [][]byte // of the seal of nodes that are started from now on

	recovery time.Duration // that the row has measured itself; 0: the books measure it
	note     string        // for the table
	keepBase bool          // goroutines and memory are compared
	unproved string        // why the run shows less than the row says, for the table
	report   books.Report  // of the books, in the end
	past     books.Report  // of earlier rounds: see nextRound
	file     string        // of the ledger

	mu    sync.Mutex // guards what follows
	heard map[heardKey]int64
	seen  chan struct{} // closed when heard changes
}

// heardKey is a room's emissions of one node, at another.
type heardKey struct{ node, origin, room string }

// room is where rows emit, unless they need more.
const room = "room"

// newBed makes the bed of a run. Its ledger is in a directory that is kept if the run fails.
func newBed(t *testing.T, r *row, k kind, short bool, seed uint64) (b *bed, directory string) {
	b = &bed{T: t, row: r, kind: k, short: short, heartbeat: time.Second, keepBase: true}
	if short {
		b.heartbeat = r.heartbeat
	}
	b.rand = schedule(seed, r, k)
	b.every = pick(b, 10*time.Millisecond, 5*time.Millisecond)
	b.heard, b.seen = map[heardKey]int64{}, make(chan struct{})

	directory, err := os.MkdirTemp(*ledgers, fmt.Sprintf("faults-%s-%s-", r.name(), slug(k)))
	if err != nil {
		t.Fatal(err)
	}
	b.file = filepath.Join(directory, ledgerFile)
	run := &books.Run{Row: r.name(), Server: string(k), Heartbeat: b.heartbeat, Seed: seed, Short: short}
	if k.isPatchy() { // a message that its servers did not pass on is found by the fourth heartbeat after it
		run.Margin = 7 * b.heartbeat
	}
	b.open(run)
	return b, directory
}

// open begins a ledger, in the place of one before.
func (b *bed) open(r *books.Run) {
	file, err := os.Create(b.file)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() })
	l := books.NewLedger(file)
	l.Add(books.Entry{Is: books.Begin, Run: r})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger = l
}

// nextRound balances the ledger of a run that would have a very long one, and begins another. The nodes have settled.
func (b *bed) nextRound() {
	b.Helper()
	r := b.balance()
	b.past.Add(r)
	if len(r.Problems) > 0 {
		b.FailNow()
	}
	b.open(b.ledger.Entries()[0].Run)
	for _, n := range b.live() {
		b.ledger.Add(books.Entry{Is: books.Start, Node: n.id, Text: n.config.Name})
		for _, room := range n.config.Rooms {
			b.ledger.Add(books.Entry{Is: books.Join, Node: n.id, Room: room})
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, last := range b.heard {
		if slices.ContainsFunc(b.live(), func(n *node) bool { return n.id == key.node }) {
			b.ledger.Add(books.Entry{Is: books.Heard, Node: key.node, Origin: key.origin, Room: key.room, To: last})
		}
	}
}

// balance balances the ledger, and reports the problems.
func (b *bed) balance() books.Report {
	b.Helper()
	r := books.Balance(b.ledger.Entries())
	for _, p := range r.Problems {
		b.Error(p)
	}
	return r
}

// schedule is the source of all that is random in a run.
func schedule(seed uint64, r *row, k kind) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, r.name(), k)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// ledgerFile is the name of a ledger, in a directory of its own.
const ledgerFile = "ledger.jsonl"

func slug(k kind) string {
	s := []byte(k)
	for i, c := range s {
		if c == ' ' || c == ',' {
			s[i] = '-'
		}
	}
	return string(s)
}

// pick returns the first where the matrix is short, and the second where it is full.
func pick[T any](b *bed, short, full T) T {
	if b.short {
		return short
	}
	return full
}

// startSite runs the row's servers.
func (b *bed) startSite(config siteConfig) {
	b.Helper()
	b.site = startSite(b.T, b.kind, config)
}

// process starts a node's process, without its node.
func (b *bed) process(name string, change ...func(*childConfig)) *node {
	b.Helper()
	c := childConfig{
		Name: name, Heartbeat: b.heartbeat, Rooms: []string{room}, Dial: b.site.dial(len(b.nodes), nil), Keys: b.keys,
	}
	for _, f := range change {
		f(&c)
	}
	n := startNode(b.T, c, b.enter)
	b.nodes = append(b.nodes, n)
	return n
}

// node starts a node in a process of its own.
func (b *bed) node(name string, change ...func(*childConfig)) *node {
	b.Helper()
	return b.process(name, change...).start()
}

// start runs the row's servers, and its nodes n1, n2, …, which hear each other and emit to the room all the time.
func (b *bed) start(change ...func(*childConfig)) {
	b.Helper()
	b.startSite(siteConfig{})
	b.startNodes(change...)
}

// startNodes is start, where the servers run already.
func (b *bed) startNodes(change ...func(*childConfig)) {
	b.Helper()
	for i := range b.row.nodes {
		b.node(fmt.Sprint("n", i+1), change...)
	}
	b.traffic()
	b.meet(b.ledger.Len())
	for _, n := range b.nodes {
		n.base = n.stats()
	}
}

// traffic makes every node emit to the room.
func (b *bed) traffic() {
	for _, n := range b.live() {
		n.do(command{Do: "stream", Room: room, Time: b.every})
	}
}

// live returns the nodes that have not ended.
func (b *bed) live() (all []*node) {
	for _, n := range b.nodes {
		if n.id != "" && !n.hasEnded() {
			all = append(all, n)
		}
	}
	return all
}

// enter adds what a node tells to the ledger.
func (b *bed) enter(e books.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger.Add(e)
	if e.Is != books.Got {
		return
	}
	b.heard[heardKey{e.Node, e.Origin, e.Room}] = e.To
	close(b.seen)
	b.seen = make(chan struct{})
}

// await waits until what has been heard is enough.
func (b *bed) await(within time.Duration, enough func(heard map[heardKey]int64) bool) bool {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		done, seen := enough(b.heard), b.seen
		b.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-seen:
		case <-timeout.C:
			return false
		}
	}
}

// meet returns when every node that is there hears every other one in the room: something that came after the given entry.
func (b *bed) meet(from int) {
	b.Helper()
	b.meetIn(room, from)
}

// meetIn is meet in another room.
func (b *bed) meetIn(room string, from int) {
	b.Helper()
	if who, whom, ok := b.meetWithin(room, from, patience); !ok {
		b.Fatalf("%s does not hear %s", who, whom)
	}
}

func (b *bed) meetWithin(room string, from int, within time.Duration) (who, whom string, ok bool) {
	began := time.Now()
	until := began.Add(within)
	for _, n := range b.live() {
		for _, o := range b.live() {
			_, ok := b.ledger.Wait(from, time.Until(until), func(e *books.Entry) bool {
				// What was received before might be entered only now.
				return e.Is == books.Got && e.Node == n.id && e.Origin == o.id && e.Room == room && e.At > began.UnixNano()
			})
			if !ok {
				return n.config.Name, o.config.Name, false
			}
		}
	}
	return "", "", true
}

// fault enters that something is done now. The result enters that it is over.
func (b *bed) fault(format string, args ...any) (mended func()) {
	text := fmt.Sprintf(format, args...)
	b.ledger.Add(books.Entry{Is: books.Fault, Text: text})
	return func() { b.ledger.Add(books.Entry{Is: books.Mended, Text: text}) }
}

// allow permits gaps. Any other fails the row. Most is a number of outages of each of a node's links.
func (b *bed) allow(a books.Allow) {
	a.Most *= b.gapsOfAnOutage()
	b.ledger.Add(books.Entry{Is: books.Permit, Allow: &a})
	if b.kind != sharded && b.kind.isPatchy() && slices.Contains(a.Reasons, "link lost") {
		b.ledger.Add(books.Entry{Is: books.Permit, Allow: &books.Allow{Nodes: a.Nodes, Reasons: []string{"hole"}}})
	}
}

// gapsOfAnOutage is how many gaps a node might report when all its links were lost. With NATS, and in a Cluster, a message
// that was missed might belong to the outage, or have been lost between servers afterwards: that is up to two more gaps of
// everything, or a hole.
func (b *bed) gapsOfAnOutage() int {
	switch b.kind {
	case cluster, natsOne, natsMany:
		return 3
	case sharded: // one group's names more
		return 3
	}
	return b.kind.links()
}

// last waits, as part of what happens: a fault lasts, or traffic goes on.
func (b *bed) last(d time.Duration) { time.Sleep(d) } // lasts

// settle ends the traffic, and returns when each node has received what the others emitted last. Emissions might still be
// lost, so it makes more of them until that is so.
func (b *bed) settle() {
	b.Helper()
	b.settleIn(room)
}

func (b *bed) settleIn(rooms ...string) {
	b.Helper()
	for _, n := range b.live() {
		n.do(command{Do: "stop"})
	}
	for until := time.Now().Add(patience); ; {
		want, refused := map[heardKey]int64{}, false
		for _, o := range b.live() {
			for _, room := range rooms {
				r, err := o.try(command{Do: "emit", Room: room, N: 1})
				if err != nil { // its link is not back, and its queue is full
					refused = true
					continue
				}
				for _, n := range b.live() {
					if slices.Contains(n.config.Rooms, room) {
						want[heardKey{n.id, o.id, room}] = r.N
					}
				}
			}
		}
		var missing []heardKey
		if b.await(pick(b, 250*time.Millisecond, 2*time.Second), func(heard map[heardKey]int64) bool {
			missing = missing[:0]
			for key, n := range want {
				if heard[key] < n {
					missing = append(missing, key)
				}
			}
			return len(missing) == 0
		}) && !refused {
			return
		}
		if time.Now().After(until) {
			b.Fatalf("the nodes do not hear each other again: %+v", missing)
		}
	}
}

// recovered checks how long after the end of the faults, at most, every node had heard every other one.
func (b *bed) recovered(within time.Duration) {
	b.Helper()
	r := books.Balance(b.ledger.Entries())
	b.recovery = r.Recovery
	live := len(b.live())
	if want := live * (live - 1); r.Heard < want {
		b.Errorf("after the fault %d of %d pairs of nodes have heard each other", r.Heard, want)
	}
	if r.Recovery > within {
		b.Errorf("delivery was back after %v, and should be within %v", r.Recovery.Round(time.Millisecond), within)
	}
}

// wait waits for an entry.
func (b *bed) wait(from int, what string, match func(e *books.Entry) bool) books.Entry {
	b.Helper()
	e, ok := b.ledger.Wait(from, patience, match)
	if !ok {
		b.Fatalf("never: %s", what)
	}
	return e
}

// count is how many entries match.
func (b *bed) count(match func(e *books.Entry) bool) (n int) {
	for _, e := range b.ledger.Entries() {
		if match(&e) {
			n++
		}
	}
	return n
}

// proxies are those of one node, one before each server.
type proxies []*faultproxy.Proxy

// set sets faults on all connections.
func (p proxies) set(f faultproxy.Faults, directions ...faultproxy.Direction) {
	for _, one := range p {
		for _, d := range directions {
			one.Set(d, f)
		}
	}
}

// setOn sets faults on the connections that servers know by these addresses.
func (p proxies) setOn(addrs []string, d faultproxy.Direction, f faultproxy.Faults) (n int) {
	for _, one := range p {
		n += one.SetOn(addrs, d, f)
	}
	return n
}

func (p proxies) reset() {
	for _, one := range p {
		one.Reset()
	}
}

// proxied is a node's change that leads it to the servers through proxies of its own.
func (b *bed) proxied() (change func(*childConfig), proxies proxies) {
	for _, s := range b.site.servers {
		proxies = append(proxies, faultproxy.Start(b.T, s.Addr()))
	}
	return func(c *childConfig) { c.Dial = b.site.dial(len(b.nodes), proxies) }, proxies
}

const (
	moreGoroutines = 4
	moreFDs        = 4 // and see kind.moreFDs
	moreHeap       = 8 << 20
	baseWithin     = 20 * time.Second // go-redis ends what it has begun after about ten
)

// moreFDs is how many more files a node may have. In sharded mode each group of rooms publishes by itself, so go-redis keeps
// more connections to a master that has become another one.
func (k kind) moreFDs() int {
	if k == sharded {
		return moreFDs + 16
	}
	return moreFDs
}

// checkBase checks that the nodes need no more than they did before the fault.
func (b *bed) checkBase() {
	b.Helper()
	for _, n := range b.live() {
		if n.base == nil {
			continue
		}
		var now *childStats
		for until := time.Now().Add(baseWithin); time.Now().Before(until); b.last(100 * time.Millisecond) {
			now = n.stats()
			if now.Goroutines <= n.base.Goroutines+moreGoroutines && now.FDs <= n.base.FDs+b.kind.moreFDs() &&
				now.Heap <= n.base.Heap+moreHeap {
				now = nil
				break
			}
		}
		if now != nil {
			b.Errorf("%s has %d goroutines, %d files and %d bytes, and had %d, %d and %d", n, now.Goroutines, now.FDs,
				now.Heap, n.base.Goroutines, n.base.FDs, n.base.Heap)
		}
	}
}

// finish settles nothing: it checks the books, and what the nodes need. It is called after each row.
func (b *bed) finish() books.Report {
	b.Helper()
	if b.keepBase && !b.Failed() {
		b.checkBase()
	}
	for _, n := range b.live() {
		if s := n.stats(); s.Panics > 0 {
			b.Errorf("%s: %d panics", n, s.Panics)
		}
	}
	r := b.balance()
	r.Add(b.past)
	return r
}

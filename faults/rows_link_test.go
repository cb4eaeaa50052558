package faults_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/faultproxy"
)

var _ = register(
	&row{
		number: 0, fault: "none, for ten minutes", expect: "no gap, no loss, no peer is suspected", kinds: every, run: quiet,
	},
	&row{
		number: 1, fault: "Redis SIGKILL, restart after 3 s",
		expect: "no emission blocks for 2 s; delivery is back 1.5 s after the restart; one gap for each node",
		kinds:  []kind{resp2, resp3, withTLS, cluster, sharded, shards, natsOne, natsMany}, alone: true, run: redisRestart,
	},
	&row{
		number: 2, fault: "Redis is down at start",
		expect: "Start fails by its context, and leaves no goroutine; with StartOffline it works once Redis is there",
		kinds:  single, run: downAtStart,
	},
	&row{
		number: 3, fault: "Redis SIGSTOP, 30 s",
		expect: "no peer is taken for dead; the queue is bounded, then Emit fails; normal 2 s after SIGCONT; no copies",
		kinds:  []kind{resp2, resp3, withTLS, cluster, sharded, shards, natsOne, natsMany}, alone: true, run: redisPause,
	},
	&row{
		number: 4, part: "a", fault: "CLIENT KILL of the subscribing connections, 50 times",
		expect: "each link is back after 100 ms; one gap for each kill",
		kinds:  single, alone: true, run: killSubscribers,
	},
	&row{
		number: 4, part: "b", fault: "CLIENT KILL of a random subscribing connection at random moments, 50 times",
		expect: "gaps at its node only, at most one for each kill",
		kinds:  []kind{resp2, resp3, withTLS, sharded, shards, natsOne}, run: killAtRandom,
	},
	&row{
		number: 5, fault: "CLIENT KILL of one node's publishing connections, 50 times",
		expect: "nothing is lost, or it is an uncertain loss; gaps are of that node only; no copies",
		kinds:  single, run: killPublisher,
	},
	&row{
		number: 8, fault: "nothing arrives on a node's subscribing connection, which stands; publishing works",
		expect: "found within two heartbeats and 1 s; a new connection; a gap at that node only",
		kinds:  single, alone: true, run: halfOpen,
	},
	&row{
		number: 9, fault: "nothing passes on any connection of a node, and all stand",
		expect: "the link is not live within two heartbeats and 1 s (with NATS three); emissions fail or wait, and do not block; " +
			"only that node has gaps of all",
		kinds: single, alone: true, run: swallowed,
	},
)

// quiet has nothing happen.
func quiet(b *bed) {
	b.start()
	from := b.ledger.Len()
	b.last(pick(b, 8*time.Second, 10*time.Minute))
	b.settle()
	for _, e := range b.ledger.Entries()[from:] {
		if e.Is == books.Lost || e.Is == books.Peer || e.Is == books.Link && e.Text != "live" {
			b.Errorf("%s: %s %s", e.Node, e.Is, e.Text)
		}
	}
}

// allowLosses permits the gaps of what nodes could not publish for sure.
func (b *bed) allowLosses(origins ...string) {
	b.allow(books.Allow{Origins: origins, Reasons: []string{"loss"}, Rooms: []string{room}})
}

// redisRestart kills the servers, and starts them again.
func redisRestart(b *bed) {
	b.start()
	b.allow(books.Allow{Reasons: []string{"link lost"}, Origins: []string{""}, Most: 1})
	b.allowLosses()
	mended := b.fault("SIGKILL of Redis")
	b.site.kill()
	b.last(pick(b, 2*time.Second, 3*time.Second))
	b.site.restart()
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(1500 * time.Millisecond)
	b.notBlocked(2 * time.Second)
	b.gapsOfEach("link lost", 1)
}

// notBlocked checks that no call of Emit took longer.
func (b *bed) notBlocked(most time.Duration) {
	b.Helper()
	for _, n := range b.live() {
		if took := n.stats().Slowest; took > most {
			b.Errorf("%s: an Emit took %v", n, took)
		}
	}
}

// gapsOfEach checks that each node has reported gaps with a reason for so many outages.
func (b *bed) gapsOfEach(reason string, outages int) {
	b.Helper()
	for _, n := range b.live() {
		got := b.count(func(e *books.Entry) bool { return e.Is == books.GapOf && e.Node == n.id && e.Gap.Reason == reason })
		if got < outages || got > outages*b.gapsOfAnOutage() {
			b.Errorf("%s has reported %d gaps %q of %d outages", n, got, reason, outages)
		}
	}
}

// downAtStart starts nodes before Redis.
func downAtStart(b *bed) {
	b.startSite(siteConfig{})
	b.node("n1")
	b.site.kill()
	n := b.process("n2")
	before := n.stats()
	for range 3 {
		r, err := n.try(command{Do: "start", Time: 700 * time.Millisecond})
		if err == nil || r.Took > 1500*time.Millisecond {
			b.Errorf("Start, given 700 ms, returned after %v: %v", r.Took, err)
		}
	}
	var after *childStats
	for until := time.Now().Add(baseWithin); time.Now().Before(until); b.last(50 * time.Millisecond) {
		if after = n.stats(); after.Goroutines <= before.Goroutines+1 {
			break
		}
	}
	if after.Goroutines > before.Goroutines+1 {
		b.Errorf("Start has failed and left %d goroutines, and there were %d", after.Goroutines, before.Goroutines)
	}
	early := b.node("n3", func(c *childConfig) { c.StartOffline = true })
	if early.stats().Ready {
		b.Error("it is ready without Redis")
	}
	b.allow(books.Allow{Nodes: []string{"n1", "n3"}, Origins: []string{""}, Reasons: []string{"link lost"}, Most: 1, Loose: true})
	b.allowRestart()
	b.allowLosses()
	mended := b.fault("Redis is down")
	b.site.restart()
	mended()
	n.start()
	b.traffic()
	b.meet(b.ledger.Len())
	b.settle()
	if !b.soon(func() bool { return early.stats().Ready }) {
		b.Error("it is not ready with Redis")
	}
}

// allowRestart allows gaps of nodes that start when a Cluster has just restarted. Its masters answer before they are connected
// to each other, and pass nothing on until then.
func (b *bed) allowRestart() {
	b.Helper()
	if b.kind == cluster {
		b.allow(books.Allow{Origins: []string{""}, Reasons: []string{"link lost", "link deaf"}, Loose: true})
	}
}

// redisPause stops the servers for longer than messages wait.
func redisPause(b *bed) {
	const queue = 8 << 10
	b.start(func(c *childConfig) { c.QueueBytes = queue })
	b.allow(books.Allow{Reasons: []string{"link lost"}, Origins: []string{""}, Most: 1})
	b.allow(books.Allow{Reasons: []string{"loss"}, Rooms: []string{room}, Stood: true})
	mended := b.fault("SIGSTOP of Redis")
	b.site.pause()
	b.last(pick(b, 8*time.Second, 30*time.Second))
	for _, n := range b.live() {
		if q := n.stats().Queue; q > queue {
			b.Errorf("%s: %d bytes wait", n, q)
		}
	}
	b.site.resume()
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(2 * time.Second)
	for _, e := range b.ledger.Entries() {
		if e.Is == books.Peer && (e.Text == "expired" || e.Text == "left") {
			b.Errorf("%s: peer %s has %s", e.Node, e.Origin, e.Text)
		}
	}
	if b.count(func(e *books.Entry) bool { return e.Is == books.Sent && len(e.Failed) > 0 }) == 0 {
		b.Error("no Emit was refused, so the queue has no bound")
	}
}

// killSubscribers kills the subscribing connections, all at once. Between the kills they work for as long as it takes
// until the node connects again at once.
func killSubscribers(b *bed) {
	b.start()
	kills := pick(b, 5, 50)
	b.allow(books.Allow{Reasons: []string{"link lost"}, Origins: []string{""}, Most: kills})
	var took []time.Duration
	for range kills {
		b.last(time.Second + time.Duration(b.rand.IntN(300))*time.Millisecond)
		from := b.ledger.Len()
		mended := b.fault("CLIENT KILL TYPE pubsub")
		at := time.Now().UnixNano()
		b.site.endSubscribers()
		mended()
		for _, n := range b.live() {
			e := b.wait(from, "a gap of "+n.String(), func(e *books.Entry) bool {
				return e.Is == books.GapOf && e.Node == n.id
			})
			took = append(took, time.Duration(e.Gap.Until-at))
		}
	}
	b.settle()
	slices.Sort(took)
	b.recovery = took[len(took)-1]
	b.note = "median " + figure(took[len(took)/2])
	if b.recovery > 100*time.Millisecond {
		b.Errorf("a link was back after %v, the median is %v", b.recovery, took[len(took)/2])
	}
	b.gapsOfEach("link lost", kills)
}

// killAtRandom kills one subscribing connection at a time.
func killAtRandom(b *bed) {
	b.start()
	kills := pick(b, 12, 50)
	b.allow(books.Allow{Reasons: []string{"link lost"}, Origins: []string{""}, Most: kills})
	killed := 0
	for range kills {
		if all := b.site.subscribers(); len(all) > 0 {
			mended := b.fault("CLIENT KILL of a subscriber")
			killed += b.site.end(all[b.rand.IntN(len(all))])
			mended()
		}
		b.last(time.Duration(b.rand.IntN(300)) * time.Millisecond)
	}
	b.settle()
	if gaps := b.count(func(e *books.Entry) bool { return e.Is == books.GapOf }); gaps > killed*b.gapsOfAnOutage() || killed == 0 {
		b.Errorf("%d connections were killed, and there are %d gaps", killed, gaps)
	}
}

// killPublisher kills the connections over which one node publishes.
func killPublisher(b *bed) {
	b.start()
	victim := b.nodes[1]
	b.allowLosses(victim.config.Name)
	b.allow(books.Allow{Origins: []string{victim.config.Name}, Rooms: []string{room}, Reasons: []string{"hole"}})
	killed := 0
	for range pick(b, 15, 50) {
		mended := b.fault("CLIENT KILL of a publisher")
		killed += b.site.endOthersOf(victim.ports())
		mended()
		b.last(time.Duration(20+b.rand.IntN(200)) * time.Millisecond)
	}
	if killed == 0 {
		b.Error("no connection was killed")
	}
	b.settle()
	for _, e := range b.ledger.Entries() {
		if e.Is == books.Lost && !e.Loss.Uncertain {
			b.Errorf("%s: a loss %q", e.Node, e.Text)
		}
	}
}

// startProxied is start, with proxies between n1 and the servers.
func (b *bed) startProxied(change ...func(*childConfig)) proxies {
	b.Helper()
	b.startSite(siteConfig{})
	through, proxies := b.proxied()
	b.node("n1", append([]func(*childConfig){through}, change...)...)
	for i := range b.row.nodes - 1 {
		b.node(fmt.Sprint("n", i+2), change...)
	}
	b.traffic()
	b.meet(b.ledger.Len())
	for _, n := range b.nodes {
		n.base = n.stats()
	}
	return proxies
}

// ofRoom is the proxy through which a node gets what is emitted to the room.
func (b *bed) ofRoom(p proxies) *faultproxy.Proxy {
	b.Helper()
	switch {
	case b.kind.isNATS():
		return p[0]
	case b.kind != cluster:
		return p[redisBus{b.site}.carrying(ofRoom)]
	}
	for until := time.Now().Add(patience); time.Now().Before(until); b.last(time.Millisecond) { // a link is at any master
		subscribers := b.site.subscribers()
		for _, proxy := range p {
			if proxy.Carries(subscribers) > 0 {
				return proxy
			}
		}
	}
	b.Fatal("no proxy carries what is subscribed")
	return nil
}

// halfOpen swallows what Redis sends on a node's subscribing connection.
func halfOpen(b *bed) {
	proxy := b.ofRoom(b.startProxied())
	subscribers := b.site.subscribers
	if b.kind == sharded { // the master might also have the connection of what is for everyone
		subscribers = func() []string { return redisBus{b.site}.subscribersOf(ofRoom) }
	}
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{""}, Reasons: []string{"link lost"}, Most: 1})
	from, at := b.ledger.Len(), time.Now()
	mended := b.fault("the subscribing connection of n1 is half open")
	if n := proxy.SetOn(subscribers(), faultproxy.Down, faultproxy.Faults{Swallow: true}); n != 1 {
		b.Fatalf("%d connections are half open", n)
	}
	e := b.wait(from, "a gap of n1", func(e *books.Entry) bool { return e.Is == books.GapOf && e.Node == b.nodes[0].id })
	mended()
	b.recovery = time.Duration(e.Gap.Until - at.UnixNano())
	if most := 2*b.heartbeat + time.Second; b.recovery > most {
		b.Errorf("found after %v, and should be after %v", b.recovery, most)
	}
	b.settle()
}

// swallowed swallows everything on all connections of a node, and lets it pass again on new ones.
func swallowed(b *bed) {
	proxies := b.startProxied()
	n1 := b.nodes[0]
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{""}, Reasons: []string{"link lost"}, Most: 1})
	b.allow(books.Allow{Nodes: []string{"n1"}, Rooms: []string{room}, Reasons: []string{"hole"}}) // in the moment before the RST
	b.allow(books.Allow{Origins: []string{"n1"}, Reasons: []string{"peer lost"}, Most: 2})
	b.allowLosses("n1")
	from, at := b.ledger.Len(), time.Now()
	mended := b.fault("nothing passes between n1 and Redis")
	proxies.set(faultproxy.Faults{Swallow: true}, bothWays...)
	e := b.wait(from, "the link of n1 is not live", func(e *books.Entry) bool {
		return e.Is == books.Link && e.Node == n1.id && e.Text != "live"
	})
	found := time.Duration(e.At - at.UnixNano())
	most := 2*b.heartbeat + time.Second
	if b.kind.isNATS() { // a batch that hangs says nothing before its time-out of 5 s
		most += b.heartbeat
	}
	if found > most {
		b.Errorf("found after %v, and should be after %v", found, most)
	}
	b.note = "found after " + figure(found)
	b.last(8 * b.heartbeat)
	proxies.set(faultproxy.Faults{}, bothWays...)
	proxies.reset()
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.notBlocked(2 * time.Second)
}

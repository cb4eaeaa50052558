package faults_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
)

const (
	noSlots     = "there are no slots; rows 50 to 54 are about several servers"
	noSentinels = "there are no Sentinels; rows 35, 37c and 50 to 54 are about several servers"
	itsServers  = "a Cluster names its servers itself, so names lead to any of them"
	noRoles     = "the servers have no roles"
	notLooked   = "documented: this is not looked for, because a connection ends when its server does"
)

var _ = register(
	&row{
		number: 34, fault: "Cluster: the slot whose master carries all that is published moves to another master, under load",
		expect: "delivery is back after 2 s", kinds: []kind{cluster, sharded}, alone: true, run: slotMoves, not: otherwise(noSlots),
	},
	&row{
		number: 35, fault: "Cluster: SIGKILL of that master, which has a replica; the cluster's node time-out is 1.5 s",
		expect: "delivery is back after 4.5 s", kinds: []kind{cluster, sharded}, alone: true, run: shardDies, not: otherwise(noSlots),
	},
	&row{
		number: 36, fault: "Cluster: SIGKILL of two of three masters, restart after 5 s",
		expect: "no emission blocks for 2 s; the nodes recover alone", kinds: []kind{cluster, sharded}, run: clusterDown,
		not: otherwise(noSlots),
	},
	&row{
		number: 37, fault: "Sentinel: failover by command, and the old master goes on to answer until it is demoted",
		expect: "all nodes are at the new master, and hear each other, after 4 s",
		kinds:  []kind{sentinel}, alone: true, run: gracefulFailover, not: otherwise(noSentinels),
	},
	&row{
		number: 37, part: "c", fault: "Cluster: failover of that master by command, and it goes on as the replica of the new one",
		expect: "all nodes hear each other after 4 s; no emission blocks for 2 s",
		kinds:  []kind{cluster, sharded}, alone: true, fullOnly: true, run: clusterFailover, not: otherwise(noSlots),
	},
	&row{
		number: 38, fault: "Sentinel: SIGKILL of the master; Sentinel waits for 1 s (down-after)",
		expect: "delivery is back after 4 s", kinds: []kind{sentinel}, alone: true, run: masterDies, not: otherwise(noSentinels),
	},
	&row{
		number: 39, part: "a",
		fault: "a demoted master, at the same address, still answers one node, whose connections stand; the others are at the " +
			"new master, where new connections lead to",
		expect: "that node follows within 6 heartbeats and 2 s, with one gap", kinds: []kind{resp2, resp3}, alone: true,
		run: demotedMaster, not: map[kind]string{sharded: "row 37c is that of a Cluster", shards: asOneRedis, natsOne: noRoles, natsMany: noRoles},
	},
	&row{
		number: 39, part: "b",
		fault: "a name leads to another server, and one node stays at the old one, which goes on as a master, because its " +
			"connections stand",
		expect: "that node follows within 6 heartbeats and 2 s, with one gap", kinds: []kind{resp2, resp3}, alone: true,
		run: nameMoves,
		not: map[kind]string{sharded: itsServers, shards: asOneRedis, natsOne: notLooked, natsMany: notLooked},
	},
	&row{
		number: 39, part: "c", fault: "a name leads to another server, and the old one gets SIGKILL",
		expect: "delivery is back after 1.5 s", kinds: []kind{resp2, resp3, natsOne}, alone: true,
		run: nameMovesAtADeath, not: map[kind]string{sharded: itsServers, shards: asOneRedis},
	},
	&row{
		number: 42, fault: "a replica is given as the address",
		expect: "the nodes hear each other, no gap, and nothing changes while it goes on (documented: they do not hear nodes of " +
			"other servers)",
		kinds: []kind{resp2, resp3}, run: replicaAsAddress,
		not: map[kind]string{
			sharded: "any server of a Cluster leads to the masters", shards: asOneRedis, natsOne: noRoles, natsMany: noRoles},
	},
)

// allowMoves permits what a change of the server may cost nodes: gaps of everything at these nodes, and at all nodes gaps
// of what these nodes have emitted, because it is lost, or has come by another way after what was emitted later. Without
// nodes it is for all.
func (b *bed) allowMoves(most int, nodes ...string) {
	b.allow(books.Allow{Nodes: nodes, Reasons: []string{"link lost", "moved"}, Origins: []string{""}, Most: most})
	b.allow(books.Allow{Reasons: []string{"hole", "late"}, Origins: nodes, Rooms: []string{room}, Loose: true})
	b.allow(books.Allow{Reasons: []string{"peer lost", "loss"}, Origins: nodes, Loose: true})
}

// carrier is the server of the master that has the slot of the room's channel: with plain Pub/Sub, that of the nodes'
// prefix, through which all of them publish. key is in that slot.
func (b *bed) carrier() (server *redistest.Server, key string) {
	b.Helper()
	bus := redisBus{b.site}
	if b.kind != sharded {
		return b.site.redis[bus.anchor()], "cc"
	}
	at, key := bus.channel(ofRoom)
	return b.site.redis[at], key
}

// slotMoves moves the slot around.
func slotMoves(b *bed) {
	b.start()
	moves := pick(b, 2, 10)
	b.allowMoves(moves)
	all := b.site.cluster.Client()
	_, key := b.carrier()
	slot, err := all.ClusterKeySlot(b.Context(), key).Result()
	if err != nil {
		b.Fatal(err)
	}
	var slowest time.Duration
	for range moves {
		from, _ := b.carrier()
		var clients []*redis.Client // the new owner first
		for _, s := range b.site.redis {
			if c := redistest.Client(b.T, s.Options()); s != from {
				clients = append([]*redis.Client{c}, clients...)
			} else {
				clients = append(clients, c)
			}
		}
		id, err := clients[0].ClusterMyID(b.Context()).Result()
		if err != nil {
			b.Fatal(err)
		}
		mended := b.fault("the slot moves")
		began := time.Now()
		for _, c := range clients {
			if err := c.Do(b.Context(), "cluster", "setslot", slot, "node", id).Err(); err != nil {
				b.Fatal(err)
			}
		}
		mended()
		b.meet(b.ledger.Len())
		slowest = max(slowest, time.Since(began))
		b.last(time.Second)
		all.ReloadState(b.Context())
	}
	b.settle()
	b.recovery = slowest
	if slowest > 2*time.Second {
		b.Errorf("after a move delivery was back after %v", slowest)
	}
}

// shardDies kills a master that has a replica.
func shardDies(b *bed) {
	b.startSite(siteConfig{})
	masters := b.site.redis
	if b.short && b.kind != sharded {
		carrier, _ := b.carrier()
		masters = []*redistest.Server{carrier}
	}
	for i, replica := range b.site.cluster.Add(b.T, len(masters)) {
		b.site.cluster.Replicate(b.T, replica, masters[i])
	}
	b.site.redis = b.site.cluster.Servers
	b.site.list()
	b.startNodes()
	carrier, _ := b.carrier()
	b.allowMoves(2)
	mended := b.fault("SIGKILL of the master that carries the room")
	carrier.Kill()
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(1500*time.Millisecond + 3*time.Second)
	b.notBlocked(2 * time.Second)
}

// clusterFailover changes the roles of that master and its replica.
func clusterFailover(b *bed) {
	b.startSite(siteConfig{})
	masters := b.site.redis
	replicas := b.site.cluster.Add(b.T, len(masters))
	for i, replica := range replicas {
		b.site.cluster.Replicate(b.T, replica, masters[i])
	}
	b.site.redis = b.site.cluster.Servers
	b.site.list()
	b.startNodes()
	old, _ := b.carrier()
	next := redistest.Client(b.T, replicas[slices.Index(masters, old)].Options())
	b.allowMoves(2)
	began := time.Now()
	mended := b.fault("CLUSTER FAILOVER")
	if err := next.ClusterFailover(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
	if !b.soon(func() bool {
		role, err := next.Do(b.Context(), "role").Slice()
		return err == nil && role[0] == "master"
	}) {
		b.Fatal("the replica does not take over")
	}
	if b.kind == sharded { // otherwise they hear as much at the old one, which the others pass messages on to
		b.awaitSubscribers(next, len(b.live()))
	}
	mended()
	b.meet(b.ledger.Len())
	b.recovery = time.Since(began)
	if b.recovery > 4*time.Second {
		b.Errorf("all hear each other after %v", b.recovery)
	}
	b.last(5 * time.Second) // in which all look up the new master
	b.settle()
	b.notBlocked(2 * time.Second)
}

// clusterDown leaves a cluster without a majority for a while.
func clusterDown(b *bed) {
	b.start()
	b.allowMoves(3)
	mended := b.fault("two of three masters are down")
	for _, s := range b.site.redis[:2] {
		s.Kill()
	}
	b.last(5 * time.Second)
	for _, s := range b.site.redis[:2] {
		s.Restart()
	}
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(10 * time.Second)
	b.notBlocked(2 * time.Second)
}

// gracefulFailover changes the roles of a master and its replica.
func gracefulFailover(b *bed) {
	b.start()
	b.allowMoves(2)
	next := redistest.Client(b.T, b.site.pair.Replica.Options())
	began := time.Now()
	mended := b.fault("SENTINEL FAILOVER")
	b.site.pair.Failover()
	b.awaitSubscribers(next, len(b.live()))
	mended()
	b.meet(b.ledger.Len())
	b.recovery = time.Since(began)
	if b.recovery > 4*time.Second {
		b.Errorf("the nodes were at the new master after %v", b.recovery)
	}
	b.settle()
}

// awaitSubscribers returns when so many connections subscribe at a server.
func (b *bed) awaitSubscribers(server *redis.Client, want int) {
	b.Helper()
	for until := time.Now().Add(patience); ; b.last(10 * time.Millisecond) {
		list, err := server.Do(b.Context(), "client", "list", "type", "pubsub").Text()
		if err != nil {
			b.Fatal(err)
		}
		if countNodes(list) >= want {
			return
		}
		if time.Now().After(until) {
			b.Fatalf("the nodes do not come to the new server:\n%s", list)
		}
	}
}

// countNodes is how many of the connections have more than two subscriptions: Sentinels and replicas have not.
func countNodes(list string) (n int) {
	for line := range strings.Lines(list) {
		var subscriptions int
		for field := range strings.FieldsSeq(line) {
			for _, kind := range []string{"sub=", "ssub="} {
				if text, ok := strings.CutPrefix(field, kind); ok {
					subscriptions += int(parse(text))
				}
			}
		}
		if subscriptions > 2 {
			n++
		}
	}
	return n
}

// masterDies kills a master that Sentinel replaces.
func masterDies(b *bed) {
	b.start()
	b.allowMoves(2)
	mended := b.fault("SIGKILL of the master")
	b.site.pair.Master.Kill()
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(time.Second + 3*time.Second)
	b.notBlocked(2 * time.Second)
}

// startAtMaster starts nodes n1, n2, …, each as change has it, and a replica of their server.
func (b *bed) startAtMaster(change func(i int) func(*childConfig)) (master, replica *redistest.Server) {
	b.Helper()
	b.startSite(siteConfig{redis: redistest.Config{Args: []string{"--repl-diskless-sync-delay", "0"}}})
	master = b.site.redis[0]
	replica = redistest.StartReplica(b.T, master)
	for i := range b.row.nodes {
		b.node(fmt.Sprint("n", i+1), change(i))
	}
	b.traffic()
	b.meet(b.ledger.Len())
	for _, n := range b.nodes {
		n.base = n.stats()
	}
	return master, replica
}

// follows checks that n1, which its peers have left, follows them to another server.
func (b *bed) follows(mended func()) {
	b.Helper()
	n1 := b.nodes[0].id
	began, from := time.Now(), b.ledger.Len()
	b.wait(from, "a gap of n1, because it has moved", func(e *books.Entry) bool {
		return e.Is == books.GapOf && e.Node == n1 && e.Gap.Reason == "moved"
	})
	mended()
	b.meet(b.ledger.Len())
	b.recovery = time.Since(began)
	if most := 6*b.heartbeat + 2*time.Second; b.recovery > most {
		b.Errorf("n1 has followed after %v, and should after %v", b.recovery, most)
	}
	b.settle()
}

// demotedMaster leaves n1 at a master that has become a replica.
func demotedMaster(b *bed) {
	var proxies []*faultproxy.Proxy
	old, next := b.startAtMaster(func(int) func(*childConfig) {
		change, own := b.proxied()
		proxies = append(proxies, own...)
		return change
	})
	b.allowMoves(1, "n1")
	b.allow(books.Allow{Nodes: []string{"n2", "n3"}, Reasons: []string{"link lost"}, Origins: []string{""}, Most: 1})
	mended := b.fault("the master is demoted, and n1 stays")
	next.Promote()
	old.Demote(next)
	for i, p := range proxies {
		p.Lead(next.Addr())
		if i > 0 {
			p.Reset()
		}
	}
	b.follows(mended)
}

// named has a node find its server by a name.
func (b *bed) named(int) func(*childConfig) {
	const name = "redis.example:6379"
	return func(c *childConfig) {
		c.Dial.Instead = map[string]string{name: c.Dial.Addrs[0]}
		c.Dial.Addrs = []string{name}
	}
}

// redirect makes new connections of all nodes lead to another server.
func (b *bed) redirect(from, to server) {
	for _, n := range b.live() {
		n.do(command{Do: "redirect", Room: from.Addr(), Text: to.Addr()})
	}
}

// nameMoves leaves n1 at a server that its peers have left.
func nameMoves(b *bed) {
	old, next := b.startAtMaster(b.named)
	stays := b.nodes[0].ports()
	b.allowMoves(1)
	mended := b.fault("the name leads elsewhere, and n1 stays")
	next.Promote()
	b.redirect(old, next)
	admin := redistest.Client(b.T, old.Options())
	list, err := admin.ClientList(b.Context()).Result()
	if err != nil {
		b.Fatal(err)
	}
	for field := range strings.FieldsSeq(list) {
		if addr, ok := strings.CutPrefix(field, "addr="); ok && !stays[addr] {
			_ = admin.ClientKillByFilter(b.Context(), "addr", addr, "skipme", "yes").Err()
		}
	}
	b.follows(mended)
}

// nameMovesAtADeath kills a server, whose name leads to another one.
func nameMovesAtADeath(b *bed) {
	var old, next server
	if b.kind.isNATS() {
		b.startSite(siteConfig{})
		b.startNodes(b.named(0))
		old, next = b.site.servers[0], startNATS(b.T, natsConfig{})
	} else {
		master, replica := b.startAtMaster(b.named)
		replica.Promote()
		old, next = master, replica
	}
	b.allowMoves(1)
	mended := b.fault("the name leads elsewhere, and the old server is killed")
	b.redirect(old, next)
	old.Kill()
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(1500 * time.Millisecond)
	b.notBlocked(2 * time.Second)
}

// replicaAsAddress runs nodes at a replica.
func replicaAsAddress(b *bed) {
	b.startSite(siteConfig{redis: redistest.Config{Args: []string{"--repl-diskless-sync-delay", "0"}}})
	replica := redistest.StartReplica(b.T, b.site.redis[0])
	b.startNodes(func(c *childConfig) { c.Dial.Addrs = []string{replica.Addr()} })
	b.last(pick(b, 10*b.heartbeat, time.Minute))
	b.settle()
	for _, n := range b.live() {
		if r := n.stats().Reconnects; r > 0 {
			b.Errorf("%s has connected again %d times", n, r)
		}
	}
}

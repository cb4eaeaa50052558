package faults_test

import (
	"flag"
	"fmt"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/faultproxy"
)

var soakFor = flag.Duration("for", 0, "how long row 46 lasts; default 10 s in the short matrix, 30 minutes in the full one")

var _ = register(&row{
	number: 46, fault: "random faults of the rows 1 to 16, one after the other, for 30 minutes",
	expect: "the books balance in every round; goroutines, memory and files stay flat",
	kinds:  []kind{resp2, sharded, shards, natsOne}, nodes: 5, run: soak,
})

// upheaval is one fault of the soak. It returns when the fault is over.
type upheaval struct {
	name string
	do   func(s *soaking)
}

// soaking is a soak that runs. Each node reaches Redis through a proxy of its own.
type soaking struct {
	*bed
	proxies map[*node]proxies
	born    int
}

func soak(b *bed) {
	b.every = 20 * time.Millisecond
	b.startSite(siteConfig{})
	s := &soaking{bed: b, proxies: map[*node]proxies{}}
	for range b.row.nodes {
		s.bear()
	}
	b.traffic()
	b.meet(b.ledger.Len())
	b.settle()
	for _, n := range b.live() {
		n.base = n.stats()
	}
	lasts := pick(b, 10*time.Second, 30*time.Minute)
	if *soakFor > 0 {
		lasts = *soakFor
	}
	rounds, done := 0, map[string]int{}
	for began := time.Now(); time.Since(began) < lasts; rounds++ {
		b.nextRound()
		b.allow(books.Allow{Reasons: []string{"link lost", "link deaf", "paused", "peer lost", "hole", "late"}})
		b.allow(books.Allow{Reasons: []string{"loss"}, Rooms: []string{room}, Stood: true})
		b.traffic()
		if b.kind.isPatchy() { // a gap might begin so much earlier, and the ledger does not have the fault before
			b.last(8 * b.heartbeat)
		}
		u := upheavals[b.rand.IntN(len(upheavals))]
		done[u.name]++
		u.do(s)
		b.meet(b.ledger.Len())
		b.last(time.Duration(b.rand.IntN(500)) * time.Millisecond)
		b.settle()
	}
	b.note = fmt.Sprintf("%d faults, %d kinds, in %v", rounds, len(done), lasts)
	b.Logf("%d rounds: %v", rounds, done)
}

// bear starts one more node.
func (s *soaking) bear() *node {
	s.born++
	change, proxies := s.proxied()
	n := s.node(fmt.Sprint("n", s.born), change)
	s.proxies[n] = proxies
	return n
}

// replace starts a node in the place of one that has ended.
func (s *soaking) replace(old *node) {
	delete(s.proxies, old)
	young := s.bear()
	young.do(command{Do: "stream", Room: room, Time: s.every})
	s.last(8 * s.heartbeat) // until the old one is forgotten
	young.base = young.stats()
}

func (s *soaking) one() *node {
	all := s.live()
	return all[s.rand.IntN(len(all))]
}

// through has faults at a node's proxy for a while.
func (s *soaking) through(what string, f faultproxy.Faults, lasts time.Duration, reset bool) {
	n := s.one()
	mended := s.fault("%s: %s", n.config.Name, what)
	s.proxies[n].set(f, bothWays...)
	s.last(lasts)
	s.proxies[n].set(faultproxy.Faults{}, bothWays...)
	if reset {
		s.proxies[n].reset()
	}
	mended()
}

// upTo is a random time.
func (s *soaking) upTo(d time.Duration) time.Duration { return time.Duration(s.rand.Int64N(int64(d))) }

var upheavals = []upheaval{
	{"Redis is killed", func(s *soaking) {
		mended := s.fault("SIGKILL of Redis")
		s.site.kill()
		s.last(s.upTo(3 * time.Second))
		s.site.restart()
		mended()
	}},
	{"Redis is stopped", func(s *soaking) {
		mended := s.fault("SIGSTOP of Redis")
		s.site.pause()
		s.last(s.upTo(8 * time.Second))
		s.site.resume()
		mended()
	}},
	{"subscribers are killed", func(s *soaking) {
		mended := s.fault("CLIENT KILL TYPE pubsub")
		s.site.endSubscribers()
		mended()
	}},
	{"publishers are killed", func(s *soaking) {
		mended := s.fault("CLIENT KILL TYPE normal")
		s.site.endOthers()
		mended()
	}},
	{"a link is half open", func(s *soaking) {
		n := s.one()
		mended := s.fault("%s is half open", n.config.Name)
		from := s.ledger.Len()
		s.proxies[n].setOn(s.site.subscribers(), faultproxy.Down, faultproxy.Faults{Swallow: true})
		s.wait(from, "a gap", func(e *books.Entry) bool { return e.Is == books.GapOf && e.Node == n.id })
		mended()
	}},
	{"all is swallowed", func(s *soaking) {
		s.through("nothing passes", faultproxy.Faults{Swallow: true}, s.upTo(3*time.Second), true)
	}},
	{"a connection is cut", func(s *soaking) {
		s.through("cut", faultproxy.Faults{CutAfter: 1 + s.rand.IntN(500), Reset: true}, s.upTo(time.Second), false)
	}},
	{"latency", func(s *soaking) {
		s.through("latency", faultproxy.Faults{Delay: s.upTo(150 * time.Millisecond)}, s.upTo(3*time.Second), false)
	}},
	{"low bandwidth", func(s *soaking) {
		s.through("bandwidth", faultproxy.Faults{Rate: 32 << 10}, s.upTo(3*time.Second), false)
	}},
	{"fragments", func(s *soaking) {
		s.through("fragments", faultproxy.Faults{Split: 3}, s.upTo(2*time.Second), false)
	}},
	{"a node is killed", func(s *soaking) {
		n := s.one()
		s.fault("SIGKILL of %s", n.config.Name)
		n.kill()
		s.ledger.Add(books.Entry{Is: books.Gone, Node: n.id})
		s.replace(n)
	}},
	{"a node closes", func(s *soaking) {
		n := s.one()
		mended := s.fault("%s closes", n.config.Name)
		n.do(command{Do: "close", Time: 5 * time.Second})
		n.end()
		mended()
		s.replace(n)
	}},
	{"a node is stopped", func(s *soaking) {
		n := s.one()
		mended := s.fault("SIGSTOP of %s", n.config.Name)
		n.pause()
		s.last(s.upTo(20 * s.heartbeat))
		n.resume()
		mended()
	}},
}

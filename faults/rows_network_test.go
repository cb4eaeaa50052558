package faults_test

import (
	"fmt"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/faultproxy"
)

var _ = register(
	&row{
		number: 10, fault: "RST in the middle of what a node receives: after byte 1, 2, 3, … of a frame",
		expect: "no panic, no part of a message is delivered, a gap, delivery resumes",
		kinds:  single, alone: true, run: resets, // peers miss heartbeats, and their gaps are measured
	},
	&row{
		number: 11, fault: "latency of 200 ms ± 50 ms between a node and Redis", heartbeat: time.Second,
		expect: "no gap; order is kept; a burst arrives at 80 % of the speed without it",
		kinds:  single, alone: true, run: latency,
	},
	&row{
		number: 12, heartbeat: time.Second,
		fault:  "256 kbit/s from a node to Redis, and frames of 512 KiB full of protocol; go-redis waits for 1 minute",
		expect: "what Emit accepts arrives or is reported, and nothing else does; Emit waits, and ends with its context",
		kinds:  single, run: bandwidth,
	},
	&row{
		number: 13, fault: "everything between a node and Redis comes in pieces of 1 to 3 bytes",
		expect: "all is delivered, no gap", kinds: single, alone: true, run: fragments,
	},
)

var bothWays = []faultproxy.Direction{faultproxy.Up, faultproxy.Down}

// resets cuts what Redis sends after a number of bytes that rises.
func resets(b *bed) {
	proxies := b.startProxied()
	cuts := pick(b, 15, 150)
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{""}, Reasons: []string{"link lost"}, Most: cuts})
	b.allow(books.Allow{Origins: []string{"n1"}, Reasons: []string{"peer lost"}})
	b.allowLosses("n1")
	for i := range cuts {
		from := b.ledger.Len()
		n := 1 + i*pick(b, 10, 1)
		mended := b.fault("RST after byte %d", n)
		proxies.set(faultproxy.Faults{}, faultproxy.Down)
		b.ofRoom(proxies).Set(faultproxy.Down, faultproxy.Faults{CutAfter: n, Reset: true})
		// The byte might be one of the publishing connection, which is a loss then, or nothing.
		b.ledger.Wait(from, 4*b.heartbeat, func(e *books.Entry) bool {
			return e.Node == b.nodes[0].id && (e.Is == books.GapOf || e.Is == books.Lost)
		})
		mended()
		b.meet(b.ledger.Len())
	}
	b.settle()
	if b.count(func(e *books.Entry) bool { return e.Is == books.GapOf }) == 0 {
		b.Error("no connection was cut")
	}
}

// latency delays both directions, for a node that emits and one that receives.
func latency(b *bed) {
	proxies := b.startProxied()
	direct := b.burst()
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			proxies.set(faultproxy.Faults{Delay: time.Duration(75+b.rand.IntN(50)) * time.Millisecond}, faultproxy.Up)
			proxies.set(faultproxy.Faults{Delay: time.Duration(75+b.rand.IntN(50)) * time.Millisecond}, faultproxy.Down)
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	b.traffic()
	b.last(pick(b, 5*time.Second, 30*time.Second))
	delayed := b.burst()
	close(done)
	<-ended
	proxies.set(faultproxy.Faults{}, bothWays...)
	b.settle()
	// The first of a burst is late by the latency, and the last no later for it.
	limited := delayed - 250*time.Millisecond
	b.note = fmt.Sprintf("a burst took %s instead of %s", figure(delayed), figure(direct))
	if limited > direct*5/4+100*time.Millisecond {
		b.Errorf("a burst takes %v with the latency, and %v without", delayed, direct)
	}
	for _, n := range b.nodes {
		if s := n.stats(); s.Reconnects > 0 {
			b.Errorf("%s connected again", n)
		}
	}
}

// burst is how long a burst of n1 takes until n2 has it.
func (b *bed) burst() time.Duration {
	b.Helper()
	for _, n := range b.live() {
		n.do(command{Do: "stop"})
	}
	began := time.Now()
	last := b.nodes[0].do(command{Do: "emit", Room: room, N: 20_000}).N
	if !b.await(patience, func(heard map[heardKey]int64) bool {
		return heard[heardKey{b.nodes[1].id, b.nodes[0].id, room}] >= last
	}) {
		b.Fatal("a burst does not arrive")
	}
	return time.Since(began)
}

// bandwidth slows what a node sends.
func bandwidth(b *bed) {
	frame, frames := pick(b, 64<<10, 512<<10), pick(b, 6, 12)
	if !b.short { // a frame takes longer than PublishTimeout allows, and than n1's heartbeats
		b.allow(books.Allow{Origins: []string{"n1"}, Reasons: []string{"peer lost", "late", "loss"}})
		b.allowLosses("n1")
	}
	proxies := b.startProxied(func(c *childConfig) {
		c.QueueBytes = pick(b, 256<<10, 2<<20)
		if b.kind == sharded { // a quarter is for the room's group
			c.QueueBytes *= 4
		}
		c.Dial.ReadAfter = time.Minute
	})
	n1 := b.nodes[0]
	n1.do(command{Do: "stop"})
	mended := b.fault("256 kbit/s from n1")
	proxies.set(faultproxy.Faults{Rate: 32 << 10}, faultproxy.Up)
	waited := 0
	for range frames {
		// Where there is no room in the queue, Emit waits for it, for as long as its context lasts.
		if _, err := n1.try(command{Do: "emit", Room: room, N: 1, Size: frame, Time: 200 * time.Millisecond}); err != nil {
			waited++
		}
	}
	accepted := n1.do(command{Do: "emit", Room: room, N: 1}).N
	if !b.short {
		b.last(patience)
	} else if !b.await(time.Duration(frames*frame/(32<<10)+30)*time.Second, func(heard map[heardKey]int64) bool {
		return heard[heardKey{b.nodes[1].id, n1.id, room}] >= accepted
	}) {
		b.Error("what was accepted does not arrive")
	}
	proxies.set(faultproxy.Faults{}, faultproxy.Up)
	mended()
	b.settle()
	if waited == 0 {
		b.Error("no Emit had to wait")
	}
	b.note = fmt.Sprintf("%d of %d emissions were refused in time", waited, frames)
	for _, n := range b.nodes {
		if s := n.stats(); s.Dropped["malformed"]+s.Dropped["foreign"] > 0 {
			b.Errorf("%s: dropped %v", n, s.Dropped)
		}
	}
}

// fragments splits both directions.
func fragments(b *bed) {
	b.every = 50 * time.Millisecond // each byte is a call of the proxy, which must keep up
	proxies := b.startProxied()
	for _, size := range []int{1, 2, 3} {
		proxies.set(faultproxy.Faults{Split: size}, bothWays...)
		b.last(pick(b, time.Second, 5*time.Second))
	}
	b.settle()
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// W6: 100,000 rooms on one node, until all are confirmed.
func subscriptions() []workload {
	return []workload{{
		name: "W6", title: "100,000 rooms joined on one node, until all are confirmed",
		most:    5,
		config:  config{N: 100_000},
		metrics: []metric{{"ms", "ms", 0, true}, {"cpu", "µs of CPU a room", 2, true}, {"bytes", "bytes a room", 0, true}},
		contestants: []contestant{
			{name: ownName, what: "**crosscast**: one `Join`", roles: solo(joinAll)},
			{name: "connects", what: "**crosscast**: a `Connect` each, from 1,024 goroutines", roles: solo(connectAll)},
			{name: "raw", what: "limit: a plain connection, 512 names a SUBSCRIBE", roles: solo(subscribeRaw)},
			{name: "waits", what: "limit: 1,024 goroutines wait for each name", roles: solo(waitForEach)},
		},
		goals:   []goal{{"ms", "raw", true, 3, ""}, {"ms", "raw", true, 4, "connects"}, {"ms", "raw", true, 4, "waits"}},
		measure: alone,
	}}
}

func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers have released
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("room-", i)
	}
	return names
}

// once measures the time of a function, and the CPU that it takes and the memory that it leaves for each room.
func once(p *proc, f func() error) func(span time.Duration) (values, error) {
	return func(time.Duration) (values, error) {
		before := heap()
		began, used := time.Now(), cpu()
		err := f()
		d, used := time.Since(began), cpu()-used
		n := float64(p.N)
		return values{"ms": float64(d) / 1e6, "cpu": used * 1e6 / n, "bytes": (heap() - before) / n}, err
	}
}

func joinAll(p *proc) (func(span time.Duration) (values, error), error) {
	ctx := context.Background()
	node, err := startNode(p)
	if err != nil {
		return nil, err
	}
	s, err := node.Connect(ctx, &cacheLine{}, crosscast.ConnectOptions{})
	names := manyNames(p.N)
	return once(p, func() error { return s.Join(ctx, names...) }), err
}

func connectAll(p *proc) (func(span time.Duration) (values, error), error) {
	node, err := startNode(p)
	if err != nil {
		return nil, err
	}
	names := manyNames(p.N)
	return once(p, func() error {
		eachName(names, func(name string) {
			_, err := node.Connect(context.Background(), &cacheLine{}, crosscast.ConnectOptions{Rooms: []string{name}})
			if err != nil {
				p.fail(err)
			}
		})
		return nil
	}), nil
}

func subscribeRaw(p *proc) (func(span time.Duration) (values, error), error) {
	conn, err := net.Dial("tcp", p.Redis)
	if err != nil {
		return nil, err
	}
	names := manyNames(p.N)
	return once(p, func() error {
		failed := make(chan error, 1)
		go func() { failed <- subscribe(conn, names) }()
		if err := confirmed(bufio.NewReaderSize(conn, 256<<10), len(names)); err != nil {
			return err
		}
		return <-failed
	}), nil
}

// subscribe writes SUBSCRIBE commands.
func subscribe(conn net.Conn, names []string) error {
	var command []byte
	for some := range slices.Chunk(names, 512) {
		command = fmt.Appendf(command[:0], "*%d\r\n$9\r\nSUBSCRIBE\r\n", 1+len(some))
		for _, name := range some {
			command = fmt.Appendf(command, "$%d\r\n%s\r\n", len(name), name)
		}
		if _, err := conn.Write(command); err != nil {
			return err
		}
	}
	return nil
}

// confirmed reads the confirmations of so many names.
func confirmed(br *bufio.Reader, names int) error {
	for n := 0; n < names; {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte(":")) { // the last line of a confirmation
			n++
		}
	}
	return nil
}

// waitForEach is what Connect does at least: enter a room in a map, and wait until it is subscribed. What many goroutines
// want at the same time shares a batch, and one batch is under way.
func waitForEach(p *proc) (func(span time.Duration) (values, error), error) {
	conn, err := net.Dial("tcp", p.Redis)
	if err != nil {
		return nil, err
	}
	type batch struct {
		names []string
		done  chan struct{}
	}
	var mu sync.Mutex
	rooms := map[string]*[256]byte{}
	next := &batch{done: make(chan struct{})}
	wake := make(chan struct{}, 1)
	names := manyNames(p.N)
	go func() {
		br := bufio.NewReaderSize(conn, 256<<10)
		for range wake {
			mu.Lock()
			b := next
			next = &batch{done: make(chan struct{})}
			mu.Unlock()
			if err := errors.Join(subscribe(conn, b.names), confirmed(br, len(b.names))); err != nil {
				p.fail(err)
			}
			close(b.done)
		}
	}()
	return once(p, func() error {
		eachName(names, func(name string) {
			mu.Lock()
			rooms[name] = new([256]byte)
			b := next
			b.names = append(b.names, name)
			mu.Unlock()
			select {
			case wake <- struct{}{}:
			default:
			}
			<-b.done
		})
		runtime.KeepAlive(rooms)
		return nil
	}), nil
}

// eachName calls f for each name, from 1,024 goroutines.
func eachName(names []string, f func(name string)) {
	const goroutines = 1024
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < len(names); i += goroutines {
				f(names[i])
			}
		})
	}
	wg.Wait()
}

// W7: nodes in a ring. Each emits to a room of its own, which only the next one has joined. The load of each node is the same,
// or that of all.
func scaleOut() []workload {
	var all []workload
	for _, c := range []struct {
		name, title string
		rate        func(n int) float64 // of all
	}{
		{"node", "nodes with disjoint rooms, 2,000 messages a second each", func(n int) float64 { return 2000 * float64(n) }},
		{"total", "nodes with disjoint rooms, 20,000 messages a second in all", func(int) float64 { return 20_000 }},
	} {
		w := workload{
			name: "W7-" + c.name, title: c.title,
			config:  config{Size: 128, Window: 16 << 10, Tick: 5 * time.Millisecond},
			metrics: []metric{{"cpu", "µs of CPU a message, all nodes", 2, true}},
			measure: ring,
		}
		for _, n := range []int{2, 4, 8, 16} {
			name, by := fmt.Sprintf("nodes-%d", n), fmt.Sprintf("goredis-%d", n)
			if n == 2 {
				name = ownName
			} else if c.name == "node" {
				w.goals = append(w.goals, goal{"cpu", ownName, true, 1.15, name})
			}
			set := func(p *config) { p.N, p.Rate = n, c.rate(n) }
			w.contestants = append(w.contestants, contestant{
				name: name, what: fmt.Sprintf("**crosscast**: %d nodes", n), set: set,
				roles: map[string]role{"node": ringNode(ringOwn)},
			})
			if c.name == "total" {
				w.goals = append(w.goals, goal{"cpu", by, true, 1.1, name})
				w.contestants = append(w.contestants, contestant{
					name: by, what: fmt.Sprintf("go-redis, pipelines: %d processes", n), set: set,
					roles: map[string]role{"node": ringNode(ringGoRedis)},
				})
			}
		}
		all = append(all, w)
	}
	return all
}

//go:build unix

package redisadapter_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// The figures of docs/scale.md about Options.Sharded. CPU times do not depend much on what else the machine does.

// usage is what a server has done.
type usage struct {
	cpu      time.Duration
	messages int
	reads    int // of sockets: about one a batch
}

// usageOf returns what a server has done so far.
func usageOf(b *testing.B, admin *redis.Client) (u usage) {
	b.Helper()
	text, err := admin.Info(b.Context(), "cpu", "stats", "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "used_cpu_user", "used_cpu_sys":
			s, _ := strconv.ParseFloat(value, 64)
			u.cpu += time.Duration(s * float64(time.Second))
		case "total_reads_processed":
			u.reads, _ = strconv.Atoi(value)
		case "cmdstat_publish", "cmdstat_spublish":
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			n, _ := strconv.Atoi(calls)
			u.messages += n
		}
	}
	return u
}

// benchPair starts two nodes; the second one hears rooms and counts.
func benchPair(b *testing.B, adapter func() crosscast.Adapter, rooms []string) (from *crosscast.Node, heard *atomic.Int64) {
	b.Helper()
	heard = new(atomic.Int64)
	var nodes [2]*crosscast.Node
	for i := range nodes {
		n, err := crosscast.Start(b.Context(), crosscast.Options{Adapter: adapter()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = n.Close(context.WithoutCancel(b.Context())) })
		nodes[i] = n
	}
	_, err := nodes[1].Subscribe(b.Context(), crosscast.Receiver{
		OnMessage: func(*crosscast.Subscription, *crosscast.Message) { heard.Add(1) },
	}, rooms...)
	if err != nil {
		b.Fatal(err)
	}
	return nodes[0], heard
}

func benchRooms(n int) (rooms []string) {
	for i := range n {
		rooms = append(rooms, fmt.Sprint("room", i))
	}
	return rooms
}

// emitInParts emits to all rooms, so many at a time, for some rounds. It waits until a round was heard before the next one,
// because a subscription that is too far behind drops messages.
func emitInParts(b *testing.B, from *crosscast.Node, heard *atomic.Int64, rooms []string, at, rounds int) {
	b.Helper()
	payload := strings.Repeat("x", 200)
	for range rounds {
		before := heard.Load()
		for k := 0; k < len(rooms); k += at {
			for _, room := range rooms[k:min(k+at, len(rooms))] {
				if err := from.To(room).Emit(b.Context(), "said", payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := from.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		for began := time.Now(); heard.Load()-before < int64(len(rooms)); {
			if time.Since(began) > 10*time.Second { // nothing else ends a benchmark that waits
				b.Fatalf("%d of %d messages were heard", heard.Load()-before, len(rooms))
			}
			time.Sleep(100 * time.Microsecond) // poll
		}
	}
}

// BenchmarkShardedMasters compares what three masters spend on a message to one of 1,000 rooms with what one server does,
// with about as many frames a batch, and shows how evenly the masters share the messages.
func BenchmarkShardedMasters(b *testing.B) {
	rooms := benchRooms(1000)
	const rounds = 200
	measure := func(b *testing.B, servers []*redistest.Server, adapter func() crosscast.Adapter, at int) {
		var admins []*redis.Client
		for _, s := range servers {
			admins = append(admins, s.Client())
		}
		from, heard := benchPair(b, adapter, rooms)
		emitInParts(b, from, heard, rooms, at, 5)
		var before []usage
		look := func() {
			before = nil
			for _, admin := range admins {
				before = append(before, usageOf(b, admin))
			}
		}
		look()
		const idle = 2 * time.Second
		time.Sleep(idle)       // lasts
		var rest time.Duration // what the servers spend on nothing, in that time
		for i, admin := range admins {
			rest += usageOf(b, admin).cpu - before[i].cpu
		}
		look()
		began := time.Now()
		emitInParts(b, from, heard, rooms, at, rounds)
		var all usage
		all.cpu = -time.Duration(float64(rest) * float64(time.Since(began)) / float64(idle))
		most := 0
		for i, admin := range admins {
			u := usageOf(b, admin)
			n := u.messages - before[i].messages
			all.messages += n
			all.cpu += u.cpu - before[i].cpu
			all.reads += u.reads - before[i].reads
			most = max(most, n)
		}
		b.ReportMetric(float64(all.cpu.Nanoseconds())/float64(rounds*len(rooms)), "ns-redis/message")
		b.ReportMetric(float64(all.messages)/float64(len(servers)*most), "evenness")
		b.ReportMetric(float64(all.messages)/float64(all.reads), "messages/batch")
	}
	b.Run("one", func(b *testing.B) {
		s := redistest.Start(b, redistest.Config{})
		measure(b, []*redistest.Server{s}, func() crosscast.Adapter {
			return redisadapter.New(redistest.Client(b, s.Options()), redisadapter.Options{})
		}, 24)
	})
	b.Run("three", func(b *testing.B) {
		c := redistest.StartCluster(b, 3)
		measure(b, c.Servers, func() crosscast.Adapter {
			return redisadapter.New(c.Client(), redisadapter.Options{Sharded: true})
		}, len(rooms))
	})
}

// BenchmarkShardedHotRoom is the CPU time of both nodes, a message to one room, over one server and over a group.
func BenchmarkShardedHotRoom(b *testing.B) {
	measure := func(b *testing.B, adapter func() crosscast.Adapter) {
		from, heard := benchPair(b, adapter, []string{"room"})
		many := make([]string, 200)
		for i := range many {
			many[i] = "room"
		}
		emitInParts(b, from, heard, many, len(many), 1)
		before := processTime(b)
		const rounds = 400
		emitInParts(b, from, heard, many, len(many), rounds)
		b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/float64(rounds*len(many)), "ns-nodes/message")
	}
	b.Run("one", func(b *testing.B) {
		s := redistest.Start(b, redistest.Config{})
		measure(b, func() crosscast.Adapter {
			return redisadapter.New(redistest.Client(b, s.Options()), redisadapter.Options{})
		})
	})
	b.Run("sharded", func(b *testing.B) {
		c := redistest.StartCluster(b, 3)
		measure(b, func() crosscast.Adapter { return redisadapter.New(c.Client(), redisadapter.Options{Sharded: true}) })
	})
}

func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkShardedSubscribe is the time of 100,000 subscriptions on three masters, and the same by SSUBSCRIBE alone.
func BenchmarkShardedSubscribe(b *testing.B) {
	const n = 100_000
	c := redistest.StartCluster(b, 3)
	b.Run("raw", func(b *testing.B) {
		rdb := c.Client()
		began := time.Now()
		var all sync.WaitGroup
		for i := range 3 {
			tag := []string{"{06S}", "{Qi}", "{15R}"}[i] // whichever master: one connection for each
			all.Go(func() {
				ps := rdb.SSubscribe(b.Context(), "raw"+tag)
				defer ps.Close()
				go func() {
					for k := 0; k < n/3; k += 512 {
						names := make([]string, 0, 512)
						for j := k; j < min(k+512, n/3); j++ {
							names = append(names, fmt.Sprint("cc:r:/:room", j, tag))
						}
						if err := ps.SSubscribe(b.Context(), names...); err != nil {
							b.Error(err)
						}
					}
				}()
				for range n/3 + 1 {
					if _, err := ps.Receive(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		b.ReportMetric(time.Since(began).Seconds(), "s")
	})
	b.Run("adapter", func(b *testing.B) {
		a := redisadapter.New(c.Client(), redisadapter.Options{Sharded: true})
		self := crosscast.NodeInfo{ID: "node0000", Heartbeat: time.Second}
		if err := a.Start(b.Context(), crosscast.AdapterStart{Self: self, Handler: nobody{}}); err != nil {
			b.Fatal(err)
		}
		defer a.Close(context.WithoutCancel(b.Context()))
		var names []crosscast.Address
		for i := range n {
			names = append(names, crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: fmt.Sprint("room", i)})
		}
		began := time.Now()
		if err := a.(crosscast.AdapterSubscriber).Subscribe(b.Context(), names...); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s")
	})
}

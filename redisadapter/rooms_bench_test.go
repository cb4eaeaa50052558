package redisadapter_test

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

var manyRooms = flag.Int("rooms", 100_000, "rooms that BenchmarkRoomsOverRedis subscribes to, over all nodes")

// BenchmarkRoomsOverRedis subscribes ten nodes to many rooms, a tenth each, with each way to spread rooms over channels.
func BenchmarkRoomsOverRedis(b *testing.B) {
	for _, topics := range []int{0, 64, 1024, 1} {
		b.Run(fmt.Sprint("topics=", topics), func(b *testing.B) {
			server := redistest.Start(b, redistest.Config{})
			admin := redistest.Client(b, server.Options())
			for b.Loop() {
				subscribeMany(b, server, admin, topics)
			}
		})
	}
}

func subscribeMany(b *testing.B, server *redistest.Server, admin *redis.Client, topics int) {
	const nodes = 10
	adapters := make([]crosscast.AdapterSubscriber, nodes)
	names := make([][]crosscast.Address, nodes)
	for i := range nodes {
		rdb := redis.NewClient(server.Options())
		defer rdb.Close()
		a := redisadapter.New(rdb, redisadapter.Options{Topics: topics})
		self := crosscast.NodeInfo{ID: crosscast.NodeID(fmt.Sprintf("node%04d", i)), Heartbeat: time.Second}
		if err := a.Start(b.Context(), crosscast.AdapterStart{Self: self, Handler: nobody{}}); err != nil {
			b.Fatal(err)
		}
		defer a.Close(context.WithoutCancel(b.Context()))
		adapters[i] = a.(crosscast.AdapterSubscriber)
		for k := range *manyRooms / nodes {
			names[i] = append(names[i], crosscast.Address{
				Namespace: "/", Space: crosscast.SpaceRoom, Name: fmt.Sprint("room", i*(*manyRooms/nodes)+k),
			})
		}
	}
	heap, atRedis := heapNow(), redisMemory(b, admin)
	began := time.Now()
	var all sync.WaitGroup
	for i, a := range adapters {
		all.Go(func() {
			for part := names[i]; len(part) > 0; {
				n := min(len(part), 10_000)
				if err := a.Subscribe(b.Context(), part[:n]...); err != nil {
					b.Error(err)
				}
				part = part[n:]
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	rooms := float64(*manyRooms)
	b.ReportMetric(took.Seconds(), "s")
	b.ReportMetric(float64(heapNow()-heap)/rooms, "B-nodes/room")
	b.ReportMetric(float64(redisMemory(b, admin)-atRedis)/rooms, "B-redis/room")
	runtime.KeepAlive(names)
}

func heapNow() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func redisMemory(b *testing.B, admin *redis.Client) int64 {
	info, err := admin.Info(b.Context(), "memory").Result()
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "used_memory:")
	n, err := strconv.ParseInt(rest[:strings.IndexByte(rest, '\r')], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// nobody handles nothing.
type nobody struct{}

func (nobody) Handle(*crosscast.Instruction)         {}
func (nobody) Gap(crosscast.Gap)                     {}
func (nobody) Outage(time.Time, crosscast.GapReason) {}
func (nobody) Loss(crosscast.Loss)                   {}
func (nobody) Awaits(string) bool                    { return false }
func (nobody) Link(crosscast.LinkStatus)             {}

package redisadapter_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

type deaf struct{}

func (deaf) Send(*crosscast.Message) error { return nil }
func (deaf) Close(crosscast.Reason)        {}

// startThree starts three nodes on a real Redis, with 10,000 sockets between them in room "r", each in two rooms more.
func startThree(b *testing.B) []*crosscast.Node {
	server := redistest.Start(b, redistest.Config{})
	nodes := make([]*crosscast.Node, 3)
	for i := range nodes {
		rdb := redis.NewClient(server.Options())
		b.Cleanup(func() { rdb.Close() })
		n, err := crosscast.Start(b.Context(), crosscast.Options{Adapter: redisadapter.New(rdb, redisadapter.Options{})})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { n.Close(context.Background()) })
		nodes[i] = n
	}
	for i := range 10_000 {
		_, err := nodes[i%3].Connect(b.Context(), deaf{}, crosscast.ConnectOptions{
			User: fmt.Sprint("user", i), Rooms: []string{"r", fmt.Sprint("room", i%100), fmt.Sprint("game", i%50)},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return nodes
}

// timed runs f b.N times and reports the median, which one slow moment of the machine does not move.
func timed(b *testing.B, f func()) {
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		f()
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
}

func BenchmarkCountOverRedis(b *testing.B) {
	nodes := startThree(b)
	before := nodes[0].Stats().Adapter.BytesIn
	asked := 0
	timed(b, func() {
		asked++
		if n, err := nodes[0].To("r").Count(b.Context()); n != 10_000 || err != nil {
			b.Fatal(n, err)
		}
	})
	b.ReportMetric(float64(nodes[0].Stats().Adapter.BytesIn-before)/float64(asked), "B-in/op")
}

func BenchmarkSocketsOverRedis(b *testing.B) {
	nodes := startThree(b)
	before := nodes[0].Stats().Adapter
	timed(b, func() {
		answers := nodes[0].To("r").Sockets(b.Context(), crosscast.Fields{})
		n := 0
		for range answers.All() {
			n++
		}
		if n != 10_000 || answers.Err() != nil {
			b.Fatal(n, answers.Err())
		}
	})
	after := nodes[0].Stats().Adapter
	b.ReportMetric(float64(after.BytesIn-before.BytesIn)/float64(after.FramesIn-before.FramesIn), "B/frame")
}

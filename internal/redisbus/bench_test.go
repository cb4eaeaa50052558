package redisbus_test

import (
	"bytes"
	"testing"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// BenchmarkPublish is batches of 64 frames of 512 bytes, per frame, to a topic without and with a subscriber.
func BenchmarkPublish(b *testing.B) {
	for name, topic := range map[string]string{"unheard": "cc:nobody", "heard": "cc:a"} {
		b.Run(name, func(b *testing.B) {
			s := redistest.Start(b, redistest.Config{})
			bus := newBus(s.Client())
			l := listen(b, bus, "cc:a")
			ctx := b.Context()
			batch := make([]wire.Frame, 64)
			data := bytes.Repeat([]byte("x"), 512)
			b.ReportAllocs()
			for b.Loop() {
				for i := range batch {
					batch[i] = wire.Frame{Topic: topic, Data: data}
				}
				bus.Publish(ctx, batch)
				if topic == "cc:a" {
					for range batch {
						l.next(b)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/frame")
		})
	}
}

// TestObjectsOfABatch: frames with one topic take no object each, and others one, the topic as an argument.
func TestObjectsOfABatch(t *testing.T) {
	for _, c := range []struct {
		topics []string // in turn
		most   float64  // objects
	}{
		{[]string{"cc:a"}, 4},
		{[]string{"cc:a", "cc:b"}, 64 + 3},
	} {
		batch := make([]wire.Frame, 64)
		for i := range batch {
			batch[i] = wire.Frame{Topic: c.topics[i%len(c.topics)], Data: []byte("x")}
		}
		if got := testing.AllocsPerRun(100, func() { redisbus.MakeCommands(t.Context(), batch) }); got > c.most {
			t.Errorf("%v objects for 64 frames of %d topics, want %v", got, len(c.topics), c.most)
		}
	}
}

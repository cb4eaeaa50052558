package crosscast

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// limitMember is the limit that the queue is measured against: a mutex and a ring of as many places, and nothing else.
type limitMember struct {
	mu      sync.Mutex
	slots   [][]byte
	_, tail uint32
}

func (l *limitMember) push(frame []byte) {
	l.mu.Lock()
	l.slots[l.tail%smallRing] = frame
	l.tail++
	l.mu.Unlock()
}

func drain(q *Queue) {
	for q.ring.len() > 0 {
		q.popLocked()
	}
}

func benchMessage() *Message {
	return &Message{Event: "roomMessage", Payload: Payload{EncodingJSON, make([]byte, 128)}}
}

// BenchmarkQueueFanOut is one broadcast to n queues whose writers run but are busy, beside the limit: in the order of their
// memory, and in any order. Rounds of the two alternate, so that both see the same machine; taking the frames out again is
// not measured.
func BenchmarkQueueFanOut(b *testing.B) {
	const round = 8
	for _, n := range []int{100, 10_000, 100_000} {
		fanOut := func(b *testing.B, order []int) {
			limits := make([]*limitMember, n)
			queues := make([]*Queue, n)
			for _, i := range order {
				limits[i] = &limitMember{slots: make([][]byte, smallRing)}
				queues[i] = NewQueue(func([]byte) error { return nil }, QueueOptions{})
				queues[i].state |= writing // a writer that never gets round to it
				for range round {          // as often as the ring of a queue in use has grown
					if err := queues[i].SendFrame(nil); err != nil {
						b.Fatal(err)
					}
				}
				drain(queues[i])
			}
			var limit, queue time.Duration
			members := 0
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				for range round {
					m := benchMessage()
					frame, _ := m.Frame(JSONEnvelope{})
					for _, l := range limits {
						l.push(frame)
					}
				}
				limit += time.Since(start)
				start = time.Now()
				for range round {
					m := benchMessage()
					for _, q := range queues {
						if err := q.Send(m); err != nil {
							b.Fatal(err)
						}
					}
				}
				queue += time.Since(start)
				members += round * n
				for _, q := range queues {
					drain(q)
				}
			}
			b.ReportMetric(float64(limit)/float64(members), "limit-ns/member")
			b.ReportMetric(float64(queue)/float64(members), "queue-ns/member")
			b.ReportMetric(float64(queue)/float64(limit), "ratio")
			b.ReportMetric(0, "ns/op")
		}
		shuffled := rand.Perm(n)
		b.Run(fmt.Sprintf("%d/in-order", n), func(b *testing.B) { fanOut(b, slices.Sorted(slices.Values(shuffled))) })
		b.Run(fmt.Sprintf("%d/shuffled", n), func(b *testing.B) { fanOut(b, shuffled) })
	}
}

// BenchmarkQueueWake is the whole way to n idle queues and back to idle: a writer is started for each, writes to
// nowhere, and ends.
func BenchmarkQueueWake(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		for _, burst := range []int{1, 100} {
			b.Run(fmt.Sprintf("queues=%d/burst=%d", n, burst), func(b *testing.B) {
				var written sync.WaitGroup
				queues := make([]*Queue, n)
				for i := range queues {
					queues[i] = NewQueue(func([]byte) error { written.Done(); return nil }, QueueOptions{})
				}
				b.ReportAllocs()
				for b.Loop() {
					written.Add(n * burst)
					for range burst {
						m := benchMessage()
						for _, q := range queues {
							q.Send(m)
						}
					}
					written.Wait()
				}
				var starts uint64
				for _, q := range queues {
					starts += q.Stats().Starts
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N*n*burst), "ns/message")
				b.ReportMetric(float64(starts)/float64(b.N*n), "starts/burst")
			})
		}
	}
}

// BenchmarkQueueMemory reports what an idle queue holds.
func BenchmarkQueueMemory(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewQueue(func([]byte) error { return nil }, QueueOptions{})
	}
	b.ReportMetric(float64(unsafe.Sizeof(Queue{})), "struct-B")
}

func BenchmarkJSONEnvelope(b *testing.B) {
	for name, p := range map[string]Payload{
		"json": {EncodingJSON, make([]byte, 128)}, "binary": {EncodingBinary, make([]byte, 128)},
	} {
		b.Run(name, func(b *testing.B) {
			m := &Message{Event: "roomMessage", Payload: p}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (JSONEnvelope{}).Frame(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package socketio_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// room connects clients to a room. Their writes go nowhere. It also returns the bytes of memory for each.
func room(b *testing.B, clients int) (*crosscast.Node, *wstest.Writes, float64) {
	n := wstest.StartNode(b, crosscast.Options{})
	var connected sync.WaitGroup
	s := newServer(b, n, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {
		Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
			return socketio.Client{Rooms: []string{"room"}}, nil
		},
		OnConnect: func(context.Context, *crosscast.Socket) { connected.Done() },
	}}})
	all := wstest.NewWrites()
	sinks := make([]*wstest.Sink, clients)
	connected.Add(clients)
	all.Expect(2 * clients) // the handshakes
	before := memtest.Heap()
	for i := range sinks {
		sinks[i] = wstest.NewSink(all)
		w, r := sinks[i].Request(query)
		r.Header.Set("Host", "example.com")
		s.ServeHTTP(w, r)
		sinks[i].Give(wstest.Masked("40"))
	}
	connected.Wait()
	all.Wait()
	memory := float64(memtest.Heap()-before) / float64(clients)
	b.Cleanup(func() {
		for _, s := range sinks {
			_ = s.Close() // the client leaves: it would not answer a closing handshake
		}
	})
	return n, all, memory
}

var benchPayload = crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"text":"hello"}`)}

// BenchmarkRoom measures emissions to a room of 10,000 clients, up to their queues, whose writers are busy: the cost
// before the kernel. Each emission is framed once.
func BenchmarkRoom(b *testing.B) {
	const clients, grow, round = 10_000, 10, 7
	n, all, memory := room(b, clients)
	emit := func() {
		if err := n.To("room").Emit(context.Background(), "message", benchPayload); err != nil {
			b.Fatal(err)
		}
	}
	var queued time.Duration
	var allocated uint64
	var before, after runtime.MemStats
	rounds := 0
	for b.Loop() {
		all.Expect((grow + round) * clients)
		all.Hold()
		for range grow { // the first starts the writers, the others make the queues as large as they need to be
			emit()
		}
		runtime.ReadMemStats(&before)
		start := time.Now()
		for range round {
			emit()
		}
		queued += time.Since(start)
		runtime.ReadMemStats(&after)
		allocated += after.Mallocs - before.Mallocs
		all.Release()
		all.Wait()
		rounds++
	}
	b.ReportMetric(float64(queued.Nanoseconds())/float64(rounds*round*clients), "queued-ns/client")
	b.ReportMetric(float64(allocated)/float64(rounds*round*clients), "allocs/client")
	b.ReportMetric(memory, "B/client")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBroadcast is one emission to 1,000 clients, until the last of their connections has written it.
func BenchmarkBroadcast(b *testing.B) {
	const clients = 1000
	n, all, _ := room(b, clients)
	b.ReportAllocs()
	for b.Loop() {
		all.Expect(clients)
		if err := n.To("room").Emit(context.Background(), "message", benchPayload); err != nil {
			b.Fatal(err)
		}
		all.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/clients, "ns/client")
}

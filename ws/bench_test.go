package ws_test

import (
	"context"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// BenchmarkBroadcast is one emission to 1,000 sockets, until the last of their connections has written it.
func BenchmarkBroadcast(b *testing.B) {
	const sockets = 1000
	n, err := crosscast.Start(b.Context(), crosscast.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := newServer(b, n, ws.Options{})
	all := wstest.NewWrites()
	clients := make([]*wstest.Sink, sockets)
	for i := range clients {
		clients[i] = wstest.NewSink(all)
		w, r := clients[i].Request("/")
		if _, err := s.Accept(w, r, ws.Client{}); err != nil {
			b.Fatal(err)
		}
	}
	payload := crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"text":"hello"}`)}
	b.ReportAllocs()
	for b.Loop() {
		all.Expect(sockets)
		if err := n.Emit(context.Background(), "message", payload); err != nil {
			b.Fatal(err)
		}
		all.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sockets, "ns/member")
	b.StopTimer()
	for _, c := range clients {
		_ = c.Close() // the client leaves: it would not answer a closing handshake
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		b.Error(err)
	}
}

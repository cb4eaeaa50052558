package ws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
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

// BenchmarkInbound is one event of a client over TCP, up to its handler. The events come one by one, each after the
// handler of the one before, or in bursts of 64.
func BenchmarkInbound(b *testing.B) {
	for _, size := range []int{100, 2000} {
		for _, burst := range []int{1, 64} {
			b.Run(fmt.Sprintf("size=%d/burst=%d", size, burst), func(b *testing.B) {
				n := wstest.StartNode(b, crosscast.Options{})
				handled := make(chan struct{}, 1)
				count := 0
				s := newServer(b, n, ws.Options{PingInterval: -1, Events: ws.Events{
					"x": func(context.Context, *crosscast.Socket, json.RawMessage) error {
						if count++; count == burst {
							count = 0
							handled <- struct{}{}
						}
						return nil
					},
				}})
				conn := upgrade(b, wstest.Serve(b, s).URL)
				event := `{"event":"x","data":"` + strings.Repeat("x", size-23) + `"}`
				events := strings.Repeat(wstest.Masked(event), burst)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if i%burst == 0 {
						if _, err := io.WriteString(conn, events); err != nil {
							b.Fatal(err)
						}
						<-handled
					}
				}
				_ = conn.Close()
			})
		}
	}
}

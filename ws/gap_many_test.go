package ws_test

import (
	"context"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// tellMany returns a function that tells a number of clients of a gap in two of their three rooms, and waits until all of
// that is written.
func tellMany(t *testing.T, sockets int) func() time.Duration {
	t.Helper()
	a := &gapAdapter{}
	n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: a})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, n, ws.Options{PingInterval: -1})
	all := wstest.NewWrites()
	clients := make([]*wstest.Sink, sockets)
	for i := range clients {
		clients[i] = wstest.NewSink(all)
		w, r := clients[i].Request("/")
		if _, err := s.Accept(w, r, ws.Client{Rooms: []string{"r", "s", "t"}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, c := range clients {
			_ = c.Close() // the client leaves: it would not answer a closing handshake
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = n.Close(ctx)
	})
	names := roomNames("r", "s")
	return func() time.Duration {
		all.Expect(2 * sockets)
		began := time.Now()
		a.gap(time.Second, 0, names...)
		took := time.Since(began)
		all.Wait()
		return took
	}
}

// TestGapAllocatesNothingAClient counts at 1 client and at 1,000: all that they are told is shared.
func TestGapAllocatesNothingAClient(t *testing.T) {
	if memtest.Race {
		t.Skip("pools forget under the race detector")
	}
	count := func(sockets int) float64 {
		tell := tellMany(t, sockets)
		return testing.AllocsPerRun(20, func() { tell() })
	}
	if one, many := count(1), count(1000); many > one+200 { // the goroutines that write
		t.Errorf("%v allocations for a client, %v for 1,000", one, many)
	}
}

// TestGapOfManyClients: a gap of 10,000 clients holds up the receiving of messages for milliseconds.
func TestGapOfManyClients(t *testing.T) {
	if memtest.Race {
		t.Skip("it measures time")
	}
	tell := tellMany(t, 10_000)
	least := time.Hour
	for range 5 {
		least = min(least, tell())
	}
	t.Logf("10,000 clients were told in %v", least)
	if least > time.Second {
		t.Errorf("telling 10,000 clients took %v", least)
	}
}

package presence_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/presence"
)

// counted is a client that counts what it is told.
type counted struct{ told *sync.WaitGroup }

func (counted) Send(*crosscast.Message) error { return nil }
func (counted) Close(crosscast.Reason)        {}

func (c counted) SendPresence(u *presence.Update) {
	if !u.Sync {
		c.told.Done()
	}
}

// BenchmarkUpdate is one change for the 1,000 clients of a room on one server, from SetPresence to their queues, without the
// message, which is made once.
func BenchmarkUpdate(b *testing.B) {
	n, err := crosscast.Start(b.Context(), crosscast.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close(b.Context())
	r := presence.New(presence.Config{Namespace: n.Namespace, Gather: time.Nanosecond, Most: 1000})
	var told sync.WaitGroup
	var first *crosscast.Socket
	const clients = 1000
	for i := range clients {
		c := counted{&told}
		s, err := n.Connect(b.Context(), c, crosscast.ConnectOptions{User: fmt.Sprint("u", i), Rooms: []string{"r"}})
		if err != nil {
			b.Fatal(err)
		}
		if first == nil {
			first = s
		}
		defer r.Leave(s, "r")
	}
	for _, s := range n.Members("r") {
		if err := r.Join(b.Context(), s, counted{&told}, "r"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		told.Add(clients)
		if err := first.SetPresence(i); err != nil {
			b.Fatal(err)
		}
		told.Wait()
	}
}

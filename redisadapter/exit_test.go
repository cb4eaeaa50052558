package redisadapter_test

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
)

// TestOnGapThatEndsItsGoroutine: it ends the one that reads the link. The link is replaced, and the node hears again.
func TestOnGapThatEndsItsGoroutine(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	a := join(t, "a", s.Client())
	var exits atomic.Int32
	b := join(t, "b", s.Client(), func(o *crosscast.Options) {
		o.OnGap = func(*crosscast.Node, crosscast.Gap) {
			if exits.Add(1) == 1 {
				runtime.Goexit() // as t.FailNow does
			}
		}
	})
	if err := s.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	b.eventually(t, "another gap", func() bool { return exits.Load() >= 2 })
	if _, err := b.Connect(t.Context(), make(conn, 16), crosscast.ConnectOptions{User: "u"}); err != nil {
		t.Fatal(err)
	}
	a.eventually(t, "it hears questions", func() bool {
		n, _ := a.ToUser("u").Count(redistest.Within(t, redistest.Patience))
		return n == 1
	})
}

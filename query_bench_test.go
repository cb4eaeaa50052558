package crosscast_test

import (
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
)

// benchNodes starts three nodes with 10,000 sockets in one room.
func benchNodes(b *testing.B) *crosscast.Node {
	n0, n1, n2 := three(b)
	nodes := []*crosscast.Node{n0, n1, n2}
	for i := range 10_000 {
		_, err := nodes[i%3].Connect(ctx, new(recorder), crosscast.ConnectOptions{
			User: fmt.Sprint("user", i/2), Rooms: []string{"all", fmt.Sprint("room", i%100)}, Data: i,
		})
		ok(b, err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	return n0
}

func BenchmarkCount(b *testing.B) {
	n := benchNodes(b)
	for b.Loop() {
		if c, err := n.To("all").Count(ctx); c != 10_000 || err != nil {
			b.Fatal(c, err)
		}
	}
}

func BenchmarkCountUsers(b *testing.B) {
	n := benchNodes(b)
	for b.Loop() {
		if c, err := n.To("all").CountUsers(ctx); c != 5_000 || err != nil {
			b.Fatal(c, err)
		}
	}
}

func BenchmarkSockets(b *testing.B) {
	n := benchNodes(b)
	for b.Loop() {
		sockets := 0
		answers := n.To("all").Sockets(ctx, crosscast.Fields{})
		for range answers.All() {
			sockets++
		}
		if sockets != 10_000 || answers.Err() != nil {
			b.Fatal(sockets, answers.Err())
		}
	}
}

func BenchmarkDo(b *testing.B) {
	n := benchNodes(b)
	for b.Loop() {
		if _, err := n.ToUser("user1").Do(ctx, crosscast.Command{Join: []string{"x"}}); err != nil {
			b.Fatal(err)
		}
	}
}

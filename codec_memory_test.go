package crosscast_test

import (
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/kind"
)

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var r crosscast.InstructionReader
	meta := benchEmission()
	meta.Meta = []crosscast.KeyValue{{Key: "key"}}
	for name, b := range map[string][]byte{
		"names": manyNames(0, 150), "meta": mustAppend(nil, meta),
		"rooms": []byte(toRooms + "\x92\xa5room1\xa5room2"), "reason": []byte(toReason + "\xa1x"),
		"ttl": []byte(toTTL + "\xcd\x01\x00"), "question": []byte(toQuestion + "\x93\x01\x02\x03"),
	} {
		drain(t, &r, b)
		if n := testing.AllocsPerRun(100, func() { drain(t, &r, b) }); n != 0 {
			t.Errorf("%s: %v allocations to read what is known", name, n)
		}
	}
	buf := make([]byte, 0, 1<<16)
	for _, g := range golden() {
		n := testing.AllocsPerRun(100, func() {
			buf = buf[:0]
			for i := range g.sequence {
				buf = mustAppend(buf, &g.sequence[i])
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations to write it", g.name, n)
		}
	}
}

// TestAllocationsOfAnswer: the answer, its list, and of each socket the ID and its list of rooms.
func TestAllocationsOfAnswer(t *testing.T) {
	var r crosscast.InstructionReader
	b := manySockets(100)
	drain(t, &r, b)
	if n := testing.AllocsPerRun(100, func() { drain(t, &r, b) }); n != 2+2*100 {
		t.Errorf("%v allocations to read an answer of 100 sockets", n)
	}
}

// manySockets returns an answer of n sockets, each in 3 of 9 rooms.
func manySockets(n int) []byte {
	a := crosscast.Answer{Last: true}
	for i := range n {
		a.Sockets = append(a.Sockets, crosscast.SocketInfo{ID: crosscast.SocketID(fmt.Sprintf("AAAAAAAA%012d", i)),
			Rooms: []string{fmt.Sprint("lobby", i%3), fmt.Sprint("game", i%3), fmt.Sprint("language", i%3)}})
	}
	return mustAppend(nil, &crosscast.Instruction{Kind: kind.Answer, Answer: &a})
}

// TestReaderForgets: however many names come, what a reader keeps is bounded.
func TestReaderForgets(t *testing.T) {
	var r crosscast.InstructionReader
	before := memtest.Heap()
	for i := range 334 {
		drain(t, &r, manyNames(600*i, 600))
	}
	after := memtest.Heap()
	if after > before+1<<20 {
		t.Errorf("a reader keeps %d bytes after 600,000 names", after-before)
	}
	drain(t, &r, manyNames(0, 1))
}

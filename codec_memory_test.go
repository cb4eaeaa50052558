package crosscast_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
)

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var r crosscast.FrameReader
	meta := benchEmission()
	meta.Meta = []crosscast.KeyValue{{Key: "key"}}
	for name, b := range map[string][]byte{
		"names": manyNames(0, 150), "losses": goldenFrames()[9].frame.bytes(),
		"meta": crosscast.AppendInstruction(bytes.Clone([]byte(hostileHeader)), meta, everyone, 0),
	} {
		drain(t, &r, b, everyone)
		if n := testing.AllocsPerRun(100, func() { drain(t, &r, b, everyone) }); n != 0 {
			t.Errorf("%s: %v allocations to read a frame whose names are known", name, n)
		}
	}
	for name, text := range map[string]string{
		"rooms": toRooms + "\x92\xa5room1\xa5room2", "reason": toReason + "\xa1x", "ttl": toTTL + "\xcd\x01\x00",
		"question": toQuestion + "\x93\x01\x02\x03",
	} {
		b := []byte(text)
		drain(t, &r, b, everyone)
		if n := testing.AllocsPerRun(100, func() { drain(t, &r, b, everyone) }); n != 0 {
			t.Errorf("%s: %v allocations to read it", name, n)
		}
	}
	buf := make([]byte, 0, 1<<16)
	for _, g := range goldenFrames() {
		n := testing.AllocsPerRun(100, func() {
			buf = crosscast.AppendFrameHeader(buf[:0], &g.frame.Header)
			for i := range g.frame.In {
				if err := crosscast.CheckInstruction(&g.frame.In[i]); err != nil {
					t.Fatal(err)
				}
				buf = crosscast.AppendInstruction(buf, &g.frame.In[i], g.frame.Topic, g.frame.Copies[i])
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations to write it", g.name, n)
		}
	}
}

// TestAllocationsOfAnswer: the answer, its list, and of each socket the ID and its list of rooms.
func TestAllocationsOfAnswer(t *testing.T) {
	var r crosscast.FrameReader
	b := manySockets(100)
	drain(t, &r, b, everyone)
	if n := testing.AllocsPerRun(100, func() { drain(t, &r, b, everyone) }); n != 2+2*100 {
		t.Errorf("%v allocations to read an answer of 100 sockets", n)
	}
}

// manySockets returns a frame with an answer of n sockets, each in 3 of 9 rooms.
func manySockets(n int) []byte {
	a := crosscast.Answer{Last: true}
	for i := range n {
		a.Sockets = append(a.Sockets, crosscast.SocketInfo{ID: crosscast.SocketID(fmt.Sprintf("AAAAAAAA%012d", i)),
			Rooms: []string{fmt.Sprint("lobby", i%3), fmt.Sprint("game", i%3), fmt.Sprint("language", i%3)}})
	}
	return crosscast.AppendInstruction(crosscast.AppendFrameHeader(nil, &crosscast.FrameHeader{Origin: frameOrigin}),
		&crosscast.Instruction{Kind: crosscast.KindAnswer, Answer: &a}, everyone, 0)
}

// TestReaderForgets: however many names come, what a reader keeps is bounded.
func TestReaderForgets(t *testing.T) {
	var r crosscast.FrameReader
	before := memtest.Heap()
	for i := range 334 {
		drain(t, &r, manyNames(600*i, 600), everyone)
	}
	after := memtest.Heap()
	if after > before+1<<20 {
		t.Errorf("a reader keeps %d bytes after 600,000 names", after-before)
	}
	drain(t, &r, manyNames(0, 1), everyone)
}

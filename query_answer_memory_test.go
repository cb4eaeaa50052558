package crosscast

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/kind"
)

// TestAnswerBytesAreWhatIsHeld: answers that wait to be read take about as much memory as is counted, whatever is in
// them.
func TestAnswerBytesAreWhatIsHeld(t *testing.T) {
	id := func(i int) SocketID { return SocketID(fmt.Sprintf("%020d", i)) }
	infos := func(n int, change func(i int, s *SocketInfo)) *Answer {
		a := &Answer{Sockets: make([]SocketInfo, n)}
		for i := range a.Sockets {
			a.Sockets[i].ID = id(i)
			change(i, &a.Sockets[i])
		}
		return a
	}
	replies := func(n, size int) *Answer {
		a := &Answer{Replies: make([]Reply, n)}
		for i := range a.Replies {
			a.Replies[i] = Reply{Socket: id(i), Payload: Payload{EncodingBinary, make([]byte, size)}}
		}
		return a
	}
	rooms := &Answer{Rooms: make([]RoomCount, 100)}
	for i := range rooms.Rooms {
		rooms.Rooms[i] = RoomCount{fmt.Sprint("room", i), i}
	}
	for name, a := range map[string]*Answer{
		"nothing":       {Count: 1},
		"one socket":    infos(1, func(int, *SocketInfo) {}),
		"sockets":       infos(1000, func(int, *SocketInfo) {}),
		"users":         infos(1000, func(i int, s *SocketInfo) { s.User = fmt.Sprint("user", i) }),
		"sockets' data": infos(1000, func(i int, s *SocketInfo) { s.Data = json.RawMessage(`{"n":1}`) }),
		"rooms": infos(100, func(i int, s *SocketInfo) {
			for k := range 10 {
				s.Rooms = append(s.Rooms, fmt.Sprint("room", i, "-", k))
			}
		}),
		"one room each": infos(1000, func(i int, s *SocketInfo) { s.Rooms = []string{"r"} }),
		"handshakes": infos(100, func(i int, s *SocketInfo) {
			s.Handshake = json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
		}),
		"counted rooms":  rooms,
		"hashes":         {Users: make([]uint64, 1000)},
		"replies of 0":   replies(1000, 0),
		"replies of 10":  replies(1000, 10),
		"replies of 1 K": replies(100, 1000),
		"one reply":      replies(1, 0),
		"payload":        {Payload: Payload{EncodingBinary, make([]byte, 10_000)}},
	} {
		inst := &Instruction{Kind: kind.Answer, Namespace: "/", Ref: "ref", Answer: a}
		data, err := AppendInstruction(nil, inst)
		if err != nil {
			t.Fatal(name, err)
		}
		var r InstructionReader
		read := func() *Answer {
			inst, _, err := r.Read(data)
			if err != nil {
				t.Fatal(name, err)
			}
			return inst.Answer
		}
		n := 4<<20/len(data) + 1
		n = min(n, 20_000)
		queue := make([]answered, 0, n)
		read()
		before := memtest.Heap()
		counted := 0
		for range n {
			a := read()
			queue = append(queue, answered{"aaaaaaaa", a, answerSize(a)})
			counted += answerSize(a)
		}
		held := memtest.Heap() - before + cap(queue)*int(40)
		t.Logf("%-15s counted %7d, held %7d: %.2f", name, counted/n, held/n, float64(held)/float64(counted))
		if held > counted*3/2 || counted > held*3/2 {
			t.Errorf("%s: counted %d, held %d", name, counted/n, held/n)
		}
		runtime.KeepAlive(queue)
	}
}

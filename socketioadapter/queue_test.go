package socketioadapter_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestAnOutageOfManyUsers: with default options 80,000 small emissions, each to somebody else, wait through an outage; and
// they take as much memory as is counted.
func TestAnOutageOfManyUsers(t *testing.T) {
	for name, mode := range map[string]socketioadapter.Mode{
		"classic": socketioadapter.Classic, "sharded": socketioadapter.Sharded,
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			a := socketioadapter.New(s.Client(), socketioadapter.Options{Mode: mode, MaxAge: time.Minute})
			self := crosscast.NodeInfo{ID: crosscast.NodeID(rand.Text()[:8]), Heartbeat: time.Second}
			must(t, a.Start(redistest.Within(t, redistest.Patience), starting(self, gapped{
				&tally{got: make(map[string]int)}, make(chan crosscast.Gap, 100),
			})))
			t.Cleanup(func() { a.Close(redistest.Within(t, time.Second)) }) // the waiting messages are lost
			s.Kill()
			eventually(t, "the outage", func() bool { return !a.AdapterStats().Connected })
			const n = 80_000
			before := memtest.Heap()
			for i := range n {
				in := &crosscast.Instruction{
					Kind: kind.Emit, Namespace: "/", From: self.ID, Event: "e",
					Target:  crosscast.Target{Users: []string{fmt.Sprint("u", i)}},
					Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"n":1}`)},
				}
				if err := a.Publish(t.Context(), in); err != nil {
					t.Fatalf("after %d: %v", i, err)
				}
			}
			held, counted := memtest.Heap()-before, a.AdapterStats().QueueBytes
			t.Logf("each takes %d bytes, counted %d", held/n, counted/n)
			if counted/n > 500 || counted < held*9/10 || counted > held*3/2 {
				t.Errorf("%d emissions hold %d bytes, and are counted as %d", n, held, counted)
			}
		})
	}
}

package socketioadapter_test

import (
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

// eventually waits for a condition that nothing reports.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(redistest.Patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, redistest.Patience)
		}
		time.Sleep(time.Millisecond) // poll
	}
}

// TestPeersThatAreNotBackYet: after Redis was restarted a peer that has not found its way back is expected all the
// same, so that a question does not pass over it in silence.
func TestPeersThatAreNotBackYet(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	a := bare(t, s.Client(), classic, false)
	o, lines := s.Options(), new(redistest.Lines)
	o.Dialer = lines.Dial
	bare(t, redistest.Client(t, o), classic, false)
	wantPeers(t, a, "/", false, 1)

	s.Kill()
	lines.Cut(true)
	eventually(t, "noticing the outage", func() bool { return !a.AdapterStats().Connected })
	if _, err := a.CountPeers(t.Context(), &crosscast.Instruction{}, false); err == nil {
		t.Error("peers are counted without a Redis")
	}
	s.Restart()
	eventually(t, "connecting again", func() bool { return a.AdapterStats().Connected })
	wantPeers(t, a, "/", false, 1)
	wantPeers(t, a, "/", true, 1)
}

// tally counts its calls, by event.
type tally struct {
	nothing
	mu  sync.Mutex // guards the fields below
	got map[string]int
}

func (c *tally) Handle(in *crosscast.Instruction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[in.Event]++
}

func (c *tally) count(event string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[event]
}

// TestNothingArrivesTwice: wherever the connection that publishes breaks.
func TestNothingArrivesTwice(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	p := faultproxy.Start(t, s.Addr())
	o := s.Options()
	o.Addr = p.Addr()
	a := bare(t, redistest.Client(t, o), classic, false)
	heard := &tally{got: make(map[string]int)}
	b := socketioadapter.New(s.Client(), classic)
	must(t, b.Start(redistest.Within(t, redistest.Patience), starting(crosscast.NodeInfo{ID: crosscast.NodeID(rand.Text()[:8])}, heard)))
	t.Cleanup(func() { must(t, b.Close(redistest.Within(t, redistest.Patience))) })

	emit := func(event string) {
		t.Helper()
		in := &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", Target: everyone, Event: event}
		must(t, a.Publish(redistest.Within(t, redistest.Patience), in))
	}
	var events []string
	for round := range 20 {
		p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: 1 + 3*round})
		for i := range 10 {
			events = append(events, fmt.Sprint("m", round, "-", i))
			emit(events[len(events)-1])
		}
		must(t, a.Flush(redistest.Within(t, redistest.Patience)))
		p.Set(faultproxy.Down, faultproxy.Faults{})
		fence := fmt.Sprint("fence", round)
		eventually(t, "messages flow again", func() bool {
			emit(fence)
			return heard.count(fence) > 0
		})
	}
	for _, event := range events {
		if n := heard.count(event); n > 1 {
			t.Errorf("%s arrived %d times", event, n)
		}
	}
}

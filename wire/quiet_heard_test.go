package wire_test

import (
	"encoding/binary"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// slowBeats is a peer that is called for each heartbeat before that counts.
type slowBeats struct {
	*peer
	onBeat func()
}

func (s slowBeats) Handle(inst *crosscast.Instruction) {
	if inst.Kind == kind.Heartbeat {
		s.onBeat()
	}
	s.peer.Handle(inst)
}

// TestQuietWhileTheLinkEnds: the link is given up while a call for a heartbeat lasts, behind which topics are named.
func TestQuietWhileTheLinkEnds(t *testing.T) {
	onPatchy(t, 1, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		emitEach(t, a, numberedRooms(10))
		c.beat(2 * time.Second)
		p := &peer{id: "listener", port: c.hub.Port("listener")}
		p.port.SetPatchy()
		p.a = wire.New(p.port, wire.Options{})
		ended := make(chan error, 1)
		handler := slowBeats{p, func() {
			go func() { ended <- p.a.Close(t.Context()) }()
			time.Sleep(time.Second) // lasts: the adapter has given the link up meanwhile
		}}
		if err := p.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: p.id, Heartbeat: time.Second}, handler)); err != nil {
			t.Fatal(err)
		}
		a.beatOnce(t)
		if err := <-ended; err != nil {
			t.Error("Close:", err)
		}
	})
}

// TestQuietForAges: a peer says that something has been waiting for longer than times can tell.
func TestQuietForAges(t *testing.T) {
	for _, age := range []uint64{0, 1000, uint64(math.MaxInt64 / time.Millisecond), math.MaxInt64, math.MaxUint64} {
		payload := binary.AppendUvarint(binary.AppendUvarint(nil, 0), age)
		if told, taken := wire.QuietTold(payload); taken && told.After(time.Now()) {
			t.Errorf("%d ms: everything is told until %v", age, told)
		}
	}
}

// TestBacklogIsOver: a topic has waited to be named while nothing was published. Then it is in use, and is not named. What it
// had waited before makes no later gap longer.
func TestBacklogIsOver(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		emitEach(t, a, []string{"A"})
		time.Sleep(4 * time.Second) // no heartbeat
		if err := b.a.Publish(t.Context(), &crosscast.Instruction{Kind: kind.Hello, Target: crosscast.Target{Everyone: true}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the answer says for how long the topic waits
		for range 15 {
			for range 10 {
				emitEach(t, a, []string{"A"})
				time.Sleep(100 * time.Millisecond)
			}
			c.beat(0)
		}
		had, cut := len(b.seen()), time.Now()
		b.port.Cut()
		c.beat(2 * time.Second)
		gaps := b.seen()[had:]
		if len(gaps) != 1 || cut.Sub(gaps[0].Since) > 5500*time.Millisecond {
			t.Errorf("the link was lost at %v, and the gaps are %+v", cut, gaps)
		}
	})
}

package wire_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

var (
	schedules = flag.Int("schedules", fewer(300), "random schedules that TestBooksBalance runs")
	seed      = flag.Uint64("schedule", 0, "run only this schedule")
)

// fewer is a third of n with the race detector, which makes a repetition seven times as slow. CI runs all without it, too.
func fewer(n int) int {
	if memtest.Race {
		return n / 3
	}
	return n
}

// TestBooksBalance checks the rule "never silent" for random schedules of failures: each emission is delivered, or part
// of a gap at the node, or part of a loss at the origin. No emission comes twice, and order holds for each origin and
// room.
func TestBooksBalance(t *testing.T) {
	from, to := uint64(1), uint64(*schedules)
	if *seed != 0 {
		from, to = *seed, *seed
	}
	var total tally
	for s := from; s <= to; s++ {
		t.Run(strconv.FormatUint(s, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runSchedule(t, s, &total) })
		})
	}
	t.Logf("%+v", total)
	if *seed == 0 && (total.delivered == 0 || total.gaps == 0 || total.losses == 0) {
		t.Error("the schedules never went wrong: the test proves nothing")
	}
}

type tally struct{ emitted, delivered, gaps, losses, missedByGap, unheard int }

// peer is a node with only the parts that the adapter needs: it answers hellos, sends hellos after an outage, and sends
// heartbeats.
type peer struct {
	id   crosscast.NodeID
	a    *wire.Adapter
	port *membus.Port
	w    *world

	emitOnly bool // it never hears anything
	patchy   bool // its bus may miss single messages

	onEmit func(event string) // is called before an event counts as delivered, and may take its time
	onGap  func()             // the same of a gap

	mu        sync.Mutex
	delivered []string // events, in order; guarded by mu, like everything below
	gaps      []crosscast.Gap
	gapAt     []int // how many were delivered before each gap
	outages   []crosscast.Gap
	losses    []crosscast.Loss
	links     []crosscast.LinkStatus
	emitted   map[string]emission
	joined    map[crosscast.Address]time.Time // since when it is joined without interruption
	next      int
	hold      chan struct{} // if not nil, a delivery lasts until it is closed
}

type emission struct {
	targets []crosscast.Address // empty: everyone
	at      time.Time
}

// world records the real events: which frame carried an event, and when the bus delivered it.
type world struct {
	mu     sync.Mutex
	reader wire.FrameReader
	frames map[string][]execution // by event
	all    []execution
	got    map[receipt]time.Time               // when first
	heard  map[[2]crosscast.NodeID][]time.Time // when a link got anything, by receiver and origin
	// inOrder: the bus executed accepted frames in order, so the times of gaps can be checked too.
	inOrder bool
	forged  bool // a stranger publishes in the name of nodes
}

// receipt is a frame that a receiver's link got.
type receipt struct {
	receiver, origin crosscast.NodeID
	number           uint64
}

type execution struct {
	origin crosscast.NodeID
	number uint64
	topic  string
	at     time.Time
}

func (w *world) executed(f wire.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.reader.Reset(f.Data, &crosscast.Address{})
	if err != nil {
		panic(err)
	}
	if !h.Control {
		w.all = append(w.all, execution{h.Origin, h.Number, f.Topic, time.Now()})
	}
	for {
		inst, _, _, err := w.reader.Next()
		if err != nil {
			return
		}
		if inst != nil && inst.Kind == kind.Emit {
			w.frames[inst.Event] = append(w.frames[inst.Event], execution{h.Origin, h.Number, f.Topic, time.Now()})
		}
	}
}

func (w *world) read(port, _ string, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h, err := w.reader.Reset(data, &crosscast.Address{}); err == nil {
		pair := [2]crosscast.NodeID{crosscast.NodeID(port), h.Origin}
		w.heard[pair] = append(w.heard[pair], time.Now())
		if key := (receipt{pair[0], h.Origin, h.Number}); w.got[key].IsZero() {
			w.got[key] = time.Now()
		}
	}
}

func (p *peer) Handle(inst *crosscast.Instruction) {
	switch inst.Kind {
	case kind.Hello:
		p.a.Publish(context.Background(), &crosscast.Instruction{Kind: kind.Heartbeat, To: inst.From})
	case kind.Emit:
		if p.onEmit != nil {
			p.onEmit(inst.Event)
		}
		p.mu.Lock()
		hold := p.hold
		p.delivered = append(p.delivered, inst.Event)
		p.mu.Unlock()
		if hold != nil {
			<-hold
		}
	}
}

func (p *peer) Gap(g crosscast.Gap) {
	if p.onGap != nil {
		p.onGap()
	}
	p.mu.Lock()
	p.gaps = append(p.gaps, g)
	p.gapAt = append(p.gapAt, len(p.delivered))
	p.mu.Unlock()
	if g.Origin == "" {
		p.a.Publish(context.Background(), &crosscast.Instruction{Kind: kind.Hello, Target: crosscast.Target{Everyone: true}})
	}
}

func (p *peer) Outage(since time.Time, why crosscast.GapReason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outages = append(p.outages, crosscast.Gap{Since: since, Reason: why})
}

func (p *peer) Link(s crosscast.LinkStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links = append(p.links, s)
}

func (p *peer) Awaits(string) bool { return true }

func (p *peer) Loss(l crosscast.Loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losses = append(p.losses, l)
}

func (p *peer) emit(volatile bool, targets ...crosscast.Address) {
	p.mu.Lock()
	p.next++
	event := fmt.Sprintf("%s/%d", p.id, p.next)
	payload := []byte(`"x"`)
	if p.next%8 == 0 { // so large that it has a frame of its own
		payload = []byte(`"` + strings.Repeat("x", 16<<10) + `"`)
	}
	p.mu.Unlock()
	inst := &crosscast.Instruction{
		Kind: kind.Emit, Volatile: volatile, Namespace: "/", Event: event,
		Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: payload},
	}
	inst.Target.Everyone = len(targets) == 0
	for _, a := range targets {
		if a.Space == crosscast.SpaceRoom {
			inst.Target.Rooms = append(inst.Target.Rooms, a.Name)
		} else {
			inst.Target.Users = append(inst.Target.Users, a.Name)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	at := time.Now()
	if p.a.Publish(ctx, inst) == nil {
		p.mu.Lock()
		p.emitted[event] = emission{targets, at}
		p.mu.Unlock()
	}
}

func (p *peer) join(a crosscast.Address) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := p.a.Subscribe(ctx, a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || errors.Is(err, crosscast.ErrNotConnected) {
		// Joined either way; in the second case the gap of the outage must include it.
		p.joined[a] = time.Now()
	}
}

func (p *peer) leave(a crosscast.Address) {
	p.mu.Lock()
	delete(p.joined, a)
	p.mu.Unlock()
	p.a.Unsubscribe(context.Background(), a)
}

func runSchedule(t *testing.T, seed uint64, total *tally) {
	r := rand.New(rand.NewPCG(seed, 1))
	hub := membus.New()
	w := &world{
		frames: map[string][]execution{}, heard: map[[2]crosscast.NodeID][]time.Time{}, got: map[receipt]time.Time{},
	}
	hub.OnExecute(w.executed)
	hub.OnRead(w.read)
	patchy := seed%5 >= 3
	room := func(i int) crosscast.Address {
		return crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: string(rune('A' + i))}
	}
	user := crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "A"}

	peers := make([]*peer, 3, 4)
	if seed%2 == 0 {
		peers = peers[:4] // the last one an emitter
	}
	stop := make(chan struct{})
	var beats sync.WaitGroup
	for i := range peers {
		id := crosscast.NodeID(fmt.Sprintf("node%04d", i))
		p := &peer{id: id, port: hub.Port(string(id)), w: w, emitted: map[string]emission{}, joined: map[crosscast.Address]time.Time{}}
		p.emitOnly = i == 3
		if p.patchy = patchy; patchy {
			p.port.SetPatchy()
		}
		o := wire.Options{MaxAge: 3 * time.Second}
		if seed%3 == 0 {
			o.QueueBytes = 4 << 10
		}
		switch seed / 5 % 6 {
		case 3:
			o.Topics = 1
		case 4:
			o.Topics = 2
		case 5:
			o.Topics, o.AlsoTopics = 2, []int{0}
		}
		p.a = wire.New(p.port, o)
		self := crosscast.NodeInfo{ID: id, Heartbeat: time.Second}
		if err := p.a.Start(t.Context(), starting(self, p, p.emitOnly)); err != nil {
			t.Fatal(err)
		}
		peers[i] = p
	}
	for _, p := range peers[:3] {
		beats.Go(func() {
			for {
				p.a.Publish(t.Context(), &crosscast.Instruction{Kind: kind.Heartbeat, Target: crosscast.Target{Everyone: true}})
				select {
				case <-time.After(time.Second):
				case <-stop:
					return
				}
			}
		})
		for i := range 2 {
			p.join(room(i))
		}
		p.join(user)
	}
	time.Sleep(2 * time.Second) // of the bubble's clock: introductions are over

	// A hole shows between two frames of the same subscription; so subscriptions and links hold, and something has come
	// before, in the schedules where a bus leaves out or overtakes single frames that it had accepted, which Redis does
	// not do.
	links := seed%4 != 0
	w.inOrder = links
	everywhere := func() {
		for _, p := range peers {
			p.emit(false)
			p.emit(false, user)
			for i := range 3 {
				p.emit(false, room(i))
			}
		}
		time.Sleep(2 * time.Second)
	}
	if !links {
		for _, p := range peers[:3] {
			p.join(room(2))
		}
		everywhere()
	}

	w.forged = seed%7 == 3
	for range r.IntN(120) + 20 {
		p := peers[r.IntN(len(peers))]
		if w.forged && r.IntN(10) == 0 {
			forge(r, hub.Port("stranger"), peers[r.IntN(3)], room(r.IntN(3)))
		}
		switch a := r.IntN(100); {
		case a < 60:
			for range r.IntN(6) + 1 {
				volatile := r.IntN(10) == 0
				switch r.IntN(6) {
				case 0:
					p.emit(volatile)
				case 1:
					p.emit(volatile, room(r.IntN(3)), room(r.IntN(3)), user)
				case 2:
					p.emit(volatile, user)
				default:
					p.emit(volatile, room(r.IntN(3)))
				}
			}
		case a < 70:
			time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
		case a < 73:
			time.Sleep(time.Duration(r.Int64N(int64(4 * time.Second))))
		case a < 78:
			p.port.SetFate(randomFate(r, p, peers, !links, patchy))
		case a < 82:
			p.port.SetFate(nil)
		case a < 90 && !links:
		case a < 85:
			if seed%5 == 0 {
				p.port.Deny("cc:r:/:"+room(r.IntN(3)).Name, r.IntN(3) > 0) // shows on the next link
			}
			p.port.Cut()
		case a < 86:
			p.port.Deafen()
		case a < 87:
			p.port.Starve()
		case a < 90:
			p.port.Down()
		case a < 93:
			p.port.Up()
		case a < 95:
			p.port.SetLatency(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
		case !links || p.emitOnly:
		case a < 98:
			p.join(room(2))
		default:
			p.leave(room(2))
		}
	}

	for _, p := range peers {
		p.port.SetFate(nil)
		p.port.SetLatency(0)
		p.port.Up()
		for i := range 3 {
			p.port.Deny("cc:r:/:"+room(i).Name, false)
		}
	}
	time.Sleep(20 * time.Second) // every link is back, every loss announced
	if !patchy {
		// If a bus loses a frame in silence, only the next frame shows it.
		everywhere()
	} else {
		for i, p := range peers {
			victim := string(peers[(i+1)%3].id)
			p.port.SetFate(func(f wire.Frame) membus.Fate {
				if f.Topic == "cc:all" {
					return membus.Fate{}
				}
				return membus.Fate{Skip: victim}
			})
		}
		everywhere()
		for _, p := range peers {
			p.port.SetFate(nil)
		}
		time.Sleep(5 * time.Second)
	}
	for _, p := range peers {
		if err := p.a.Flush(t.Context()); err != nil {
			t.Fatal("Flush:", err)
		}
	}
	close(stop)
	beats.Wait()
	synctest.Wait()
	for _, p := range peers {
		if err := p.a.Close(t.Context()); err != nil {
			t.Fatal("Close:", err)
		}
	}
	check(t, peers, w, total)
}

// forge publishes a frame in the name of a node, with a number that is not its own: as a stranger can.
func forge(r *rand.Rand, stranger *membus.Port, victim *peer, room crosscast.Address) {
	h := wire.FrameHeader{Origin: victim.id, Number: r.Uint64() | 1<<40, Control: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		h.Previous = r.Uint64N(h.Number)
	}
	if r.IntN(4) == 0 {
		h.LossCount = r.Uint64()
	}
	f := wire.Frame{Topic: "cc:all", Data: wire.AppendFrameHeader(nil, &h)}
	if r.IntN(2) == 0 {
		f.Topic = "cc:r:/:" + room.Name
	}
	stranger.Publish(context.Background(), []wire.Frame{f})
}

// randomFate keeps to one kind of trouble for a while, with a share of frames that it hits.
func randomFate(r *rand.Rand, p *peer, peers []*peer, holes, patchy bool) func(wire.Frame) membus.Fate {
	share := r.IntN(3) + 1
	victim := peers[r.IntN(len(peers))]
	for victim == p {
		// Its own frames are its echoes: without them its link is replaced.
		victim = peers[r.IntN(len(peers))]
	}
	kind := r.IntN(5)
	if holes && r.IntN(2) == 0 {
		kind = 5 + r.IntN(2)
	}
	if patchy && r.IntN(2) == 0 {
		kind = 6
		share++
	}
	rr := rand.New(rand.NewPCG(r.Uint64(), 2))
	return func(f wire.Frame) membus.Fate {
		if rr.IntN(share) != 0 {
			return membus.Fate{}
		}
		if patchy && kind == 6 && f.Topic == "cc:all" && rr.IntN(4) != 0 {
			return membus.Fate{} // a node of which nothing is heard for long is another one's to report
		}
		down := rr.IntN(2) == 0
		switch kind {
		case 0: // refused
			return membus.Fate{Err: fmt.Errorf("%w: scripted", crosscast.ErrRefused), Down: down, Lost: true}
		case 1: // uncertain, not executed
			return membus.Fate{Err: errors.New("scripted timeout"), Down: down, Lost: true}
		case 2: // uncertain, executed
			return membus.Fate{Err: errors.New("scripted timeout"), Down: down}
		case 3: // uncertain, executed after its successors
			return membus.Fate{Err: errors.New("scripted timeout"), Down: down, Delay: time.Duration(rr.IntN(int(2 * time.Second)))}
		case 4: // repeated
			return membus.Fate{Repeat: rr.IntN(3), Again: time.Duration(rr.IntN(int(2 * time.Second)))}
		case 5: // accepted, but reordered
			return membus.Fate{Delay: time.Duration(rr.IntN(int(100 * time.Millisecond)))}
		default: // a receiver silently misses it
			return membus.Fate{Skip: string(victim.id)}
		}
	}
}

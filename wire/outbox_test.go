package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// newTestSession is a session without a bus, of a node or an emitter.
func newTestSession(p presence) *session {
	s := &session{
		self: crosscast.NodeInfo{ID: "node0000", Heartbeat: time.Second}, stats: &stats{}, presence: p,
	}
	s.o, _ = Options{QueueBytes: 64 << 10, MaxFrame: 4 << 10}.withDefaults(nil)
	s.routing = newRouting(&s.o)
	s.format = &ownFrames{s}
	s.ground = s.format.start(nil)
	s.ground.noticeTopic, s.ground.echoTopic = s.ground.notices.topic("cc"), s.ground.echoes.topic("cc")
	return s
}

// fakeClock is a time that stands still.
type fakeClock struct{ time.Time }

func (c *fakeClock) now() time.Time { return c.Time }

func (c *fakeClock) pass(d time.Duration) { c.Time = c.Add(d) }

func newTestOutbox(p presence) (*outbox, *fakeClock) {
	c := &fakeClock{time.Unix(1000, 0)}
	return &outbox{session: newTestSession(p), clock: c.now}, c
}

func (b *outbox) emit(d *delivery, rooms, users []string) {
	inst := &crosscast.Instruction{
		Kind: kind.Emit, Namespace: "/", Event: "e", Target: crosscast.Target{Rooms: rooms, Users: users},
	}
	to := b.routing.route(nil, inst, b.self.ID)
	data, err := appendInstruction(nil, inst, &to[0].name)
	if err != nil {
		panic(err)
	}
	b.enterInstruction(to, inst, data, d, true)
}

// send takes up to limit bytes, and numbers them.
func (b *outbox) send(limit int) []*frame {
	batch := b.takeQueued(b.takeControl(), limit)
	for _, f := range batch {
		b.seal(f)
	}
	return batch
}

// arrive enters outcomes: the error of each frame, and one receiver where there is none.
func (b *outbox) arrive(batch []*frame, errs ...error) outcomes {
	out := make([]Frame, len(batch))
	for i := range out {
		out[i].Receivers = 1
		if i < len(errs) {
			out[i].Err = errs[i]
		}
	}
	return b.settleBatch(batch, out, b.clock(), b.clock(), func(string) bool { return false })
}

func nobodyHears(string) bool { return false }

// TestOutboxKeepsOrder: for random emissions, batches and losses, numbers rise; a frame's predecessor is the last frame
// of its topic that was not lost; and an instruction keeps its place among those to topics of other kinds, or to
// several.
func TestOutboxKeepsOrder(t *testing.T) {
	refused := fmt.Errorf("%w: why", crosscast.ErrRefused)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		b, clock := newTestOutbox(full)
		type emission struct {
			kind topicKind
			done *delivery
		}
		var emitted []*emission
		byDelivery := map[*delivery]int{}
		last := map[string]uint64{} // of topics, without what was lost
		number := uint64(0)
		sent := 0 // instructions, without copies
		highest := map[topicKind]int{}
		settle := func(limit int) {
			batch := b.send(limit)
			var errs []error
			type numbered struct {
				topic        string
				number, prev uint64
			}
			var numbers []numbered
			for _, f := range batch {
				if f.number != number+1 || f.prev != last[f.topic.name] {
					t.Fatalf("seed %d: frame %d after %d, previous %d and not %d",
						seed, f.number, number, f.prev, last[f.topic.name])
				}
				number = f.number
				last[f.topic.name] = f.number
				numbers = append(numbers, numbered{f.topic.name, f.number, f.prev})
				var err error
				if r.IntN(4) == 0 {
					err = refused
				}
				errs = append(errs, err)
				for _, d := range f.deliveries {
					i := byDelivery[d]
					e := emitted[i]
					for k, h := range highest {
						if (k != e.kind || k == toSeveral) && h > i {
							t.Fatalf("seed %d: emission %d of kind %d went after %d of kind %d", seed, i, e.kind, h, k)
						}
					}
					highest[e.kind] = max(highest[e.kind], i)
				}
			}
			if len(batch) == 0 {
				return
			}
			o := b.arrive(batch, errs...)
			for i := len(numbers) - 1; i >= 0; i-- {
				if n := numbers[i]; errs[i] != nil && last[n.topic] == n.number {
					last[n.topic] = n.prev
				}
			}
			for _, d := range o.done {
				sent++
				if d.left != 0 {
					t.Fatalf("seed %d: done with %d frames to come", seed, d.left)
				}
			}
		}
		for range 200 {
			switch r.IntN(4) {
			case 0:
				clock.pass(time.Millisecond)
				settle(r.IntN(2 << 10))
			default:
				e := &emission{done: newDelivery()}
				var rooms, users []string
				for range 1 + r.IntN(3)/2 {
					if name := string(rune('A' + r.IntN(4))); r.IntN(2) == 0 {
						rooms = append(rooms, name)
					} else {
						users = append(users, name)
					}
				}
				e.kind = toSeveral
				if len(rooms)+len(users) == 1 {
					e.kind = toRoom
					if len(users) == 1 {
						e.kind = toUser
					}
				} else if len(rooms) == 2 && rooms[0] == rooms[1] {
					e.kind = toRoom
				} else if len(users) == 2 && users[0] == users[1] {
					e.kind = toUser
				}
				byDelivery[e.done] = len(emitted)
				emitted = append(emitted, e)
				b.emit(e.done, rooms, users)
			}
		}
		for len(b.queue) > 0 {
			settle(1 << 10)
		}
		if sent != len(emitted) || b.settled != b.opened || b.bytes != 0 {
			t.Fatalf("seed %d: %d of %d emissions, %d of %d frames, %d bytes held",
				seed, sent, len(emitted), b.settled, b.opened, b.bytes)
		}
		if n := b.spare.holds(); n != b.spare.bytes || n > b.spareBytes() {
			t.Fatalf("seed %d: %d bytes for reuse, counted as %d, of at most %d", seed, n, b.spare.bytes, b.spareBytes())
		}
	}
}

// holds is the memory that is kept for reuse.
func (s *spare) holds() int {
	n := frameBytes * len(s.frames)
	for _, f := range s.frames {
		n += cap(f.buf)
	}
	for _, b := range slices.Concat(append(s.buffers[:], s.small, s.large)...) {
		n += cap(b)
	}
	return n
}

// TestOutboxExpires: frames that have waited for MaxAge are one loss, with their names and numbers. The others wait on.
func TestOutboxExpires(t *testing.T) {
	b, clock := newTestOutbox(full)
	old, young := newDelivery(), newDelivery()
	b.emit(old, []string{"A"}, nil)
	b.emit(nil, nil, []string{"u"})
	clock.pass(b.o.MaxAge - time.Millisecond)
	if lost, _ := b.expire(clock.now(), false); lost != nil {
		t.Fatalf("lost too early: %+v", lost)
	}
	b.emit(young, []string{"B"}, nil)
	clock.pass(time.Millisecond)
	lost, done := b.expire(clock.now(), false)
	if len(lost) != 1 || lost[0].Reason != reasons.LossExpired || lost[0].Instructions != 2 || lost[0].From != 1 ||
		lost[0].To != 2 || len(lost[0].Names) != 2 {
		t.Errorf("lost %+v", lost)
	}
	if !slices.Equal(done, []*delivery{old}) || !errors.Is(old.err, crosscast.ErrNotConnected) {
		t.Errorf("done %v: %v", done, old.err)
	}
	if len(b.queue) != 1 || b.settled != 2 || b.opened != 3 || !b.untold() {
		t.Errorf("%d wait; %d of %d settled", len(b.queue), b.settled, b.opened)
	}
	if batch := b.send(1 << 20); batch[0].number != 3 {
		t.Errorf("the next frame has number %d", batch[0].number)
	}
	b.emit(nil, []string{"C"}, nil)
	if lost, _ := b.expire(clock.now(), true); len(lost) != 1 || lost[0].Reason != reasons.LossClosed {
		t.Errorf("lost at the end: %+v", lost)
	}
}

// TestOutboxLosesNoQueries: a query or an answer that expires or is refused is no loss, because the querying node gets an
// error. A loss that has some does not count them.
func TestOutboxLosesNoQueries(t *testing.T) {
	b, clock := newTestOutbox(full)
	answer := newDelivery()
	enter := func(k kind.Kind, d *delivery) {
		inst := &crosscast.Instruction{Kind: k, Namespace: "/", Target: crosscast.Target{Everyone: true}}
		b.enterInstruction(b.routing.route(nil, inst, b.self.ID), inst, []byte("x"), d, true)
	}
	enter(kind.Ask, nil)
	enter(kind.Answer, answer)
	clock.pass(b.o.MaxAge)
	lost, done := b.expire(clock.now(), false)
	if lost != nil || b.untold() {
		t.Errorf("lost %+v", lost)
	}
	if !slices.Equal(done, []*delivery{answer}) || !errors.Is(answer.err, crosscast.ErrNotConnected) || b.settled != b.opened {
		t.Errorf("done %v: %v; %d of %d settled", done, answer.err, b.settled, b.opened)
	}

	enter(kind.Ask, nil)
	if o := b.arrive(b.send(1<<20), crosscast.ErrRefused); o.lost != nil || b.untold() {
		t.Errorf("refused: %+v", o.lost)
	}

	enter(kind.Ask, nil)
	enter(kind.Join, nil)
	if lost, _ = b.expire(clock.now(), true); len(lost) != 1 || lost[0].Instructions != 1 || !b.untold() {
		t.Errorf("with a join: %+v", lost)
	}
}

// TestOutboxSettles: frames of one batch that fared differently are losses apart, and peers count as told once a frame to
// everyone that carries the losses was accepted.
func TestOutboxSettles(t *testing.T) {
	b, _ := newTestOutbox(full)
	d := newDelivery()
	b.emit(d, []string{"A", "B"}, nil)
	for _, room := range []string{"C", "D", "E"} {
		b.emit(nil, []string{room}, nil)
	}
	down := errors.New("why")
	refused := fmt.Errorf("%w: why", crosscast.ErrRefused)
	batch := b.send(1 << 20)
	out := make([]Frame, len(batch))
	out[0].Receivers, out[1].Err = 3, refused
	out[2].Err, out[3].Err, out[4].Receivers = refused, down, 1
	out[3].Down = true
	o := b.settleBatch(batch, out, b.clock(), b.clock(), nobodyHears)
	if len(o.lost) != 2 || o.lost[0].Reason != reasons.LossRefused || o.lost[0].Instructions != 2 ||
		o.lost[1].Reason != reasons.LossUncertain || o.lost[1].Instructions != 1 {
		t.Errorf("lost %+v", o.lost)
	}
	if !errors.Is(d.err, crosscast.ErrRefused) || d.receipt.Nodes != 3 || !slices.Equal(o.done, []*delivery{d}) {
		t.Errorf("%v, and %+v: %v", d.receipt, o.done, d.err)
	}
	if o.frames != 2 || o.down != down || o.links != -1 {
		t.Errorf("outcomes %+v", o)
	}
	if !b.untold() {
		t.Error("peers were told by nothing")
	}
	for _, err := range []error{refused, nil} {
		f := b.notice()
		b.seal(f)
		o = b.arrive([]*frame{f}, err)
		if b.untold() != (err != nil) {
			t.Errorf("after a notice that ended with %v: untold %v", err, b.untold())
		}
	}
	b.emit(nil, []string{"F"}, nil)
	both := append(b.send(1<<20), b.notice()) // which was sealed before anything was lost
	b.seal(both[1])
	b.arrive(both, refused)
	if !b.untold() {
		t.Error("peers were told of a loss by a frame of the same batch")
	}
	if o.links != 1 || o.echo != 7 || !o.notices {
		t.Errorf("outcomes of a notice %+v", o)
	}
}

// TestOutboxRoom: a single instruction always has room. Others have QueueBytes together, and give the room back.
func TestOutboxRoom(t *testing.T) {
	b, _ := newTestOutbox(full)
	if !b.hasRoom(1 << 30) {
		t.Error("no room for what is alone")
	}
	for i := 0; b.hasRoom(1 << 10); i++ {
		b.emit(nil, []string{fmt.Sprint("room", i)}, nil)
	}
	if b.bytes > b.o.QueueBytes || b.bytes < b.o.QueueBytes-4<<10 {
		t.Errorf("full with %d of %d bytes", b.bytes, b.o.QueueBytes)
	}
	first := b.send(0)
	if len(first) != 1 || !b.hasRoom(100) {
		t.Errorf("%d frames taken, and no room after it", len(first))
	}
	open := b.queue[0].topic
	b.emit(nil, []string{"room1"}, nil)
	if b.queue[0].instructions != 1 || open.open == b.queue[0] {
		t.Error("a frame that was left behind takes another instruction")
	}
}

// TestHistoryLosesOnce: frames to a server that the peers had left are lost once, including those in flight.
func TestHistoryLosesOnce(t *testing.T) {
	var h history
	at := time.Unix(1000, 0)
	for i := range 10 {
		h.enter(at.Add(time.Duration(i)*time.Second), uint64(i+1), 1, time.Second)
	}
	h.leave(at.Add(5*time.Second + time.Millisecond))
	h.leave(at.Add(7 * time.Second)) // later than that
	if !h.left() {
		t.Fatal("nothing is to be lost")
	}
	h.enter(at.Add(10*time.Second), 11, 1, time.Second) // was under way
	if l, some := h.lose(); !some || l.from != 7 || l.to != 11 || l.instructions != 5 || !l.all {
		t.Errorf("lost %+v", l)
	}
	h.leave(at)
	if l, some := h.lose(); some || h.left() {
		t.Errorf("lost again: %+v", l)
	}
	h.enter(at.Add(11*time.Second), 12, 2, time.Second)
	h.leave(at)
	if l, some := h.lose(); !some || l.from != 12 || l.instructions != 2 {
		t.Errorf("lost later: %+v", l)
	}
}

package wire

import (
	"context"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// A Dialect is what other programs speak on a bus: their topics, and their messages. An adapter that [Speak] makes of
// one carries instructions to and from them. Queues, links, subscriptions, outages and losses are as with nodes' own
// frames. What a Dialect cannot have, because nothing foreign is numbered: a message that was missed on a standing link
// is not noticed.
//
// Write and Topics may be called concurrently with everything; the others are called one at a time.
type Dialect interface {
	// Begin is called by each Start, before everything else, and forgets a start that failed: instructions that arrive go
	// to h.
	Begin(self crosscast.NodeInfo, h crosscast.Handler)

	// Home returns the topics that the node hears from Start to Close, whatever it has interest in.
	Home() []string

	// Topics returns the topics that a name is on; none where it is on those of Home.
	Topics(name crosscast.Address) []string

	// Write calls send with the messages that in becomes, in the order in which they are to go out. There may be none.
	// name is the one room or user that a message is for, zero if it is for others; data may be overwritten afterwards.
	Write(in *crosscast.Instruction, send func(topic string, name crosscast.Address, data []byte)) error

	// Read acts on a message that arrived on a topic. It ignores what this node wrote, except an Echo, whose number it
	// returns. An error means that the message was dropped; it is counted by whether it matches crosscast.ErrForeign,
	// and is never 0 beside an echo.
	Read(topic string, data []byte) (echo uint64, err error)

	// Echo returns a message with a number, which is not 0, that this node alone hears, on a topic of Home, always the
	// same. That it comes back proves that the link hears.
	Echo(number uint64) (topic string, data []byte)
}

// A Gatherer is a [Dialect] that can tell whether its peers are back after an outage, which they notice and mend each
// for itself. Without it, what waited is published as soon as the link stands, and may reach nobody.
type Gatherer interface {
	// Gather returns when the peers that there were before are there again, or with ctx. Emitters do without it.
	Gather(ctx context.Context)
}

// Speak returns an adapter over bus for a dialect; Prefix and Ingress of the options mean nothing to it. Heartbeats
// become echoes; hellos, and heartbeats to a single node, become nothing.
func Speak(bus Bus, d Dialect, o Options) *Adapter {
	a := New(bus, o)
	a.dialect = d
	return a
}

// startDialect tells the dialect of the node, and wants its home topics.
func (a *Adapter) startDialect() {
	a.dialect.Begin(a.self, counting{a.handler, a})
	topic, _ := a.dialect.Echo(1)
	a.noticeTo = destination{foreign: topic}
	a.echoTo = a.noticeTo
	for _, topic := range a.dialect.Home() {
		a.subs.add(destination{foreign: topic})
	}
}

// gather lets the writer go on when the dialect's peers are back.
func (a *Adapter) gather(g Gatherer, until time.Time) {
	ctx, cancel := context.WithDeadline(a.ctx, until)
	defer cancel()
	g.Gather(ctx)
	a.writer.heardFrom(gathered)
}

// gathered stands for all peers of a dialect among those that the writer waits for.
const gathered crosscast.NodeID = "gathered"

// counting counts the instructions that a Handler gets, and notes which are late.
type counting struct {
	crosscast.Handler
	a *Adapter
}

func (c counting) Handle(in *crosscast.Instruction) {
	c.a.stats.instructionsIn.Add(1)
	if in.Ref != "" {
		in.Late = c.a.echo.late(time.Now())
	}
	c.Handler.Handle(in)
}

// destinations appends to dst what the name is on.
func (a *Adapter) destinations(dst []destination, name crosscast.Address) []destination {
	if a.dialect == nil {
		return append(dst, destination{name: name})
	}
	for _, topic := range a.dialect.Topics(name) {
		dst = append(dst, destination{name: name, foreign: topic})
	}
	return dst
}

// foreign acts on a message of a dialect; in.mu is held.
func (in *incoming) foreign(topic string, data []byte, now time.Time) {
	a := in.a
	echo, err := a.dialect.Read(topic, data)
	switch {
	case echo != 0:
		a.echo.hear(echo, now)
	case err != nil:
		a.count(dropFor(err))
	default:
		a.stats.framesIn.Add(1)
		a.stats.bytesIn.Add(uint64(len(data)))
	}
}

// foreignTooLarge reports a message that was not looked at, so nobody knows whom it was from; in.mu is held.
func (in *incoming) foreignTooLarge(t *topic, now time.Time) {
	gap := crosscast.Gap{Since: later(in.started, now.Add(-in.a.o.MaxAge)), Until: now, Reason: crosscast.GapHole}
	if t.to.name != (crosscast.Address{}) {
		gap.Names = []crosscast.Address{t.to.name}
	}
	in.a.handler.Gap(gap)
}

// spoken is what one instruction becomes in a dialect, on its way into the queue.
type spoken struct {
	messages []spokenMessage
	data     []byte // of all messages, one behind the other
}

type spokenMessage struct {
	to  destination
	end int // in data
}

var spokens = sync.Pool{New: func() any { return new(spoken) }}

// release lets s be used again, unless it keeps much memory.
func (s *spoken) release() {
	if cap(s.data) <= 2*packBytes {
		clear(s.messages)
		s.messages, s.data = s.messages[:0], s.data[:0]
		spokens.Put(s)
	}
}

// write makes s what in becomes.
func (a *Adapter) write(s *spoken, in *crosscast.Instruction) error {
	var tooLarge error
	err := a.dialect.Write(in, func(topic string, name crosscast.Address, data []byte) {
		if len(data) > a.o.MaxFrame {
			tooLarge = &crosscast.LimitError{What: "instruction", Len: len(data), Max: a.o.MaxFrame}
			return
		}
		s.data = append(s.data, data...)
		s.messages = append(s.messages, spokenMessage{destination{name: name, foreign: topic}, len(s.data)})
	})
	if err == nil {
		err = tooLarge
	}
	return err
}

// speak queues in for a dialect; d, when not nil, hears of the outcome.
func (w *writer) speak(ctx context.Context, in *crosscast.Instruction, d *delivery) error {
	s := spokens.Get().(*spoken)
	defer s.release()
	if err := w.a.write(s, in); err != nil {
		return err
	}
	if d != nil {
		d.left, d.reach.Known = len(s.messages), true
		if len(s.messages) == 0 {
			close(d.done)
		}
	}
	if len(s.messages) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.admit(ctx, len(s.data)+(frameBytes+topicBytes)*len(s.messages), in.Flags&crosscast.Volatile != 0); err != nil {
		return err
	}
	from := 0
	for _, m := range s.messages {
		f := w.open(w.topic(m.to), m.end-from)
		f.buf = append(f.buf, s.data[from:m.end]...)
		f.instructions++
		from = m.end
		if d != nil {
			f.deliveries = append(f.deliveries, d)
		}
		w.count(f)
	}
	w.a.stats.instructionsOut.Add(1)
	w.signal()
	return nil
}

// speakControl queues an echo for a heartbeat to everyone, and nothing for what a dialect has no word for. The caller
// holds mu.
func (w *writer) speakControl(in *crosscast.Instruction, d *delivery) error {
	if d != nil {
		d.reach.Known = true
		close(d.done)
	}
	switch {
	case w.closing:
		return crosscast.ErrClosed
	case !w.linkUp:
		return crosscast.ErrNotConnected
	case in.Kind == crosscast.KindHeartbeat && in.To == "" && !w.heartbeatWaits(w.a.noticeTo):
		f := w.notice()
		f.heartbeat = true
		w.control = append(w.control, f)
		w.signal()
	}
	return nil
}

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
	// Begin is called by each Start, before everything else, and forgets a start that failed. Instructions that arrive go
	// to s.Handler.
	Begin(s crosscast.AdapterStart)

	// Home returns the topics that the node hears from Start to Close, whatever it has interest in.
	Home() []string

	// Topics returns the topics that a name is on; none where it is on those of Home.
	Topics(name crosscast.Address) []string

	// Write calls send with the messages that inst becomes, in the order in which they are to go out. There may be none.
	// name is the one room or user that a message is for, zero if it is for others; data may be overwritten afterwards.
	Write(inst *crosscast.Instruction, send func(topic string, name crosscast.Address, data []byte)) error

	// Read acts on a message that arrived on a topic. It ignores what this node wrote, except an Echo, whose number it
	// returns. An error means that the message was dropped; it is counted by whether it matches [ErrForeign],
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
	return newAdapter(bus, o, func(s *session) format {
		return &spoken{session: s, dialect: d}
	})
}

// spoken is the format of a dialect.
type spoken struct {
	*session
	dialect Dialect
	echo    *echo
}

func (p *spoken) start(e *echo) ground {
	p.echo = e
	p.dialect.Begin(crosscast.AdapterStart{Self: p.self, Handler: counting{p.handler, p}, Logger: p.o.Logger})
	topic, _ := p.dialect.Echo(1)
	notices := destination{foreign: topic}
	g := ground{notices: notices, echoes: notices, interest: true}
	for _, topic := range p.dialect.Home() {
		g.home = append(g.home, destination{foreign: topic})
	}
	return g
}

func (*spoken) numbered() bool { return false }

// gatherer implements format. Emitters do without: they have no part in outages of others.
func (p *spoken) gatherer() Gatherer {
	g, ok := p.dialect.(Gatherer)
	if !ok || !p.presence.hears {
		return nil
	}
	return g
}

// counting counts the instructions that a Handler gets, and notes which are late.
type counting struct {
	crosscast.AdapterHandler
	p *spoken
}

func (c counting) Handle(inst *crosscast.Instruction) {
	c.p.stats.instructionsIn.Add(1)
	if inst.Ref != "" {
		inst.Late = c.p.echo.late(time.Now())
	}
	c.AdapterHandler.Handle(inst)
}

func (p *spoken) destinations(dst []destination, name crosscast.Address) []destination {
	for _, topic := range p.dialect.Topics(name) {
		dst = append(dst, destination{name: name, foreign: topic})
	}
	return dst
}

// handle implements format. Nobody knows whom a message was from that is too large to be looked at.
func (p *spoken) handle(l *ledger, t *topic, ev Event, large bool, now time.Time) {
	if large {
		gap := crosscast.Gap{Since: later(l.started, now.Add(-p.o.MaxAge)), Until: now, Reason: crosscast.GapHole}
		gap.Names = t.to.names()
		p.handler.Gap(gap)
		return
	}
	number, err := p.dialect.Read(ev.Topic, ev.Data)
	switch {
	case number != 0:
		l.echo.handleEcho(number, now)
	case err != nil:
		p.count(dropFor(err))
	default:
		p.stats.framesIn.Add(1)
		p.stats.bytesIn.Add(uint64(len(ev.Data)))
	}
}

// messages are what one instruction becomes, on its way into the queue.
type messages struct {
	all  []message // of a dialect
	data []byte    // of all, one behind the other
}

type message struct {
	to  destination
	end int // in data
}

var messagePool = sync.Pool{New: func() any { return new(messages) }}

// release lets m be used again, unless it keeps much memory.
func (m *messages) release() {
	if cap(m.data) <= 2*packBytes {
		clear(m.all)
		m.all, m.data = m.all[:0], m.data[:0]
		messagePool.Put(m)
	}
}

// check returns an error if no instruction may be like this one. m is empty before and after it.
func (m *messages) check(inst *crosscast.Instruction) error {
	data, err := crosscast.AppendInstruction(m.data, inst)
	m.data = data[:0]
	return err
}

// write makes m what inst becomes.
func (p *spoken) write(m *messages, inst *crosscast.Instruction) error {
	var tooLarge error
	err := p.dialect.Write(inst, func(topic string, name crosscast.Address, data []byte) {
		if len(data) > p.o.MaxFrame {
			tooLarge = &crosscast.LimitError{What: "instruction", Len: len(data), Max: p.o.MaxFrame}
			return
		}
		m.data = append(m.data, data...)
		m.all = append(m.all, message{destination{name: name, foreign: topic}, len(m.data)})
	})
	if err == nil {
		err = tooLarge
	}
	return err
}

// maxGrowth is how many times as long a dialect might write something, where a byte becomes an escape such as \u0000.
const maxGrowth = 6

func (p *spoken) fits(inst *crosscast.Instruction) error {
	if maxGrowth*instructionBound(inst)+packBytes <= p.o.MaxFrame {
		return nil
	}
	m := messagePool.Get().(*messages)
	defer m.release()
	return p.write(m, inst)
}

func (p *spoken) publish(ctx context.Context, s *sender, inst *crosscast.Instruction, d *delivery) error {
	m := messagePool.Get().(*messages)
	defer m.release()
	if err := m.check(inst); err != nil {
		return err
	}
	if err := p.write(m, inst); err != nil {
		return err
	}
	if len(m.all) == 0 {
		d.expect(0)
		return nil
	}
	for {
		room, err := s.queueMessages(m, inst.Volatile, d)
		if room == nil {
			return err
		}
		if err := s.waitForRoom(ctx, room); err != nil {
			return err
		}
	}
}

// control implements format: a heartbeat to everyone becomes an echo, and a dialect has no word for the others.
func (p *spoken) control(b *outbox, inst *crosscast.Instruction) (*frame, error) {
	if inst.Kind != crosscast.KindHeartbeat || inst.To != "" || b.heartbeatWaits(&b.ground.notices) {
		return nil, nil
	}
	f := b.notice()
	f.heartbeat = true
	return f, nil
}

func (*spoken) beginFrame(buf []byte, _ bool) []byte { return buf }

func (p *spoken) sealFrame(_ *outbox, f *frame) {
	if f.control {
		_, f.buf = p.dialect.Echo(f.number)
	}
}

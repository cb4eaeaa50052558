package wire

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// A Dialect is the protocol of other programs on a bus: their topics and messages. [Speak] makes an adapter of one,
// which carries instructions to and from those programs. Queues, links, subscriptions, outages and losses work as with
// the frames of nodes. One thing does not: foreign messages have no numbers, so a message that is missed while the link
// is up is not noticed.
//
// Write and Topics may be called concurrently with everything. The other methods are called one at a time.
type Dialect interface {
	// Begin is called first by each Start. It forgets a start that failed. Instructions that arrive go to s.Handler.
	Begin(s crosscast.AdapterStart)

	// Home returns the topics that the node receives from Start to Close, whatever its interest.
	Home() []string

	// Topics returns the topics of a name. It returns none if the name's messages are on topics of Home.
	Topics(name crosscast.Address) []string

	// Write calls send with each message that inst becomes, in the order in which they are to be published. There may
	// be none. If a message is for exactly one room or user, name is that one; otherwise it is zero. send does not keep
	// data.
	Write(inst *crosscast.Instruction, send func(topic string, name crosscast.Address, data []byte)) error

	// Read handles a message that arrived on a topic. It ignores this node's own messages, except an Echo, whose number
	// it returns. If err is not nil, the message is dropped and counted as foreign (if err matches [ErrForeign]) or
	// malformed. err is nil if echo is not 0. data is valid during the call.
	Read(topic string, data []byte) (echo uint64, err error)

	// Echo returns a message with a number, which is not 0. Its topic is always the same, is one of Home, and only this
	// node receives it. When the message comes back, the link works.
	Echo(number uint64) (topic string, data []byte)
}

// A Gatherer is a [Dialect] that knows whether its peers are back after an outage; each peer notices and repairs the
// outage by itself. Without a Gatherer, waiting messages are published as soon as the link is up, and might reach
// nobody.
type Gatherer interface {
	// Gather returns when the earlier peers are back, or when ctx ends. It is not called for emitters.
	Gather(ctx context.Context)
}

// Speak returns an adapter over bus for a dialect. It ignores Prefix and Ingress of the options, and refuses a Seal.
// Heartbeats to everyone become echoes. Hellos, and heartbeats to a single node, are not sent.
func Speak(bus Bus, d Dialect, o Options) *Adapter {
	a := newAdapter(bus, o, func(s *session) format {
		return &spoken{session: s, dialect: d}
	})
	if a.o.seal != nil {
		a.optErr = cmp.Or(a.optErr, errors.New("crosscast/wire: Options.Seal: messages of a Dialect cannot be sealed"))
	}
	return a
}

// spoken is the format of a dialect.
type spoken struct {
	*session
	dialect Dialect
	echo    *echo
}

func (p *spoken) start(e *echo) ground {
	p.echo = e
	p.dialect.Begin(crosscast.AdapterStart{
		Self: p.self, Handler: counting{p.handler, p}, EmitOnly: p.presence == emitter, Logger: p.o.Logger,
	})
	topic, _ := p.dialect.Echo(1)
	notices := destination{foreign: topic}
	g := ground{notices: notices, echoes: notices, interest: true}
	for _, topic := range p.dialect.Home() {
		g.home = append(g.home, destination{foreign: topic})
	}
	return g
}

func (*spoken) numbered() bool { return false }

// gatherer implements format. Emitters have none: outages of others do not concern them.
func (p *spoken) gatherer() Gatherer {
	g, ok := p.dialect.(Gatherer)
	if !ok || !p.presence.hears {
		return nil
	}
	return g
}

// counting counts the instructions that a Handler gets, and marks the late ones.
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

// handle implements format. The sender of a message that is too large to be read is unknown.
func (p *spoken) handle(l *ledger, t *topic, ev Event, large bool, now time.Time) {
	if large {
		gap := crosscast.Gap{Since: later(l.started, now.Add(-p.o.MaxAge)), Until: now, Reason: reasons.GapHole}
		gap.Names = t.to().names()
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

// messages are the encoded messages of one instruction, on their way into the queue.
type messages struct {
	to   []destination // of nodes
	all  []message     // of a dialect
	data []byte        // of all, one behind the other
}

type message struct {
	to  destination
	end int // in data
}

var messagePool = sync.Pool{New: func() any { return new(messages) }}

// release allows reuse of m, unless it holds much memory.
func (m *messages) release() {
	if cap(m.data) <= 2*packBytes {
		clear(m.to)
		clear(m.all)
		m.to, m.all, m.data = m.to[:0], m.all[:0], m.data[:0]
		messagePool.Put(m)
	}
}

// check returns an error if inst is not a valid instruction. m is empty before and after it.
func (m *messages) check(inst *crosscast.Instruction) error {
	data, err := crosscast.AppendInstruction(m.data, inst)
	m.data = data[:0]
	return err
}

// write fills m with the messages of inst.
func (p *spoken) write(m *messages, inst *crosscast.Instruction) error {
	var tooLarge error
	err := p.dialect.Write(inst, func(topic string, name crosscast.Address, data []byte) {
		if len(data) > p.o.MaxFrame {
			tooLarge = &limit.Error{What: "instruction", Len: len(data), Max: p.o.MaxFrame, Bytes: true}
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

// maxGrowth is how many times longer a dialect's encoding might be: a byte may become an escape such as \u0000.
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
		room, err := s.queueMessages(m, inst, d)
		if room == nil {
			return err
		}
		if err := s.waitForRoom(ctx, room); err != nil {
			return err
		}
	}
}

// control implements format: a heartbeat to everyone becomes an echo. A dialect has no message for the others.
func (p *spoken) control(b *outbox, inst *crosscast.Instruction, _ uint64) (*frame, error) {
	if inst.Kind != kind.Heartbeat || inst.To != "" || b.heartbeatWaits(&b.ground.notices) {
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

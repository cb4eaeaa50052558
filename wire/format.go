package wire

import (
	"context"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
)

// A format is the protocol that an adapter reads and writes on its bus: the frames of nodes (ownFrames), or a [Dialect]
// (spoken). It is chosen once, so the other parts need not know which one it is.
type format interface {
	// start is called first at each start. Instructions that arrive go to the session's handler.
	start(e *echo) ground

	// numbered reports whether frames have origins and numbers. With numbers, receivers drop copies, and notice
	// missing, late and lost frames. Without them nothing is sent twice, and peers cannot learn of a loss.
	numbered() bool

	// destinations appends to dst the topics of a name.
	destinations(dst []destination, name crosscast.Address) []destination

	// fits returns an error if an instruction is too large.
	fits(inst *crosscast.Instruction) error

	// publish queues an instruction that is no control frame. If d is not nil, it gets the outcome. It may be called
	// concurrently with everything.
	publish(ctx context.Context, s *sender, inst *crosscast.Instruction, d *delivery) error

	// control returns the control frame of a hello or heartbeat, with its copy number if it has any. It returns nil if there is no such frame, or if one
	// like it waits already.
	control(b *outbox, inst *crosscast.Instruction, copyNumber uint64) (*frame, error)

	// beginFrame appends the bytes of an empty frame to buf.
	beginFrame(buf []byte, control bool) []byte

	// sealFrame writes into a frame its numbers, and the losses.
	sealFrame(b *outbox, f *frame)

	// handle handles a message that arrived on a topic; the receiver's mu is held. large means that it is larger than
	// any frame may be; the caller has counted that.
	handle(l *ledger, t *topic, ev Event, large bool, now time.Time)

	// gatherer returns the Gatherer that knows whether the peers are back after an outage. It is nil if their frames
	// show that.
	gatherer() Gatherer
}

// ownFrames is the format of nodes: numbered frames.
type ownFrames struct{ *session }

func (o *ownFrames) start(*echo) ground {
	g := ground{home: []destination{{node: o.self.ID}}}
	if !o.presence.hears {
		g.echoes = g.home[0]
		return g
	}
	g.interest = true
	g.home = append(g.home, destination{})
	if o.o.Ingress {
		g.home = append(g.home, destination{ingress: true})
	}
	return g
}

func (*ownFrames) numbered() bool { return true }

func (*ownFrames) gatherer() Gatherer { return nil }

func (o *ownFrames) destinations(dst []destination, name crosscast.Address) []destination {
	return o.routing.topics(dst, name)
}

func (o *ownFrames) fits(inst *crosscast.Instruction) error { return o.bounded(instructionBound(inst)) }

func (o *ownFrames) publish(ctx context.Context, s *sender, inst *crosscast.Instruction, d *delivery) error {
	m := messagePool.Get().(*messages)
	defer m.release()
	m.to = o.routing.route(m.to, inst, o.self.ID)
	to := m.to
	if len(to) == 0 {
		d.expect(0)
		return nil
	}
	if len(to) == 1 && len(inst.Payload.Data) >= largeBytes {
		return o.publishLarge(ctx, s, &to[0], inst, d)
	}
	var err error
	name := to[0].implied()
	if len(to) > 1 { // the same bytes for all topics
		name = &noName
	}
	if m.data, err = appendInstruction(m.data, inst, name); err != nil {
		return err
	}
	if err := o.bounded(len(m.data) + maxCopyNumber); err != nil {
		return err
	}
	for {
		room, err := s.queueInstruction(to, inst, m.data, d)
		if room == nil {
			return err
		}
		if err := s.waitForRoom(ctx, room); err != nil {
			return err
		}
	}
}

func (o *ownFrames) control(b *outbox, inst *crosscast.Instruction, copyNumber uint64) (*frame, error) {
	to := destination{node: inst.To}
	isBeat := inst.Kind == kind.Heartbeat
	if isBeat && b.heartbeatWaits(&to) {
		return nil, nil
	}
	f := b.controlFrame(&to)
	if o.routing.text != "" {
		f.buf = mpack.AppendStr(f.buf, o.routing.text)
	}
	var err error
	if f.buf, err = appendInstruction(appendCopyNumber(f.buf, copyNumber), inst, &to.name); err != nil {
		return nil, err
	}
	f.instructions++
	f.heartbeat = isBeat
	return f, o.bounded(len(f.buf) - plainHeader)
}

func (o *ownFrames) beginFrame(buf []byte, control bool) []byte {
	return appendFrameHeader(buf, &frameHeader{Origin: o.self.ID, Control: control})
}

func (o *ownFrames) sealFrame(b *outbox, f *frame) {
	if b.quiet != nil && f.heartbeat {
		b.quiet.announce(f, b.clock(), f.final)
	}
	if f.topic.carriesLosses() && b.losses.count > 0 {
		h := frameHeader{Origin: o.self.ID, Number: f.number, Previous: f.prev, Control: f.control}
		b.losses.describe(&h, b.clock())
		if b.oldLosses() {
			h.Losses = nil
		}
		body := f.buf[plainHeader:]
		f.buf = append(appendFrameHeader(nil, &h), body...)
		return
	}
	patchNumbers(f.buf, f.number, f.prev)
}

func (o *ownFrames) handle(l *ledger, t *topic, ev Event, large bool, now time.Time) {
	switch {
	case t.to().ingress:
		if !large {
			l.handleIngress(ev.Topic, ev.Data, now)
		}
	case o.o.seal.seals():
		l.handleSealed(t, ev, large, now)
	default:
		l.handleFrame(t, ev.Data, nil, large, now)
	}
}

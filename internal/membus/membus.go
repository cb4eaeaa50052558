// Package membus is a bus of bytes in memory, for testing what is above a bus: by script it drops, repeats, reorders,
// delays and refuses frames, cuts and deafens links, and replaces servers. It works under testing/synctest.
package membus

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/activity"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// Hub is one bus that many nodes share. All methods may be called concurrently.
type Hub struct {
	// Busy, if not nil, counts the events that were pushed to links and are not handled yet. It is set before the first
	// Port.
	Busy *activity.Counter

	mu     sync.Mutex
	links  []*link // guarded by mu
	onExec func(f wire.Frame)
	onRead func(port, topic string, data []byte)
}

// New returns a bus on which nothing goes wrong yet.
func New() *Hub { return &Hub{} }

// OnExecute sets a function that sees each frame at the moment when the bus hands it to the subscribed links, once
// for each time.
func (h *Hub) OnExecute(f func(wire.Frame)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onExec = f
}

// OnRead sets a function that sees each message at the moment when a link of a port receives it.
func (h *Hub) OnRead(f func(port, topic string, data []byte)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onRead = f
}

// Fate is what becomes of one published frame. The zero Fate: delivered at once, accepted.
type Fate struct {
	Err    error         // what the publisher is told
	Down   bool          // and that it is the connection's fault
	Lost   bool          // the bus never hands it over
	Delay  time.Duration // the bus hands it over later, behind what is published meanwhile
	Repeat int           // and this many times more
	Again  time.Duration // and once more, later
	Skip   string        // the port whose links silently miss it
}

// Port is a node's access to a hub. It implements wire.Bus and wire.Mover.
type Port struct {
	name string

	patchy, scattered bool

	mu      sync.Mutex
	h       *Hub // where Publish and Dial go; guarded by mu, like everything below
	named   *Hub // what a look-up names
	lookups []time.Time
	fate    func(wire.Frame) Fate
	refuse  error // of Dial, Subscribe and Publish
	deny    map[string]bool
	latency time.Duration
	starve  bool
	badPing error
	forget  map[string]bool
	unproof error

	rate, upRate, pings atomic.Int64
}

// Port returns a new access, named for Fate.Skip.
func (h *Hub) Port(name string) *Port { return &Port{h: h, named: h, name: name} }

// Move has a look-up name another hub. The port's links stay where they are, and so does what it publishes, until the
// adapter asks.
func (p *Port) Move(to *Hub) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.named = to
}

// Follow makes the port use the hub that a look-up names, as of the next connection, without being asked.
func (p *Port) Follow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.h = p.named
}

// Lookups are when the adapter has asked whether there is another hub.
func (p *Port) Lookups() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lookups)
}

// Moved implements wire.Mover. Of a link that a test has wrapped it knows nothing.
func (p *Port) Moved(_ context.Context, l wire.Link) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookups = append(p.lookups, time.Now())
	p.h = p.named
	own, ok := l.(*link)
	return ok && own.h != p.named, nil
}

func (p *Port) hub() *Hub {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.h
}

// SetFate has f decide over each frame that the port publishes.
func (p *Port) SetFate(f func(wire.Frame) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fate = f
}

// SetPatchy has the port say that the bus is one that loses single messages. It is called before the port is used.
func (p *Port) SetPatchy() { p.patchy = true }

// Patchy implements wire.Patchy.
func (p *Port) Patchy() bool { return p.patchy }

// SetScattered has the port say that the bus keeps the order of single topics only. It is called before the port is used.
func (p *Port) SetScattered() { p.scattered = true }

// Scattered implements wire.Scattered.
func (p *Port) Scattered() bool { return p.scattered }

// SetLatency makes publishing and confirmations take d.
func (p *Port) SetLatency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// Deny has the hub refuse subscriptions of the port to a topic, or allow them again.
func (p *Port) Deny(topic string, denied bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deny == nil {
		p.deny = map[string]bool{}
	}
	p.deny[topic] = denied
}

// Down cuts the port's links and refuses everything until Up.
func (p *Port) Down() {
	p.mu.Lock()
	p.refuse = errors.New("membus: down")
	p.mu.Unlock()
	p.Cut()
}

// Refuse refuses everything with err until Up, and cuts nothing.
func (p *Port) Refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = err
}

// Up ends Down and Refuse.
func (p *Port) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = nil
}

// Cut breaks the port's links; what they had not received is lost.
func (p *Port) Cut() { p.each(func(l *link) { l.cut(errors.New("membus: cut")) }) }

// Deafen makes the port's links of today receive nothing more, without an error: they are dead.
func (p *Port) Deafen() { p.each(func(l *link) { l.dead = true; l.clear() }) }

// Starve makes the port's links of today receive no messages any more. Requests are confirmed and pings answered: they
// are deaf.
func (p *Port) Starve() { p.each(func(l *link) { l.starved = true }) }

// StarveAll does to links of tomorrow, too, what Starve does, or, with false, to none of them any more.
func (p *Port) StarveAll(starve bool) {
	p.mu.Lock()
	p.starve = starve
	p.mu.Unlock()
	if starve {
		p.Starve()
	}
}

// Mute makes the port's links of today answer no pings any more.
func (p *Port) Mute() { p.each(func(l *link) { l.mute = true }) }

// FailPings has pings answered with an error, or, with nil, as they should be.
func (p *Port) FailPings(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.badPing = err
}

// Forget makes requests of the port to subscribe to a topic never be confirmed, or again.
func (p *Port) Forget(topic string, forget bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forget == nil {
		p.forget = map[string]bool{}
	}
	p.forget[topic] = forget
}

// Unprove has confirmations of subscriptions say that they are unproven, or, with nil, not any more.
func (p *Port) Unprove(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unproof = err
}

// Pings returns how many pings were written to the port's links.
func (p *Port) Pings() int { return int(p.pings.Load()) }

// SetRate makes messages take time to arrive: so many bytes a second, or, with 0, none.
func (p *Port) SetRate(bytes int) { p.rate.Store(int64(bytes)) }

// SetUpRate makes published bytes take time to reach the hub: so many a second, or, with 0, none.
func (p *Port) SetUpRate(bytes int) { p.upRate.Store(int64(bytes)) }

// Links returns how many links the port has open.
func (p *Port) Links() int {
	n := 0
	p.each(func(*link) { n++ })
	return n
}

func (p *Port) each(f func(*link)) {
	h := p.hub()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range slices.Clone(h.links) {
		if l.port == p {
			f(l)
		}
	}
}

// Publish implements wire.Bus.
func (p *Port) Publish(ctx context.Context, frames []wire.Frame) {
	p.mu.Lock()
	h, fate, refuse, latency := p.h, p.fate, p.refuse, p.latency
	p.mu.Unlock()
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-ctx.Done():
			for i := range frames {
				frames[i].Err, frames[i].Down = ctx.Err(), true
			}
			return
		}
	}
	for i := range frames {
		f := &frames[i]
		f.Receivers, f.Err, f.Down = 0, nil, false
		if refuse != nil {
			f.Err, f.Down = errtext.Errorf("%w: %w", crosscast.ErrRefused, refuse), true
			continue
		}
		if !p.ascend(ctx, len(f.Data)) {
			f.Err, f.Down = ctx.Err(), true
			continue
		}
		var fa Fate
		if fate != nil {
			fa = fate(*f)
		}
		f.Err, f.Down = fa.Err, fa.Down
		if fa.Lost {
			continue
		}
		// The contract lets the publisher write to the bytes again.
		c := wire.Frame{Topic: f.Topic, Data: slices.Clone(f.Data)}
		if fa.Delay > 0 {
			time.AfterFunc(fa.Delay, func() { h.execute(c, fa.Skip) })
			continue
		}
		for range 1 + fa.Repeat {
			f.Receivers = h.execute(c, fa.Skip)
		}
		if fa.Again > 0 {
			time.AfterFunc(fa.Again, func() { h.execute(c, fa.Skip) })
		}
	}
}

// ascend takes the time that n published bytes need, and reports whether they have come that far.
func (p *Port) ascend(ctx context.Context, n int) bool {
	rate := p.upRate.Load()
	if rate == 0 {
		return true
	}
	select {
	case <-time.After(time.Duration(n) * time.Second / time.Duration(rate)):
		return true
	case <-ctx.Done():
		return false
	}
}

// execute hands a frame to every link that is subscribed.
func (h *Hub) execute(f wire.Frame, skip string) (receivers int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.onExec != nil {
		h.onExec(f)
	}
	for _, l := range h.links {
		if l.topics[f.Topic] {
			receivers++
			if l.port.name != skip {
				l.push(wire.Event{Kind: wire.Message, Topic: f.Topic, Data: f.Data})
			}
		}
	}
	return receivers
}

// Dial implements wire.Bus.
func (p *Port) Dial(context.Context) (wire.Link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	l := &link{port: p, h: p.h, topics: map[string]bool{}, heard: time.Now(), wake: make(chan struct{}, 1), starved: p.starve}
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.h.links = append(p.h.links, l)
	return l, nil
}

// link implements wire.Link. Its fields are guarded by the hub's mu.
type link struct {
	port   *Port
	h      *Hub
	topics map[string]bool
	queue  []wire.Event
	err    error
	heard  time.Time // when something was pushed, or a part of it was read
	wake   chan struct{}
	lent   []byte // used by Receive alone, without mu

	dead, starved, mute bool
	handling            bool // the event that Receive has returned counts as busy
}

func (l *link) push(ev wire.Event) {
	if l.dead || l.err != nil || l.starved && ev.Kind == wire.Message {
		return
	}
	l.h.Busy.Begin()
	l.queue = append(l.queue, ev)
	l.heard = time.Now()
	l.signal()
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// clear drops what the link has not received.
func (l *link) clear() {
	l.h.Busy.End(len(l.queue))
	l.queue = nil
}

// handled notes that the last event is handled.
func (l *link) handled() {
	if l.handling {
		l.handling = false
		l.h.Busy.End(1)
	}
}

func (l *link) cut(err error) {
	l.clear()
	l.err = err
	l.h.links = slices.DeleteFunc(l.h.links, func(x *link) bool { return x == l })
	l.signal()
}

func (l *link) Subscribe(topics []string) error {
	l.port.mu.Lock()
	unproven := l.port.unproof
	l.port.mu.Unlock()
	return l.ask(topics, func(denied bool, forgotten map[string]bool) {
		if denied {
			l.push(wire.Event{Kind: wire.Denied, Err: errors.New("membus: denied")})
			return
		}
		for _, t := range topics {
			if forgotten[t] {
				continue
			}
			l.topics[t] = true
			l.push(wire.Event{Kind: wire.Subscribed, Topic: t, Err: unproven})
		}
	})
}

func (l *link) Unsubscribe(topics []string) error {
	return l.ask(topics, func(bool, map[string]bool) {
		for _, t := range topics {
			delete(l.topics, t)
			l.push(wire.Event{Kind: wire.Unsubscribed, Topic: t})
		}
	})
}

// Ping implements wire.Link. The answer is behind what was handed over before.
func (l *link) Ping(name string) error {
	l.port.mu.Lock()
	bad := l.port.badPing
	l.port.mu.Unlock()
	l.port.pings.Add(1)
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if !l.mute {
		l.push(wire.Event{Kind: wire.Pong, Topic: name, Err: bad})
	}
	return nil
}

// Heard implements wire.Link.
func (l *link) Heard() time.Time {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	return l.heard
}

func (l *link) ask(topics []string, act func(denied bool, forgotten map[string]bool)) error {
	if len(topics) == 0 {
		panic("membus: a request without topics")
	}
	l.port.mu.Lock()
	latency := l.port.latency
	denied := slices.ContainsFunc(topics, func(t string) bool { return l.port.deny[t] })
	forgotten := maps.Clone(l.port.forget)
	l.port.mu.Unlock()
	if latency > 0 {
		time.Sleep(latency)
	}
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	act(denied, forgotten)
	return nil
}

// lend makes ev the event whose Data may be used until the next Receive.
func (l *link) lend(ev wire.Event) wire.Event {
	l.lent = bytes.Clone(ev.Data) // other links have it too
	ev.Data = l.lent
	return ev
}

// takeBack overwrites the Data of the last event, which shows if somebody still uses it.
func (l *link) takeBack() {
	for i := range l.lent {
		l.lent[i] = 0xC1 // never used by msgpack
	}
}

func (l *link) Receive() (wire.Event, error) {
	l.takeBack()
	for {
		l.h.mu.Lock()
		l.handled()
		switch {
		case len(l.queue) > 0:
			l.handling = true
			ev := l.queue[0]
			l.queue = l.queue[1:]
			if f := l.h.onRead; f != nil && ev.Kind == wire.Message {
				f(l.port.name, ev.Topic, ev.Data)
			}
			l.h.mu.Unlock()
			if err := l.arrive(len(ev.Data)); err != nil {
				return wire.Event{}, err
			}
			return l.lend(ev), nil
		case l.err != nil:
			err := l.err
			l.h.mu.Unlock()
			return wire.Event{}, err
		}
		l.h.mu.Unlock()
		<-l.wake
	}
}

// arrive takes the time that n bytes need.
func (l *link) arrive(n int) error {
	rate := int(l.port.rate.Load())
	if rate == 0 || n == 0 {
		return nil
	}
	for n > 0 {
		part := min(n, max(1, rate/100))
		time.Sleep(time.Duration(part) * time.Second / time.Duration(rate))
		n -= part
		l.h.mu.Lock()
		err := l.err
		l.heard = time.Now()
		l.h.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *link) Close() error {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	l.handled() // nobody receives any more
	l.cut(errors.New("membus: closed"))
	return nil
}

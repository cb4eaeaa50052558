package natsadapter

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// link is one subscribing connection. All its events are in one channel, in the order of the connection: messages, which
// nats.go puts there, and between them marks. A mark stands for the answers to the requests that a PING has confirmed.
//
// It has one goroutine beside those of nats.go, which asks for these answers and ends with the line.
type link struct {
	*line
	spread *spread
	shares bool // the publisher uses this connection, too; used by Publish alone

	mu      sync.Mutex // guards the fields below
	subs    map[string]*subscription
	asked   []ask
	answers [][]wire.Event // one for each mark
	wake    chan struct{}  // capacity 1: asked is not empty

	taken []wire.Event // answers that Receive has not returned; used by Receive alone
}

// subscription is one topic.
type subscription struct {
	*nats.Subscription
	confirmed bool
}

// ask is a written request that has no answer.
type ask struct {
	kind   wire.EventKind // of its answers: Subscribed, Unsubscribed or Pong
	topics []string       // or the name of a ping
}

// Dial implements wire.Bus.
func (b *bus) Dial(ctx context.Context) (wire.Link, error) {
	b.mu.Lock()
	preferred := ""
	if b.pub != nil && !b.pub.ended() { // an emitter's: what it sends keeps its order below one server
		preferred = b.pub.nc.ConnectedUrl()
	}
	b.mu.Unlock()
	f := newFlow()
	line, err := b.connect(ctx, preferred, f)
	if err != nil {
		return nil, err
	}
	l := &link{line: line, subs: map[string]*subscription{}, wake: make(chan struct{}, 1)}
	if l.spread, err = newSpread(ctx, line); err != nil {
		line.close()
		return nil, errtext.Errorf("cannot connect to %w", err)
	}
	b.mu.Lock()
	b.link = l
	b.mu.Unlock()
	go l.confirm()
	return l, nil
}

// Subscribe implements wire.Link.
func (l *link) Subscribe(topics []string) error {
	for _, t := range topics {
		s, err := l.nc.ChanSubscribe(l.bus.subject(t), l.flow.events)
		if err != nil {
			return l.wrap(err)
		}
		l.mu.Lock()
		l.subs[t] = &subscription{Subscription: s}
		l.mu.Unlock()
	}
	l.ask(ask{wire.Subscribed, topics})
	return nil
}

// Unsubscribe implements wire.Link.
func (l *link) Unsubscribe(topics []string) error {
	for _, t := range topics {
		l.mu.Lock()
		s := l.subs[t]
		delete(l.subs, t)
		l.mu.Unlock()
		if s == nil {
			continue // it was denied
		}
		if err := s.Unsubscribe(); err != nil {
			return l.wrap(err)
		}
	}
	l.ask(ask{wire.Unsubscribed, topics})
	return nil
}

// Ping implements wire.Link.
func (l *link) Ping(name string) error {
	l.ask(ask{wire.Pong, []string{name}})
	return nil
}

// ask notes a request that was written.
func (l *link) ask(a ask) {
	l.mu.Lock()
	l.asked = append(l.asked, a)
	l.mu.Unlock()
	signal(l.wake)
}

// confirm answers requests until the line ends: as many as there are with one PING.
func (l *link) confirm() {
	for {
		select {
		case <-l.wake:
		case <-l.flow.denied:
		case <-l.done:
			return
		}
		l.mu.Lock()
		asked := l.asked
		l.asked = nil
		l.mu.Unlock()
		if err := l.nc.FlushTimeout(time.Hour); err != nil { // the adapter closes a silent link much earlier
			l.kill()
			continue
		}
		if events := l.outcome(asked); len(events) > 0 {
			l.mark(events)
		}
	}
}

// outcome returns the answers to requests that the server has done, and the ends of subscriptions that it has ended.
func (l *link) outcome(asked []ask) (events []wire.Event) {
	denied := l.denials(asked)
	l.mu.Lock()
	for t := range denied {
		if s := l.subs[t]; s != nil && s.confirmed { // a permission was withdrawn
			delete(l.subs, t)
			events = append(events, wire.Event{Kind: wire.Unsubscribed, Topic: t})
		}
	}
	l.mu.Unlock()
	var unproven error
	for _, a := range asked {
		if a.kind == wire.Subscribed {
			unproven = l.spread.prove()
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range asked {
		for _, t := range a.topics {
			ev := wire.Event{Kind: a.kind, Topic: t}
			if a.kind == wire.Subscribed {
				if ev.Err = denied[t]; ev.Err != nil {
					ev.Kind = wire.Denied
					delete(l.subs, t)
				} else {
					ev.Err = unproven
					if s := l.subs[t]; s != nil {
						s.confirmed = true
					}
				}
			}
			events = append(events, ev)
		}
	}
	return events
}

// denials returns the refusals of requests, and of subscriptions that stood. Others belong to requests that are not in
// asked yet.
func (l *link) denials(asked []ask) map[string]error {
	l.settle(context.Background()) // ends with the line
	requested := map[string]bool{}
	for _, a := range asked {
		for _, t := range a.topics {
			requested[t] = a.kind == wire.Subscribed || requested[t]
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	denied := map[string]error{}
	for _, d := range l.take(func(d denial) bool {
		t := l.bus.topic(d.subject)
		s := l.subs[t]
		return d.subscribe && (requested[t] || s != nil && s.confirmed)
	}) {
		denied[l.bus.topic(d.subject)] = d.err
	}
	return denied
}

// mark puts answers behind the messages that nats.go has read so far.
func (l *link) mark(events []wire.Event) {
	l.mu.Lock()
	l.answers = append(l.answers, events)
	l.mu.Unlock()
	select {
	case l.flow.events <- &nats.Msg{}:
	case <-l.done:
	}
}

// Heard implements wire.Link.
func (l *link) Heard() time.Time { return l.began.Add(time.Duration(l.heard.Load())) }

// Receive implements wire.Link.
func (l *link) Receive() (wire.Event, error) {
	for {
		if len(l.taken) > 0 {
			ev := l.taken[0]
			l.taken = l.taken[1:]
			return ev, nil
		}
		select {
		case m := <-l.flow.events:
			l.flow.took(m)
			if m.Sub != nil {
				l.spread.heardFrom(m.Reply)
				return wire.Event{Kind: wire.Message, Topic: l.bus.topic(m.Subject), Data: m.Data}, nil
			}
			l.mu.Lock()
			l.taken, l.answers = l.answers[0], l.answers[1:]
			l.mu.Unlock()
		case <-l.done:
			return wire.Event{}, l.wrap(l.why())
		}
	}
}

// Close implements wire.Link.
func (l *link) Close() error {
	l.close()
	return nil
}

// wrap returns the error that ends the link. That the server ends a login says nothing of the next one: the callbacks of
// nats.go might have other credentials. So it does not match crosscast.ErrDenied, and the adapter logs in again at once.
func (l *link) wrap(err error) error {
	if isLogin(err) {
		return errtext.Errorf("the link to %s: %w", l.bus.name, err)
	}
	return errtext.Errorf("the link to %w", l.bus.explain(err))
}

var _ wire.Link = (*link)(nil)

package wire_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/wire"
)

// A hub is a bus in memory.
type hub struct {
	mu    sync.Mutex // guards what follows, and the fields of ports and subscribers
	links map[*subscriber]bool
}

// A port is a node's access to the hub. It implements wire.Bus.
type port struct {
	hub *hub
	cut bool // no connection can be made
}

var errCut = fmt.Errorf("%w: the connection is cut", crosscast.ErrRefused) // surely nobody gets what was published

// setCut breaks the port's connections, or lets it connect again.
func (p *port) setCut(cut bool) {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	for l := range p.hub.links {
		if l.port == p {
			l.breakLocked()
		}
	}
	p.cut = cut
}

func (p *port) Publish(_ context.Context, frames []wire.Frame) {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	for i := range frames {
		f := &frames[i]
		if p.cut {
			f.Err, f.Down = errCut, true
		}
		for l := range p.hub.links { // f.Data is the caller's
			if !p.cut && l.topics[f.Topic] && l.pushLocked(wire.Message, f.Topic, bytes.Clone(f.Data)) {
				f.Receivers++
			}
		}
	}
}

func (p *port) Dial(context.Context) (wire.Link, error) {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	if p.cut {
		return nil, errCut
	}
	l := &subscriber{port: p, topics: map[string]bool{}, events: make(chan wire.Event, 1<<14)}
	p.hub.links[l] = true
	return l, nil
}

// A subscriber implements wire.Link. It is in the hub's links until it breaks.
type subscriber struct {
	port   *port
	topics map[string]bool
	events chan wire.Event // closed when it breaks
}

// pushLocked queues an event, and reports whether it did. Who is too far behind loses the connection.
func (l *subscriber) pushLocked(kind wire.EventKind, topic string, data []byte) bool {
	if !l.port.hub.links[l] || len(l.events) == cap(l.events) {
		l.breakLocked()
		return false
	}
	l.events <- wire.Event{Kind: kind, Topic: topic, Data: data}
	return true
}

func (l *subscriber) breakLocked() {
	if l.port.hub.links[l] {
		delete(l.port.hub.links, l)
		close(l.events)
	}
}

// answer acts on a request: each topic is answered by one event, in order. Receive says when the link is broken.
func (l *subscriber) answer(kind wire.EventKind, topics ...string) error {
	l.port.hub.mu.Lock()
	defer l.port.hub.mu.Unlock()
	for _, t := range topics {
		l.topics[t] = kind == wire.Subscribed || kind == wire.Pong && l.topics[t]
		l.pushLocked(kind, t, nil)
	}
	return nil
}

func (l *subscriber) Subscribe(t []string) error   { return l.answer(wire.Subscribed, t...) }
func (l *subscriber) Unsubscribe(t []string) error { return l.answer(wire.Unsubscribed, t...) }
func (l *subscriber) Ping(name string) error       { return l.answer(wire.Pong, name) }
func (l *subscriber) Heard() time.Time             { return time.Now() } // memory is never silent

func (l *subscriber) Receive() (wire.Event, error) {
	if ev, ok := <-l.events; ok {
		return ev, nil
	}
	return wire.Event{}, errCut
}

func (l *subscriber) Close() error {
	l.port.hub.mu.Lock()
	defer l.port.hub.mu.Unlock()
	l.breakLocked()
	return nil
}

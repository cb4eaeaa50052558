package redisbus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// groupConn is the subscribing connection to one master, for all groups. It has two goroutines: one reads, and one pings.
// They end when it breaks, or when no link uses it.
//
// An answer that is missing, or comes out of turn, breaks it. A refusal concerns only the link that has asked.
type groupConn struct {
	hub  *hub
	bus  *bus
	link *link // has dialled; its own requests are not used

	users  int // links; guarded by hub.mu
	links  [allGroups]atomic.Pointer[groupLink]
	proven atomic.Int64 // when the latest answered ping was written, in Unix nanoseconds
	busy   atomic.Bool  // the reader handles an answer or a message; a link might make it wait

	writing sync.Mutex // held while commands are entered and written, in the same order; locked before mu
	mu      sync.Mutex // guards asks
	asks    []*ask     // without all answers, oldest first

	once   sync.Once
	broken chan struct{}
	err    error // set before broken is closed
}

// ask is one command and its answers to come.
type ask struct {
	kind    wire.EventKind // of the answers: Subscribed, Unsubscribed or Pong
	tag     int            // of the topics
	topics  []string       // without an answer
	replies []*shardReply  // of the topics, if they are subscribed to
	link    *groupLink     // nil: the connection itself has asked
	ping    *shardPing     // of a link
	name    string         // of a ping
	at      time.Time      // when a ping of the connection itself was written
}

const (
	connPing = time.Second     // between pings of a connection itself
	connDead = 3 * time.Second // a connection that has not answered for so long is dead
)

var (
	errIdle       = errors.New("nobody uses the connection")
	errOutOfTurn  = errors.New("an answer came out of turn")
	errNoPong     = errors.New("no answer to a ping")
	errSlotMoved  = errors.New("a slot has moved to another master")
	errNotAsked   = errors.New("an error came that nobody had asked for")
	errLinkClosed = errors.New("the link was closed")
)

func (c *groupConn) begin() {
	go c.read()
	go c.watch()
}

// attach makes l get the messages of its group.
func (c *groupConn) attach(l *groupLink) {
	c.links[l.g.number].Store(l)
	select {
	case <-c.broken: // perhaps before l was there
		l.fail(c.err)
	default:
	}
}

// brokenError ends the links of a connection. Nothing from before since is missing.
type brokenError struct {
	err   error
	since time.Time
}

func (e *brokenError) Error() string    { return e.err.Error() }
func (e *brokenError) Unwrap() error    { return e.err }
func (e *brokenError) Since() time.Time { return e.since }

// fail ends the connection, and all links that use it.
func (c *groupConn) fail(err error) {
	c.once.Do(func() {
		c.hub.forget(c)
		c.err = &brokenError{errtext.Errorf("the link to %w", c.bus.explain(err)), time.Unix(0, c.proven.Load())}
		close(c.broken)
		for i := range c.links {
			if l := c.links[i].Load(); l != nil {
				l.fail(c.err)
			}
		}
		if !errors.Is(err, errIdle) { // the master might have died
			c.hub.rdb.ReloadState(context.Background())
		}
		go c.link.Close()
	})
}

// write enters asks, and writes their commands.
func (c *groupConn) write(asks ...*ask) error {
	commands := make([]command, len(asks))
	for i, a := range asks {
		commands[i] = command{args: a.topics, suffix: tags()[a.tag]}
		switch a.kind {
		case wire.Subscribed:
			commands[i].name = "ssubscribe"
		case wire.Unsubscribed:
			commands[i].name = "sunsubscribe"
		default:
			commands[i] = command{name: "ping", args: []string{a.name}}
		}
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	c.asks = append(c.asks, asks...)
	c.mu.Unlock()
	err := c.link.conn.write(commands...)
	if err != nil {
		c.fail(err)
	}
	return err
}

// watch pings, and ends links whose slots have another master, until the connection is broken.
func (c *groupConn) watch() {
	t := time.NewTicker(connPing)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
		case <-c.broken:
			return
		}
		if n%2 == 1 {
			c.hub.rdb.ReloadState(context.Background())
		}
		for i := range c.links {
			if l := c.links[i].Load(); l != nil {
				l.compareMasters()
			}
		}
		switch asked := c.pinged(); {
		case asked.IsZero():
			_ = c.write(&ask{kind: wire.Pong, name: "crosscast", at: time.Now()})
		case time.Since(asked) > connDead && time.Since(c.heard()) > connDead/2:
			c.fail(errNoPong)
		}
	}
}

// pinged returns when the connection's own ping was written; zero: it was answered.
func (c *groupConn) pinged() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.asks {
		if !a.at.IsZero() {
			return a.at
		}
	}
	return time.Time{}
}

// heard returns when the latest byte came. While the reader waits for a link, it reads nothing, and that is no silence.
func (c *groupConn) heard() time.Time {
	if c.busy.Load() {
		return time.Now()
	}
	return c.link.line.heard()
}

// read passes on what arrives, until the connection is broken.
func (c *groupConn) read() {
	for {
		c.busy.Store(false)
		r, err := c.link.conn.receive()
		c.busy.Store(true)
		switch {
		case err == nil && r.kind == wire.Message:
			c.passMessage(r)
		case err == nil:
			err = c.handleAnswer(r)
		case isReply(err):
			err = c.handleRefusal(err)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// passMessage passes a message to the link of its group.
func (c *groupConn) passMessage(r reply) {
	number, ok := tagNumber(r.name)
	if !ok {
		return
	}
	if l := c.links[number/groupTags].Load(); l != nil {
		topic := c.link.conn.topic(r.name)
		l.pass(wire.Event{Kind: wire.Message, Topic: topic[:len(topic)-tagBytes], Data: r.data})
	}
}

// tagNumber returns the index of the tag at the end of a channel.
func tagNumber(channel []byte) (number int, ok bool) {
	if len(channel) < tagBytes {
		return 0, false
	}
	number, ok = tagNumbers()[string(channel[len(channel)-tagBytes:])]
	return number, ok
}

// handleAnswer enters an answer. Answers come in the order of the commands. The end of a subscription that nobody has
// asked for means that its slot has moved.
func (c *groupConn) handleAnswer(r reply) error {
	if r.kind == wire.Pong {
		a := c.next(wire.Pong, func(a *ask) bool { return a.name == string(r.name) })
		switch {
		case a == nil:
			return errOutOfTurn
		case a.link != nil:
			a.link.handlePong(a.ping, nil)
		default:
			c.proven.Store(a.at.UnixNano())
		}
		return nil
	}
	number, ok := tagNumber(r.name)
	if !ok {
		return errOutOfTurn
	}
	var topic string
	var replied *shardReply
	a := c.next(r.kind, func(a *ask) bool {
		topic = ""
		if a.tag != number || a.topics[0] != string(r.name[:len(r.name)-tagBytes]) {
			return false
		}
		topic, a.topics = a.topics[0], a.topics[1:]
		if r.kind == wire.Subscribed {
			replied, a.replies = a.replies[0], a.replies[1:]
		}
		return true
	})
	switch {
	case a == nil && r.kind == wire.Subscribed:
		return errOutOfTurn
	case a == nil:
		if l := c.links[number/groupTags].Load(); l != nil {
			l.fail(errtext.Errorf("%w: that of %s", errSlotMoved, r.name))
		}
	case a.link == nil: // of a link that is closed
	case r.kind == wire.Subscribed:
		a.link.handleReply(replied, nil)
	default:
		a.link.pass(wire.Event{Kind: wire.Unsubscribed, Topic: topic})
	}
	return nil
}

// next returns the oldest ask if it has this kind and fits. It is removed when it has no topics left.
func (c *groupConn) next(kind wire.EventKind, fits func(*ask) bool) *ask {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asks) == 0 || c.asks[0].kind != kind || !fits(c.asks[0]) {
		return nil
	}
	a := c.asks[0]
	if len(a.topics) == 0 {
		c.dropLocked()
	}
	return a
}

func (c *groupConn) dropLocked() {
	c.asks[0] = nil
	c.asks = c.asks[1:]
}

// handleRefusal handles an error as the answer to the oldest ask.
func (c *groupConn) handleRefusal(err error) error {
	c.mu.Lock()
	if len(c.asks) == 0 {
		c.mu.Unlock()
		return errtext.Errorf("%w: %w", errNotAsked, err)
	}
	a := c.asks[0]
	c.dropLocked()
	c.mu.Unlock()
	err = c.bus.explain(err)
	switch {
	case a.kind == wire.Pong && a.link == nil: // an answer, nevertheless
		c.proven.Store(a.at.UnixNano())
	case a.kind == wire.Pong:
		a.link.handlePong(a.ping, err)
	case a.link == nil:
	case a.kind == wire.Subscribed && errors.Is(err, crosscast.ErrDenied):
		c.refuse(a, err)
	default: // the slot is elsewhere
		a.link.fail(err)
		c.hub.rdb.ReloadState(context.Background())
	}
	return nil
}

// refuse handles that permission is missing for one of the topics of a. It asks again for each topic.
func (c *groupConn) refuse(a *ask, denied error) {
	if len(a.topics) == 1 {
		a.link.handleReply(a.replies[0], denied)
		return
	}
	var asks []*ask
	for i := range a.topics {
		asks = append(asks, &ask{
			kind: wire.Subscribed, tag: a.tag, topics: a.topics[i : i+1 : i+1], replies: a.replies[i : i+1 : i+1], link: a.link,
		})
	}
	go c.write(asks...) // the reader must not wait for it
}

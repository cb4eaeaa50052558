package redisbus

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// groupLink is the link of one group, over the connections to the masters of its tags. It ends when one of them ends, or
// when a slot moves. Other groups go on.
type groupLink struct {
	g        *group
	conns    [groupTags]*groupConn // by the tag's place in the group; constant, like distinct
	distinct []*groupConn
	events   chan wire.Event

	asking   sync.Mutex          // held while requests are entered and written, and by Close; locked before mu
	passing  sync.Mutex          // held while replies are passed on, so that they keep their order; locked before mu
	mu       sync.Mutex          // guards the fields below
	asked    []*shardReply       // replies that were not passed on yet, in the order of the requests
	channels map[string]struct{} // the topics that were subscribed to; nil: the link is closed

	once   sync.Once
	ended  chan struct{}
	err    error // set before ended is closed
	closed sync.Once
}

// maxWaiting is how many events of a link wait until the connections wait with them.
const maxWaiting = 32

// fail ends the link.
func (l *groupLink) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.ended)
	})
}

// Subscribe implements wire.Link.
func (l *groupLink) Subscribe(topics []string) error {
	replies := make([]shardReply, len(topics))
	return l.request(topics, wire.Subscribed, func(i int, a *ask) {
		r := &replies[i]
		r.topic = topics[i]
		l.asked = append(l.asked, r)
		l.channels[topics[i]] = struct{}{}
		a.replies = append(a.replies, r)
	})
}

// Unsubscribe implements wire.Link.
func (l *groupLink) Unsubscribe(topics []string) error {
	return l.request(topics, wire.Unsubscribed, func(i int, _ *ask) { delete(l.channels, topics[i]) })
}

// request writes a command for the topics of each tag. For each topic it first calls note with mu held. After Close it
// writes nothing, because the next link uses the same connections.
func (l *groupLink) request(topics []string, kind wire.EventKind, note func(i int, a *ask)) error {
	l.asking.Lock()
	defer l.asking.Unlock()
	var asks [groupTags]*ask
	l.mu.Lock()
	if l.channels == nil {
		l.mu.Unlock()
		return errLinkClosed
	}
	for i, topic := range topics {
		tag := l.g.tagOf(topic)
		a := asks[tag%groupTags]
		if a == nil {
			a = &ask{kind: kind, tag: tag, link: l}
			asks[tag%groupTags] = a
		}
		a.topics = append(a.topics, topic)
		note(i, a)
	}
	l.mu.Unlock()
	return l.write(&asks)
}

// write writes the asks of tags to their connections.
func (l *groupLink) write(asks *[groupTags]*ask) (err error) {
	for _, c := range l.distinct {
		var own []*ask
		for i, a := range asks {
			if a != nil && l.conns[i] == c {
				own = append(own, a)
			}
		}
		if len(own) == 0 {
			continue
		}
		err = cmp.Or(err, c.write(own...))
	}
	return err
}

// Ping implements wire.Link. It pings all masters. Receive returns one Pong, when the last one has answered.
func (l *groupLink) Ping(name string) error {
	p := &shardPing{name: name, left: len(l.distinct)}
	for _, c := range l.distinct {
		if err := c.write(&ask{kind: wire.Pong, link: l, ping: p, name: name}); err != nil {
			return err
		}
	}
	return nil
}

// Heard implements wire.Link. It returns the time of the connection that was silent for the longest.
func (l *groupLink) Heard() (last time.Time) {
	for _, c := range l.distinct {
		if at := c.heard(); last.IsZero() || at.Before(last) {
			last = at
		}
	}
	return last
}

// Receive implements wire.Link.
func (l *groupLink) Receive() (wire.Event, error) {
	select {
	case ev := <-l.events:
		return ev, nil
	case <-l.ended:
		return wire.Event{}, l.err
	}
}

// pass passes on an event. It waits while many events wait.
func (l *groupLink) pass(ev wire.Event) {
	select {
	case l.events <- ev:
	case <-l.ended:
	}
}

// handleReply enters a reply. It passes on the replies that are next in the order of requests.
func (l *groupLink) handleReply(r *shardReply, denied error) {
	l.passing.Lock()
	defer l.passing.Unlock()
	l.mu.Lock()
	r.done, r.err = true, denied
	n := 0
	for n < len(l.asked) && l.asked[n].done {
		n++
	}
	ready := l.asked[:n]
	l.asked = l.asked[n:]
	l.mu.Unlock()
	for _, r := range ready {
		if r.err != nil {
			l.pass(wire.Event{Kind: wire.Denied, Topic: r.topic, Err: r.err})
		} else {
			l.pass(wire.Event{Kind: wire.Subscribed, Topic: r.topic})
		}
	}
}

// handlePong enters an answer to a ping.
func (l *groupLink) handlePong(p *shardPing, err error) {
	l.mu.Lock()
	p.left--
	if err != nil {
		p.err = err
	}
	last := p.left == 0
	l.mu.Unlock()
	if last {
		l.pass(wire.Event{Kind: wire.Pong, Topic: p.name, Err: p.err})
	}
}

// compareMasters ends the link if one of its tags has another master now.
func (l *groupLink) compareMasters() {
	for i, c := range l.conns {
		if b, err := l.g.master(context.Background(), l.g.number*groupTags+i); err == nil && b.name != c.bus.name {
			l.fail(errtext.Errorf("%w: to %s", errSlotMoved, b.name))
			return
		}
	}
}

// Blame implements wire.Blamed.
func (l *groupLink) Blame(err error) {
	for _, c := range l.distinct {
		c.fail(err)
	}
}

// Close implements wire.Link. Connections that other links use stay, without the topics of this one.
func (l *groupLink) Close() error {
	l.closed.Do(l.close)
	return nil
}

func (l *groupLink) close() {
	l.fail(errLinkClosed)
	for _, c := range l.distinct {
		c.links[l.g.number].CompareAndSwap(l, nil)
		if l.g.leave(c) {
			c.fail(errIdle)
		}
	}
	l.asking.Lock()
	defer l.asking.Unlock()
	l.mu.Lock()
	topics := make([]string, 0, len(l.channels))
	for topic := range l.channels {
		topics = append(topics, topic)
	}
	l.channels = nil
	l.mu.Unlock()
	for part := range slices.Chunk(topics, 512) {
		var asks [groupTags]*ask
		for _, topic := range part {
			tag := l.g.tagOf(topic)
			if asks[tag%groupTags] == nil {
				asks[tag%groupTags] = &ask{kind: wire.Unsubscribed, tag: tag} // nobody waits for the answers
			}
			asks[tag%groupTags].topics = append(asks[tag%groupTags].topics, topic)
		}
		_ = l.write(&asks)
	}
}

var (
	_ wire.Bus       = (*group)(nil)
	_ wire.Scattered = (*group)(nil)
	_ wire.Blamed    = (*groupLink)(nil)
	_ wire.Dated     = (*brokenError)(nil)
)

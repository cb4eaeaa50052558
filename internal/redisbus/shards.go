package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// shards is sharded Pub/Sub over a Redis Cluster. A channel belongs to the master with the channel's slot, and is
// published and subscribed only there. So there is a link to each master.
//
// Messages to one channel keep their order. Messages to several channels do not.
type shards struct {
	Config
	rdb *redis.ClusterClient
}

// Close implements io.Closer.
func (s *shards) Close() error {
	if !s.Owned {
		return nil
	}
	return s.rdb.Close()
}

// master returns the bus of the master that has a topic's slot.
func (s *shards) master(ctx context.Context, topic string) (*bus, error) {
	c, err := s.rdb.MasterForKey(ctx, topic)
	if err != nil {
		return nil, Discreet(err)
	}
	return s.of(c), nil
}

// of returns the bus of a master.
func (s *shards) of(master *redis.Client) *bus {
	b := newBus(master, s.Config)
	b.shard = true
	return b
}

// Publish implements wire.Bus. It sends one pipeline to each master, concurrently.
func (s *shards) Publish(ctx context.Context, frames []wire.Frame) {
	type part struct {
		bus    *bus
		frames []wire.Frame
		at     []int // their indexes in the argument of Publish
	}
	parts := make(map[string]*part)
	for i := range frames {
		b, err := s.master(ctx, frames[i].Topic)
		if err != nil {
			frames[i].Err, frames[i].Down = errtext.Errorf("%w: redis cluster: %w", crosscast.ErrRefused, err), true
			continue
		}
		p := parts[b.name]
		if p == nil {
			p = &part{bus: b}
			parts[b.name] = p
		}
		p.frames, p.at = append(p.frames, frames[i]), append(p.at, i)
	}
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() { p.bus.Publish(ctx, p.frames) })
	}
	wg.Wait()
	failed := false
	for _, p := range parts {
		for k, i := range p.at {
			frames[i] = p.frames[k]
			failed = failed || frames[i].Err != nil
		}
	}
	if failed { // a slot might have moved
		s.rdb.ReloadState(ctx)
	}
}

// Dial implements wire.Bus. It returns by the end of ctx, like bus.Dial.
func (s *shards) Dial(ctx context.Context) (wire.Link, error) {
	type dialled struct {
		link wire.Link
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		link, err := s.dial(ctx)
		done <- dialled{link, Discreet(err)}
	}()
	select {
	case d := <-done:
		return d.link, d.err
	case <-ctx.Done():
		go func() {
			if d := <-done; d.err == nil {
				_ = d.link.Close()
			}
		}()
		return nil, errtext.Errorf("cannot connect to redis cluster: no answer: %w", ctx.Err())
	}
}

// dial makes one connection to each present master of the cluster.
func (s *shards) dial(ctx context.Context) (wire.Link, error) {
	var mu sync.Mutex
	var failed error // of a master
	links := make(map[string]wire.Link)
	err := s.rdb.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { // loads the cluster's state first
		b := s.of(c)
		link, err := b.Dial(ctx)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = err
			return err
		}
		links[b.name] = link
		return nil
	})
	if err != nil && failed == nil {
		err = fmt.Errorf("cannot connect to %w", newBus(s.rdb, s.Config).explain(err))
	}
	if err == nil && len(links) == 0 {
		err = errors.New("redis cluster: no master is known")
	}
	if err != nil {
		s.rdb.ReloadState(context.WithoutCancel(ctx))
		for _, link := range links {
			_ = link.Close()
		}
		return nil, err
	}
	return s.join(links), nil
}

// join makes one link of the links to the masters. The keys of links are the names of the masters' buses.
func (s *shards) join(links map[string]wire.Link) *shardedLink {
	l := &shardedLink{s: s, links: make(map[string]*shardLink), events: make(chan wire.Event), ended: make(chan struct{})}
	for name, link := range links {
		l.links[name] = &shardLink{Link: link, leaving: make(map[string]int)}
	}
	for _, sh := range l.links {
		l.wg.Go(func() { l.receiveFrom(sh) })
	}
	return l
}

// shardedLink has a connection to each master. It ends when one of these connections ends, or when a slot moves. A
// master ends its subscriptions in a slot that moves. Some of their confirmations might still wait here for earlier
// replies of other masters.
type shardedLink struct {
	s      *shards
	links  map[string]*shardLink // by the name of the master's bus; constant
	events chan wire.Event
	wg     sync.WaitGroup

	passing sync.Mutex    // held while replies are passed on, so that they keep their order; locked before mu
	mu      sync.Mutex    // guards asked, and the fields of the shardLinks
	asked   []*shardReply // replies that were not passed on yet, in the order of the requests

	once  sync.Once
	ended chan struct{}
	err   error // set before ended is closed
}

// shardLink is one of the connections, with its expected replies in order. shardedLink.mu guards them.
type shardLink struct {
	wire.Link
	asked   []*shardReply
	leaving map[string]int // by topic: unsubscribe requests without a confirmation
	pings   []*shardPing
}

// shardReply is the reply to a subscription of one topic.
type shardReply struct {
	topic string
	done  bool
	err   error // why it is denied; nil: it is confirmed
}

// shardPing is one call of Ping.
type shardPing struct {
	name string
	left int   // masters that have not answered
	err  error // an error that one of them has answered
}

// Subscribe implements wire.Link. A command may name channels of one slot only, so each topic has its own command.
func (l *shardedLink) Subscribe(topics []string) error {
	return l.each(topics, func(sh *shardLink, topic []string) error {
		r := &shardReply{topic: topic[0]}
		l.mu.Lock()
		l.asked = append(l.asked, r)
		sh.asked = append(sh.asked, r)
		l.mu.Unlock()
		return sh.Subscribe(topic)
	})
}

// Unsubscribe implements wire.Link.
func (l *shardedLink) Unsubscribe(topics []string) error {
	return l.each(topics, func(sh *shardLink, topic []string) error {
		l.mu.Lock()
		sh.leaving[topic[0]]++
		l.mu.Unlock()
		return sh.Unsubscribe(topic)
	})
}

// Ping implements wire.Link. It pings all masters. Receive returns one Pong, when the last master has answered. Its Err
// is the error of any master.
func (l *shardedLink) Ping(name string) error {
	p := &shardPing{name: name, left: len(l.links)}
	for _, sh := range l.links {
		l.mu.Lock()
		sh.pings = append(sh.pings, p)
		l.mu.Unlock()
		if err := sh.Ping(name); err != nil {
			return err
		}
	}
	return nil
}

// Heard implements wire.Link. It returns the time of the connection that was silent for the longest.
func (l *shardedLink) Heard() (last time.Time) {
	for _, sh := range l.links {
		if at := sh.Heard(); last.IsZero() || at.Before(last) {
			last = at
		}
	}
	return last
}

// each calls f for each topic, with the connection to its master.
func (l *shardedLink) each(topics []string, f func(sh *shardLink, topic []string) error) error {
	for i := range topics {
		b, err := l.s.master(context.Background(), topics[i])
		if err != nil {
			return err
		}
		sh := l.links[b.name]
		if sh == nil {
			return fmt.Errorf("%s has become a master", b.name)
		}
		if err := f(sh, topics[i:i+1:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// receiveFrom passes on the events of one connection.
func (l *shardedLink) receiveFrom(sh *shardLink) {
	for {
		ev, err := sh.Receive()
		if err == nil {
			err = l.handleEvent(sh, ev)
		}
		if err != nil {
			l.fail(err)
			l.s.rdb.ReloadState(context.Background()) // the slot might have moved, or the master might have died
			return
		}
	}
}

// handleEvent acts on one event of sh. An error ends the link.
func (l *shardedLink) handleEvent(sh *shardLink, ev wire.Event) error {
	switch ev.Kind {
	case wire.Subscribed:
		return l.handleReply(sh, nil)
	case wire.Denied:
		return l.handleReply(sh, ev.Err)
	case wire.Unsubscribed:
		if !l.handleUnsubscribed(sh, ev.Topic) {
			return fmt.Errorf("the slot of %s has moved", ev.Topic)
		}
	case wire.Pong:
		p := l.handlePong(sh, ev)
		if p == nil {
			return nil
		}
		ev.Err = p.err
	}
	l.pass(ev)
	return nil
}

func (l *shardedLink) pass(ev wire.Event) {
	select {
	case l.events <- ev:
	case <-l.ended:
	}
}

// handleReply enters the reply to the oldest command of sh. It passes on the replies that are next in the order of
// requests.
func (l *shardedLink) handleReply(sh *shardLink, denied error) error {
	l.passing.Lock()
	defer l.passing.Unlock()
	ready, err := l.enterReply(sh, denied)
	if err != nil {
		return err
	}
	for _, r := range ready {
		if r.err != nil {
			l.pass(wire.Event{Kind: wire.Denied, Topic: r.topic, Err: r.err})
		} else {
			l.pass(wire.Event{Kind: wire.Subscribed, Topic: r.topic})
		}
	}
	return nil
}

// enterReply enters the reply to the oldest command of sh. It removes and returns the replies that are next in the
// order of requests.
func (l *shardedLink) enterReply(sh *shardLink, denied error) (ready []*shardReply, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(sh.asked) == 0 {
		return nil, errors.New("a subscription was confirmed that nobody asked for")
	}
	sh.asked[0].done, sh.asked[0].err = true, denied
	sh.asked = sh.asked[1:]
	n := 0
	for n < len(l.asked) && l.asked[n].done {
		n++
	}
	ready = l.asked[:n]
	l.asked = l.asked[n:]
	return ready, nil
}

// handleUnsubscribed enters the end of a subscription, and reports whether it was requested.
func (l *shardedLink) handleUnsubscribed(sh *shardLink, topic string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := sh.leaving[topic]
	if n > 1 {
		sh.leaving[topic] = n - 1
	} else {
		delete(sh.leaving, topic)
	}
	return n > 0
}

// handlePong enters an answer of sh to a ping. It returns the ping if that was the last missing answer. It forgets
// earlier pings of sh, because they get no answer any more.
func (l *shardedLink) handlePong(sh *shardLink, ev wire.Event) *shardPing {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(sh.pings, func(p *shardPing) bool { return p.name == ev.Topic })
	if i < 0 {
		return nil
	}
	p := sh.pings[i]
	sh.pings = sh.pings[i+1:]
	p.left--
	if ev.Err != nil {
		p.err = ev.Err
	}
	if p.left > 0 {
		return nil
	}
	return p
}

func (l *shardedLink) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.ended)
	})
}

// Receive implements wire.Link.
func (l *shardedLink) Receive() (wire.Event, error) {
	select {
	case ev := <-l.events:
		return ev, nil
	case <-l.ended:
		return wire.Event{}, l.err
	}
}

// Close implements wire.Link.
func (l *shardedLink) Close() error {
	l.fail(errors.New("the link was closed"))
	var err error
	for _, sh := range l.links {
		err = errors.Join(err, sh.Close())
	}
	l.wg.Wait()
	return err
}

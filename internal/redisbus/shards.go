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
	"github.com/crosscast/crosscast/wire"
)

// shards is sharded Pub/Sub over a Redis Cluster: a channel belongs to the master that has its slot, and is published
// and subscribed there alone. go-redis has one connection for a PubSub, to one node, so there is one for each master.
//
// What is published to one channel keeps its order; what is published to several does not.
type shards struct {
	Config
	rdb *redis.ClusterClient
}

// master returns the bus of the master that has a topic's slot.
func (s *shards) master(ctx context.Context, topic string) (*bus, error) {
	c, err := s.rdb.MasterForKey(ctx, topic)
	if err != nil {
		return nil, err
	}
	return newBus(c, s.Config), nil
}

// Publish implements wire.Bus: one pipeline for each master, all at once.
func (s *shards) Publish(ctx context.Context, frames []wire.Frame) {
	type part struct {
		bus    *bus
		frames []wire.Frame
		at     []int // where they came from
	}
	parts := make(map[string]*part)
	for i := range frames {
		b, err := s.master(ctx, frames[i].Topic)
		if err != nil {
			frames[i].Err, frames[i].Down = fmt.Errorf("%w: redis cluster: %w", crosscast.ErrRefused, err), true
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
	if failed { // the slot may have moved
		s.rdb.ReloadState(ctx)
	}
}

// Dial implements wire.Bus: one connection to each master.
func (s *shards) Dial(ctx context.Context) (wire.Link, error) {
	l := &shardedLink{s: s, links: make(map[string]*shardLink), events: make(chan wire.Event), ended: make(chan struct{})}
	var mu sync.Mutex
	err := s.rdb.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		b := newBus(c, s.Config)
		link, err := b.Dial(ctx)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		l.links[b.name] = &shardLink{Link: link}
		return nil
	})
	if err == nil && len(l.links) == 0 {
		err = errors.New("redis cluster: no master is known")
	}
	if err != nil {
		s.rdb.ReloadState(context.WithoutCancel(ctx))
		_ = l.Close()
		return nil, err
	}
	for _, sh := range l.links {
		l.wg.Go(func() { l.read(sh) })
	}
	return l, nil
}

// shardedLink is a connection to each master. It ends when the first of them does, or a slot has moved.
type shardedLink struct {
	s      *shards
	links  map[string]*shardLink // by the name of the master's bus; constant
	events chan wire.Event
	wg     sync.WaitGroup

	passing  sync.Mutex // held while replies are passed on, so that they keep their order; locked before mu
	mu       sync.Mutex
	requests []*shardRequest // without all replies, in order; guarded by mu
	pings    []shardPing     // without all answers, in order; guarded by mu

	once  sync.Once
	ended chan struct{}
	err   error // set before ended is closed
}

// shardLink is one of the connections.
type shardLink struct {
	wire.Link
	asked []*shardRequest // once for each topic without a reply, in order; guarded by shardedLink.mu
}

// shardRequest is one call of Subscribe. Its replies, of several masters, are passed on together and in order.
type shardRequest struct {
	topics []string
	left   int
	err    error // a topic was denied
}

// Subscribe implements wire.Link. Redis takes one slot in a command, so each topic is a command.
func (l *shardedLink) Subscribe(topics []string) error {
	r := &shardRequest{topics: slices.Clone(topics), left: len(topics)}
	l.mu.Lock()
	l.requests = append(l.requests, r)
	l.mu.Unlock()
	return l.each(topics, func(sh *shardLink, topic []string) error {
		l.mu.Lock()
		sh.asked = append(sh.asked, r)
		l.mu.Unlock()
		return sh.Subscribe(topic)
	})
}

// Unsubscribe implements wire.Link.
func (l *shardedLink) Unsubscribe(topics []string) error {
	return l.each(topics, func(sh *shardLink, topic []string) error { return sh.Unsubscribe(topic) })
}

// shardPing is a ping that left masters have not answered.
type shardPing struct {
	name string
	left int
}

// Ping implements wire.Link. The last answer of all masters is the answer: it is behind what each of them has handed
// over before.
func (l *shardedLink) Ping(name string) error {
	l.mu.Lock()
	l.pings = append(l.pings, shardPing{name, len(l.links)})
	l.mu.Unlock()
	for _, sh := range l.links {
		if err := sh.Ping(name); err != nil {
			return err
		}
	}
	return nil
}

// Heard implements wire.Link.
func (l *shardedLink) Heard() (last time.Time) {
	for _, sh := range l.links {
		if at := sh.Heard(); last.IsZero() || at.Before(last) {
			last = at
		}
	}
	return last
}

// answered enters one master's answer to a ping, and passes it on when it was the last one.
func (l *shardedLink) answered(ev wire.Event) {
	l.mu.Lock()
	i := slices.IndexFunc(l.pings, func(p shardPing) bool { return p.name == ev.Topic })
	last := false
	if i >= 0 {
		l.pings[i].left--
		if last = l.pings[i].left == 0; last {
			l.pings = l.pings[i+1:] // those before it will not be answered any more
		}
	}
	l.mu.Unlock()
	if last {
		l.pass(ev)
	}
}

// each calls f for each topic with the connection that it belongs to.
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

// read passes on what one connection receives.
func (l *shardedLink) read(sh *shardLink) {
	for {
		ev, err := sh.Receive()
		if err != nil {
			l.fail(err)
			l.s.rdb.ReloadState(context.Background()) // the slot may have moved, or the master died
			return
		}
		switch ev.Kind {
		case wire.Subscribed:
			l.replied(sh, nil)
		case wire.Denied:
			l.replied(sh, ev.Err)
		case wire.Pong:
			l.answered(ev)
		default:
			l.pass(ev)
		}
	}
}

func (l *shardedLink) pass(ev wire.Event) {
	select {
	case l.events <- ev:
	case <-l.ended:
	}
}

// replied enters the reply to the oldest command of sh, and passes on the replies that are complete.
func (l *shardedLink) replied(sh *shardLink, denied error) {
	l.passing.Lock()
	defer l.passing.Unlock()
	l.mu.Lock()
	if len(sh.asked) == 0 {
		l.mu.Unlock()
		l.fail(errors.New("a subscription was confirmed that nobody asked for"))
		return
	}
	r := sh.asked[0]
	sh.asked = sh.asked[1:]
	r.left--
	if denied != nil {
		r.err = denied
	}
	var ready []wire.Event
	for len(l.requests) > 0 && l.requests[0].left == 0 {
		r := l.requests[0]
		l.requests = l.requests[1:]
		if r.err != nil {
			ready = append(ready, wire.Event{Kind: wire.Denied, Err: r.err})
			continue
		}
		for _, topic := range r.topics {
			ready = append(ready, wire.Event{Kind: wire.Subscribed, Topic: topic})
		}
	}
	l.mu.Unlock()
	for _, ev := range ready {
		l.pass(ev)
	}
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

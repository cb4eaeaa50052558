package socketioadapter

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redisbus"
)

// Socket.IO's servers do not introduce themselves. Each of them queries Redis for the number of subscribers of a
// channel that every server of the namespace hears, and waits for as many answers. This package does the same, with two
// differences. While answers are missing, it counts those that hear a channel of their own, which only servers do.
// After an outage it expects as many as before the outage, because the servers reconnect at different times.

// counter counts servers. Its methods may be called concurrently.
type counter struct {
	rdb      redis.UniversalClient
	channels *channels
	proven   func() bool // reports whether this node's link works
	others   serverClients

	mu     sync.Mutex     // guards the fields below
	before map[string]int // peers by namespace, at the last count with a proven link
	until  time.Time      // the end of the time in which the peers of before are expected
}

const (
	recount = 2 * time.Second // time between counts, in case of an outage
	regroup = 5 * time.Second // how long after an outage the peers of before are expected
	repoll  = 50 * time.Millisecond
)

// count returns the number of peers that hear the requests of a namespace. With closely, it counts only servers.
func (s *counter) count(ctx context.Context, ns string, closely bool) (int, error) {
	var n int
	var err error
	if closely {
		n, err = s.servers(ctx, ns)
	} else {
		var all []int
		all, err = s.subscribers(ctx, ns)
		n = all[0]
	}
	if err != nil {
		return 0, errtext.Errorf("crosscast/socketioadapter: counting servers: %w", redisbus.Discreet(err))
	}
	return s.note(ns, n), nil
}

// note records the number of counted peers, and returns the number of peers to expect.
func (s *counter) note(ns string, n int) int {
	proven := s.proven()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case time.Now().Before(s.until):
		n = max(n, s.before[ns])
	case proven:
		if _, ok := s.before[ns]; ok { // otherwise it is not watched any more
			s.before[ns] = n
		}
	}
	return n
}

// watch starts the counting of a namespace's peers.
func (s *counter) watch(ns string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.before[ns]; !ok {
		s.before[ns] = 0
	}
}

// unwatch ends the counting of a namespace's peers.
func (s *counter) unwatch(ns string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.before, ns)
}

func (s *counter) watched() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.before)
}

// run counts the peers of all watched namespaces at intervals, until ctx ends.
func (s *counter) run(ctx context.Context) {
	t := time.NewTicker(recount)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		watched := slices.Collect(maps.Keys(s.watched()))
		if all, err := s.subscribers(ctx, watched...); err == nil { // an error means an outage
			for i, ns := range watched {
				s.note(ns, all[i])
			}
		}
	}
}

// recovered records that an outage of this node has ended.
func (s *counter) recovered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now().Add(regroup)
}

// gather returns when all namespaces have as many peers as before an outage, or when ctx ends.
func (s *counter) gather(ctx context.Context) {
	before := s.watched()
	names := slices.Collect(maps.Keys(before))
	for {
		all, err := s.subscribers(ctx, names...)
		back := err == nil
		for i, n := range all {
			back = back && n >= before[names[i]]
		}
		if back {
			return
		}
		select {
		case <-time.After(repoll):
		case <-ctx.Done():
			return
		}
	}
}

// subscribers counts the connections, except this node's own, that hear the requests of each namespace.
func (s *counter) subscribers(ctx context.Context, namespaces ...string) ([]int, error) {
	names := make([]string, len(namespaces))
	for i, ns := range namespaces {
		names[i] = s.channels.request(ns)
	}
	all := make([]int, len(namespaces))
	var mu sync.Mutex
	err := s.eachServer(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		ask := rdb.PubSubNumSub
		if s.channels.sharded {
			ask = rdb.PubSubShardNumSub
		}
		numbers, err := ask(ctx, names...).Result()
		mu.Lock()
		defer mu.Unlock()
		for i, name := range names {
			all[i] += int(numbers[name])
		}
		return err
	})
	for i := range all {
		if !s.channels.emitter {
			all[i] = max(all[i]-1, 0)
		}
	}
	return all, err
}

// servers counts the servers of a namespace, except this node. Each of them hears a channel whose name ends with its
// uid.
func (s *counter) servers(ctx context.Context, ns string) (int, error) {
	before := strings.TrimSuffix(s.channels.response(ns, "uid"), "uid#")
	seen, longer := make(map[string]bool), make(map[string]bool)
	var mu sync.Mutex
	err := s.eachServer(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		channels := rdb.PubSubChannels
		if s.channels.sharded {
			channels = rdb.PubSubShardChannels
		}
		all, err := channels(ctx, globEscape.Replace(before)+"*#").Result()
		mu.Lock()
		defer mu.Unlock()
		for _, channel := range all {
			uid, rest, _ := strings.Cut(strings.TrimPrefix(channel, before), "#")
			if rest != "" {
				longer[uid] = true // the channel belongs to a longer namespace
			} else if uid != s.channels.self && s.isServer(uid) {
				seen[uid] = true
			}
		}
		return err
	})
	maps.DeleteFunc(seen, func(uid string, _ bool) bool { return longer[uid] })
	return len(seen), err
}

// isServer reports whether a uid might be a server's, and not an emitter's or a room.
func (s *counter) isServer(uid string) bool {
	if s.channels.sharded {
		return len(uid) == shardedUIDLen && strings.Trim(uid, "0123456789abcdef") == ""
	}
	return uid != "" && !strings.HasSuffix(uid, emitterMark)
}

const shardedUIDLen = 16

// globEscape makes a pattern that matches only the given name.
var globEscape = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`, `\`, `\\`)

// CountPeers implements crosscast.ForeignAdapter.
func (a *Adapter) CountPeers(ctx context.Context, in *crosscast.Instruction, again bool) (int, error) {
	ns := namespaceOf(in)
	if !a.canAsk() { // go-redis would retry for a while
		return 0, crosscast.ErrNotConnected
	}
	if a.dialect.channels.emitter { // an emitter hears answers in "/" only, unless it subscribes to more
		err := a.Adapter.Subscribe(ctx, crosscast.Address{Namespace: ns, Space: crosscast.SpaceNamespace})
		if err != nil {
			return 0, err
		}
	}
	n, err := a.counter.count(ctx, ns, again)
	if err == nil && n == 0 && a.dialect.channels.emitter {
		err = errNobody // without it, a wrong key would look like a cluster without clients
	}
	return n, err
}

var errNobody = errors.New("crosscast/socketioadapter: no server hears the namespace")

// canAsk reports whether peers can be queried now, and their answers heard. An emitter's link is made on demand. Peers
// are also counted while the queue waits for them.
func (a *Adapter) canAsk() bool {
	l := a.AdapterStats().Link
	if l.Subscribing.State != reasons.LinkLive && !a.dialect.channels.emitter {
		return false
	}
	return l.Publishing.State == reasons.LinkLive || l.Publishing.State == reasons.LinkHeld
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/wire"
)

// learnTopics finds out how the nodes spread rooms and users over channels, as far as these names are concerned. Redis
// shows it by the channels that nodes have subscribed to. A node with Topics 1 has none. If the user may not look,
// the command line is right.
func (s *session) learnTopics(ctx context.Context, names []crosscast.Address) error {
	s.topics = []int{0}
	if s.Topics != nil {
		s.topics[0] = *s.Topics
	}
	if s.Mode != modeCrosscast || len(names) == 0 {
		return nil
	}
	ctx, cancel := s.patient(ctx)
	defer cancel()
	if err := s.learnSharded(ctx); err != nil || s.sharded {
		s.topics = nil
		return err
	}
	found, err := s.topicsInUse(ctx, names)
	switch {
	case redis.IsPermissionError(err):
		return nil
	case err != nil:
		return fail(exitUnreachable, "%s: %w", s.where(), err)
	case len(found) == 0:
		s.unheard = s.Topics == nil
		return nil
	case s.Topics != nil && *s.Topics != 1 && !slices.Contains(found, *s.Topics):
		return fail(exitFault, "no node has --topics %d: the nodes have Topics %s", *s.Topics, listed(found))
	case s.Topics != nil:
		return nil
	case len(found) > 2:
		return fail(exitFault, "the nodes disagree: they have Topics %s; choose one with --topics", listed(found))
	}
	s.topics = found
	return nil
}

// learnSharded finds out whether the nodes have Options.Sharded. Each of them always has subscribed to sharded channels.
func (s *session) learnSharded(ctx context.Context) error {
	if _, ok := s.rdb.(*redis.ClusterClient); !ok {
		return nil
	}
	var found atomic.Bool
	err := s.eachServer(ctx, func(ctx context.Context, rdb *redis.Client) error {
		channels, err := rdb.PubSubShardChannels(ctx, s.Prefix+":*{???}").Result()
		if len(channels) > 0 {
			found.Store(true)
		}
		return err
	})
	before7 := err != nil && strings.Contains(strings.ToLower(err.Error()), "unknown")
	if s.sharded = found.Load(); s.sharded || err == nil || before7 || redis.IsPermissionError(err) {
		return nil
	}
	return fail(exitUnreachable, "%s: %w", s.where(), err)
}

// topicsInUse are the numbers of shared channels that somebody has subscribed to, and 0 if one of the names has a
// subscribed channel of its own.
func (s *session) topicsInUse(ctx context.Context, names []crosscast.Address) ([]int, error) {
	own := make([]string, 0, len(names))
	lens := wire.Lens{Prefix: s.Prefix}
	for _, name := range names {
		own = append(own, lens.Topic(name))
	}
	var mu sync.Mutex
	var found []int
	err := s.eachServer(ctx, func(ctx context.Context, rdb *redis.Client) error {
		shared, err := rdb.PubSubChannels(ctx, s.Prefix+":h[ru]:*").Result()
		if err != nil {
			return err
		}
		counts, err := rdb.PubSubNumSub(ctx, own...).Result()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, channel := range shared {
			if n := sharedBy(channel[len(s.Prefix+":hr:"):]); n > 1 {
				found = append(found, n)
			}
		}
		for _, n := range counts {
			if n > 0 {
				found = append(found, 0)
			}
		}
		return nil
	})
	slices.Sort(found)
	return slices.Compact(found), err
}

// sharedBy is the first of two numbers with a colon; 0: it is something else.
func sharedBy(s string) int {
	topics, index, _ := strings.Cut(s, ":")
	n, err := strconv.Atoi(topics)
	if _, bad := strconv.Atoi(index); bad != nil || err != nil {
		return 0
	}
	return n
}

// listed is a list of numbers in words.
func listed(numbers []int) string {
	var all []string
	for _, n := range numbers {
		all = append(all, fmt.Sprint(n))
	}
	return strings.Join(all, " and ")
}

// unopened reports nodes and emitters whose messages the seal of others refuses. This command might be one of them.
func (e *examination) unopened() {
	told := make(map[crosscast.NodeID]string)
	for i := range e.census.Nodes {
		maps.Copy(told, e.census.Nodes[i].Stats.Adapter.Unopened)
	}
	delete(told, e.session.node.ID())
	if len(told) == 0 {
		return
	}
	var all []string
	for id, why := range told {
		all = append(all, fmt.Sprintf("%s: %s", id, why))
	}
	slices.Sort(all)
	e.blame(1, "not all servers and emitters have the same keys of the seal, or the right time")
	e.find(fault, "nodes", "the seal refuses %s; neither side hears the other (docs/security.md)", strings.Join(all, "; "))
}

// otherTopics reports nodes and emitters that have other Topics than those who have answered, the fewest of one number
// first.
func (e *examination) otherTopics() {
	told := make(map[crosscast.NodeID]string)
	for i := range e.census.Nodes {
		maps.Copy(told, e.census.Nodes[i].Stats.Adapter.Misrouted)
	}
	if len(told) == 0 {
		return
	}
	who := make(map[string][]string)
	for id, topics := range told {
		name := "an emitter"
		if i := slices.IndexFunc(e.census.Nodes, func(n row) bool { return n.ID == id }); i >= 0 {
			name = e.census.Nodes[i].Name
		} else if p, known := e.peers()[id]; known {
			name = p.Name
		}
		topics = strings.ReplaceAll(strings.ReplaceAll(topics, "own", "0"), ",", " and ")
		who[topics] = append(who[topics], fmt.Sprintf("%s (%s)", name, id))
	}
	var all []string
	for _, topics := range slices.SortedFunc(maps.Keys(who), func(a, b string) int {
		return cmp.Or(len(who[a])-len(who[b]), cmp.Compare(a, b))
	}) {
		slices.Sort(who[topics])
		all = append(all, fmt.Sprintf("%s of %s", topics, strings.Join(who[topics], ", ")))
	}
	e.blame(1, "not all servers and emitters were deployed with the same Topics")
	e.find(fault, "nodes", "Topics differ: %s; what they emit to rooms and users does not reach each other: give all the "+
		"same (docs/scale.md)", strings.Join(all, "; "))
}

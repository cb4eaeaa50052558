package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
)

// A cluster is a prefix that is in use at this Redis.
type cluster struct {
	Mode        string   `json:"mode"`
	Prefix      string   `json:"prefix"`
	Subscribers int      `json:"subscribers"` // connections that hear what is for everyone
	Nodes       []string `json:"nodes,omitempty"`
}

func (c cluster) String() string {
	who := counted(c.Subscribers, "subscriber")
	if len(c.Nodes) > 0 {
		who = strings.Join(c.Nodes, ", ")
	}
	return fmt.Sprintf("%q (mode %s; %s)", c.Prefix, c.Mode, who)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// everyone is the channel of a mode and prefix that each node hears.
func everyone(mode, prefix string) string {
	switch mode {
	case modeClassic:
		return prefix + "-request#/#"
	case modeSharded:
		return prefix + "#/#"
	}
	return prefix + ":all"
}

// survey lists the clusters at this Redis, by the channels that their nodes hear.
func (s *session) survey(ctx context.Context) ([]cluster, error) {
	var mu sync.Mutex
	type key struct{ mode, prefix string }
	found := make(map[key]int) // subscribers
	err := s.eachServer(ctx, func(ctx context.Context, rdb *redis.Client) error {
		for _, mode := range []string{modeCrosscast, modeClassic, modeSharded} {
			counts, err := subscribers(ctx, rdb, mode)
			if err != nil {
				return err
			}
			mu.Lock()
			for prefix, n := range counts {
				found[key{mode, prefix}] += n
			}
			mu.Unlock()
		}
		return nil
	})
	var all []cluster
	for k, n := range found {
		all = append(all, cluster{Mode: k.mode, Prefix: k.prefix, Subscribers: n})
	}
	slices.SortFunc(all, func(a, b cluster) int { return cmp.Or(cmp.Compare(a.Mode, b.Mode), cmp.Compare(a.Prefix, b.Prefix)) })
	return all, err
}

// subscribers counts, for each prefix of a mode, those at one server who hear what is for everyone.
func subscribers(ctx context.Context, rdb *redis.Client, mode string) (map[string]int, error) {
	list, count := rdb.PubSubChannels, rdb.PubSubNumSub
	if mode == modeSharded {
		list, count = rdb.PubSubShardChannels, rdb.PubSubShardNumSub
	}
	channels, err := list(ctx, everyone(mode, "*")).Result()
	if mode == modeSharded && err != nil && !redis.IsPermissionError(err) {
		return nil, nil // an older server has no such channels
	}
	channels = slices.DeleteFunc(channels, func(c string) bool { return !isPrefix(mode, c[:len(c)-len(everyone(mode, ""))]) })
	if err != nil || len(channels) == 0 {
		return nil, err
	}
	numbers, err := count(ctx, channels...).Result()
	if err != nil {
		return nil, err
	}
	found := make(map[string]int)
	for channel, n := range numbers {
		found[strings.TrimSuffix(channel, everyone(mode, ""))] = int(n)
	}
	return found, nil
}

// isPrefix reports whether a cluster can have a prefix. A room might have the name of the channel of another prefix.
func isPrefix(mode, prefix string) bool {
	if mode != modeCrosscast {
		return prefix != "" && !strings.Contains(prefix, "#")
	}
	first, rest, _ := strings.Cut(prefix, ":")
	return first != "" && !slices.ContainsFunc(strings.Split(rest, ":"), func(part string) bool {
		return part == "r" || part == "u" || part == "n"
	})
}

// eachServer calls f for each server that subscribers may be connected to, perhaps concurrently.
func (s *session) eachServer(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch c := s.rdb.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, f)
	case *redis.Client:
		return f(ctx, c)
	}
	return errors.New("unknown kind of Redis")
}

// expectNodes fails if nobody has this prefix and mode, and names those that are in use.
func (s *session) expectNodes(ctx context.Context) error {
	ctx, cancel := s.patient(ctx)
	defer cancel()
	found, err := s.survey(ctx)
	if redis.IsPermissionError(err) {
		return nil // the query itself shows whether there is anybody
	}
	if err != nil {
		return fail(exitUnreachable, "%s: %w", s.where(), err)
	}
	return s.mismatch(found)
}

// mismatch is nil if the cluster of the command line is among those found.
func (s *session) mismatch(found []cluster) error {
	if slices.ContainsFunc(found, func(c cluster) bool { return c.Mode == s.Mode && c.Prefix == s.Prefix }) {
		return nil
	}
	if len(found) == 0 {
		return fail(exitNobody, "no node is connected to %s", s.where())
	}
	var others []string
	for _, c := range found {
		others = append(others, c.String())
	}
	return fail(exitNobody, "no node has the prefix %q and the mode %s at %s. In use: %s. Choose with --prefix and --mode",
		s.Prefix, s.Mode, s.where(), strings.Join(others, ", "))
}

// nobody explains an empty answer: nil if the namespace may well be empty.
func (s *session) nobody(ctx context.Context, what string) error {
	if s.Mode != modeCrosscast {
		fmt.Fprintf(s.log, "no %s in the namespace %s\n", what, s.Namespace)
		return nil
	}
	ctx, cancel := s.patient(ctx)
	defer cancel()
	sockets := 0
	nodes := make(map[crosscast.NodeID]bool)
	answers := s.ns.Servers().Stats(ctx)
	for stats := range answers.All() {
		sockets += stats.Sockets
		nodes[stats.Node] = true
	}
	fmt.Fprintf(s.log, "no %s in the namespace %s; %s of %s have %s, in all namespaces\n", what, s.Namespace,
		counted(len(nodes), "node"), fmt.Sprintf("%q", s.Prefix), counted(sockets, "socket"))
	return nil
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

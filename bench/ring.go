package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"

	"github.com/crosscast/crosscast"
)

// In a ring, each process publishes what the next one receives.

// ringNode is a role that publishes with a sender, at its part of the rate. open also makes the process hear its own room.
func ringNode(open func(p *proc, hear, emit string, got func()) (sender, error)) role {
	return func(p *proc) error {
		name := func(i int) string { return fmt.Sprintf("%s-%06d", p.Run, i%p.N) }
		var received, sent atomic.Int64
		s, err := open(p, name(p.Index), name(p.Index+1), func() { received.Add(1) })
		if err != nil {
			return err
		}
		p.count = received.Load
		p.Rate /= float64(p.N)
		pace := newPace(strings.NewReader(""), math.MaxInt)
		driveOnDemand(p, s, pace, &sent)
		return nil
	}
}

func ringOwn(p *proc, hear, emit string, got func()) (sender, error) {
	node, err := startNode(p)
	if err != nil {
		return sender{}, err
	}
	conn := countingConn{func([]byte, int) { got() }}
	if _, err := node.Connect(context.Background(), conn, crosscast.ConnectOptions{Rooms: []string{hear}}); err != nil {
		return sender{}, err
	}
	return publishTo(p, node, emit), nil
}

func ringGoRedis(p *proc, hear, emit string, got func()) (sender, error) {
	if err := receiveChannels(p, []string{hear}, func([]byte, int) { got() }); err != nil {
		return sender{}, err
	}
	return pipelineTo(p, newRedis(p), emit), nil
}

func ring(ctx context.Context, r *run) (values, error) {
	var nodes []*process
	for i := range r.config.N {
		r.config.Index = i
		node, err := r.start("node", nil)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	for _, node := range nodes {
		if _, err := node.call("go"); err != nil {
			return nil, err
		}
	}
	pass(ctx, r.bench.span/2)
	before, err := r.sample()
	if err != nil {
		return nil, err
	}
	pass(ctx, r.bench.span)
	after, err := r.sample()
	if err != nil {
		return nil, err
	}
	v := values{}
	n := 0.0
	for role := range after {
		n += float64(after[role].Count - before[role].Count)
		v["cpu"] += (after[role].CPU - before[role].CPU) * 1e6
	}
	v["cpu"] /= n
	due := make([]int64, len(nodes))
	for i, node := range nodes {
		last, err := node.call("stop")
		if err != nil {
			return nil, err
		}
		due[(i+1)%len(nodes)] = last.Count
	}
	for i, node := range nodes {
		if err := arrive(ctx, node, due[i]); err != nil {
			return nil, err
		}
	}
	return v, nil
}

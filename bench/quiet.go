package main

import (
	"context"
	"fmt"
	"time"
)

// Quiet nodes have nothing to do: what they cost are heartbeats, each of which all others hear.
func quietNodes() []workload {
	return []workload{{
		name: "quiet", title: "16 nodes that have nothing to do",
		config: config{N: 16},
		metrics: []metric{
			{"cpu", "% of a core each", 2, true}, {"most", "% of a core at most", 2, true},
		},
		contestants: []contestant{
			{name: ownName, what: "**crosscast**", roles: map[string]role{"node": quietNode}},
		},
		measure: quiet,
	}}
}

func quietNode(p *proc) error {
	node, err := startNode(p)
	if err != nil {
		return err
	}
	p.figures = func() values {
		return values{"peers": float64(len(node.Nodes())), "gaps": float64(node.Stats().Gaps)}
	}
	return nil
}

// quiet fails when a node does not know all others, or reports a gap.
func quiet(ctx context.Context, r *run) (values, error) {
	for range r.config.N {
		if _, err := r.start("node", nil); err != nil {
			return nil, err
		}
	}
	before, err := r.sample()
	if err != nil {
		return nil, err
	}
	span := 5 * r.bench.span
	pass(ctx, span)
	after, err := r.sample()
	if err != nil {
		return nil, err
	}
	v := values{}
	for name, s := range after {
		if s.Values["peers"] != float64(r.config.N-1) || s.Values["gaps"] != 0 {
			return nil, fmt.Errorf("a node knows %v of %d peers, and has reported %v gaps", s.Values["peers"], r.config.N-1, s.Values["gaps"])
		}
		used := 100 * (s.CPU - before[name].CPU) / (float64(span) / float64(time.Second))
		v["cpu"] += used / float64(r.config.N)
		v["most"] = max(v["most"], used)
	}
	return v, nil
}

package crosscasttest

import (
	"context"
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
)

// A Cluster is a set of connected nodes in one process.
type Cluster struct {
	// Nodes are the started nodes, in order. Do not change it.
	Nodes []*crosscast.Node

	tb  testing.TB
	bus *crosscast.Cluster
}

// NewCluster starts n nodes, and closes them at the end of the test. Pass no options, one for all nodes, or one for
// each node. Options must not have an Adapter. Nodes without a name are called node-0, node-1 and so on.
func NewCluster(tb testing.TB, n int, options ...crosscast.Options) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, bus: crosscast.NewCluster()}
	if len(options) > 1 && len(options) != n {
		tb.Fatalf("crosscasttest: %d Options for %d nodes: there may be one for all, or one for each", len(options), n)
	}
	for i := range n {
		var o crosscast.Options
		switch len(options) {
		case 0:
		case 1:
			o = options[0]
		default:
			o = options[i]
		}
		c.add(o)
	}
	c.Settle(context.Background())
	return c
}

// Add starts one more node.
func (c *Cluster) Add(o crosscast.Options) *crosscast.Node {
	c.tb.Helper()
	n := c.add(o)
	c.Settle(context.Background())
	return n
}

func (c *Cluster) add(o crosscast.Options) *crosscast.Node {
	c.tb.Helper()
	if o.Adapter != nil {
		c.tb.Fatalf("crosscasttest: Options with an Adapter: the cluster has its own")
	}
	if o.Name == "" {
		o.Name = fmt.Sprintf("node-%d", len(c.Nodes))
	}
	o.Adapter = c.bus.Adapter()
	ctx, cancel := bounded(context.Background())
	defer cancel()
	n, err := crosscast.Start(ctx, o)
	if err != nil {
		c.tb.Fatalf("crosscasttest: starting %s: %v", o.Name, err)
	}
	c.Nodes = append(c.Nodes, n)
	c.tb.Cleanup(func() {
		ctx, cancel := bounded(context.Background())
		defer cancel()
		if err := n.Close(ctx); ctx.Err() != nil { // other errors are the application's, whose Close may have come first
			c.tb.Errorf("crosscasttest: closing %s: %v", n.Name(), err)
		}
	})
	return n
}

// Connect makes a client and connects it to the i-th node, in the default namespace. For other namespaces use the
// function Connect.
func (c *Cluster) Connect(ctx context.Context, i int, o crosscast.ConnectOptions) *Conn {
	c.tb.Helper()
	return Connect(ctx, c.tb, c.Nodes[i].Namespace, o)
}

// Settle waits until all earlier emissions, joins, commands, queries and requests have been handled on all nodes, with
// all their effects: hooks, subscriptions, watches, OnClose and request handlers have returned. See
// [crosscast.Cluster.Settle].
func (c *Cluster) Settle(ctx context.Context) {
	c.tb.Helper()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.bus.Settle(ctx); err != nil {
		c.tb.Fatalf("crosscasttest: the cluster does not settle: %v", err)
	}
}

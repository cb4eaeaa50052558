package crosscasttest

import (
	"context"
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
)

// A Cluster is nodes of one process that know each other.
type Cluster struct {
	// Nodes are those that were started, in order. It must not be changed.
	Nodes []*crosscast.Node

	tb  testing.TB
	bus *crosscast.Cluster
}

// NewCluster starts n nodes, and closes them at the end of the test. Options are none, those of every node, or those of
// each; they have no Adapter. A node without a name is called node-0, node-1 and so on.
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

// Connect makes a client and connects it to the i-th node, in the default namespace; see the function of that name for
// others.
func (c *Cluster) Connect(ctx context.Context, i int, o crosscast.ConnectOptions) *Conn {
	c.tb.Helper()
	return Connect(ctx, c.tb, c.Nodes[i].Namespace, o)
}

// Settle waits until everything that was emitted, joined, commanded, asked or told before has been handled on all
// nodes, and everything that came of it: hooks, subscriptions, watches, OnClose and request handlers have returned. See
// [crosscast.Cluster.Settle].
func (c *Cluster) Settle(ctx context.Context) {
	c.tb.Helper()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.bus.Settle(ctx); err != nil {
		c.tb.Fatalf("crosscasttest: the cluster does not settle: %v", err)
	}
}

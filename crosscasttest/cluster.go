package crosscasttest

import (
	"context"
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
)

// A Cluster is a set of connected nodes in one process. They meet on a bus in memory, with the same machinery as on
// Redis (package wire). So what hooks report of a link that was cut, and of lost emissions, is what they report there.
type Cluster struct {
	// Nodes are the started nodes, in order. Do not change it.
	Nodes []*crosscast.Node

	tb       testing.TB
	bus      *bus
	carriers []*carrier // of Nodes
}

// NewCluster starts n nodes, and closes them at the end of the test. Pass no options, one for all nodes, or one for
// each node. Options must not have an Adapter. Nodes without a name are called node-0, node-1 and so on.
func NewCluster(tb testing.TB, n int, options ...crosscast.Options) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, bus: newBus()}
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

// AddBy adds the node that start makes with the given adapter, for applications that call crosscast.Start themselves.
// The cluster closes the node at the end of the test, if the application has not. Until AddBy returns, start may use
// the node but not the cluster.
func (c *Cluster) AddBy(start func(ctx context.Context, a crosscast.Adapter) (*crosscast.Node, error)) *crosscast.Node {
	c.tb.Helper()
	n := c.addBy(fmt.Sprintf("node-%d", len(c.Nodes)), start)
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
	return c.addBy(o.Name, func(ctx context.Context, a crosscast.Adapter) (*crosscast.Node, error) {
		o.Adapter = a
		return crosscast.Start(ctx, o)
	})
}

func (c *Cluster) addBy(name string, start func(context.Context, crosscast.Adapter) (*crosscast.Node, error)) *crosscast.Node {
	c.tb.Helper()
	carrier := c.bus.newCarrier(name)
	ctx, cancel := bounded(context.Background())
	defer cancel()
	n, err := start(ctx, carrier)
	if err != nil {
		c.tb.Fatalf("crosscasttest: starting %s: %v", name, err)
	}
	c.Nodes, c.carriers = append(c.Nodes, n), append(c.carriers, carrier)
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
// all their effects: hooks, subscriptions, watches, OnClose and request handlers have returned. It does not wait for:
//
//   - the emissions of a node whose link is cut;
//   - what goroutines of the application are about to do;
//   - clients that have not replied to an acknowledged emission;
//   - what a [crosscast.Queue] has not written;
//   - interest that lingers.
//
// Do not call it from anything that it waits for.
func (c *Cluster) Settle(ctx context.Context) {
	c.tb.Helper()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.bus.settle(ctx, c.carriers); err != nil {
		c.tb.Fatalf("crosscasttest: the cluster does not settle: %v", err)
	}
}

// Cut breaks the link between the i-th node and the bus, until Heal. It returns when the node has noticed. The hooks
// report what they report when a server loses Redis: OnLink the state of the link, and OnLoss emissions that wait for
// longer than 5 seconds (redisadapter.Options.MaxAge). The peers take the node for dead after six heartbeats. An
// emitter (Options.EmitOnly) notices only with its next emission, which is a loss.
func (c *Cluster) Cut(i int) {
	c.tb.Helper()
	ctx, cancel := bounded(context.Background())
	defer cancel()
	if err := c.carriers[i].sever(ctx); err != nil {
		c.tb.Fatalf("crosscasttest: the node %s does not notice that its link is cut: %v", c.Nodes[i].Name(), err)
	}
}

// Heal ends Cut. It returns when the node's link is live again. Then call Settle: after it, OnGap has reported the
// outage, and the emissions that waited have arrived. Outside of a testing/synctest bubble Heal takes up to a second,
// because a node pauses between its attempts to connect.
func (c *Cluster) Heal(i int) {
	c.tb.Helper()
	ctx, cancel := bounded(context.Background())
	defer cancel()
	if err := c.carriers[i].repair(ctx); err != nil {
		c.tb.Fatalf("crosscasttest: the link of the node %s does not come back: %v", c.Nodes[i].Name(), err)
	}
}

// Lose makes the bus lose the next n emissions, of any nodes, without an answer, while the links stand. They reach the
// emitting node's own clients, and no others. After Settle, OnLoss of the emitting node has reported them with
// the reason "uncertain", and OnGap of the peers with the reason "loss". Emissions of a node whose link is cut do not
// count, nor do commands, queries and requests.
func (c *Cluster) Lose(n int) { c.bus.lose.Add(int64(n)) }

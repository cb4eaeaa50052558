// Program notify shows that a message to a user finds the user's node, and only that.
//
// Three nodes hold 10,000 users. A job that completes on one node emits "done" to one user, then to each of 100 random
// users, then to everyone. The program counts what every user and every node got, and exits non-zero when a count is
// wrong.
//
//	go run ./examples/notify
//
// The nodes meet at REDIS_URL, or in an embedded Redis when it is not set.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
)

const (
	nodeCount = 3
	userCount = 10_000
	someCount = 100
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("REDIS_URL"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "notify:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, out io.Writer) error {
	if url == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		url = "redis://" + server.Addr()
	}
	began := time.Now()
	c, err := startCluster(ctx, url)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d nodes, %d users connected in %v\n",
		nodeCount, userCount, time.Since(began).Round(time.Millisecond))
	return errors.Join(c.show(ctx, out), c.close())
}

// A client is a user's connection. It counts the jobs that it is told of.
type client struct {
	got atomic.Int64
}

func (c *client) Send(m *crosscast.Message) error {
	if m.Event == "done" {
		c.got.Add(1)
	}
	return nil
}

func (c *client) Close(crosscast.Reason) {}

// A watcher is one more connection of each node, to see when the node has handled what was emitted before a mark.
type watcher chan struct{}

func (w watcher) Send(m *crosscast.Message) error {
	if m.Event == "mark" {
		w <- struct{}{}
	}
	return nil
}

func (w watcher) Close(crosscast.Reason) {}

// cluster is three nodes and their users: user u is on node u % nodeCount.
type cluster struct {
	nodes    []*crosscast.Node
	watchers []watcher
	watching []crosscast.SocketID // the watchers' sockets
	users    [userCount]client
	gaps     atomic.Int64
}

func userName(u int) string { return fmt.Sprintf("user-%d", u) }

func startCluster(ctx context.Context, url string) (*cluster, error) {
	c := &cluster{}
	if err := c.fill(ctx, url); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// fill starts the nodes and connects the users.
func (c *cluster) fill(ctx context.Context, url string) error {
	// A prefix of its own: whoever else uses this Redis must not be counted.
	prefix := fmt.Sprintf("cc-notify-%x", rand.Uint64())
	for i := range nodeCount {
		node, err := crosscast.Start(ctx, crosscast.Options{
			Name:    fmt.Sprintf("node-%d", i+1),
			Adapter: redisadapter.Dial(url, redisadapter.Options{Prefix: prefix}),
			OnGap:   func(*crosscast.Node, crosscast.Gap) { c.gaps.Add(1) },
		})
		if err != nil {
			return err
		}
		w := make(watcher, 8)
		c.nodes, c.watchers = append(c.nodes, node), append(c.watchers, w)
		s, err := node.Connect(ctx, w, crosscast.ConnectOptions{})
		if err != nil {
			return err
		}
		c.watching = append(c.watching, s.ID())
	}
	return c.connectUsers(ctx)
}

// connectUsers connects many users at a time, as they come in a real server: what they wait for is then shared.
func (c *cluster) connectUsers(ctx context.Context) error {
	const atOnce = 500
	errs := make([]error, atOnce)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for u := next.Add(1) - 1; u < userCount && errs[i] == nil; u = next.Add(1) - 1 {
				node := c.nodes[u%nodeCount]
				_, errs[i] = node.Connect(ctx, &c.users[u], crosscast.ConnectOptions{User: userName(int(u))})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *cluster) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.Close(ctx))
	}
	return errors.Join(errs...)
}

// job is what the users are told.
type job struct {
	Job string `json:"job"`
}

// show has jobs complete on the first node, and checks what became of each.
func (c *cluster) show(ctx context.Context, out io.Writer) error {
	node := c.nodes[0]

	one := rand.IntN(userCount)
	err := c.step(ctx, out, "one user", []int{one}, func() error {
		return node.ToUser(userName(one)).Emit(ctx, "done", job{"thumbnail"})
	})
	if err != nil {
		return err
	}

	some := rand.Perm(userCount)[:someCount]
	err = c.step(ctx, out, "100 random users", some, func() error {
		for _, u := range some {
			if err := node.ToUser(userName(u)).Emit(ctx, "done", job{"report"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}

	all := make([]int, userCount)
	for u := range all {
		all[u] = u
	}
	return c.step(ctx, out, "everyone", all, func() error {
		return node.Emit(ctx, "done", job{"nightly build"})
	})
}

// step emits, and checks that each of the users got one message, nobody else did, and no node was sent a message
// without having a user for it.
func (c *cluster) step(ctx context.Context, out io.Writer, what string, users []int, emit func() error) error {
	var vain [nodeCount]uint64 // instructions that a node received and had nobody for
	for i, n := range c.nodes {
		vain[i] = n.Stats().Dropped["unwanted"]
	}
	began := time.Now()
	if err := emit(); err != nil {
		return err
	}
	if err := c.mark(ctx); err != nil {
		return err
	}
	took := time.Since(began)

	var has, got [nodeCount]int // users concerned, of each node, and messages to users of each node
	var want [userCount]int
	for _, u := range users {
		want[u] = 1
		has[u%nodeCount]++
	}
	var errs []error
	for u := range c.users {
		n := int(c.users[u].got.Swap(0))
		got[u%nodeCount] += n
		if n != want[u] && len(errs) < 10 {
			errs = append(errs, fmt.Errorf("%s got %d messages", userName(u), n))
		}
	}
	total := 0
	for _, n := range got {
		total += n
	}
	fmt.Fprintf(out, "done to %s: %d deliveries to %d users in %v\n",
		what, total, len(users), took.Round(100*time.Microsecond))
	for i, n := range c.nodes {
		vain := n.Stats().Dropped["unwanted"] - vain[i]
		fmt.Fprintf(out, "  %s: has %d of the users, delivered %d, received %d in vain\n", n.Name(), has[i], got[i], vain)
		if vain > 0 {
			errs = append(errs, fmt.Errorf("%s received %d instructions in vain", n.Name(), vain))
		}
	}
	if n := c.gaps.Load(); n > 0 {
		errs = append(errs, fmt.Errorf("%d gaps: messages may be missing", n))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("done to %s: %w", what, err)
	}
	fmt.Fprintln(out, "  each arrived exactly once, and nodes without the user received nothing")
	return nil
}

// mark returns when every node has handled whatever the first node emitted before. An emission to several sockets keeps
// its place among all that its node emits, and each node has one of the watchers.
func (c *cluster) mark(ctx context.Context) error {
	if err := c.nodes[0].ToSocket(c.watching...).Emit(ctx, "mark", nil); err != nil {
		return err
	}
	for i, w := range c.watchers {
		select {
		case <-w:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(30 * time.Second):
			return fmt.Errorf("%s did not hear the mark", c.nodes[i].Name())
		}
	}
	return nil
}

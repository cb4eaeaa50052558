package socketioadapter_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// bare starts an adapter without a node, which is closed when the test ends.
func bare(t *testing.T, rdb redis.UniversalClient, o socketioadapter.Options, emitter bool) *socketioadapter.Adapter {
	t.Helper()
	a := socketioadapter.New(rdb, o)
	self := crosscast.NodeInfo{ID: crosscast.NodeID(rand.Text()[:8]), Heartbeat: time.Second}
	if err := a.Start(redistest.Within(t, redistest.Patience), starting(self, nothing{}, emitter)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(redistest.Within(t, redistest.Patience)); err != nil {
			t.Error(err)
		}
	})
	return a
}

func wantPeers(t *testing.T, a *socketioadapter.Adapter, ns string, again bool, want int) {
	t.Helper()
	in := &crosscast.Instruction{Namespace: ns, Ref: "1", Target: everyone}
	got, err := a.CountPeers(redistest.Within(t, redistest.Patience), in, again)
	if err != nil || got != want {
		t.Errorf("in %q, again %v, there are %d peers, %v; want %d", ns, again, got, err, want)
	}
}

// TestCountPeers: all subscribers count, and at a closer look only servers.
func TestCountPeers(t *testing.T) {
	for _, o := range []socketioadapter.Options{classic, sharded} {
		t.Run(fmt.Sprint("mode ", o.Mode), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			o.Key = `k*[a]?\`
			a, b := bare(t, s.Client(), o, false), bare(t, s.Client(), o, false)
			other := o
			other.Key = `kx[a]?\`
			bare(t, s.Client(), other, false)
			ask := func(want int) {
				t.Helper()
				wantPeers(t, a, "/", true, want)
				wantPeers(t, a, "", true, want)
			}
			ask(1)
			wantPeers(t, a, "/", false, 1)
			c := bare(t, s.Client(), o, false)
			ask(2)

			// A namespace's name is no pattern, and no beginning of another's.
			for _, ns := range []string{"/*", "/x", "/x#y", "/[x]"} {
				for _, n := range []*socketioadapter.Adapter{a, b} {
					must(t, n.Subscribe(redistest.Within(t, redistest.Patience),
						crosscast.Address{Namespace: ns, Space: crosscast.SpaceNamespace},
						crosscast.Address{Namespace: ns, Space: crosscast.SpaceRoom, Name: "abc"}))
				}
			}
			must(t, c.Subscribe(redistest.Within(t, redistest.Patience),
				crosscast.Address{Namespace: "/x#y", Space: crosscast.SpaceNamespace}))
			for _, again := range []bool{false, true} {
				wantPeers(t, a, "/*", again, 1)
				wantPeers(t, a, "/x", again, 1)
				wantPeers(t, a, "/x#y", again, 2)
				wantPeers(t, a, "/[x]", again, 1)
			}
			wantPeers(t, a, "/nobody", true, 0)

			// A stranger listens in.
			channel, subscribe := o.Key+"-request#/#", s.Client().Subscribe
			if o.Mode == socketioadapter.Sharded {
				channel, subscribe = o.Key+"#/#", s.Client().SSubscribe
			}
			spy := subscribe(redistest.Within(t, redistest.Patience), channel)
			defer spy.Close()
			if _, err := spy.Receive(redistest.Within(t, redistest.Patience)); err != nil {
				t.Fatal(err)
			}
			wantPeers(t, a, "/", false, 3)
			ask(2)

			// An emitter is no server, even when it listens; and counts all.
			e := bare(t, s.Client(), o, true)
			must(t, e.Listen(redistest.Within(t, redistest.Patience)))
			ask(2)
			wantPeers(t, a, "/", false, 3)
			wantPeers(t, e, "/", false, 4)
			wantPeers(t, e, "/", true, 3)
			wantPeers(t, e, "/x#y", true, 3)

			must(t, b.Close(redistest.Within(t, redistest.Patience)))
			ask(1)
		})
	}
}

// TestCountPeersOfACluster: whichever server of Redis they are connected to.
func TestCountPeersOfACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3)
	for _, o := range []socketioadapter.Options{classic, sharded} {
		t.Run(fmt.Sprint("mode ", o.Mode), func(t *testing.T) {
			var all []*socketioadapter.Adapter
			for range 4 {
				all = append(all, bare(t, cluster.Client(), o, false))
			}
			for _, a := range all {
				wantPeers(t, a, "/", false, 3)
				wantPeers(t, a, "/", true, 3)
			}
		})
	}
}

// TestCountPeersAtReplicas: subscribers at replicas count, and subscribers at servers that the cluster does not list
// with its slots, such as a future replica. If a server cannot be queried, the number is unknown.
func TestCountPeersAtReplicas(t *testing.T) {
	t.Cleanup(func() {
		time.Sleep(1100 * time.Millisecond) // lasts: go-redis looks once a second whether a pool that cannot dial is closed
	})
	cluster := redistest.StartCluster(t, 3)
	masters := slices.Clone(cluster.Servers)
	replicas := cluster.Add(t, 2)
	start := func(o socketioadapter.Options) (all []*socketioadapter.Adapter) {
		for i := range 4 {
			all = append(all, bare(t, cluster.ClientOf(replicas[i%2]), o, false))
		}
		return all
	}
	want := func(all []*socketioadapter.Adapter) {
		t.Helper()
		for _, a := range all {
			wantPeers(t, a, "/", false, 3)
			wantPeers(t, a, "/", true, 3)
		}
	}
	all := start(classic)
	want(all)
	others := socketioadapter.OtherServers(all[0])
	if len(others) == 0 {
		t.Error("no server is asked that go-redis does not list")
	}
	listed, err := cluster.ClientOf(masters[0]).MasterForKey(t.Context(), "")
	must(t, err)
	user := listed.Options() // a cluster's clients do not repeat commands by themselves
	for address, rdb := range others {
		if o := rdb.Options(); o.ReadTimeout != user.ReadTimeout || o.MaxRetries != user.MaxRetries {
			t.Errorf("the client of %s has the options %+v", address, o)
		}
	}
	wantPeers(t, all[0], "/", false, 3)
	if !maps.Equal(others, socketioadapter.OtherServers(all[0])) {
		t.Error("a server that was asked before is asked with a new client")
	}
	want(start(sharded))
	for i, r := range replicas {
		cluster.Replicate(t, r, masters[i])
	}
	want(all)

	// A server that the cluster has not given up yet.
	replicas[0].Kill()
	ask := func() (int, error) {
		in := &crosscast.Instruction{Namespace: "/", Ref: "1", Target: everyone}
		return all[1].CountPeers(redistest.Within(t, redistest.Patience), in, false)
	}
	if n, err := ask(); err == nil {
		t.Errorf("a server cannot be asked, and there are %d peers", n)
	}
	// When they have, its subscribers are elsewhere.
	for {
		n, err := ask()
		if err == nil && n == 3 {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("%d peers, %v", n, err)
		}
	}
}

// TestCountWithoutRedis: the error names the failed operation.
func TestCountWithoutRedis(t *testing.T) {
	rdb := redistest.Client(t, &redis.Options{Addr: redistest.ClosedPort(), MaxRetries: -1, DialerRetries: 1})
	c := socketioadapter.NewCounter(rdb, classic, "x", false, func() bool { return true })
	for _, again := range []bool{false, true} {
		if _, err := c.Count(redistest.Within(t, redistest.Patience), "/", again); err == nil {
			t.Error("servers are counted without a Redis")
		}
	}
}

// counters is a Redis that answers queries for numbers of subscribers.
type counters struct {
	redis.UniversalClient
	mu   sync.Mutex // guards the fields below
	n    int
	err  error
	asks int
}

func (c *counters) set(n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n, c.err = n, err
}

func (c *counters) PubSubNumSub(ctx context.Context, channels ...string) *redis.MapStringIntCmd {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks++
	cmd := redis.NewMapStringIntCmd(ctx)
	numbers := make(map[string]int64)
	for _, name := range channels {
		numbers[name] = int64(c.n)
	}
	cmd.SetVal(numbers)
	cmd.SetErr(c.err)
	return cmd
}

// TestCountAfterAnOutage: for five seconds as many peers are expected as before, even if they were never queried.
// Counts made during the outage do not matter.
func TestCountAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := &counters{n: 1}
		var proven atomic.Bool
		proven.Store(true)
		c := socketioadapter.NewCounter(rdb, classic, "x", false, proven.Load)
		want := func(n int) {
			t.Helper()
			if got, err := c.Count(t.Context(), "/n", false); got != n || err != nil {
				t.Errorf("%d peers, %v; want %d", got, err, n)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(ctx)
		}()
		c.Watch("/n")
		time.Sleep(3 * time.Second) // one is this node
		want(0)
		rdb.set(4, nil)
		time.Sleep(3 * time.Second)

		proven.Store(false)
		rdb.set(0, errors.New("down"))
		time.Sleep(10 * time.Second)
		rdb.set(1, nil)
		time.Sleep(10 * time.Second)
		c.Recovered()
		proven.Store(true)

		gathered := make(chan struct{})
		go func() {
			defer close(gathered)
			c.Gather(t.Context())
		}()
		want(3)
		time.Sleep(4999 * time.Millisecond)
		want(3)
		select {
		case <-gathered:
			t.Error("the peers are taken for back, and none is")
		default:
		}
		rdb.set(4, nil)
		<-gathered
		rdb.set(2, nil)
		time.Sleep(time.Millisecond)
		want(1)

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		rdb.set(1, nil)
		c.Gather(short)
		if short.Err() == nil {
			t.Error("the peers are taken for back, and one is missing")
		}
		stop()
		<-done
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestEmitterAlone: where no server answers an emitter, the answer is not that there is nothing.
func TestEmitterAlone(t *testing.T) {
	for _, o := range []socketioadapter.Options{classic, sharded} {
		s := redistest.Start(t, redistest.Config{})
		ctx := redistest.Within(t, redistest.Patience)
		e, err := crosscast.Start(ctx, crosscast.Options{EmitOnly: true, Adapter: socketioadapter.New(s.Client(), o)})
		must(t, err)
		t.Cleanup(func() { must(t, e.Close(redistest.Within(t, redistest.Patience))) })
		count := func(want int, complete bool) {
			t.Helper()
			n, err := e.Everyone().Count(ctx)
			var incomplete *crosscast.IncompleteError
			if n != want || complete != (err == nil) || !complete && !errors.As(err, &incomplete) {
				t.Errorf("mode %d: %d clients, %v", o.Mode, n, err)
			}
		}
		count(0, false)
		n, err := crosscast.Start(ctx, crosscast.Options{Adapter: socketioadapter.New(s.Client(), o)})
		must(t, err)
		t.Cleanup(func() { must(t, n.Close(redistest.Within(t, redistest.Patience))) })
		count(0, true)
		_, err = n.Connect(ctx, &client{events: make(chan string, 1)}, crosscast.ConnectOptions{})
		must(t, err)
		count(1, true)
		must(t, n.Close(ctx))
		count(0, false)
	}
}

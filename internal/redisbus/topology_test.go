package redisbus_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// looks are the answers of a bus to whether there is another server, one after the other.
func looks(t *testing.T, bus wire.Bus, l *listener, want ...bool) {
	t.Helper()
	for i, w := range want {
		moved, err := bus.(wire.Mover).Moved(redistest.Within(t, redistest.Patience), l.link)
		if moved != w || err != nil {
			t.Fatalf("look %d: %v, %v; want %v", i, moved, err, w)
		}
	}
}

// TestTheServerIsTheSame, as long as nothing has changed: with a user who may not ask for its role, too.
func TestTheServerIsTheSame(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		bus := newBus(redistest.Client(t, options()))
		looks(t, bus, listen(t, bus, "cc:a"), false)
	})
	t.Run("without ROLE", func(t *testing.T) {
		s := redistest.Start(t, redistest.Config{Users: []string{"node on >secret &cc:* -@all +publish +subscribe +unsubscribe +ping"}})
		o := s.Options()
		o.Username, o.Password = "node", "secret"
		bus := newBus(redistest.Client(t, o))
		l := listen(t, bus, "cc:a")
		looks(t, bus, l, false)
		mustPublish(t, bus, frames("cc:a", "x"))
		l.expectData(t, "cc:a", "x")
	})
	t.Run("cluster", func(t *testing.T) {
		bus := newBus(redistest.StartCluster(t, 3).Client())
		l := listen(t, bus, "cc:a")
		mustPublish(t, bus, frames("cc:a", "x"))
		looks(t, bus, l, false, false)
	})
}

// TestANameWithSeveralAddresses: a new connection may lead to another address of the same server.
func TestANameWithSeveralAddresses(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	proxy := faultproxy.Start(t, s.Addr())
	o := s.Options()
	_, port, _ := net.SplitHostPort(s.Addr())
	o.Addr = "localhost:" + port // which names 127.0.0.1
	var elsewhere atomic.Bool
	o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		if elsewhere.Load() {
			return d.DialContext(ctx, network, proxy.Addr())
		}
		return d.DialContext(ctx, network, s.Addr())
	}
	bus := newBus(redistest.Client(t, o))
	l := listen(t, bus, "cc:a")
	elsewhere.Store(true)
	looks(t, bus, l, false)
}

// TestAReplicaOnPurpose counts as another server once.
func TestAReplicaOnPurpose(t *testing.T) {
	s := redistest.StartReplica(t, redistest.Start(t, redistest.Config{}))
	bus := newBus(s.Client())
	l := listen(t, bus, "cc:a")
	looks(t, bus, l, true, false, false)
	mustPublish(t, bus, frames("cc:a", "x"))
	l.expectData(t, "cc:a", "x")
	s.Promote()
	looks(t, bus, l, false, false)
}

// TestALookEnds, whatever the server does.
func TestALookEnds(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb, p := through(t, s)
	bus := newBus(rdb)
	l := listen(t, bus, "cc:a")
	mustPublish(t, bus, frames("cc:a", "x"))
	p.Set(faultproxy.Down, faultproxy.Faults{Swallow: true})
	start := time.Now()
	moved, err := bus.(wire.Mover).Moved(redistest.Within(t, redistest.Patience), l.link)
	if moved || err == nil {
		t.Errorf("%v, %v", moved, err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestTheAnchorMoves: what is published through another master of a cluster is on another server.
func TestTheAnchorMoves(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	rdb := c.Client()
	bus := newBus(rdb)
	l := listen(t, bus, "cc:a")
	mustPublish(t, bus, frames("cc:a", "x"))
	l.expectData(t, "cc:a", "x")
	slot, err := rdb.ClusterKeySlot(t.Context(), "cc").Result()
	if err != nil {
		t.Fatal(err)
	}
	owner, err := rdb.MasterForKey(t.Context(), "cc")
	if err != nil {
		t.Fatal(err)
	}
	var next *redis.Client
	for _, s := range c.Servers {
		if s.Addr() != owner.Options().Addr {
			next = s.Client()
		}
	}
	id, err := next.Do(t.Context(), "cluster", "myid").Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]*redis.Client{next}, c.Servers[0].Client(), c.Servers[1].Client(), c.Servers[2].Client()) {
		if err := s.Do(t.Context(), "cluster", "setslot", slot, "node", id).Err(); err != nil {
			t.Fatal(err)
		}
	}
	looks(t, bus, l, true)
	mustPublish(t, bus, frames("cc:a", "y"))
	looks(t, bus, l, false)
}

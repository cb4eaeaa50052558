package redisadapter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// A server that does not answer, for nodes and emitters.
func TestStartWithASilentServer(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	listener := join(t, "listener", s.Client())
	for _, emitOnly := range []bool{false, true} {
		t.Run(fmt.Sprint("emitter ", emitOnly), func(t *testing.T) {
			n, _ := redistest.StartLate(t, s, emitOnly, func(rdb *redis.Client) crosscast.Adapter {
				return redisadapter.New(rdb, redisadapter.Options{})
			})
			if err := n.To("room").Emit(t.Context(), "hello", nil); err != nil {
				t.Error(err)
			}
			listener.expect(t, "hello ")
		})
	}
}

// TestCountRightAfterStart: a node that has started knows its peers, also of a bus that cannot tell how many there are.
func TestCountRightAfterStart(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		a := join(t, "a", redistest.Client(t, options()))
		countsRightAfterStart(t, a, redistest.Client(t, options()))
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, 3)
		a := join(t, "a", c.Client())
		countsRightAfterStart(t, a, c.Client())
	})
}

func countsRightAfterStart(t *testing.T, a *member, rdb redis.UniversalClient) {
	t.Helper()
	ctx := redistest.Within(t, redistest.Patience)
	for i := range 5 {
		n, err := crosscast.Start(ctx, crosscast.Options{
			Heartbeat: 250 * time.Millisecond, Adapter: redisadapter.New(rdb, redisadapter.Options{}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if count, err := n.Everyone().Count(ctx); count != 1 || err != nil || len(n.Nodes()) == 0 {
			t.Errorf("start %d: %d sockets, %v, and %d peers; %s has one", i, count, err, len(n.Nodes()), a.Name())
		}
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

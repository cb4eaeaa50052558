package redisadapter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// A server that does not answer: Start returns by its context, for nodes and emitters, whatever go-redis's own time
// limits are; and with the same Options it works once the server answers.
func TestStartWithASilentServer(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	listener := join(t, "listener", s.Client())
	for _, emitOnly := range []bool{false, true} {
		t.Run(fmt.Sprint("emitter ", emitOnly), func(t *testing.T) {
			p := faultproxy.Start(t, s.Addr())
			o := crosscast.Options{
				Name: "late", EmitOnly: emitOnly,
				Adapter: redisadapter.New(redistest.Client(t, &redis.Options{Addr: p.Addr()}), redisadapter.Options{}),
			}
			p.Set(faultproxy.Down, faultproxy.Faults{Swallow: true})
			for range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				begin := time.Now()
				_, err := crosscast.Start(ctx, o)
				took := time.Since(begin)
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
					t.Errorf("Start, with a context of 500 ms, returned after %v: %v", took, err)
				}
			}
			p.Set(faultproxy.Down, faultproxy.Faults{})
			p.Reset() // or go-redis would wait for what was swallowed
			n, err := crosscast.Start(redistest.Within(t, redistest.Patience), o)
			if err != nil {
				t.Fatal("once the server answers:", err)
			}
			t.Cleanup(func() {
				if err := n.Close(redistest.Within(t, redistest.Patience)); err != nil {
					t.Error(err)
				}
			})
			if err := n.To("room").Emit(t.Context(), "hello", nil); err != nil {
				t.Error(err)
			}
			listener.expect(t, "hello ")
			_, err = crosscast.Start(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), `in use by node "late"`) {
				t.Error("a second node with the same adapter:", err)
			}
			if err := n.To("room").Emit(t.Context(), "still here", nil); err != nil {
				t.Error(err)
			}
			listener.expect(t, "still here ")
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

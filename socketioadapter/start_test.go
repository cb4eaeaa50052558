package socketioadapter_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// A server that does not answer, for nodes and emitters; and a node that has closed does not start again.
func TestStartWithASilentServer(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	for _, emitOnly := range []bool{false, true} {
		t.Run(fmt.Sprint("emitter ", emitOnly), func(t *testing.T) {
			heard := &tally{got: make(map[string]int)}
			listener := socketioadapter.New(s.Client(), classic)
			must(t, listener.Start(redistest.Within(t, redistest.Patience), starting(crosscast.NodeInfo{ID: crosscast.NodeID(rand.Text()[:8])}, heard)))
			t.Cleanup(func() { must(t, listener.Close(redistest.Within(t, redistest.Patience))) })

			n, o := redistest.StartLate(t, s, emitOnly, func(rdb *redis.Client) crosscast.Adapter {
				return socketioadapter.New(rdb, classic)
			})
			must(t, n.Emit(t.Context(), "hello", nil))
			eventually(t, "hearing the node", func() bool { return heard.count("hello") == 1 })
			must(t, n.Close(redistest.Within(t, redistest.Patience)))
			if _, err := crosscast.Start(t.Context(), o); !errors.Is(err, crosscast.ErrClosed) {
				t.Error("after Close:", err)
			}
		})
	}
}

// The same on a Redis Cluster whose servers do not answer, whether or not the client knows them already.
func TestStartWithASilentCluster(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	client := func() *redis.ClusterClient {
		const longer = 2 * redistest.Patience // than the test waits, so that only the context ends a Start
		rdb := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: c.Client().Options().Addrs, DialTimeout: longer, ReadTimeout: longer, WriteTimeout: longer,
		})
		t.Cleanup(func() { rdb.Close() })
		return rdb
	}
	warm, cold := client(), client()
	must(t, warm.Ping(t.Context()).Err())
	for _, s := range c.Servers {
		s.Pause()
		defer s.Resume()
	}
	for name, rdb := range map[string]*redis.ClusterClient{"warm": warm, "cold": cold} {
		for _, mode := range []socketioadapter.Mode{socketioadapter.Classic, socketioadapter.Sharded} {
			for _, emitOnly := range []bool{false, true} {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				begin := time.Now()
				a := socketioadapter.New(rdb, socketioadapter.Options{Mode: mode})
				_, err := crosscast.Start(ctx, crosscast.Options{EmitOnly: emitOnly, Adapter: a})
				took := time.Since(begin)
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) || took > redistest.Patience {
					t.Errorf("%s client, mode %d, emitter %v: Start, with a context of 500 ms, returned after %v: %v",
						name, mode, emitOnly, took, err)
				}
			}
		}
	}
}

// TestBadKeys: a key is refused with which a channel could be one of a shorter key.
func TestBadKeys(t *testing.T) {
	for _, key := range []string{"socket.io#/", "socket.io-request", "socket.io-response"} {
		rdb := redis.NewClient(&redis.Options{Addr: redistest.ClosedPort()})
		_, err := crosscast.Start(t.Context(), crosscast.Options{
			Adapter: socketioadapter.New(rdb, socketioadapter.Options{Key: key}),
		})
		if err == nil || !strings.Contains(err.Error(), "Options.Key is") {
			t.Errorf("%q: error %v", key, err)
		}
		must(t, rdb.Close())
	}
}

// TestEmitterWithoutServers: an emitter that counts no servers, as with a wrong key, reports an error.
func TestEmitterWithoutServers(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	for _, mode := range []socketioadapter.Mode{socketioadapter.Classic, socketioadapter.Sharded} {
		e, err := crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
			EmitOnly: true, Adapter: socketioadapter.New(s.Client(), socketioadapter.Options{Key: "wrong", Mode: mode}),
		})
		if err != nil {
			t.Fatal(err)
		}
		var incomplete *crosscast.IncompleteError
		n, err := e.To("r").Count(redistest.Within(t, redistest.Patience))
		if n != 0 || !errors.As(err, &incomplete) {
			t.Errorf("mode %d: count: %d, %v", mode, n, err)
		}
		must(t, e.Close(redistest.Within(t, redistest.Patience)))
	}
}

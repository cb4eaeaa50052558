package redisadapter_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// TestMoreThanTheLinkCarries: a node emits more than its link carries, with the recommended time-outs. It waits, loses
// nothing, and its peer does not take it for dead.
func TestMoreThanTheLinkCarries(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	proxy := faultproxy.Start(t, s.Addr())
	o := s.Options()
	o.Addr = proxy.Addr()
	o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout = true, 2*time.Second, 2*time.Second
	slow := redistest.Client(t, o)
	var mu sync.Mutex
	var events []crosscast.NodeEvent // guarded by mu
	second := func(o *crosscast.Options) { o.Heartbeat = time.Second }
	a := join(t, "a", slow, second, func(o *crosscast.Options) {
		o.Adapter = redisadapter.New(slow, redisadapter.Options{PublishTimeout: 2 * time.Second, QueueBytes: 4 << 20})
	})
	join(t, "b", s.Client(), second, func(o *crosscast.Options) {
		o.OnNode = func(_ *crosscast.Node, e crosscast.NodeEvent) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
		}
	})
	proxy.Set(faultproxy.Up, faultproxy.Faults{Rate: 900 << 10})
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	text := strings.Repeat("x", 1000)
	accepted := 0
	for ctx.Err() == nil {
		if err := a.To("room").Emit(ctx, "said", text); err == nil {
			accepted++
		} else if ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(redistest.Within(t, 2*redistest.Patience)); err != nil {
		t.Errorf("after %d emissions: %v", accepted, err)
	}
	if least := 8 * 900 / 2; accepted < least {
		t.Errorf("%d emissions were accepted, want at least %d", accepted, least)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, e := range events {
		if e.Kind == crosscast.NodeSuspect || e.Kind == crosscast.NodeExpired {
			t.Errorf("%+v", e)
		}
	}
}

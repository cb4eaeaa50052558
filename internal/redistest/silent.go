package redistest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
)

// StartLate checks what Start does while a server does not answer: it returns by its context, whatever go-redis's own time
// limits are; with the same Options it works once the server answers; and then nobody else may have the adapter. It returns
// the node, and the options. adapter makes the adapter over a client with default settings.
func StartLate(
	t *testing.T, s *Server, emitOnly bool, adapter func(rdb *redis.Client) crosscast.Adapter,
) (*crosscast.Node, crosscast.Options) {
	t.Helper()
	p := faultproxy.Start(t, s.Addr())
	o := crosscast.Options{
		Name: "late", EmitOnly: emitOnly, Adapter: adapter(Client(t, &redis.Options{Addr: p.Addr()})),
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
	n, err := crosscast.Start(Within(t, Patience), o)
	if err != nil {
		t.Fatal("once the server answers:", err)
	}
	t.Cleanup(func() {
		if err := n.Close(Within(t, Patience)); err != nil {
			t.Error(err)
		}
	})
	_, err = crosscast.Start(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), `in use by node "late"`) {
		t.Error("a second node with the same adapter:", err)
	}
	return n, o
}

package redisbus_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
)

// TestALargeFrameOutlastsTheClientsTimeouts: what the bytes need is up to the caller's context. Hooks see it as ever.
func TestALargeFrameOutlastsTheClientsTimeouts(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb, p := through(t, s, func(o *redis.Options) {
		o.ReadTimeout, o.WriteTimeout, o.MaxRetries = 300*time.Millisecond, 300*time.Millisecond, -1
	})
	seen := new(pipelines)
	rdb.AddHook(seen)
	bus := newBus(rdb)
	mustPublish(t, bus, frames("cc:a", "first"))
	p.Set(faultproxy.Up, faultproxy.Faults{Rate: 900 << 10})
	mustPublish(t, bus, frames("cc:a", strings.Repeat("x", 1<<20)))
	if n := seen.n.Load(); n != 2 {
		t.Errorf("hooks have seen %d pipelines, want 2", n)
	}
}

// pipelines is a hook that counts them.
type pipelines struct{ n atomic.Int32 }

func (*pipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.n.Add(1)
		return next(ctx, cmds)
	}
}

package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// TestTailOfASilentRedis: that Redis does not answer is no missing permission.
func TestTailOfASilentRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	p := faultproxy.Start(t, server.Addr())
	p.Set(faultproxy.Down, faultproxy.Faults{Swallow: true})
	o := server.Options()
	o.Addr = p.Addr()
	s := &session{
		flags: &flags{Redis: "redis://" + p.Addr(), Timeout: 100 * time.Millisecond}, rdb: redistest.Client(t, o), log: io.Discard,
	}
	for _, room := range []string{"", "lobby"} {
		c := tailCommand{Room: room}
		ps, err := c.listen(t.Context(), s, &ownDialect{lens: wire.Lens{Prefix: "cc"}, topics: []int{0}})
		if err == nil {
			_ = ps.Close()
			t.Fatal("it listens to a Redis that does not answer")
		}
		if text := err.Error(); !strings.HasPrefix(text, "redis://"+p.Addr()) || strings.Contains(text, "cannot hear") {
			t.Errorf("room %q: %v", room, err)
		}
	}
}

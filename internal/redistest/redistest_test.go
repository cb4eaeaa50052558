package redistest_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	for name, c := range map[string]redistest.Config{
		"plain":    {},
		"password": {Password: "secret"},
		"TLS":      {TLS: true},
		"args":     {Args: []string{"--maxmemory", "10mb"}, Users: []string{"alice on >pw &cc:* +@all"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			s := redistest.Start(t, c)
			rdb := s.Client()
			if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			addr := s.Addr()
			s.Kill()
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Error("killed, and still listening")
			}
			s.Restart()
			if s.Addr() != addr {
				t.Errorf("restarted on %s instead of %s", s.Addr(), addr)
			}
			if n, err := rdb.Exists(ctx, "k").Result(); err != nil || n != 0 {
				t.Errorf("after the restart: %d keys, %v", n, err)
			}
			s.Stop()
			s.Restart()
			if c.Users != nil {
				if users, err := rdb.Do(ctx, "ACL", "USERS").StringSlice(); err != nil || len(users) != 2 {
					t.Errorf("users %q, %v", users, err)
				}
			}
		})
	}
}

func TestPause(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb := s.Client()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	s.Pause() // and the cleanup must end it all the same
}

func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	rdb := c.Client()
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		if err := rdb.Set(t.Context(), k, "v", 0).Err(); err != nil {
			t.Error(err)
		}
	}
}

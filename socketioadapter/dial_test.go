package socketioadapter_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestDial: a node needs nothing but a URL, and leaves no connection behind.
func TestDial(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Password: "p@ss/word"})
	admin := s.Client()
	for _, mode := range []socketioadapter.Mode{socketioadapter.Classic, socketioadapter.Sharded} {
		o := socketioadapter.Options{Mode: mode}
		n, err := crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
			Adapter: socketioadapter.Dial("redis://:p%40ss%2Fword@"+s.Addr()+"/1", o),
		})
		must(t, err)
		o.Credentials = func(context.Context) (string, string, error) { return "default", "p@ss/word", nil }
		e, err := crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
			EmitOnly: true, Adapter: socketioadapter.Dial("redis://"+s.Addr(), o),
		})
		must(t, err)
		if count, err := e.Everyone().Count(redistest.Within(t, redistest.Patience)); count != 0 || err != nil {
			t.Errorf("mode %d: count %d, %v", mode, count, err)
		}
		must(t, e.Close(redistest.Within(t, redistest.Patience)))
		must(t, n.Close(redistest.Within(t, redistest.Patience)))
		for begin := time.Now(); ; time.Sleep(time.Millisecond) { // poll
			list, err := admin.ClientList(t.Context()).Result()
			must(t, err)
			if strings.Count(list, "\n") == 1 { // this one
				break
			}
			if time.Since(begin) > redistest.Patience {
				t.Fatalf("mode %d: connections are left:\n%s", mode, list)
			}
		}
	}
}

// TestDialMistakes: they are errors of the start, even of one that does not wait for Redis.
func TestDialMistakes(t *testing.T) {
	credentials := func(context.Context) (string, string, error) { return "", "", nil }
	rdb := redis.NewClient(&redis.Options{Addr: redistest.ClosedPort()})
	defer rdb.Close()
	for want, a := range map[string]crosscast.Adapter{
		"escaped":                    socketioadapter.Dial("redis://user:geheim#42@host", socketioadapter.Options{}),
		"Options.Key":                socketioadapter.Dial("redis://host", socketioadapter.Options{Key: "a#"}),
		"CredentialsProviderContext": socketioadapter.New(rdb, socketioadapter.Options{Credentials: credentials}),
	} {
		_, err := crosscast.Start(t.Context(), crosscast.Options{StartOffline: true, Adapter: a})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%v, want an error with %q", err, want)
		}
		must(t, a.Close(t.Context()))
	}
}

package redisadapter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// user may do what the documentation lists, and nothing else; not even select a database.
const user = "app on >p@ss/word resetchannels &cc:* +publish +subscribe +unsubscribe +ping +role"

const login = "app:p%40ss%2Fword@"

// TestDial: nodes meet with nothing but a URL, and leave no connection behind.
func TestDial(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{user}})
	secure := redistest.Start(t, redistest.Config{TLS: true})
	p := redistest.StartPair(t)
	c := redistest.StartCluster(t, 3)
	for name, tt := range map[string]struct {
		url     string
		servers []*redistest.Server
	}{
		"server":   {"redis://" + login + s.Addr() + "/7?read_timeout=5s", []*redistest.Server{s}},
		"TLS":      {"rediss://" + secure.Addr() + "?skip_verify=true", []*redistest.Server{secure}},
		"sentinel": {"redis+sentinel://" + redistest.ClosedPort() + "," + p.Sentinels[0] + "/" + p.Options().MasterName + "/0", nil},
		"cluster":  {"redis+cluster://" + redistest.ClosedPort() + "," + c.Servers[1].Addr(), c.Servers},
	} {
		t.Run(name, func(t *testing.T) {
			before := make([]int, len(tt.servers))
			for i, s := range tt.servers {
				before[i] = connections(t, s.Client())
			}
			dial := func(o *crosscast.Options) { o.Adapter = redisadapter.Dial(tt.url, redisadapter.Options{}) }
			one, two := join(t, "one", nil, dial), join(t, "two", nil, dial)
			if err := one.To("room").Emit(t.Context(), "said", "hello"); err != nil {
				t.Error(err)
			}
			two.expect(t, `said "hello"`)
			for _, m := range []*member{one, two} {
				if err := m.Close(redistest.Within(t, redistest.Patience)); err != nil {
					t.Error(err)
				}
			}
			for i, s := range tt.servers {
				awaitConnections(t, s, before[i]+1)
			}
		})
	}
}

// awaitConnections returns when a server has a number of connections, that of the question among them.
func awaitConnections(t *testing.T, s *redistest.Server, want int) {
	t.Helper()
	rdb := s.Client()
	for begin := time.Now(); ; {
		got := connections(t, rdb)
		if got == want {
			return
		}
		if time.Since(begin) > redistest.Patience {
			t.Fatalf("%d connections are left, want %d", got, want)
		}
	}
}

func connections(t *testing.T, rdb *redis.Client) int {
	t.Helper()
	n := 0
	for _, kind := range []string{"normal", "pubsub"} {
		list, err := rdb.Do(t.Context(), "client", "list", "type", kind).Text()
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(list, "\n")
	}
	return n
}

// TestDialWrongURL: the start fails with the mistake, even one that would not wait for Redis, and without the password.
func TestDialWrongURL(t *testing.T) {
	for _, o := range []crosscast.Options{{}, {EmitOnly: true}, {StartOffline: true}} {
		o.Adapter = redisadapter.Dial("redis://user:geheim#42@host", redisadapter.Options{})
		n, err := crosscast.Start(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "escaped") || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%+v: %v", o, err)
		}
		if n != nil {
			_ = n.Close(t.Context())
		}
		if err := o.Adapter.Close(t.Context()); err != nil {
			t.Error("close:", err)
		}
	}
}

// TestDialAgain: a failed start can be repeated, because it does not end the adapter's client.
func TestDialAgain(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	s.Kill()
	a := redisadapter.Dial("redis://"+s.Addr(), redisadapter.Options{})
	ctx := redistest.Within(t, redistest.Patience)
	if _, err := crosscast.Start(ctx, crosscast.Options{Adapter: a}); err == nil {
		t.Fatal("it starts without a server")
	}
	s.Restart()
	n, err := crosscast.Start(ctx, crosscast.Options{Adapter: a})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
	awaitConnections(t, s, 1)
}

// TestDialCredentials: each connection has the credentials of its time; so a password may be changed while a node runs.
func TestDialCredentials(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{user}})
	admin := s.Client()
	var password atomic.Value
	password.Store("p@ss/word")
	var failing atomic.Bool
	asked := make(chan struct{}, 1) // while they fail
	o := redisadapter.Options{Credentials: func(context.Context) (string, string, error) {
		if failing.Load() {
			select {
			case asked <- struct{}{}:
			default:
			}
			return "", "", errors.New("the vault is shut")
		}
		return "app", password.Load().(string), nil
	}}
	dial := func(n *crosscast.Options) { n.Adapter = redisadapter.Dial("redis://:ignored@"+s.Addr(), o) }
	one, two := join(t, "one", nil, dial), join(t, "two", nil, dial)
	for i := range 2 {
		next := fmt.Sprint("another-", i)
		if err := admin.Do(t.Context(), "acl", "setuser", "app", "resetpass", ">"+next).Err(); err != nil {
			t.Fatal(err)
		}
		password.Store(next)
		failing.Store(true)
		redistest.KillConnections(t, "pubsub", admin)
		select {
		case <-asked:
		case <-time.After(redistest.Patience):
			t.Fatal("nobody asks for the credentials of a new connection")
		}
		failing.Store(false)
		for _, m := range []*member{one, two} {
			select {
			case <-m.gaps: // it hears again
			case <-time.After(redistest.Patience):
				t.Fatalf("%s has no gap: %+v", m.Name(), m.Link())
			}
		}
		if _, err := one.To("room").Deliver(redistest.Within(t, redistest.Patience), "said", i); err != nil {
			t.Error(err)
		}
		two.expect(t, fmt.Sprintf("said %d", i))
	}
}

// TestNewWithCredentials: somebody's client is not changed, so the option would have no effect.
func TestNewWithCredentials(t *testing.T) {
	rdb := redistest.Client(t, &redis.Options{Addr: redistest.ClosedPort()})
	_, err := crosscast.Start(t.Context(), crosscast.Options{StartOffline: true, Adapter: redisadapter.New(rdb, redisadapter.Options{
		Credentials: func(context.Context) (string, string, error) { return "", "", nil },
	})})
	if err == nil || !strings.Contains(err.Error(), "CredentialsProviderContext") {
		t.Error(err)
	}
}

package redisadapter_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// TestParseURL: a client with the options for a URL is one for an adapter.
func TestParseURL(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Password: "se/cret"})
	o, err := redisadapter.ParseURL("redis://:se%2Fcret@" + s.Addr() + "/3")
	if err != nil {
		t.Fatal(err)
	}
	if o.DB != 3 || o.Protocol != 2 || !o.ContextTimeoutEnabled {
		t.Errorf("got %+v", o)
	}
	rdb := redis.NewUniversalClient(o)
	defer rdb.Close()
	n, err := crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
		Adapter: redisadapter.New(rdb, redisadapter.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(redistest.Within(t, redistest.Patience)); err != nil {
		t.Error(err)
	}
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Error("the node has closed somebody's client:", err)
	}
}

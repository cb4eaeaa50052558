package redisadapter_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// TestAShardDies: one of three Redises is killed. Rooms on the others miss nothing and nodes stay peers; when it is back,
// the gap names its rooms only, and they go on. It is so for each of the three; that of everyone is a gap of everything.
func TestAShardDies(t *testing.T) {
	var servers []*redistest.Server
	for range 3 {
		servers = append(servers, redistest.Start(t, redistest.Config{}))
	}
	const rooms = 12
	type heard struct {
		room string
		gap  *crosscast.Gap
	}
	events := make(chan heard, 1000)
	start := func(onGap func(*crosscast.Node, crosscast.Gap)) *crosscast.Node {
		var shards []redisadapter.Shard
		for i, s := range servers {
			o := s.Options()
			o.DialTimeout, o.ReadTimeout, o.DialerRetries = time.Second, time.Second, 1
			rdb := redis.NewClient(o)
			t.Cleanup(func() { rdb.Close() })
			shards = append(shards, redisadapter.Shard{Name: fmt.Sprint("redis", i), Client: rdb})
		}
		n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: redisadapter.NewShards(shards, redisadapter.Options{}), OnGap: onGap})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close(context.WithoutCancel(t.Context())) })
		return n
	}
	from := start(nil)
	to := start(func(_ *crosscast.Node, g crosscast.Gap) {
		if g.Reason == "link lost" {
			events <- heard{gap: &g}
		}
	})
	var names []string
	for i := range rooms {
		names = append(names, fmt.Sprint("room", i))
	}
	_, err := to.Subscribe(t.Context(), crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { events <- heard{room: m.Event} },
	}, names...)
	if err != nil {
		t.Fatal(err)
	}
	ctx := redistest.Within(t, 60*time.Second)
	next := func() heard {
		select {
		case h := <-events:
			return h
		case <-ctx.Done():
			t.Fatal("nothing comes")
			return heard{}
		}
	}
	// wait returns when the link of a node is live, or not.
	wait := func(n *crosscast.Node, live bool) {
		for n.Link().Live() != live {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("the link of %s stays %+v", n.Name(), n.Link())
			}
		}
	}
	everything := 0
	for _, victim := range servers {
		victim.Kill()
		wait(from, false)
		wait(to, false)
		var up, down []string
		for _, name := range names {
			if _, err := from.To(name).Volatile().Deliver(ctx, name, nil); err != nil {
				down = append(down, name)
				continue
			}
			up = append(up, name)
			if h := next(); h.room != name {
				t.Fatalf("instead of an emission to %s came %+v", name, h)
			}
		}
		if len(up) == 0 || len(down) == 0 || from.Stats().Peers != 1 || to.Stats().Peers != 1 {
			t.Fatalf("rooms that go on: %v, others: %v; %d peers", up, down, to.Stats().Peers)
		}
		victim.Restart()
		g := next().gap
		if g == nil {
			t.Fatal("a message came before the gap")
		}
		covers := func(name string) bool {
			return g.Covers(crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name})
		}
		if g.Names == nil {
			everything++
		} else if slices.ContainsFunc(up, covers) {
			t.Errorf("the gap covers rooms that went on: %v", g.Names)
		}
		if slices.ContainsFunc(down, func(name string) bool { return !covers(name) }) {
			t.Errorf("the gap does not cover all of %v: %v", down, g.Names)
		}
		wait(from, true)
		wait(to, true)
		for _, name := range names {
			if err := from.To(name).Emit(ctx, name, nil); err != nil {
				t.Fatal(err)
			}
		}
		var back []string
		for range names {
			back = append(back, next().room)
		}
		slices.Sort(back)
		if want := slices.Sorted(slices.Values(names)); !slices.Equal(back, want) {
			t.Errorf("when it is back, came %s", strings.Join(back, " "))
		}
	}
	if everything != 1 {
		t.Errorf("%d of 3 outages were gaps of everything", everything)
	}
}

// TestShardsRefuse: wrong shards are an error of the start.
func TestShardsRefuse(t *testing.T) {
	for _, a := range []crosscast.Adapter{
		redisadapter.NewShards(nil, redisadapter.Options{}),
		redisadapter.NewShards([]redisadapter.Shard{{Name: "a"}}, redisadapter.Options{}),
	} {
		if _, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: a}); err == nil {
			t.Error("started")
		}
	}
}

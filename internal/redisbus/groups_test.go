package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// TestASlotOfAGroupMoves: the group's link ends and says so, and that of another group on the same connections goes on.
func TestASlotOfAGroupMoves(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	rdb := c.Client()
	_, groups := redisbus.Groups(rdb, redisbus.Config{Anchor: "cc"})
	const topic, other = "cc:r:/:a", "cc:r:/:b"
	moves, stays := listen(t, groups[3], topic), listen(t, groups[2], other)
	mustPublish(t, groups[3], frames(topic, "before"))
	moves.expectData(t, topic, "before")
	tags, _ := redisbus.Tags()
	moveSlot(t, c, rdb, tags[redisbus.TagOf(3, ":r:/:a")])
	mustContain(t, moves.expectEnd(t), "slot")
	mustPublish(t, groups[2], frames(other, "after"))
	stays.expectData(t, other, "after")
	for ctx := redistest.Within(t, redistest.Patience); ; { // until the client knows the new master
		if ctx.Err() != nil {
			t.Fatal("the topic whose slot moved is not heard")
		}
		l := listen(t, groups[3])
		if err := l.link.Subscribe([]string{topic}); err != nil {
			continue
		}
		select {
		case ev := <-l.events:
			if ev.Kind != wire.Subscribed {
				continue
			}
		case <-l.ended:
			continue
		}
		mustPublish(t, groups[3], frames(topic, "moved"))
		l.expectData(t, topic, "moved")
		return
	}
}

// TestAPastLinkOfAGroup: all links of a group use the same connections. One that is closed, or that Dial has given up,
// does not change what the next one gets. When the connection breaks, the link says since when something might be missing.
func TestAPastLinkOfAGroup(t *testing.T) {
	began := time.Now()
	rdb := redistest.StartCluster(t, 1).Client()
	_, groups := redisbus.Groups(rdb, redisbus.Config{Anchor: "cc"})
	other := listen(t, groups[2], "cc:r:/:c") // keeps the connection
	const topic = "cc:r:/:a"
	closed := listen(t, groups[3], topic).link
	_ = closed.Close()
	l := listen(t, groups[3], topic)
	if closed.Subscribe([]string{"cc:r:/:b"}) == nil || closed.Unsubscribe([]string{topic}) == nil {
		t.Error("a closed link takes a request")
	}
	mustPublish(t, groups[3], frames(topic, "a"))
	l.expectData(t, topic, "a")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := redisbus.DialLate(ended, groups[3]); !errors.Is(err, context.Canceled) {
		t.Error("a link that nobody waits for any more is in use:", err)
	}
	broke := time.Now()
	if err := rdb.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
		redistest.KillConnections(t, "pubsub", c)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var dated interface{ Since() time.Time }
	if err := other.expectEnd(t); !errors.As(err, &dated) || dated.Since().Before(began) || dated.Since().After(broke) {
		t.Errorf("the link broke at %v, and says %v", broke, other.err)
	}
}

// TestMastersAreForgotten: one master after the other takes over, and nothing is kept of the former ones.
func TestMastersAreForgotten(t *testing.T) {
	var masters []redis.ClusterSlot // nobody connects to them
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:        []string{"192.0.2.1:6379"},
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { return masters, nil },
	})
	t.Cleanup(func() { _ = rdb.Close() })
	_, groups := redisbus.Groups(rdb, redisbus.Config{Anchor: "cc"})
	for i := range 10 {
		masters = []redis.ClusterSlot{
			{Start: 0, End: 8191, Nodes: []redis.ClusterNode{{Addr: "192.0.2.1:6379"}}},
			{Start: 8192, End: 16383, Nodes: []redis.ClusterNode{{Addr: fmt.Sprintf("192.0.2.%d:6379", i+2)}}},
		}
		if err := rdb.ForEachMaster(t.Context(), func(context.Context, *redis.Client) error { return nil }); err != nil { // loads them
			t.Fatal(err)
		}
		want := fmt.Sprintf("[redis at 192.0.2.1:6379 redis at 192.0.2.%d:6379]", i+2)
		if kept, err := redisbus.MastersOfTags(t.Context(), groups[i]); fmt.Sprint(kept) != want || err != nil {
			t.Fatalf("kept are %v, and not %s; %v", kept, want, err)
		}
	}
}

// TestGroupsClose: the last bus that is closed closes the client, also one that Groups cannot use; but not a client that
// belongs to somebody else.
func TestGroupsClose(t *testing.T) {
	server := &redis.Options{Addr: redistest.ClosedPort(), DialerRetries: 1, MaxRetries: -1}
	cluster := &redis.ClusterOptions{Addrs: []string{server.Addr}, DialerRetries: 1, MaxRetries: -1, MaxRedirects: -1}
	for name, c := range map[string]struct {
		rdb   redis.UniversalClient
		owned bool
	}{
		"cluster": {redis.NewClusterClient(cluster), true},
		"server":  {redis.NewClient(server), true},
		"other's": {redis.NewClient(server), false},
		"none":    {nil, true},
	} {
		home, groups := redisbus.Groups(c.rdb, redisbus.Config{Anchor: "cc", Owned: c.owned})
		for i, b := range append(groups, home) {
			if i == len(groups) && c.rdb != nil && isClosed(c.rdb) {
				t.Errorf("%s: the client is closed before the last bus", name)
			}
			if err := b.(io.Closer).Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if c.rdb != nil && isClosed(c.rdb) != c.owned {
			t.Errorf("%s: closed: %t", name, !c.owned)
		}
		if c.rdb != nil {
			_ = c.rdb.Close()
		}
	}
}

func isClosed(rdb redis.UniversalClient) bool {
	return errors.Is(rdb.Ping(context.Background()).Err(), redis.ErrClosed)
}

package redisbus_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// TestShardedCluster: channels of all slots arrive over one link, confirmations in the order of requests; a channel
// keeps its order; and when a slot moves, the link says so, and the next one hears it.
func TestShardedCluster(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	rdb := c.Client()
	bus := redisbus.New(rdb, redisbus.Config{Sharded: true})
	topics := numbered(100)
	l := listen(t, bus)
	for _, request := range [][]string{topics[:60], topics[60:61], topics[61:]} {
		if err := l.link.Subscribe(request); err != nil {
			t.Fatal(err)
		}
	}
	for _, topic := range topics {
		l.expect(t, wire.Subscribed, topic)
	}
	var batch []wire.Frame
	for i := range 1000 {
		batch = append(batch, wire.Frame{Topic: topics[i*7%len(topics)], Data: fmt.Append(nil, i/len(topics))})
	}
	mustPublish(t, bus, batch)
	next := make(map[string]int)
	for range batch {
		ev := l.next(t)
		if string(ev.Data) != fmt.Sprint(next[ev.Topic]) {
			t.Fatalf("%s: got %s, want %d", ev.Topic, ev.Data, next[ev.Topic])
		}
		next[ev.Topic]++
	}
	if n := batch[0].Receivers; n != 1 {
		t.Errorf("%d receivers, want 1", n)
	}
	if err := l.link.Unsubscribe(topics[:1]); err != nil {
		t.Fatal(err)
	}
	l.expect(t, wire.Unsubscribed, topics[0])

	moveSlot(t, c, rdb, topics[7])
	mustContain(t, l.expectEnd(t), "slot", topics[7])
	for ctx := redistest.Within(t, redistest.Patience); ; { // until the client knows
		if ctx.Err() != nil {
			t.Fatal("the channel whose slot moved is not heard")
		}
		all := frames(topics[7], "moved")
		l, err := subscribed(t, bus, topics[7])
		if err != nil {
			continue
		}
		bus.Publish(ctx, all)
		if all[0].Err == nil && all[0].Receivers > 0 {
			l.expectData(t, topics[7], "moved")
			break
		}
	}
	for _, s := range c.Servers {
		s.Kill()
	}
	all := frames(topics[1], "x")
	bus.Publish(redistest.Within(t, redistest.Patience), all)
	if f := all[0]; f.Err == nil || !f.Down {
		t.Errorf("published to a dead cluster: %+v", f)
	}
	if _, err := bus.Dial(redistest.Within(t, redistest.Patience)); err == nil {
		t.Error("dialled a dead cluster")
	}
}

// subscribed listens to a topic that may not be confirmed.
func subscribed(t *testing.T, bus wire.Bus, topic string) (*listener, error) {
	t.Helper()
	l := listen(t, bus)
	if err := l.link.Subscribe([]string{topic}); err != nil {
		return nil, err
	}
	select {
	case ev := <-l.events:
		if ev.Kind != wire.Subscribed {
			return nil, ev.Err
		}
		return l, nil
	case <-l.ended:
		return nil, l.err
	}
}

// moveSlot gives the slot of a key to another master.
func moveSlot(t *testing.T, c *redistest.Cluster, rdb *redis.ClusterClient, key string) {
	t.Helper()
	ctx := redistest.Within(t, redistest.Patience)
	slot, err := rdb.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		t.Fatal(err)
	}
	owner, err := rdb.MasterForKey(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	to := c.Servers[0]
	if to.Addr() == owner.Options().Addr {
		to = c.Servers[1]
	}
	id, err := to.Client().ClusterMyID(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]*redistest.Server{to}, c.Servers...) { // the new owner first
		if err := s.Client().Do(ctx, "cluster", "setslot", slot, "node", id).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestShardedClusterDenied: of a request just the topics are refused that are denied.
func TestShardedClusterDenied(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	for _, s := range c.Servers {
		err := s.Client().Do(t.Context(), "acl", "setuser", "alice", "on", ">pw", "resetchannels", "&a*", "+@all").Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	o := c.Servers[0].Options()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{o.Addr}, Username: "alice", Password: "pw", MaintNotificationsConfig: o.MaintNotificationsConfig,
	})
	t.Cleanup(func() { _ = rdb.Close() })
	l := listen(t, redisbus.New(rdb, redisbus.Config{Sharded: true}))
	for _, topics := range [][]string{{"a1", "b", "a2", "a3"}, {"a4"}, {"b"}} {
		if err := l.link.Subscribe(topics); err != nil {
			t.Fatal(err)
		}
	}
	denied := func() {
		t.Helper()
		if ev := l.next(t); ev.Kind != wire.Denied || ev.Topic != "b" || !errors.Is(ev.Err, crosscast.ErrDenied) {
			t.Fatalf("got %+v, want b denied", ev)
		}
	}
	l.expect(t, wire.Subscribed, "a1")
	denied()
	for _, topic := range []string{"a2", "a3", "a4"} {
		l.expect(t, wire.Subscribed, topic)
	}
	denied()
}

package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// script is a link that receives what a test says, and notes the names of pings.
type script struct {
	events chan wire.Event
	closed chan struct{}
	once   sync.Once
}

func newScript() *script {
	return &script{events: make(chan wire.Event, 100), closed: make(chan struct{})}
}

func (s *script) Subscribe([]string) error   { return nil }
func (s *script) Unsubscribe([]string) error { return nil }
func (s *script) Ping(string) error          { return nil }
func (s *script) Heard() time.Time           { return time.Now() }

func (s *script) Receive() (wire.Event, error) {
	select {
	case ev := <-s.events:
		return ev, nil
	case <-s.closed:
		return wire.Event{}, errors.New("closed")
	}
}

func (s *script) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// scripted is a link to two scripted masters, with the topic "one" on the first and "two" on the second.
func scripted(t *testing.T) (l *listener, one, two *script) {
	t.Helper()
	addrs := []string{"127.0.0.1:1", "127.0.0.1:2"}
	topics := map[string]*script{}
	one, two = newScript(), newScript()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs,
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{
				{Start: 0, End: 8191, Nodes: []redis.ClusterNode{{Addr: addrs[0]}}},
				{Start: 8192, End: 16383, Nodes: []redis.ClusterNode{{Addr: addrs[1]}}},
			}, nil
		},
	})
	t.Cleanup(func() { _ = rdb.Close() })
	for topic, s := range map[string]*script{"one": one, "two": two} {
		c, err := rdb.MasterForKey(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		topics["redis at "+c.Options().Addr] = s
	}
	links := map[string]wire.Link{}
	for name, s := range topics {
		links[name] = s
	}
	if len(links) != 2 {
		t.Fatal("both topics are on one master")
	}
	return read(t, redisbus.Join(rdb, links)), one, two
}

// TestSlotMovesUnderAConfirmation: a subscription is confirmed, the confirmation waits for an earlier one of another
// master, and then the slot moves. Nothing may say afterwards that the topic is subscribed.
func TestSlotMovesUnderAConfirmation(t *testing.T) {
	l, one, two := scripted(t)
	if err := l.link.Subscribe([]string{"one", "two"}); err != nil {
		t.Fatal(err)
	}
	two.events <- wire.Event{Kind: wire.Subscribed, Topic: "two"}
	two.events <- wire.Event{Kind: wire.Unsubscribed, Topic: "two"}
	mustContain(t, l.expectEnd(t), "slot", "two")
	one.events <- wire.Event{Kind: wire.Subscribed, Topic: "one"}
	if len(l.events) > 0 {
		t.Errorf("got %+v", <-l.events)
	}
}

// TestOwnUnsubscriptions are told from those of a slot that has moved, each time.
func TestOwnUnsubscriptions(t *testing.T) {
	l, one, two := scripted(t)
	for range 2 {
		if err := l.link.Subscribe([]string{"one", "two"}); err != nil {
			t.Fatal(err)
		}
		if err := l.link.Unsubscribe([]string{"two"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		two.events <- wire.Event{Kind: wire.Subscribed, Topic: "two"}
		two.events <- wire.Event{Kind: wire.Unsubscribed, Topic: "two"}
		l.expect(t, wire.Unsubscribed, "two") // waits for nothing
	}
	for range 2 {
		one.events <- wire.Event{Kind: wire.Subscribed, Topic: "one"}
		l.expect(t, wire.Subscribed, "one")
		l.expect(t, wire.Subscribed, "two")
	}
	two.events <- wire.Event{Kind: wire.Unsubscribed, Topic: "two"}
	_ = l.expectEnd(t)
}

// TestShardedDenials are those of one topic each, in the place of confirmations.
func TestShardedDenials(t *testing.T) {
	l, one, two := scripted(t)
	if err := l.link.Subscribe([]string{"two", "one"}); err != nil {
		t.Fatal(err)
	}
	one.events <- wire.Event{Kind: wire.Denied, Err: crosscast.ErrDenied}
	two.events <- wire.Event{Kind: wire.Subscribed, Topic: "two"}
	l.expect(t, wire.Subscribed, "two")
	l.expect(t, wire.Denied, "one")
}

// TestShardedPing: all masters are asked, and there is one answer, that of the last.
func TestShardedPing(t *testing.T) {
	l, one, two := scripted(t)
	for _, name := range []string{"a", "a", "b", "unanswered", "c"} {
		if err := l.link.Ping(name); err != nil {
			t.Fatal(err)
		}
	}
	misconf := errors.New("MISCONF")
	for _, ev := range []wire.Event{{Topic: "a"}, {Topic: "a", Err: misconf}, {Topic: "x"}, {Topic: "b"}, {Topic: "c"}} {
		ev.Kind = wire.Pong
		one.events <- ev
	}
	for _, want := range []wire.Event{{Topic: "a"}, {Topic: "a", Err: misconf}, {Topic: "b"}, {Topic: "c"}} {
		two.events <- wire.Event{Kind: wire.Message, Topic: "two"} // answers come behind what was handed over
		two.events <- wire.Event{Kind: wire.Pong, Topic: want.Topic}
		l.expect(t, wire.Message, "two")
		if ev := l.next(t); ev.Kind != wire.Pong || ev.Topic != want.Topic || ev.Err != want.Err {
			t.Errorf("got %+v, want %+v", ev, want)
		}
	}
}

// TestJoinsWhileSlotsMove: whatever moves, in the end each room has its subscriber at the master of its slot.
func TestJoinsWhileSlotsMove(t *testing.T) {
	const rooms, rounds = 500, 6
	c := redistest.StartCluster(t, 3)
	admin := c.Client()
	ctx := redistest.Within(t, 3*redistest.Patience)
	var clients []*redis.Client
	var ids []string
	for i, s := range c.Servers {
		clients = append(clients, s.Client())
		id, err := clients[i].ClusterMyID(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	owner := func(slot int64) int { return int(slot) * len(c.Servers) / 16384 } // at first
	moved := map[int64]int{}
	setslot := func(server int, args ...any) {
		t.Helper()
		if err := clients[server].Do(ctx, append([]any{"cluster", "setslot"}, args...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	// move gives the slot of a topic to a master, which is the same one for a while, so that what it says of itself is the
	// newest whatever the others have heard of each other.
	move := func(topic string, to int) {
		slot, err := admin.ClusterKeySlot(ctx, topic).Result()
		if err != nil {
			t.Fatal(err)
		}
		from, ok := moved[slot]
		if !ok {
			from = owner(slot)
		}
		if from == to {
			return
		}
		moved[slot] = to
		setslot(to, slot, "importing", ids[from])
		setslot(from, slot, "migrating", ids[to])
		setslot(to, slot, "node", ids[to])
		for i := range clients {
			setslot(i, slot, "node", ids[to])
		}
	}
	for round := range rounds {
		n, err := crosscast.Start(ctx, crosscast.Options{
			Adapter: wire.New(redisbus.New(c.Client(), redisbus.Config{Sharded: true}), wire.Options{}),
		})
		if err != nil {
			t.Fatal(err)
		}
		socket, err := n.Connect(ctx, deafConn{}, crosscast.ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 4 {
			names := make([]string, rooms)
			for i := range names {
				names[i] = fmt.Sprintf("%d-%d-%d", round, k, i)
			}
			joined := make(chan struct{})
			go func() {
				defer close(joined)
				if err := socket.Join(ctx, names...); err != nil && !errors.Is(err, crosscast.ErrNotConnected) {
					t.Errorf("Join: %v", err)
				}
			}()
			move(firstHeard(ctx, t, clients[(round+1)%len(clients)], names), round%len(clients))
			<-joined
			deaf := ""
			for until := time.Now().Add(redistest.Patience / 4); ; time.Sleep(10 * time.Millisecond) { // poll
				if deaf = unheard(ctx, t, clients, names); deaf == "" || time.Now().After(until) {
					break
				}
			}
			if deaf != "" {
				t.Errorf("round %d: nobody hears %s; connected: %v", round, deaf, n.Stats().Connected)
			}
		}
		_ = n.Close(ctx) // while a link is made anew, its goodbye is lost
	}
}

// firstHeard waits until one of the rooms is subscribed at a server.
func firstHeard(ctx context.Context, t *testing.T, rdb *redis.Client, rooms []string) string {
	t.Helper()
	for {
		got, err := rdb.PubSubShardNumSub(ctx, topicsOf(rooms)...).Result()
		if err != nil {
			t.Fatal(err)
		}
		for topic, n := range got {
			if n > 0 {
				return topic
			}
		}
	}
}

func topicsOf(rooms []string) []string {
	topics := make([]string, len(rooms))
	for i, r := range rooms {
		topics[i] = "cc:r:/:" + r
	}
	return topics
}

// unheard says which rooms have no subscriber.
func unheard(ctx context.Context, t *testing.T, clients []*redis.Client, rooms []string) string {
	t.Helper()
	heard := map[string]int64{}
	for _, rdb := range clients {
		got, err := rdb.PubSubShardNumSub(ctx, topicsOf(rooms)...).Result()
		if err != nil {
			t.Fatal(err)
		}
		for topic, n := range got {
			heard[topic] += n
		}
	}
	var deaf []string
	for topic, n := range heard {
		if n == 0 {
			deaf = append(deaf, topic)
		}
	}
	if len(deaf) > 5 {
		deaf = append(deaf[:5], fmt.Sprint(len(deaf)-5, " more"))
	}
	return strings.Join(deaf, ", ")
}

type deafConn struct{}

func (deafConn) Send(*crosscast.Message) error { return nil }
func (deafConn) Close(crosscast.Reason)        {}

package interop

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redistest"
)

// onRedisCluster: the same over a Redis Cluster of three masters, where what two channels carry has no order, so that
// nothing can be a fence: everybody must hear everything that is for them, once, in any order.
func onRedisCluster(t *testing.T, p *processes) {
	r := redisCluster(redistest.StartCluster(t, 3))
	for _, col := range columns {
		if col.client != "redis" || col.outside || col.specific {
			continue
		}
		t.Run(col.name, func(t *testing.T) {
			c := openCell(t, col, makeup{[3]string{"Go", "Node", "Go"}, ""}, p, r)
			var cl [3]*client
			for i := range cl {
				var err error
				rooms := []string{"everybody's", fmt.Sprintf("room %d", i), fmt.Sprintf("room %d", (i+1)%3)}
				cl[i], err = c.clients.connect(c.servers[i].port(), "/", hello{rooms: rooms})
				must(t, err)
			}
			c.settle(t)
			c.roomsSubscribed(t, r, map[string]int{"everybody's": 3, "room 0": 2, "room 1": 2, "room 2": 2})

			want := map[*client][]event{}
			for i, s := range c.servers {
				say := func(to target, who ...*client) {
					t.Helper()
					e := ev("said", i, len(want[cl[0]]), len(want[cl[1]]), len(want[cl[2]]), []byte{1})
					must(t, s.emit(to, e.name, e.args...))
					for _, one := range who {
						want[one] = append(want[one], e)
					}
				}
				for range 5 {
					say(all(), cl[:]...)
					say(room("everybody's"), cl[:]...)
					say(room("room 0"), cl[0], cl[2])
					say(room("room 1"), cl[0], cl[1])
					say(room("room 0", "room 1").but("room 2"), cl[0])
					say(socketID(cl[1].id), cl[1])
					say(socketID(cl[2].id), cl[2])
				}
			}
			for _, one := range cl {
				one.heardInAnyOrder(t, want[one])
			}

			for i, one := range cl {
				one.replies(t, "ask", i)
			}
			c.emitAck(t, all().within(long), "ask", nil, nil, 0, 1, 2)
			c.emitAck(t, room("room 0").within(long), "ask", nil, nil, 0, 2)
			for i := range c.servers { // who asks is the first
				c.servers[0], c.servers[i] = c.servers[i], c.servers[0]
				c.found(t, all(), cl[:]...)
				c.found(t, room("room 0"), cl[0], cl[2])
				replies, err := c.server().serverSideEmitAck(all(), "asked", "q")
				if len(replies) != 2 || err != nil {
					t.Errorf("%v, %v", replies, err)
				}
				c.servers[0], c.servers[i] = c.servers[i], c.servers[0]
			}
			must(t, c.by.disconnect(all(), true))
			for _, one := range cl {
				one.log.await(t, "disconnect")
				one.leave(t)
			}
		})
	}
}

// roomsSubscribed waits until as many servers as there should be are subscribed to each room's channel, if the mode
// has such.
func (c *cell) roomsSubscribed(t *testing.T, r backend, rooms map[string]int) {
	t.Helper()
	if !c.sharded || c.mode == "static" {
		return
	}
	rdb := r.client().(*redis.ClusterClient)
	for name, want := range rooms {
		channel := c.key + "#/#" + name + "#"
		eventually(t, func() string {
			var n atomic.Int64
			err := rdb.ForEachMaster(t.Context(), func(ctx context.Context, master *redis.Client) error {
				counts, err := master.PubSubShardNumSub(ctx, channel).Result()
				n.Add(counts[channel])
				return err
			})
			if err != nil || n.Load() != int64(want) {
				return fmt.Sprintf("%d servers hear %s, want %d: %v", n.Load(), channel, want, err)
			}
			return ""
		})
	}
}

// heardInAnyOrder checks that c hears exactly these events.
func (c *client) heardInAnyOrder(t *testing.T, want []event) {
	t.Helper()
	got, err := c.log.next(len(want))
	if err != nil {
		t.Fatal(err)
	}
	texts := func(events []event) []string {
		var all []string
		for _, e := range events {
			all = append(all, e.String())
		}
		slices.Sort(all)
		return all
	}
	if !slices.Equal(texts(got), texts(want)) {
		t.Errorf("%s heard %s, want %s", c.log.who, list(got), list(want))
	}
}

package redisbus_test

import (
	"context"
	"errors"
	"testing"

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
// does not change what the next one gets.
func TestAPastLinkOfAGroup(t *testing.T) {
	_, groups := redisbus.Groups(redistest.StartCluster(t, 1).Client(), redisbus.Config{Anchor: "cc"})
	listen(t, groups[2]) // keeps the connection
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
}

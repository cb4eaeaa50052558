package redisbus_test

import (
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

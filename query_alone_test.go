package crosscast_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"github.com/crosscast/crosscast"
)

func TestAnswersAloneOnANode(t *testing.T) {
	n := start(t, crosscast.Options{})
	connectUser(t, n.Namespace, new(recorder), "u", "r")
	count, err := n.To("r").Count(ctx)
	ok(t, err)
	equal(t, "count", count, 1)
	changed, err := n.ToUser("u").Do(ctx, crosscast.Command{Join: []string{"s"}, Leave: []string{"r"}})
	ok(t, err)
	equal(t, "changed", fmt.Sprint(changed), fmt.Sprint(crosscast.Changed{1, map[crosscast.NodeID]int{n.ID(): 1}}))
	rooms := maps.Collect(func(yield func(string, int) bool) {
		for r := range n.Everyone().Rooms(ctx).All() {
			if !yield(r.Room, r.Sockets) {
				return
			}
		}
	})
	text, _ := json.Marshal(rooms)
	equal(t, "rooms", string(text), `{"s":1}`)
	for range n.Servers().Ask(ctx, "x", nil).All() {
		t.Error("there is nobody to answer")
	}
	answers := n.Servers().Only("nobody").Stats(ctx)
	for range answers.All() {
		t.Error("there is nobody to answer")
	}
	ok(t, answers.Err())
	ok(t, n.Servers().Tell(ctx, "x", nil))
	ok(t, n.Everyone().Emit(ctx, "x", nil))
	equal(t, "instructions published", n.Stats().InstructionsOut, 0)
}

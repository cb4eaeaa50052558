package crosscast_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
)

// Hooks are called one at a time, in the order of what they report, and may call anything.
func TestHooksAreOrderedAndReentrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l log
		var n *crosscast.Node
		running := false
		n = start(t, crosscast.Options{OnRoom: func(e crosscast.RoomEvent) {
			if running {
				t.Error("hooks overlap")
			}
			running = true
			l.add("%d %s%s", e.Kind, e.Namespace, e.Room)
			if e.Room == "r" && e.Kind == crosscast.RoomJoined {
				if err := e.Socket.Join(ctx, "from-hook"); err != nil {
					t.Error(err)
				}
				if err := n.Emit(ctx, "e", nil); err != nil {
					t.Error(err)
				}
				n.Stats()
			}
			if e.Room == "from-hook" && e.Kind == crosscast.RoomJoined {
				e.Socket.Close(crosscast.ReasonServer)
			}
			running = false
		}})
		connectUser(t, n.Namespace, &recorder{}, "r", "r") // a user makes no events
		synctest.Wait()
		const created, deleted, joined, left = "1", "2", "3", "4"
		equal(t, "events", l.take(), strings.Join([]string{
			created + " /r", joined + " /r", created + " /from-hook", joined + " /from-hook",
			left + " /from-hook", deleted + " /from-hook", left + " /r", deleted + " /r",
		}, "; "))
	})
}

// A room that only lingers, or only has a subscription, is no room to OnRoom.
func TestHooksOfLingeringRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l log
		n := start(t, crosscast.Options{
			Adapter: crosscast.NewCluster().Adapter(),
			OnRoom:  func(e crosscast.RoomEvent) { l.add("%d", e.Kind) },
		})
		listen(t, n, "r")
		synctest.Wait()
		equal(t, "subscription", l.take(), "")
		for range 2 {
			connect(t, n.Namespace, &recorder{}, "r").Close(crosscast.ReasonLeft)
			synctest.Wait()
			equal(t, "socket", l.take(), "1; 3; 4; 2")
		}
	})
}

func TestTooManyHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		release := make(chan struct{})
		calls := 0
		n := start(t, crosscast.Options{
			OnRoom: func(crosscast.RoomEvent) { <-release; calls++ },
			Logger: slog.New(slog.NewTextHandler(&text, nil)),
		})
		s := connect(t, n.Namespace, &recorder{}, "r")
		synctest.Wait() // one is being called
		for i := range 40_000 {
			ok(t, s.Join(ctx, fmt.Sprint(i)))
		}
		synctest.Wait()
		equal(t, "dropped", n.Stats().Dropped["hook"], 2*40_000+2-1-65_536)
		close(release)
		synctest.Wait()
		equal(t, "calls", calls, 65_537)
		equal(t, "warnings", strings.Count(text.String(), "hooks are too slow"), 1)
	})
}

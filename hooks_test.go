package crosscast_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// Hooks are called one at a time, in the order of what they report, and may call anything.
func TestHooksAreOrderedAndReentrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l log
		var n *crosscast.Node
		running := false
		n = start(t, crosscast.Options{OnRoom: func(_ *crosscast.Node, e crosscast.RoomEvent) {
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

// A hook may use the node before Start has returned. When Start fails, nothing of that is left.
func TestHooksBeforeStartReturns(t *testing.T) {
	for _, refused := range []error{nil, crosscast.ErrDenied} {
		synctest.Test(t, func(t *testing.T) {
			d := newDriver(t)
			d.publishErr = refused
			said := false
			d.onPublish = func(inst *crosscast.Instruction) {
				if inst.Kind == kind.Hello && !said {
					said = true
					d.h.Gap(crosscast.Gap{Reason: reasons.GapDenied, Names: []crosscast.Address{{Namespace: "/"}}})
				}
			}
			var l log
			r := &recorder{}
			closed := make(chan error, 1)
			n, err := crosscast.Start(ctx, crosscast.Options{Adapter: d, OnGap: func(n *crosscast.Node, g crosscast.Gap) {
				connect(t, n.Namespace, r, "r")
				l.add("%s, %v", g.Reason, n.To("r").Local().Emit(ctx, "fetch", nil))
				if refused == nil {
					go func() { closed <- n.Close(ctx) }()
				}
			}})
			if started := n != nil; !errors.Is(err, refused) || started != (refused == nil) {
				t.Errorf("started: %v, error: %v", started, err)
			}
			equal(t, "hook", l.take(), "denied, <nil>")
			want(t, "fetch", r)
			if refused == nil {
				ok(t, <-closed)
			}
			synctest.Wait()
			equal(t, "closed", r.reasons(), string(crosscast.ReasonShutdown))
		})
	}
}

// A room that only lingers, or only has a subscription, is no room to OnRoom.
func TestHooksOfLingeringRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l log
		n := start(t, crosscast.Options{
			Adapter: crosscast.NewCluster().Adapter(),
			OnRoom:  func(_ *crosscast.Node, e crosscast.RoomEvent) { l.add("%d", e.Kind) },
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

// A flood of room events becomes one, which says that the rooms are to be read anew: whoever does, and follows what
// comes after it, knows the rooms. It delays no other hook.
func TestFloodOfRoomEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		release := make(chan struct{})
		var l log
		var n *crosscast.Node
		calls, changed := 0, 0
		rooms := make(map[string]bool)
		n = start(t, crosscast.Options{
			Adapter: d, MaxRooms: 50_000,
			OnRoom: func(_ *crosscast.Node, e crosscast.RoomEvent) {
				<-release
				calls++
				switch e.Kind {
				case crosscast.RoomsChanged:
					changed++
					clear(rooms)
					for _, room := range n.Rooms() {
						rooms[room] = true
					}
				case crosscast.RoomCreated:
					rooms[e.Room] = true
				case crosscast.RoomDeleted:
					delete(rooms, e.Room)
				}
			},
			OnLoss: func(_ *crosscast.Node, lost crosscast.Loss) { l.add("loss %d", lost.Instructions) },
			OnNode: func(_ *crosscast.Node, e crosscast.NodeEvent) { l.add("node %d", e.Kind) },
			OnLink: func(_ *crosscast.Node, s crosscast.LinkStatus) { l.add("link %s", s.Publishing.State) },
		})
		s := connect(t, n.Namespace, &recorder{}, "r")
		synctest.Wait() // one is being called
		for i := range 40_000 {
			ok(t, s.Join(ctx, fmt.Sprint(i)))
		}
		ok(t, s.Leave("7", "39999", "r"))
		d.h.Loss(crosscast.Loss{Instructions: 3, Err: crosscast.ErrRefused})
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: "aaaaaaaa"})
		d.h.Link(crosscast.LinkStatus{Publishing: crosscast.LinkHalf{State: reasons.LinkHeld}})
		synctest.Wait()
		got := strings.Split(l.take(), "; ")
		slices.Sort(got)
		equal(t, "others meanwhile", strings.Join(got, "; "), "link held; loss 3; node 1")
		close(release)
		synctest.Wait()
		equal(t, "calls", calls, 1+1+(2*40_001-1)-65_537+2*3)
		equal(t, "of them for all rooms", changed, 1)
		equal(t, "rooms", len(rooms), 40_001-3)
		equal(t, "a room that was left", rooms["7"] || rooms["39999"] || rooms["r"], false)
	})
}

// Of one peer only the last event waits, and the order of what waits is kept.
func TestNodeEventsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		release := make(chan struct{})
		var l log
		start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute,
			OnNode: func(_ *crosscast.Node, e crosscast.NodeEvent) {
				<-release
				l.add("%s %d", e.Peer.ID[:1], e.Kind)
			}})
		hear := func(k kind.Kind, from crosscast.NodeID) {
			d.h.Handle(&crosscast.Instruction{Kind: k, From: from, Node: crosscast.NodeInfo{Heartbeat: time.Minute}})
		}
		hear(kind.Heartbeat, "first___")
		synctest.Wait() // the call is being made
		hear(kind.Heartbeat, "a_______")
		hear(kind.Heartbeat, "b_______")
		hear(kind.Heartbeat, "c_______")
		hear(kind.Goodbye, "a_______")
		hear(kind.Goodbye, "first___")
		close(release)
		synctest.Wait()
		equal(t, "events", l.take(), "f 1; b 1; c 1; a 4; f 4")
	})
}

// However many peers come and go while OnNode is called, what waits is bounded, and of who was told of, nothing is
// left out.
func TestNodeEventsThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var release atomic.Pointer[chan struct{}]
		var l log
		calls := 0
		start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute,
			OnNode: func(_ *crosscast.Node, e crosscast.NodeEvent) {
				if wait := release.Load(); wait != nil {
					<-*wait
				}
				if calls++; e.Peer.ID < "n0000002" {
					l.add("%s %d", e.Peer.ID, e.Kind)
				}
			}})
		hear := func(k kind.Kind, i int) {
			from := crosscast.NodeID(fmt.Sprintf("n%07d", i))
			d.h.Handle(&crosscast.Instruction{Kind: k, From: from, Node: crosscast.NodeInfo{Heartbeat: time.Minute}})
		}
		hear(kind.Heartbeat, 0)
		hear(kind.Heartbeat, 1)
		synctest.Wait()
		equal(t, "told before", l.take(), "n0000000 1; n0000001 1")
		wait := make(chan struct{})
		release.Store(&wait)
		hear(kind.Heartbeat, 2)
		synctest.Wait() // the call is being made
		hear(kind.Goodbye, 0)
		for i := 3; i < 10_000; i++ {
			hear(kind.Heartbeat, i)
			hear(kind.Goodbye, i)
		}
		hear(kind.Goodbye, 1)
		close(wait)
		synctest.Wait()
		equal(t, "calls", calls, 2+1+8192)
		equal(t, "told of before", l.take(), "n0000000 4; n0000001 4")
	})
}

func TestLinkEventsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		release := make(chan struct{})
		var told []string
		n := start(t, crosscast.Options{Adapter: d, OnLink: func(n *crosscast.Node, s crosscast.LinkStatus) {
			<-release
			told = append(told, s.Publishing.Err.Error())
		}})
		for i := range 1000 {
			d.h.Link(crosscast.LinkStatus{Publishing: crosscast.LinkHalf{Err: fmt.Errorf("%d", i)}})
			if i == 0 {
				synctest.Wait() // the call is being made
			}
		}
		equal(t, "state", n.Link().Publishing.Err.Error(), "999")
		close(release)
		synctest.Wait()
		equal(t, "calls", len(told), 1+64)
		equal(t, "the last two", strings.Join(told[63:], " "), "63 999")
	})
}

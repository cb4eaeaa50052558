package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// present watches room on ns and logs events: "= a b" for the first, then "+ c" and "- a" by user.
func present(tb testing.TB, ns *crosscast.Namespace, room string, users bool) (*crosscast.Watch, *log) {
	tb.Helper()
	l := new(log)
	w, err := ns.Watch(ctx, room, crosscast.WatchOptions{Users: users,
		OnChange: func(_ *crosscast.Watch, e crosscast.PresenceEvent) {
			if e.Current {
				l.add("= %s", userNames(e.Joined))
			} else if len(e.Joined) > 0 {
				l.add("+ %s", userNames(e.Joined))
			}
			if len(e.Left) > 0 {
				l.add("- %s", userNames(e.Left))
			}
		}})
	ok(tb, err)
	return w, l
}

func userNames(ms []crosscast.Member) string {
	var names []string
	for _, m := range ms {
		names = append(names, m.User)
	}
	return strings.Join(names, " ")
}

// seen fails unless, once everything has arrived, l has the lines.
func seen(tb testing.TB, l *log, lines string) {
	tb.Helper()
	synctest.Wait()
	if got := l.take(); got != lines {
		tb.Errorf("got %q, want %q", got, lines)
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		connectUser(t, a.Namespace, &recorder{}, "ann", "r")
		bob := connectUser(t, b.Namespace, &recorder{}, "bob", "r")
		connectUser(t, b.Namespace, &recorder{}, "eve", "other")
		w, l := present(t, a.Namespace, "r", false)
		u, lu := present(t, c.Namespace, "r", true)
		seen(t, l, "= ann bob")
		seen(t, lu, "= ann bob")
		bob2 := connectUser(t, c.Namespace, &recorder{}, "bob", "r")
		connectUser(t, c.Namespace, &recorder{}, "", "r")
		seen(t, lu, "")
		if got := l.take(); got != "+  bob" && got != "+ bob; + " {
			t.Error(got)
		}
		equal(t, "members", len(w.Members()), 4)
		equal(t, "users", userNames(u.Members()), "ann bob")
		bob.Close(crosscast.ReasonServer)
		seen(t, l, "- bob")
		seen(t, lu, "")
		ok(t, bob2.Leave("r"))
		seen(t, l, "- bob")
		seen(t, lu, "- bob")
		ok(t, bob2.Join(ctx, "r"))
		seen(t, lu, "+ bob")
		// A second watch of the same node begins with its own first event, and Close ends one and not the other.
		w2, l2 := present(t, c.Namespace, "r", true)
		seen(t, l2, "= ann bob")
		u.Close()
		u.Close()
		ok(t, bob2.Leave("r"))
		seen(t, l2, "- bob")
		seen(t, lu, "")
		equal(t, "members of a closed watch", len(u.Members()), 0)
		w2.Close()
		synctest.Wait()
		ok(t, bob2.Join(ctx, "r"))
		// A room of a namespace that the other node did not have is heard at once.
		chat, err := a.Of("/chat")
		ok(t, err)
		_, lc := present(t, chat, "r", false)
		seen(t, lc, "= ")
		there, err := c.Of("/chat")
		ok(t, err)
		connectUser(t, there, &recorder{}, "zoe", "r")
		seen(t, lc, "+ zoe")
		w.Close()
	})
}

// TestWatchNodesComeAndGo: members of a node that leaves, or is silent for too long, leave; those of a new one join.
func TestWatchNodesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		_, l := present(t, a.Namespace, "r", true)
		seen(t, l, "= ")
		b := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		connectUser(t, b.Namespace, &recorder{}, "bob", "r")
		seen(t, l, "+ bob")
		ok(t, b.Close(ctx))
		seen(t, l, "- bob")
		time.Sleep(time.Minute)
		seen(t, l, "")
		ok(t, a.Close(ctx))
		if _, err := a.Watch(ctx, "r", crosscast.WatchOptions{}); !errors.Is(err, crosscast.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestWatchClosesWithTheNode: the members of the node itself leave, and are told of, before Close returns.
func TestWatchClosesWithTheNode(t *testing.T) {
	n := start(t, crosscast.Options{})
	connectUser(t, n.Namespace, &recorder{}, "ann", "r")
	w, l := present(t, n.Namespace, "r", true)
	ok(t, n.Close(ctx))
	if got := l.take(); got != "= ann; - ann" && got != "= " {
		t.Error(got)
	}
	equal(t, "members", len(w.Members()), 0)
}

// TestWatchOfASilentPeer: who has not told is waited for for two heartbeats, never for more than 5 s, and is named after
// that, until it tells.
func TestWatchOfASilentPeer(t *testing.T) {
	for heartbeat, waits := range map[time.Duration]time.Duration{
		time.Second: 2 * time.Second, time.Minute: 5 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDriver(t)
			n := start(t, crosscast.Options{Adapter: d, Heartbeat: heartbeat})
			peer := crosscast.NodeInfo{ID: "peer0000", Name: "one", Heartbeat: time.Minute}
			d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
			connectUser(t, n.Namespace, &recorder{}, "ann", "r")
			began := time.Now()
			w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
			ok(t, err)
			equal(t, "waited", time.Since(began), waits)
			equal(t, "missing", fmt.Sprint(w.Missing()), "[{peer0000 one crosscast: it has not told yet}]")
			equal(t, "members", userNames(w.Members()), "ann")
			synced := make(chan error, 1)
			go func() { synced <- w.Synced(ctx) }()
			synctest.Wait()
			equal(t, "synced with a silent peer", len(synced), 0)
			tell := func(p crosscast.Presence) {
				d.h.Handle(&crosscast.Instruction{Kind: kind.Presence, Namespace: "/", From: peer.ID,
					Rooms: []string{"r"}, Presence: &p})
			}
			bob := crosscast.Member{Socket: "peer0000BBBBBBBBBBBB", User: "bob"}
			tell(crosscast.Presence{Version: 7, Last: true, Changes: []crosscast.PresenceChange{{Member: bob}}})
			synctest.Wait()
			ok(t, <-synced)
			equal(t, "missing", len(w.Missing()), 0)
			equal(t, "members", userNames(w.Members()), "ann bob")
			w.Close()
			tell(crosscast.Presence{Since: 7, Version: 8, Changes: []crosscast.PresenceChange{{Member: bob, Left: true}}})
			equal(t, "dropped", n.Stats().Dropped["presence"], 1)
			if err := w.Synced(ctx); !errors.Is(err, crosscast.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// TestWatchWithoutALink: nobody is waited for, and the peers are missing.
func TestWatchWithoutALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		peer := crosscast.NodeInfo{ID: "peer0000", Name: "one", Heartbeat: time.Minute}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		watch := func() *crosscast.Watch {
			began := time.Now()
			w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
			ok(t, err)
			equal(t, "waited", time.Since(began), 0)
			if m := w.Missing(); len(m) != 1 || !errors.Is(m[0].Err, crosscast.ErrNotConnected) {
				t.Error(m)
			}
			return w
		}
		d.mu.Lock()
		d.publishErr = crosscast.ErrNotConnected
		d.mu.Unlock()
		watch().Close()
		d.mu.Lock()
		d.publishErr = nil
		d.mu.Unlock()
		d.h.Link(crosscast.LinkStatus{Subscribing: crosscast.LinkHalf{State: reasons.LinkDown}})
		w := watch()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		d.h.Handle(&crosscast.Instruction{Kind: kind.Presence, Namespace: "/", From: peer.ID,
			Rooms: []string{"r"}, Presence: &crosscast.Presence{Version: 1, Last: true}})
		if err := w.Synced(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("synced while the link is down: %v", err)
		}
		d.h.Link(crosscast.LinkStatus{Subscribing: crosscast.LinkHalf{State: reasons.LinkLive}})
		ok(t, w.Synced(ctx))
	})
}

// TestWatchThatIsNotWaitedFor: nothing happened.
func TestWatchThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		peer := crosscast.NodeInfo{ID: "peer0000", Name: "one", Heartbeat: time.Minute}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		told := func(*crosscast.Watch, crosscast.PresenceEvent) { t.Error("OnChange was called") }
		ended := 0
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Watch && inst.TTL == 0 {
				ended++
			}
		}
		w, err := n.Watch(short, "r", crosscast.WatchOptions{OnChange: told})
		if w != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Watch: %v, %v", w, err)
		}
		connectUser(t, n.Namespace, &recorder{}, "ann", "r")
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "watches ended", ended, 1)
		if _, err := n.Watch(ctx, "", crosscast.WatchOptions{}); !errors.Is(err, crosscast.ErrInvalidName) {
			t.Error(err)
		}
		e := start(t, crosscast.Options{Adapter: newDriver(t), EmitOnly: true})
		if w, err := e.Watch(ctx, "r", crosscast.WatchOptions{}); w != nil || !errors.Is(err, crosscast.ErrEmitOnly) {
			t.Errorf("an emitter's Watch: %v, %v", w, err)
		}
	})
}

// TestWatchLeaseEnds: a node tells a watcher that is silent nothing more.
func TestWatchLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		told := 0
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Presence {
				told++
			}
		}
		count := func() int {
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			return told
		}
		n := start(t, crosscast.Options{Adapter: d})
		watch := func(ttl time.Duration, rooms ...string) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Watch, Namespace: "/", From: "peer0000", Rooms: rooms, TTL: ttl,
			})
		}
		watch(10*time.Second, "r")
		equal(t, "told", count(), 1)
		connect(t, n.Namespace, &recorder{}, "r")
		equal(t, "told", count(), 2)
		watch(10*time.Second, "r") // all again
		equal(t, "told", count(), 3)
		time.Sleep(20 * time.Second)
		connect(t, n.Namespace, &recorder{}, "r")
		equal(t, "told", count(), 3)
		watch(10*time.Second, "r")
		watch(0, "r")
		connect(t, n.Namespace, &recorder{}, "r")
		if got := count(); got > 4 {
			t.Error(got)
		}
	})
}

// TestWatchVersions: a room's versions rise also from one watch to the next, and after a report that could not be sent
// the next one is of all members. Who lists what it was told is told nothing.
func TestWatchVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		l := new(log)
		d.onPublish = func(inst *crosscast.Instruction) {
			switch p := inst.Presence; {
			case p == nil:
			case p.Versions != nil:
				l.add("none at %d", p.Versions[0])
			default:
				l.add("%d-%d of %d", p.Since, p.Version, len(p.Changes))
			}
		}
		n := start(t, crosscast.Options{Adapter: d})
		watch := func(ttl time.Duration, versions ...uint64) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Watch, Namespace: "/", From: "peer0000", Rooms: []string{"r"}, TTL: ttl,
				Presence: &crosscast.Presence{Versions: versions},
			})
		}
		watch(time.Minute)
		seen(t, l, "none at 1")
		connect(t, n.Namespace, &recorder{}, "r")
		seen(t, l, "1-2 of 1")
		watch(0)
		connect(t, n.Namespace, &recorder{}, "r")
		watch(time.Minute)
		seen(t, l, "0-3 of 2")
		fail := func(err error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.publishErr = err
		}
		fail(crosscast.ErrNotConnected)
		connect(t, n.Namespace, &recorder{}, "r")
		seen(t, l, "3-4 of 1")
		fail(nil)
		connect(t, n.Namespace, &recorder{}, "r")
		seen(t, l, "0-5 of 4")
		watch(time.Minute, 4)
		seen(t, l, "0-5 of 4")
		watch(time.Minute, 5)
		seen(t, l, "")
		watch(time.Minute, 0)
		seen(t, l, "0-5 of 4")
	})
}

// TestSlowOnChange: what comes and goes during a call is not told of, and what stays is told of once.
func TestSlowOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		gate := make(chan struct{})
		l := new(log)
		w, err := a.Watch(ctx, "r", crosscast.WatchOptions{OnChange: func(_ *crosscast.Watch, e crosscast.PresenceEvent) {
			l.add("%v +%s -%s", e.Current, userNames(e.Joined), userNames(e.Left))
			<-gate
		}})
		ok(t, err)
		synctest.Wait()
		for i := range 100 {
			s := connectUser(t, b.Namespace, &recorder{}, fmt.Sprint("u", i), "r")
			if i != 42 {
				s.Close(crosscast.ReasonServer)
			}
			synctest.Wait()
		}
		close(gate)
		seen(t, l, "true + -; false +u42 -")
		w.Close()
	})
}

// TestUnwatchedRoomsCostNothing: a join and a leave allocate no more than before, and the watch's end leaves nothing
// behind.
func TestUnwatchedRoomsCostNothing(t *testing.T) {
	n := start(t, crosscast.Options{})
	s := connect(t, n.Namespace, &recorder{}, "r", "keep")
	connect(t, n.Namespace, &recorder{}, "r")
	join := func() float64 {
		return testing.AllocsPerRun(100, func() {
			s.Leave("r")
			s.Join(ctx, "r")
		})
	}
	before := join()
	w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
	ok(t, err)
	w.Close()
	equal(t, "allocations", join(), before)
	if before > 1 { // the membership
		t.Error(before)
	}
	runtime.KeepAlive(w)
}

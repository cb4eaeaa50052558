package crosscast_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// showing watches room on ns and logs events with what is shown: "= ann"1"" for the first, then "+", "~" and "-".
func showing(tb testing.TB, ns *crosscast.Namespace, room string, o crosscast.WatchOptions) (*crosscast.Watch, *log) {
	tb.Helper()
	l := new(log)
	o.OnChange = func(_ *crosscast.Watch, e crosscast.PresenceEvent) {
		for i, ms := range [][]crosscast.Member{e.Joined, e.Changed, e.Left} {
			sign := "+~-"[i : i+1]
			if e.Current && i == 0 {
				sign = "="
			}
			if len(ms) > 0 || e.Current && i == 0 {
				l.add("%s %s", sign, shownNames(ms))
			}
		}
	}
	w, err := ns.Watch(ctx, room, o)
	ok(tb, err)
	return w, l
}

func shownNames(ms []crosscast.Member) string {
	var all []string
	for _, m := range ms {
		all = append(all, m.User+string(m.Presence))
	}
	return strings.Join(all, " ")
}

func show(tb testing.TB, ns *crosscast.Namespace, user string, v any, rooms ...string) *crosscast.Socket {
	tb.Helper()
	s, err := ns.Connect(ctx, &recorder{}, crosscast.ConnectOptions{User: user, Rooms: rooms, Presence: v, Data: "secret"})
	ok(tb, err)
	return s
}

// TestPresenceData: what sockets show is seen on all nodes, and so is each change, also of a room that is watched later. A
// user shows what was set last.
func TestPresenceData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		phone := show(t, b.Namespace, "ann", "phone", "r", "r2")
		_, l := showing(t, a.Namespace, "r", crosscast.WatchOptions{})
		users, lu := showing(t, c.Namespace, "r", crosscast.WatchOptions{Users: true})
		_, own := showing(t, b.Namespace, "r", crosscast.WatchOptions{})
		seen(t, l, `= ann"phone"`)
		seen(t, lu, `= ann"phone"`)
		seen(t, own, `= ann"phone"`)
		time.Sleep(time.Millisecond)
		laptop := show(t, c.Namespace, "ann", json.RawMessage(`{ "on": "laptop" }`), "r")
		seen(t, l, `+ ann{"on":"laptop"}`)
		seen(t, lu, `~ ann{"on":"laptop"}`)
		time.Sleep(time.Millisecond)
		ok(t, phone.SetPresence("phone")) // the last again
		seen(t, l, "")
		seen(t, lu, `~ ann"phone"`)
		time.Sleep(time.Millisecond)
		ok(t, phone.SetPresence(nil))
		seen(t, l, "~ ann")
		seen(t, own, `+ ann{"on":"laptop"}; ~ ann`)
		seen(t, lu, `~ ann{"on":"laptop"}`)
		ok(t, phone.SetPresence(nil))
		seen(t, l, "")
		ok(t, phone.SetPresence([]int{1}))
		ok(t, phone.Leave("r"))
		ok(t, phone.SetPresence([]int{2}))
		seen(t, lu, "")
		equal(t, "members", shownNames(users.Members()), `ann{"on":"laptop"}`)
		_, later := showing(t, a.Namespace, "r2", crosscast.WatchOptions{})
		seen(t, later, "= ann[2]")
		laptop.Close(crosscast.ReasonServer)
		seen(t, lu, `- ann{"on":"laptop"}`)
	})
}

// TestPresenceDataIsBounded: 1 KB of JSON and no more; after an error everything is as before.
func TestPresenceDataIsBounded(t *testing.T) {
	n := start(t, crosscast.Options{})
	s := show(t, n.Namespace, "ann", strings.Repeat("x", 1022), "r")
	w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
	ok(t, err)
	for what, v := range map[string]any{
		"too long": strings.Repeat("x", 1023), "no JSON": json.RawMessage("{"), "not marshalled": func() {},
		"not UTF-8": json.RawMessage("\"\xff\""), "half a surrogate pair": json.RawMessage(`"\ud800"`),
		"no number of msgpack": json.RawMessage("1e999"),
		"too deep":             json.RawMessage(strings.Repeat("[", 505) + strings.Repeat("]", 505)),
	} {
		if err := s.SetPresence(v); err == nil || what == "too long" && !(errors.Is(err, crosscast.ErrTooLarge) && strings.Contains(err.Error(), "bytes")) {
			t.Errorf("%s: %v", what, err)
		}
		if s, err := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{Rooms: []string{"r"}, Presence: v}); s != nil || err == nil {
			t.Errorf("Connect, %s: %v", what, err)
		}
	}
	if m := w.Members(); len(m) != 1 || len(m[0].Presence) != 1024 {
		t.Error(m)
	}
	ok(t, s.SetPresence(json.RawMessage(strings.Repeat("[", 504)+strings.Repeat("]", 504))))
	s.Close(crosscast.ReasonServer)
	if err := s.SetPresence(1); !errors.Is(err, crosscast.ErrClosed) {
		t.Error(err)
	}
	w.Close()
}

// TestHostilePresenceData: a report with what is no JSON is dropped and counted.
func TestHostilePresenceData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		peer := crosscast.NodeInfo{ID: "peer0000", Name: "one", Heartbeat: time.Minute}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
		ok(t, err)
		for i, data := range []string{"{", "\"\xff\"", "1 2", "\x00"} {
			m := crosscast.Member{Socket: "peer0000BBBBBBBBBBBB", User: "bob", Presence: []byte(data)}
			d.h.Handle(&crosscast.Instruction{Kind: kind.Presence, Namespace: "/", From: peer.ID, Rooms: []string{"r"},
				Presence: &crosscast.Presence{Version: 7, Last: true, Changes: []crosscast.PresenceChange{{Member: m}}}})
			equal(t, "dropped", n.Stats().Dropped["presence"], uint64(i+1))
		}
		equal(t, "members", len(w.Members()), 0)
		w.Close()
	})
}

// TestGrace: a user has left when nobody of it came back in time, to any node. Others are told at once.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		w, l := showing(t, a.Namespace, "r", crosscast.WatchOptions{Users: true, Grace: time.Minute})
		_, soon := showing(t, a.Namespace, "r", crosscast.WatchOptions{Users: true})
		ann := show(t, b.Namespace, "ann", 1, "r")
		bob := show(t, b.Namespace, "bob", 1, "r")
		synctest.Wait()
		l.take()
		soon.take()

		ann.Close(crosscast.ReasonServer)
		seen(t, soon, "- ann1")
		ok(t, bob.Leave("r"))
		seen(t, soon, "- bob1")
		time.Sleep(59 * time.Second)
		seen(t, l, "")
		equal(t, "members", shownNames(w.Members()), "ann1 bob1")
		begins := new(log)
		stop := w.Follow(func(e crosscast.PresenceEvent) bool {
			begins.add("%s/%s/%s", shownNames(e.Joined), shownNames(e.Changed), shownNames(e.Left))
			return true
		})
		seen(t, begins, "ann1 bob1//")
		ann = show(t, c.Namespace, "ann", 2, "r") // in time, and shows something else
		seen(t, l, "~ ann2")
		time.Sleep(2 * time.Second)
		seen(t, l, "- bob1")
		seen(t, begins, "/ann2/; //bob1")
		stop()

		for range 500 { // comes and goes all the time
			ann.Close(crosscast.ReasonServer)
			synctest.Wait()
			ann = show(t, b.Namespace, "ann", 2, "r")
			time.Sleep(100 * time.Millisecond)
		}
		seen(t, l, "")
		ok(t, c.Close(ctx))
		ann.Close(crosscast.ReasonServer)
		time.Sleep(59 * time.Second)
		seen(t, l, "")
		time.Sleep(2 * time.Second)
		seen(t, l, "- ann2")
		ann = show(t, b.Namespace, "ann", nil, "r")
		seen(t, l, "+ ann")
		ann.Close(crosscast.ReasonServer)
		w.Close()
		time.Sleep(2 * time.Minute)
		seen(t, l, "")
		for _, o := range []crosscast.WatchOptions{
			{Grace: time.Second}, {Users: true, Grace: -1}, {Users: true, Grace: 2 * time.Hour},
		} {
			if _, err := a.Watch(ctx, "r", o); err == nil {
				t.Errorf("%+v is valid", o)
			}
		}
	})
}

// TestPresenceDataCostsNothing: sockets that show nothing, and rooms that nobody watches, cost what they did before. The
// frames of members that show nothing are the golden ones of before.
func TestPresenceDataCostsNothing(t *testing.T) {
	n := start(t, crosscast.Options{})
	rooms := []string{"r", "r2", "r3"}
	connect := func(v any) float64 {
		return testing.AllocsPerRun(100, func() { show(t, n.Namespace, "ann", v, rooms...).Close(crosscast.ReasonServer) })
	}
	if without, with := connect(nil), connect(json.RawMessage("1")); with < without+2 || with > without+8 {
		t.Errorf("%g allocations without, and %g with", without, with)
	}
	s := show(t, n.Namespace, "ann", nil, rooms...)
	if got := testing.AllocsPerRun(100, func() { ok(t, s.SetPresence(nil)) }); got != 0 {
		t.Errorf("%g allocations for nothing", got)
	}
}

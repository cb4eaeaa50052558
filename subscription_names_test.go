package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// A subscription that begins with nothing gets what goes to the rooms and users that it has at that moment, each
// emission once. It shows nowhere as a member.
func TestSubscriptionAddsAndRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		sub, l := listen(t, a)
		emit := func(want string) {
			t.Helper()
			for _, n := range []*crosscast.Node{a, b} {
				for _, v := range []struct {
					event string
					crosscast.BoundTarget
				}{
					{"room", n.To("r")}, {"user", n.ToUser("u").ExceptUser("u")}, {"like the user", n.To("u")},
					{"both", n.To("r").ToUser("u")}, {"other", n.To("x").ToUser("r")}, {"everyone", n.Everyone()},
				} {
					ok(t, v.Emit(ctx, v.event, nil))
				}
				synctest.Wait()
				equal(t, "got", l.take(), want)
			}
		}
		emit("")
		ok(t, sub.Add(ctx, "r"))
		emit("room; both")
		ok(t, sub.AddUser(ctx, "u"))
		emit("room; user; both")
		equal(t, "rooms", len(a.Rooms()), 0)
		st := a.Stats()
		equal(t, "counted", fmt.Sprint(st.Subscriptions, st.Rooms, st.Users, st.Memberships), "1 0 0 0")
		users, err := b.ToUser("u").CountUsers(ctx)
		ok(t, err)
		equal(t, "users who are there", users, 0)
		ok(t, sub.Remove("r", "x"))
		emit("user; both")
		ok(t, sub.RemoveUser("u"))
		emit("")
		ok(t, sub.Add(ctx, "r"))
		emit("room; both")
		ok(t, sub.Close())
		emit("")
	})
}

// As many calls of Remove as of Add end a room. The rooms of Subscribe count as one call, and so does a name that stands
// in a call twice.
func TestSubscriptionCountsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		sub, l := listen(t, n, "r", "r")
		hears := func(want string) {
			t.Helper()
			ok(t, n.To("r").Emit(ctx, "r", nil))
			ok(t, n.ToUser("r").Emit(ctx, "u", nil))
			synctest.Wait()
			equal(t, "got", l.take(), want)
		}
		ok(t, sub.Add(ctx, "r", "s", "r"))
		ok(t, sub.AddUser(ctx, "r"))
		ok(t, sub.AddUser(ctx, "r"))
		hears("r; u")
		ok(t, sub.Remove("r", "r"))
		ok(t, sub.RemoveUser("r"))
		hears("r; u")
		ok(t, sub.Remove("r"))
		hears("u")
		ok(t, sub.RemoveUser("r"))
		ok(t, sub.RemoveUser("r")) // too often
		hears("")
		ok(t, sub.AddUser(ctx, "r"))
		hears("u")
	})
}

// After Remove has returned, no call begins for what it has removed, though it was queued before: neither for a message
// nor for a gap. What also concerns another name is called.
func TestRemoveDiscardsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		var l log
		step := make(chan struct{})
		sub, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("%s", m.Event); <-step },
			OnGap:     func(_ *crosscast.Subscription, g crosscast.Gap) { l.add("gap %s", g.Names[0].Name) },
		}, "r", "stays")
		ok(t, err)
		ok(t, sub.AddUser(ctx, "u"))
		queue := func() {
			ok(t, n.To("stays").Emit(ctx, "running", nil))
			synctest.Wait()
			ok(t, n.To("r").Emit(ctx, "room", nil))
			ok(t, n.ToUser("u").Emit(ctx, "user", nil))
			ok(t, n.To("r", "stays").ToUser("u").Emit(ctx, "all", nil))
			for _, a := range []crosscast.Address{
				{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}, {Namespace: "/", Space: crosscast.SpaceUser, Name: "u"},
				{Namespace: "/", Space: crosscast.SpaceNamespace},
			} {
				d.h.Gap(crosscast.Gap{Reason: reasons.GapHole, Names: []crosscast.Address{a}})
			}
		}
		queue()
		ok(t, sub.Remove("r"))
		ok(t, sub.RemoveUser("u"))
		close(step)
		synctest.Wait()
		equal(t, "got", l.take(), "running; all; gap ")

		step = make(chan struct{})
		ok(t, sub.Add(ctx, "r"))
		ok(t, sub.AddUser(ctx, "u"))
		queue()
		ok(t, sub.Remove("r"))
		ok(t, sub.Add(ctx, "r")) // earlier emissions might come
		close(step)
		synctest.Wait()
		equal(t, "got", l.take(), "running; room; user; all; gap r; gap u; gap ")
	})
}

// A message that finds the queue full is a gap of the names that the subscription has, and no gap if it has none of
// them any more.
func TestSubscriptionOverflowNamesWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var names []string
		sub, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: ignore,
			OnGap: func(_ *crosscast.Subscription, g crosscast.Gap) {
				for _, a := range g.Names {
					names = append(names, fmt.Sprint(a.Namespace, a.Space, a.Name))
				}
				if g.Names == nil || g.Covers(crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "x"}) {
					t.Errorf("gap %v", g.Names)
				}
			},
			QueueBytes: 1,
		}, "r")
		ok(t, err)
		ok(t, sub.AddUser(ctx, "u"))
		connect(t, n.Namespace, connFunc(func(m *crosscast.Message) error {
			if m.Event == "removed" { // in the middle of the delivery
				return sub.Remove("r")
			}
			return nil
		}), "r")
		ok(t, n.To("r", "x").ToUser("u", "x").Emit(ctx, "e", nil))
		ok(t, n.To("r").Emit(ctx, "removed", nil))
		synctest.Wait()
		equal(t, "missed", strings.Join(names, " "), "/roomr /useru")
	})
}

// Add fails as Join does, and then has added nothing.
func TestAddThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		sub, l := listen(t, n, "r")
		d.log.take()
		for name, err := range map[string]error{
			"an empty room": sub.Add(ctx, "x", ""), "a long user": sub.AddUser(ctx, strings.Repeat("u", 256)),
			"Remove": sub.Remove("r", ""), "RemoveUser": sub.RemoveUser(""),
		} {
			if !errors.Is(err, crosscast.ErrInvalidName) {
				t.Errorf("%s: %v", name, err)
			}
		}
		equal(t, "asked for", d.log.take(), "")
		hears := func(want string) {
			t.Helper()
			ok(t, n.To("r").Emit(ctx, "r", nil))
			ok(t, n.To("good").Emit(ctx, "good", nil))
			ok(t, n.ToUser("bad").Emit(ctx, "bad", nil))
			synctest.Wait()
			equal(t, "got", l.take(), want)
		}
		hears("r")

		d.answer(refuse(crosscast.ErrDenied, "bad", "@bad"))
		refused(t, sub.Add(ctx, "good", "bad", "r"), crosscast.ErrDenied, "bad")
		refused(t, sub.AddUser(ctx, "bad"), crosscast.ErrDenied, "@bad")
		hears("r")

		never := make(chan struct{})
		d.answer(func(context.Context, []string) error { <-never; return nil })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := sub.AddUser(short, "late"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AddUser: %v", err)
		}
		added := make(chan error, 1)
		go func() { added <- sub.Add(ctx, "good", "r") }()
		synctest.Wait()
		hears("r; good") // at once
		close(never)
		ok(t, <-added)

		d.answer(func(context.Context, []string) error { return crosscast.ErrNotConnected })
		ok(t, sub.AddUser(ctx, "bad")) // the gap of the outage will cover it
		hears("r; good; bad")
		d.answer(nil)
		ok(t, sub.Close())
		for name, err := range map[string]error{
			"Add": sub.Add(ctx, "r"), "AddUser": sub.AddUser(ctx, "u"), "Remove": sub.Remove("r"), "RemoveUser": sub.RemoveUser("u"),
		} {
			if !errors.Is(err, crosscast.ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		if _, err := n.CheckGroups(); err != nil {
			t.Error(err)
		}
	})
}

// The interest begins with the first call for a name, and lingers after the last. Synced asks for what there is.
func TestSubscriptionInterest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		sub, _ := listen(t, n)
		equal(t, "calls", d.log.take(), "")
		ok(t, sub.Add(ctx, "r", "s"))
		ok(t, sub.Add(ctx, "r"))
		ok(t, sub.AddUser(ctx, "r"))
		equal(t, "calls", d.log.take(), "+ r s; + @r")
		ok(t, sub.Synced(ctx))
		equal(t, "calls", d.log.take(), "+ @r r s")
		ok(t, sub.Remove("r", "s"))
		ok(t, sub.RemoveUser("r"))
		time.Sleep(4 * time.Second)
		ok(t, sub.Add(ctx, "s")) // in time
		time.Sleep(20 * time.Second)
		equal(t, "calls", d.log.take(), "- @r")
		ok(t, sub.Close())
		time.Sleep(20 * time.Second)
		equal(t, "calls", d.log.take(), "- r s")
	})
}

// A gap of a user or a room reaches a subscription while it has that name, in its place.
func TestGapsOfAddedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		var l log
		user := crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "u"}
		room := crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}
		sub, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("%s", m.Event) },
			OnGap: func(_ *crosscast.Subscription, g crosscast.Gap) {
				l.add("%s: user %v, room %v", g.Reason, g.Covers(user), g.Covers(room))
			},
		})
		ok(t, err)
		gap := func(reason crosscast.GapReason, names ...crosscast.Address) {
			d.h.Gap(crosscast.Gap{Origin: "aaaaaaaa", Reason: reason, Names: names})
		}
		emit := func(event string) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Emit, Namespace: "/", From: "aaaaaaaa", Event: event,
				Target: crosscast.Target{Rooms: []string{"r"}, Users: []string{"u"}},
			})
		}
		gap(reasons.GapHole, user, room)
		ok(t, sub.AddUser(ctx, "u"))
		emit("1")
		gap(reasons.GapHole, user)
		emit("2")
		gap(reasons.GapLate, room)
		gap(reasons.GapLoss, crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "u"})
		ok(t, sub.Add(ctx, "r"))
		gap(reasons.GapLate, room, user)
		emit("3")
		synctest.Wait()
		ok(t, sub.RemoveUser("u"))
		gap(reasons.GapHole, user)
		gap(reasons.GapLinkLost)
		synctest.Wait()
		equal(t, "got", l.take(), "1; hole: user true, room false; 2; late: user true, room true; 3; "+
			"link lost: user true, room true")
	})
}

// Many goroutines add and remove names of the same subscriptions, which others close, while messages run. In the end
// each subscription hears what was added more often than removed, and the adapter hears that and nothing else.
func TestSubscriptionUnderConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const names = 6
		n, d := interestNode(t, crosscast.Options{Linger: 5 * time.Millisecond})
		d.answer(func(ctx context.Context, asked []string) error {
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			if rand.IntN(4) == 0 {
				return refuse(crosscast.ErrDenied, asked[0])(ctx, asked)
			}
			return nil
		})
		var subs [3]*crosscast.Subscription
		var logs [3]*log
		for i := range subs {
			subs[i], logs[i] = listen(t, n)
		}
		var mu sync.Mutex
		left := map[string]int{} // calls of Add less those of Remove, by subscription and name
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				mine := map[string]int{}
				for range 100 {
					i, name := rand.IntN(len(subs)), fmt.Sprint(rand.IntN(names))
					sub, key := subs[i], fmt.Sprint(i, " ", name)
					add, remove := sub.Add, sub.Remove
					if rand.IntN(2) == 0 {
						key += "@"
						add, remove = sub.AddUser, sub.RemoveUser
					}
					if mine[key] > 0 && rand.IntN(2) == 0 {
						mine[key]--
						remove(name)
						continue
					}
					short, cancel := context.WithTimeout(ctx, time.Duration(1+rand.IntN(5))*time.Millisecond)
					if add(short, name) == nil {
						mine[key]++
					}
					cancel()
					if err := n.To(name).ToUser(name).Emit(ctx, "e", nil); err != nil {
						t.Error(err)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				for key, calls := range mine {
					left[key] += calls
				}
			})
		}
		wg.Go(func() {
			time.Sleep(100 * time.Millisecond)
			ok(t, subs[2].Close())
		})
		wg.Wait()
		d.answer(nil)
		time.Sleep(time.Second) // the last interests have ended
		if _, err := n.CheckGroups(); err != nil {
			t.Error(err)
		}
		heard := map[string]bool{}
		for i, l := range logs {
			for k := range names {
				name := fmt.Sprint(k)
				l.take()
				ok(t, n.To(name).Emit(ctx, "room", nil))
				ok(t, n.ToUser(name).Emit(ctx, "user", nil))
				synctest.Wait()
				got, want := l.take(), []string{}
				if left[fmt.Sprint(i, " ", name)] > 0 && i < 2 {
					heard[name] = true
					want = append(want, "room")
				}
				if left[fmt.Sprint(i, " ", name, "@")] > 0 && i < 2 {
					heard["@"+name] = true
					want = append(want, "user")
				}
				equal(t, fmt.Sprintf("subscription %d, name %s", i, name), got, strings.Join(want, "; "))
			}
		}
		wants := make([]string, 0, len(heard))
		for name := range heard {
			wants = append(wants, name)
		}
		slices.Sort(wants)
		equal(t, "the adapter hears", d.hears(), strings.Join(wants, " "))
	})
}

// Subscriptions are closed at the moment in which their names are removed.
func TestSubscriptionIsClosedWhileNamesAreRemoved(t *testing.T) {
	n := start(t, crosscast.Options{})
	for range 500 {
		rooms := numbered(50)
		sub, _ := listen(t, n, rooms...)
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, room := range rooms {
				if sub.Remove(room) != nil {
					return // it is closed
				}
			}
		})
		wg.Go(func() { ok(t, sub.Close()) })
		wg.Wait()
	}
	if _, err := n.CheckGroups(); err != nil {
		t.Error(err)
	}
	equal(t, "groups that are left", n.Groups(), 0)
}

// One subscription to many rooms takes a fraction of the memory of many subscriptions to one room each.
func TestMemoryOfSubscriptions(t *testing.T) {
	if memtest.Race {
		t.Skip("the race detector needs memory of its own")
	}
	const rooms = 50_000
	n := start(t, crosscast.Options{})
	measure := func(what string, most int, subscribe func() (end func())) {
		before := memtest.Heap()
		end := subscribe()
		each := (memtest.Heap() - before) / rooms
		t.Logf("%s: %d bytes for each room", what, each)
		if each > most {
			t.Errorf("%s: %d bytes for each room, want at most %d", what, each, most)
		}
		end()
		if left := (memtest.Heap() - before) / rooms; left > 64 {
			t.Errorf("%s: %d bytes for each room are left", what, left)
		}
	}
	measure("one subscription", 250, func() func() {
		sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, numbered(rooms)...)
		ok(t, err)
		return func() { ok(t, sub.Remove(numbered(rooms)...)) }
	})
	measure("a map of subscriptions", 700, func() func() {
		subs := make(map[string]*crosscast.Subscription)
		for _, room := range numbered(rooms) {
			sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, room)
			ok(t, err)
			subs[room] = sub
		}
		return func() {
			for _, sub := range subs {
				ok(t, sub.Close())
			}
		}
	})
}

// BenchmarkSubscriptionAdd is a room that comes and goes, of a subscription that has many others.
func BenchmarkSubscriptionAdd(b *testing.B) {
	n := start(b, crosscast.Options{})
	sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, numbered(10_000)...)
	ok(b, err)
	b.ReportAllocs()
	for b.Loop() {
		ok(b, sub.Add(ctx, "r"))
		ok(b, sub.Remove("r"))
	}
}

package crosscast_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
)

// mirror is a client that knows who is in a room by what it is told.
type mirror struct {
	t       *testing.T
	begun   bool
	members map[[2]string]string // what they show, by socket and user
}

func keyOf(m crosscast.Member) [2]string { return [2]string{string(m.Socket), m.User} }

func (m *mirror) follow(e crosscast.PresenceEvent) bool {
	m.told(e)
	return true
}

func (m *mirror) told(e crosscast.PresenceEvent) {
	if e.Current == m.begun {
		m.t.Errorf("all members: %v, and begun: %v", e.Current, m.begun)
	}
	m.begun = true
	for _, who := range e.Joined {
		if _, here := m.members[keyOf(who)]; here {
			m.t.Errorf("%v joins, and is there", who)
		}
		m.members[keyOf(who)] = string(who.Presence)
	}
	for _, who := range e.Changed {
		if shows, here := m.members[keyOf(who)]; !here || shows == string(who.Presence) {
			m.t.Errorf("%v changes, and shows %q", who, shows)
		}
		m.members[keyOf(who)] = string(who.Presence)
	}
	for _, who := range e.Left {
		if shows, here := m.members[keyOf(who)]; !here || shows != string(who.Presence) {
			m.t.Errorf("%v leaves, and shows %q", who, shows)
		}
		delete(m.members, keyOf(who))
	}
}

// TestFollow: whoever begins while members come and go, here and elsewhere, misses nothing and is told nothing twice.
func TestFollow(t *testing.T) {
	for _, users := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b, _ := three(t)
			w, err := a.Watch(ctx, "r", crosscast.WatchOptions{Users: users})
			ok(t, err)
			var all sync.WaitGroup
			for i, n := range []*crosscast.Node{a, a, b, b} {
				all.Go(func() {
					for j := range 200 {
						s := connectUser(t, n.Namespace, &recorder{}, fmt.Sprint("u", (i+j)%7), "r")
						ok(t, s.SetPresence(j%5))
						ok(t, s.SetPresence([]any{nil, i}[j%2]))
						if j%3 > 0 {
							s.Close(crosscast.ReasonServer)
						}
					}
				})
			}
			mirrors := make([]*mirror, 300)
			for i := range mirrors {
				m := &mirror{t: t, members: make(map[[2]string]string)}
				mirrors[i] = m
				all.Go(func() {
					stop := w.Follow(m.follow)
					if i%3 == 0 {
						stop()
						mirrors[i] = nil
					}
				})
			}
			all.Wait()
			synctest.Wait()
			now := w.Members()
			if users && len(now) != 7 || !users && len(now) != 268 {
				t.Errorf("%d members", len(now))
			}
			for i, m := range mirrors {
				if m == nil {
					continue
				}
				equal(t, "members", len(m.members), len(now))
				for _, who := range now {
					if shows, here := m.members[keyOf(who)]; !here || shows != string(who.Presence) {
						t.Fatalf("follower %d has %v as %q", i, who, shows)
					}
				}
			}
			w.Close()
			w.Follow(func(crosscast.PresenceEvent) bool { t.Error("told of a watch that is closed"); return true })()
			synctest.Wait()
		})
	}
}

// TestFollowersThatStop: one is told no more, and the next one begins with what is there then.
func TestFollowersThatStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
		ok(t, err)
		gate := make(chan struct{})
		stop := w.Follow(func(e crosscast.PresenceEvent) bool {
			if !e.Current {
				t.Error("told after stop")
			}
			<-gate
			return true
		})
		synctest.Wait()
		m := &mirror{t: t, members: make(map[[2]string]string)}
		w.Follow(m.follow) // which waits for the first one
		synctest.Wait()
		s := connectUser(t, n.Namespace, &recorder{}, "ann", "r") // which waits to be told of
		synctest.Wait()
		stop()
		s.Close(crosscast.ReasonServer)
		connectUser(t, n.Namespace, &recorder{}, "bob", "r")
		synctest.Wait()
		close(gate)
		synctest.Wait()
		equal(t, "members", len(m.members), 1)

		calls := 0
		w.Follow(func(crosscast.PresenceEvent) bool { calls++; return calls < 2 })
		for range 3 {
			connectUser(t, n.Namespace, &recorder{}, "eve", "r")
			synctest.Wait()
		}
		equal(t, "calls until false", calls, 2)
		w.Close()
	})
}

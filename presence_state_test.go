package crosscast

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast/internal/limit"
)

// authority is a node whose room is watched, as far as versions and messages go.
type authority struct {
	id      NodeID
	members map[SocketID]showing
	log     changelog
}

// showing is what a node tells of a socket.
type showing struct {
	user, data string
	at         uint64
}

func (s showing) shown(id SocketID) *shown {
	if s.data == "" {
		return nil
	}
	return &shown{json.RawMessage(s.data), s.at, id}
}

func (s showing) change(id SocketID, left bool) PresenceChange {
	return PresenceChange{Member: Member{id, s.user, s.shown(id).bytes()}, Left: left, At: s.at}
}

// showings is what a list has.
func showings(l *nodeList) map[SocketID]showing {
	all := make(map[SocketID]showing)
	for id, user := range l.members {
		s := showing{user: user}
		if show := l.shows[id]; show != nil {
			s.data, s.at = string(show.data), show.at
		}
		all[id] = s
	}
	return all
}

func (a *authority) whole() []*Presence {
	a.log.drain() // they are in it
	var all []PresenceChange
	for _, id := range slices.Sorted(maps.Keys(a.members)) { // at one version always the same, as a room's sockets are
		all = append(all, a.members[id].change(id, false))
	}
	parts := whole(a.log.version, all, presenceBytes)
	if len(all) < 2 || len(parts) > 1 {
		return parts
	}
	// Cut smaller than needed, so that parts can go astray.
	cut := len(all) / 2
	return []*Presence{
		{Version: a.log.version, Changes: all[:cut]},
		{Version: a.log.version, Part: 1, Last: true, Changes: all[cut:]},
	}
}

type letter struct {
	from NodeID
	p    *Presence
}

// TestPresenceConverges: whatever is lost, repeated and reordered, at any moment a watcher has each node's list as it
// was at some version, its events balance, and once messages arrive again a round of versions brings it to the truth.
func TestPresenceConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		self := NodeID("watching")
		r := &roster{self: self}
		r.list(self)
		var nodes []*authority
		history := map[NodeID]map[uint64]map[SocketID]showing{}
		for i := range rapid.IntRange(1, 3).Draw(t, "nodes") {
			a := &authority{id: NodeID(fmt.Sprintf("node%04d", i)), members: map[SocketID]showing{}}
			a.log.version = 1
			history[a.id] = map[uint64]map[SocketID]showing{1: {}}
			nodes = append(nodes, a)
		}
		told := map[memberKey]entry{}
		reached := map[*nodeList]uint64{}
		check := func() {
			for k, c := range r.takeDiff() {
				if !told[k].same(c.was) || c.was.same(c.is) {
					t.Fatalf("%+v is told as %+v, which it is not, or becomes the same: %+v", k, c.was, c.is)
				}
				if told[k] = c.is; !c.is.here {
					delete(told, k)
				}
			}
			want := map[memberKey]entry{}
			for id, l := range r.nodes {
				if l.version < reached[l] {
					t.Fatalf("%s went back to version %d", id, l.version)
				}
				reached[l] = l.version
				if l.version > 0 && !maps.Equal(showings(l), history[id][l.version]) {
					t.Fatalf("%s at version %d has %v, not %v", id, l.version, l.members, history[id][l.version])
				}
				size := 0
				for id, s := range showings(l) {
					size += memberSize + len(s.user)
					show := s.shown(id)
					if show != nil {
						size += shownSize + len(show.data)
					}
					want[memberKey{id, s.user}] = entry{true, show}
					user := want[memberKey{user: s.user}]
					if user.here = true; show != nil && show.newer(user.show) {
						user.show = show
					}
					want[memberKey{user: s.user}] = user
				}
				if l.size != size {
					t.Fatalf("%s takes %d bytes, not %d", id, l.size, size)
				}
			}
			if !maps.EqualFunc(told, want, entry.same) {
				t.Fatalf("told of %v, there are %v", told, want)
			}
		}
		var mail []letter
		post := func(a *authority, parts ...*Presence) {
			for _, p := range parts {
				mail = append(mail, letter{a.id, p})
			}
		}
		pick := rapid.IntRange(0, len(nodes)-1)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				a := nodes[pick.Draw(t, "node")]
				id := SocketID(fmt.Sprintf("%s%012d", a.id, rapid.IntRange(0, 5).Draw(t, "socket")))
				s, here := a.members[id]
				left := here && rapid.Bool().Draw(t, "leaves")
				if left {
					delete(a.members, id)
				} else {
					s.user, s.data, s.at = fmt.Sprint("u", id[19]%2), rapid.SampledFrom([]string{"", "1", "22"}).Draw(t, "data"), 0
					if s.data != "" {
						s.at = rapid.Uint64Range(1, 3).Draw(t, "at")
					}
					a.members[id] = s
				}
				a.log.record(s.change(id, left))
				history[a.id][a.log.version] = maps.Clone(a.members)
			},
			"send": func(t *rapid.T) {
				a := nodes[pick.Draw(t, "node")]
				changes, since, _ := a.log.drain()
				post(a, pieces(changes, since, presenceBytes)...)
			},
			"whole": func(t *rapid.T) { a := nodes[pick.Draw(t, "node")]; post(a, a.whole()...) },
			"arrive": func(t *rapid.T) {
				if len(mail) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(mail)-1).Draw(t, "which")
				l := mail[i]
				if rapid.IntRange(0, 3).Draw(t, "again") > 0 {
					mail = slices.Delete(mail, i, i+1)
				}
				if r.apply(l.from, l.p) && rapid.Bool().Draw(t, "asked") {
					for _, a := range nodes {
						if a.id == l.from {
							post(a, a.whole()...)
						}
					}
				}
				check()
			},
			"lose": func(t *rapid.T) {
				if len(mail) > 0 {
					i := rapid.IntRange(0, len(mail)-1).Draw(t, "which")
					mail = slices.Delete(mail, i, i+1)
				}
			},
			"refuse": func(t *rapid.T) {
				a := nodes[pick.Draw(t, "node")]
				r.markFull(a.id)
				delete(reached, r.nodes[a.id]) // what it has is not kept up to date, and the whole will be told
				check()
			},
			"die": func(t *rapid.T) { // and come back, without the watcher's knowledge of it
				a := nodes[pick.Draw(t, "node")]
				r.removeNode(a.id)
				check()
			},
			"": func(*rapid.T) {},
		})
		for _, a := range nodes {
			a.log.drain()
			if r.version(a.id) != a.log.version { // which a digest shows
				for _, p := range a.whole() {
					if r.apply(a.id, p) {
						t.Fatal("asks again for what came in order")
					}
				}
			}
			check()
			if l := r.nodes[a.id]; l.version != a.log.version || !maps.Equal(showings(l), a.members) {
				t.Fatalf("%s: has %v, not %v", a.id, l.members, a.members)
			}
		}
		if r.known != len(nodes) || r.full != 0 {
			t.Fatal("known:", r.known, r.full)
		}
		for _, a := range nodes {
			r.removeNode(a.id)
			clear(history[a.id])
		}
		check()
		if len(told) != 0 || len(r.users) != 0 || len(r.shows) != 0 {
			t.Fatal("left over:", told, r.users)
		}
	})
}

// TestChangelogIsBounded: more changes than are kept become one whole list, and parts stay below their size.
func TestChangelogIsBounded(t *testing.T) {
	var l changelog
	for range maxChanges {
		l.record(PresenceChange{Member: Member{Socket: "AAAAAAAABBBBBBBBBBBB", User: string(make([]byte, limit.Name))}})
	}
	changes, from, ok := l.drain()
	parts := pieces(changes, from, presenceBytes)
	if !ok || len(parts) < 2 {
		t.Fatal(len(parts), ok)
	}
	since := uint64(0)
	for _, p := range parts {
		if p.Since != since || p.Version != since+uint64(len(p.Changes)) || presenceSize(p) > presenceBytes+64 {
			t.Fatal(p.Since, p.Version, len(p.Changes), presenceSize(p))
		}
		since = p.Version
	}
	if since != l.version {
		t.Error(since, l.version)
	}
	for range maxChanges + 1 {
		l.record(PresenceChange{})
	}
	if changes, _, ok := l.drain(); ok || changes != nil || l.version != 2*maxChanges+1 {
		t.Error(ok, len(changes), l.version)
	}
	l.record(PresenceChange{})
	if changes, since, ok := l.drain(); !ok || len(changes) != 1 || since != 2*maxChanges+1 {
		t.Error(ok, changes, since)
	}
	for _, p := range whole(1, make([]PresenceChange, 3), 1) {
		if len(p.Changes) != 1 {
			t.Error(len(p.Changes), "in an instruction for which there is no space")
		}
	}
}

// TestRosterIsSuspicious: a node tells of its own sockets only, and nobody of this node's.
func TestRosterIsSuspicious(t *testing.T) {
	r := &roster{self: "self0000"}
	r.list("self0000")
	foreign := []PresenceChange{
		{Member: Member{Socket: "node9999BBBBBBBBBBBB"}}, {Member: Member{Socket: "node0000BBBBBBBBBBBB"}},
	}
	own := []PresenceChange{{Member: Member{Socket: "self0000BBBBBBBBBBBB"}}}
	r.apply("self0000", &Presence{Version: 1, Last: true, Changes: own})
	r.markFull("self0000")
	r.apply("node0000", &Presence{Version: 2, Last: true, Changes: foreign})
	r.apply("node0000", &Presence{Since: 9, Version: 3, Changes: foreign})
	r.apply("node0000", &Presence{})
	if d := r.takeDiff(); len(d) != 1 || !d[memberKey{socket: "node0000BBBBBBBBBBBB"}].is.here {
		t.Error(d)
	}
}

package crosscast

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/validjson"
)

// A shown is what a socket shows of itself in its rooms. It never changes.
type shown struct {
	data json.RawMessage
	at   uint64   // when it was set, in milliseconds by the clock of its node
	by   SocketID // the socket
}

// newShown marshals presence data; nil: there is none.
func (n *Node) newShown(by SocketID, v any) (*shown, error) {
	text, err := n.describe("presence", v, limit.Presence)
	if text == "" {
		return nil, err
	}
	if err := checkShown(text); err != nil {
		return nil, err
	}
	return &shown{json.RawMessage(text), uint64(time.Now().UnixMilli()), by}, nil
}

// checkShown returns an error for presence data that msgpack cannot say. Clients are told of many members at once, so one
// such member would hide all others from clients of msgpack.
func checkShown(data string) error {
	const open, end = "[[[[[[[[", "]]]]]]]]"                // clients get it in at most as many levels
	text := make([]byte, 0, len(open)+3*len(data)+len(end)) // with room for what becomes of it
	text = append(append(append(text, open...), data...), end...)
	if _, err := mpack.AppendExactFromJSON(text[len(text):], text); err != nil {
		return errtext.Errorf("crosscast: presence: %w", err)
	}
	return nil
}

// bytes returns the data; nil: none.
func (s *shown) bytes() json.RawMessage {
	if s == nil {
		return nil
	}
	return s.data
}

// same reports whether the data are the same.
func (s *shown) same(o *shown) bool { return s == o || bytes.Equal(s.bytes(), o.bytes()) }

// again reports whether s is o, which was told once more.
func (s *shown) again(o *shown) bool {
	return s.same(o) && (s == nil || o == nil || s.at == o.at)
}

// newer reports whether s was set after o. All nodes agree on it.
func (s *shown) newer(o *shown) bool {
	return o == nil || s.at > o.at || s.at == o.at && s.by > o.by
}

// SetPresence changes what the socket shows of itself to those who watch its rooms: see [ConnectOptions.Presence]. nil
// means nothing. It does not wait. Whoever watches a room of the socket gets the last value, but not each one before it.
// A value that is the same as before is no event, but now it is the one that was set last. The error is one of the value,
// or [ErrClosed], and means that nothing has changed.
func (s *Socket) SetPresence(v any) error {
	now, err := s.ns.node.newShown(s.id, v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	if now == nil && s.shown.Load() == nil {
		return nil
	}
	s.shown.Store(now) // before the rooms have a new version: a list that is copied now might already show it
	for _, m := range s.members {
		if m.group.space == SpaceRoom {
			m.group.noteShown(s)
		}
	}
	return nil
}

// noteShown records that a member shows something else.
func (g *group) noteShown(s *Socket) {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if w := g.watchedLocked(); w != nil {
		w.noteChangeLocked(s, true, true)
	}
}

// change returns s as a change of a room.
func (s *Socket) change(left bool) PresenceChange {
	c := PresenceChange{Member: Member{Socket: s.id, User: s.user}, Left: left}
	if now := s.shown.Load(); now != nil && !left {
		c.Presence, c.At = now.data, now.at
	}
	return c
}

// shown returns what the socket of c shows; nil: nothing.
func (c *PresenceChange) shown() *shown {
	if len(c.Presence) == 0 {
		return nil
	}
	return &shown{c.Presence, c.At, c.Socket}
}

// valid reports whether what the members show is JSON, in UTF-8.
func (p *Presence) valid() bool {
	for i := range p.Changes {
		if data := p.Changes[i].Presence; len(data) > 0 && !validjson.Valid(data) {
			return false
		}
	}
	return true
}

// A memberKey names a member: a socket and its user, or a user alone.
type memberKey struct {
	socket SocketID
	user   string
}

func (m *Member) key() memberKey { return memberKey{m.Socket, m.User} }

// An entry is what is known of a member at some moment.
type entry struct {
	here bool
	show *shown
}

// same reports whether an application sees no difference.
func (e entry) same(o entry) bool { return e.here == o.here && e.show.same(o.show) }

func (k memberKey) member(show *shown) Member { return Member{k.socket, k.user, show.bytes()} }

// A diff is the net change of members. A change that was undone is not in it.
type diff map[memberKey]change

type change struct{ was, is entry }

func (d *diff) note(k memberKey, was, is entry) {
	if c, ok := (*d)[k]; ok {
		was = c.was
	}
	if was.same(is) {
		delete(*d, k)
		return
	}
	d.put(k, was, is)
}

func (d *diff) put(k memberKey, was, is entry) {
	if *d == nil {
		*d = make(diff)
	}
	(*d)[k] = change{was, is}
}

// noteLast is note for changes whose beginning is not known for sure: what was shown before. So only a member that came
// and went is left out.
func (d *diff) noteLast(k memberKey, was, is entry) {
	if c, ok := (*d)[k]; ok {
		was = c.was
	}
	if !was.here && !is.here {
		delete(*d, k)
		return
	}
	d.put(k, was, is)
}

// event returns the changes, ordered by user and socket.
func (d diff) event() (e PresenceEvent) {
	for k, c := range d {
		switch {
		case !c.was.here:
			e.Joined = append(e.Joined, k.member(c.is.show))
		case c.is.here:
			e.Changed = append(e.Changed, k.member(c.is.show))
		default:
			e.Left = append(e.Left, k.member(c.was.show))
		}
	}
	e.sort()
	return e
}

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Presence is who is in a room.
type Presence struct {
	Room  string
	Count int // users
	// Members are the users, and what they show (nil: nothing). It is nil if there are too many, so that the server tells
	// only the Count. It is valid during the call, and must not be changed.
	Members map[string]json.RawMessage
	// Joined, Changed and Left are the users in which Members differ from the call before, in order. At first everybody has
	// joined.
	Joined, Changed, Left []string
}

// Presence calls onSync with who is in a room that the client is in, if the server opens it (AllowPresence in the Options of
// package ws): first with all users, and then after each change, until stop is called. The calls are made as those of
// handlers. After a reconnect, a gap, or another call of Presence for the room, all users come again. Then onSync is called
// with the difference, which might be none.
//
// The client must be in the room first: by [Client.Join], which the wish follows on each connection, or because the server
// puts it there (Client.Rooms of package ws). If the server refuses the wish, Options.OnError gets an error with the event
// "presence", which names the room and wraps a [RemoteError]. The client asks again after the next join of the room, or
// reconnect. The error that Presence returns is one of the name, or the reason why the client is closed.
func (c *Client) Presence(room string, onSync func(p Presence)) (stop func(), err error) {
	if err := c.checkRoom(context.Background(), room); err != nil {
		return nil, err
	}
	call := &presenceCall{onSync: onSync}
	c.mu.Lock()
	w := c.watched[room]
	if w == nil {
		w = &watchedRoom{room: room}
		c.watched[room] = w
	}
	w.calls = append(slices.Clip(w.calls), call)
	c.mu.Unlock()
	c.watch(room)
	return func() { c.unwatch(w, call) }, nil
}

// A watchedRoom is a room of which the application wants to know who is there.
type watchedRoom struct {
	room string

	// Guarded by Client.mu:
	on    *session        // the connection on which the server was asked last
	calls []*presenceCall // never changed in place

	// Used by the client's goroutine only:
	planned bool // a rewatch is
	backoff time.Duration
}

// A presenceCall is a call of Client.Presence. Only the client's goroutine uses it.
type presenceCall struct {
	onSync  func(Presence)
	synced  *session // the connection whose updates it follows
	at      uint64   // the latest one
	members map[string]json.RawMessage
}

// unwatch ends a call of Presence, and with the last one the watch.
func (c *Client) unwatch(w *watchedRoom, call *presenceCall) {
	c.mu.Lock()
	i := slices.Index(w.calls, call)
	if i < 0 {
		c.mu.Unlock()
		return
	}
	w.calls = slices.Delete(slices.Clone(w.calls), i, i+1)
	s := w.on
	over := len(w.calls) == 0
	if over {
		delete(c.watched, w.room)
	}
	c.mu.Unlock()
	if over && s != nil {
		s.tell(&outgoing{Unwatch: w.room})
	}
}

// watch asks for the presence of a room, if the application wants it, unless a join is still to be made, which then asks.
func (c *Client) watch(room string) {
	c.mu.Lock()
	w, k, s := c.watched[room], c.rooms[room], c.session
	ask := w != nil && s != nil && (k == nil || k.on == s)
	if ask {
		w.on = s
	}
	c.mu.Unlock()
	if ask {
		s.tell(&outgoing{Watch: room, watched: w})
	}
}

// watchRest asks for rooms that no join has asked for.
func (s *session) watchRest() {
	s.c.mu.Lock()
	var rest []string
	for room, w := range s.c.watched {
		if w.on != s {
			rest = append(rest, room)
		}
	}
	s.c.mu.Unlock()
	for _, room := range rest {
		s.c.watch(room)
	}
}

// tell sends a wish, whose reply comes among the events. It fails with the connection, and then the next one asks.
func (s *session) tell(m *outgoing) {
	ctx, cancel := context.WithTimeout(s.c.ctx, s.c.o.RequestTimeout)
	defer cancel()
	_, _ = s.ask(ctx, m)
}

// A rewatch is a plan to ask again.
type rewatch struct {
	w   *watchedRoom
	due time.Time
}

func (r *rewatch) dueAt() time.Time { return r.due }

func (c *Client) planWatch(w *watchedRoom, wait time.Duration) {
	if !w.planned {
		w.planned = true
		c.rewatches.add(&rewatch{w, time.Now().Add(wait)})
	}
}

// rewatch asks again where it is time, and returns when to call it next.
func (c *Client) rewatch() time.Time {
	for c.rewatches.isDue() {
		w := c.rewatches.take().w
		w.planned = false
		c.watch(w.room)
	}
	return c.rewatches.next()
}

// rewatchAfter plans to ask again after a gap.
func (c *Client) rewatchAfter(g Gap) {
	if g.Away || g.Until.IsZero() {
		return
	}
	c.mu.Lock()
	all := maps.Clone(c.watched)
	c.mu.Unlock()
	for room, w := range all {
		if g.Room == "" || g.Room == room {
			c.planWatch(w, g.Wait)
		}
	}
}

// handleWatched handles the reply to a wish.
func (c *Client) handleWatched(w *watchedRoom, err error) {
	switch {
	case err == nil:
		w.backoff = 0
	case errors.As(err, new(busyError)):
		var pause time.Duration
		w.backoff, pause = c.o.nextPause(w.backoff)
		c.planWatch(w, pause)
	default:
		c.o.OnError(c, "presence", fmt.Errorf("room %q: %w", w.room, err))
	}
}

// presenceMessage is a message of the server about who is in a room.
type presenceMessage struct {
	Room     string
	At       uint64
	Count    int
	All, Set []presenceMember
	Left     []string
}

type presenceMember struct {
	user string
	data json.RawMessage
}

// UnmarshalJSON reads ["user"] or ["user",data].
func (m *presenceMember) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) == 0 {
		return errors.New("a member without a user")
	}
	if len(parts) > 1 {
		m.data = parts[1]
	}
	return json.Unmarshal(parts[0], &m.user)
}

// handlePresence handles a message about who is in a room.
func (s *session) handlePresence(b json.RawMessage) {
	var m presenceMessage
	if err := json.Unmarshal(b, &m); err != nil {
		s.c.o.OnError(s.c, "", err)
		return
	}
	s.c.mu.Lock()
	var calls []*presenceCall
	if w := s.c.watched[m.Room]; w != nil {
		calls = w.calls
	}
	s.c.mu.Unlock()
	hole := false
	for _, call := range calls {
		if p, ok := call.apply(s, &m, &hole); ok && s.c.wants(m.Room, call) {
			call.onSync(p)
		}
	}
	if hole {
		s.c.watch(m.Room)
	}
}

func (c *Client) wants(room string, call *presenceCall) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watched[room]
	return w != nil && slices.Contains(w.calls, call)
}

// apply takes a message. hole is set if one before it is missing.
func (call *presenceCall) apply(s *session, m *presenceMessage, hole *bool) (p Presence, ok bool) {
	counted := m.All == nil && m.Set == nil && m.Left == nil
	if m.All == nil && !counted {
		if call.synced != s {
			return p, false
		}
		if m.At != call.at+1 {
			call.synced, *hole = nil, true
			return p, false
		}
	}
	p = Presence{Room: m.Room, Count: m.Count}
	before := call.members
	switch {
	case counted:
		call.members = nil
	case m.All != nil:
		call.members = make(map[string]json.RawMessage, len(m.All))
		for _, member := range m.All {
			call.set(member, before, &p)
		}
		for user := range before {
			if _, here := call.members[user]; !here {
				p.Left = append(p.Left, user)
			}
		}
		slices.Sort(p.Left)
	default:
		for _, member := range m.Set {
			call.set(member, before, &p)
		}
		p.Left = m.Left
		for _, user := range m.Left {
			delete(call.members, user)
		}
	}
	call.synced, call.at, p.Members = s, m.At, call.members
	return p, true
}

func (call *presenceCall) set(m presenceMember, before map[string]json.RawMessage, p *Presence) {
	if data, here := before[m.user]; !here {
		p.Joined = append(p.Joined, m.user)
	} else if !bytes.Equal(data, m.data) {
		p.Changed = append(p.Changed, m.user)
	}
	call.members[m.user] = m.data
}

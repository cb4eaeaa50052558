package client

import (
	"context"
	"errors"
	"time"
)

// A busyError is the server's answer to a join that has failed only for now.
type busyError struct{ RemoteError }

func (e busyError) Unwrap() error { return e.RemoteError }

// nextPause returns the back-off that follows another one (0: the first), and the pause to make now.
func (o *Options) nextPause(before time.Duration) (backoff, pause time.Duration) {
	backoff = min(max(2*before, o.MinBackoff), o.MaxBackoff)
	return backoff, backoff/2 + draw(backoff/2)
}

// A lateRoom is a room that the server was too busy to let a new connection join.
type lateRoom struct {
	room    string
	kept    *keptRoom
	since   time.Time // when its gap begins; zero: the client was not in the room before
	backoff time.Duration
	due     time.Time // of the next join
}

func (r *lateRoom) dueAt() time.Time { return r.due }

// lateRooms are those of a session. Only the client's goroutine uses them.
type lateRooms struct {
	waiting schedule[*lateRoom]
	asked   int // others, whose replies are awaited
}

// beginLate plans the joins of late rooms, and reports their gaps, which go on. since is the beginning of the absence;
// zero: there was none.
func (s *session) beginLate(rooms []*lateRoom, since time.Time) {
	for _, r := range rooms {
		if !since.IsZero() && s.c.isJoined(r.kept) {
			r.since = since
			s.c.handleGap(Gap{Room: r.room, Since: since, Away: true}, false)
		}
		s.postpone(r)
	}
}

// postpone plans the next join of a late room.
func (s *session) postpone(r *lateRoom) {
	var pause time.Duration
	r.backoff, pause = s.c.o.nextPause(r.backoff)
	r.due = time.Now().Add(pause)
	s.late.waiting.add(r)
}

// joinLate sends the joins that are due, and returns when it has to be called next, beside after a reply; zero: never.
func (s *session) joinLate() time.Time {
	l := &s.late
	for l.asked < maxRejoins && l.waiting.isDue() {
		s.askLate(l.waiting.take())
	}
	if l.asked == maxRejoins {
		return time.Time{}
	}
	return l.waiting.next()
}

// askLate sends the join of a late room, unless it was left. The reply comes through handle, in its place among the
// events.
func (s *session) askLate(r *lateRoom) {
	ctx, cancel := context.WithTimeout(s.c.ctx, s.c.o.RequestTimeout)
	defer cancel()
	_, err := s.askJoin(ctx, &outgoing{Join: r.room, late: r}, r.kept)
	switch {
	case err == nil:
		s.late.asked++
	case !errors.Is(err, ErrLeft):
		s.postpone(r) // mostly in vain, because the connection is lost
	}
}

// handleLate handles the reply to the join of a late room.
func (s *session) handleLate(r *lateRoom, err error) {
	s.late.asked--
	if errors.As(err, new(busyError)) {
		s.postpone(r)
		return
	}
	if s.c.decide(s, rejoin{room: r.room, kept: r.kept}, err) {
		s.c.o.OnJoinError(s.c, r.room, err)
	}
	s.c.watch(r.room)
	if err == nil && !r.since.IsZero() && s.c.isJoined(r.kept) {
		s.c.handleGap(Gap{Room: r.room, Since: r.since, Until: time.Now(), Away: true, Wait: draw(s.c.o.GapSpread)}, true)
	}
}

// isJoined reports whether the client keeps a room that it was in.
func (c *Client) isJoined(k *keptRoom) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return k.joined && k.err == nil
}

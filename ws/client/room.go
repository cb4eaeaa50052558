package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// ErrLeft means that [Client.Leave] was called for the room while [Client.Join] waited.
var ErrLeft = errors.New("crosscast/client: Leave was called")

// maxRejoins is the number of rejoins that may wait for their replies at once.
const maxRejoins = 100

// A keptRoom is a room that the client has joined, or for which a Join waits. Client.mu guards its fields.
type keptRoom struct {
	joined  bool          // a join has succeeded
	on      *session      // the latest connection with that join
	calls   int           // calls of Join that have not returned
	decided chan struct{} // closed and replaced when rejoin has joined the room; closed with err
	err     error         // why the client does not keep the room any more
}

// Join joins a room, if the server permits it (AllowJoin in the Options of package ws). The room is kept: the client
// joins it again on each later connection, until Leave. To join a room again is no error.
//
// If the connection is lost, or there is none, Join waits for the next one, which joins the room after OnConnect. So
// Join may be called while there is no connection. A handler or hook holds up the next connection, and waits in vain.
// While OnConnect runs, Join is sent at once, behind everything that OnConnect has sent.
//
// The deadline is that of ctx, or else Options.RequestTimeout. After an error the room is kept only if another call
// has joined it. The errors are:
//
//   - a [RemoteError]: the server has refused the join.
//   - ctx's error: the outcome is unknown, and the client might be in the room until Leave, or until the connection ends.
//     While the server cannot decide (ErrBusy in package ws), Join tries again, after pauses as those of attempts to
//     connect.
//   - [ErrLeft], [ErrClosed], [ErrGaveUp], or an error of the name, which has 1 to 255 bytes of UTF-8.
func (c *Client) Join(ctx context.Context, room string) (err error) {
	defer func() {
		if err == nil {
			c.watch(room)
		}
	}()
	if err := c.checkRoom(ctx, room); err != nil {
		return err
	}
	ctx, cancel := c.limit(ctx)
	defer cancel()
	c.mu.Lock()
	k := c.rooms[room]
	if k == nil {
		k = &keptRoom{decided: make(chan struct{})}
		c.rooms[room] = k
	}
	k.calls++
	s, decided := c.session, k.decided
	c.mu.Unlock()

	err = ErrNotConnected
	if s != nil {
		err = s.join(ctx, room, k, decided)
	}
	if errors.Is(err, ErrNotConnected) || errors.Is(err, ErrUncertain) {
		select {
		case <-decided:
			s, err = nil, nil
		case <-ctx.Done():
			err = ctx.Err()
		case <-c.ctx.Done():
			err = c.over()
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	k.calls--
	switch {
	case err == nil && k.err != nil:
		return k.err
	case err == nil:
		k.noteJoined(s)
	case !k.joined && k.calls == 0 && k.err == nil:
		c.dropLocked(room, k, err)
	}
	return err
}

// noteJoined records a join on s; nil: rejoin has recorded it.
func (k *keptRoom) noteJoined(s *session) {
	k.joined = true
	if s != nil {
		k.on = s
	}
}

// Leave leaves a room that Join has joined, and keeps it no longer. Of concurrent calls of Join and Leave the last one
// counts. Without a connection, and if the connection is lost, Leave returns nil: a new connection is in no room. To
// leave a room that the client is not in is no error; to leave one that the server has joined for it is a
// [RemoteError].
//
// The deadline is that of ctx, or else Options.RequestTimeout. After ctx's error the client might hear the room until
// the connection ends.
func (c *Client) Leave(ctx context.Context, room string) error {
	if err := c.checkRoom(ctx, room); err != nil {
		return err
	}
	ctx, cancel := c.limit(ctx)
	defer cancel()
	var s *session
	var q question
	err := c.changeRooms(ctx, func() (err error) {
		c.mu.Lock()
		s = c.session
		if k := c.rooms[room]; k != nil {
			c.dropLocked(room, k, ErrLeft)
		}
		c.mu.Unlock()
		if s != nil {
			q, err = s.ask(ctx, &outgoing{Leave: room})
		}
		return err
	})
	if s != nil && err == nil {
		_, err = s.await(ctx, q)
	}
	if errors.Is(err, ErrNotConnected) || errors.Is(err, ErrUncertain) {
		return nil
	}
	return err
}

// Rooms returns the rooms that the client keeps: those that it has joined, and joins again after a reconnect. The
// server bounds their number.
func (c *Client) Rooms() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	rooms := make([]string, 0, len(c.rooms))
	for room, k := range c.rooms {
		if k.joined {
			rooms = append(rooms, room)
		}
	}
	slices.Sort(rooms)
	return rooms
}

func (c *Client) checkRoom(ctx context.Context, room string) error {
	switch {
	case room == "" || len(room) > 255 || !utf8.ValidString(room):
		return fmt.Errorf("crosscast/client: %.64q is no name of a room", room)
	case ctx.Err() != nil:
		return ctx.Err()
	case c.ctx.Err() != nil:
		return c.over()
	}
	return nil
}

// changeRooms calls f, which sends a join or leave. The calls are one at a time, so that the messages are sent in the
// order in which the rooms were changed.
func (c *Client) changeRooms(ctx context.Context, f func() error) error {
	select {
	case c.changing <- struct{}{}:
		defer func() { <-c.changing }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return c.over()
	}
}

// dropLocked keeps a room no longer, for a reason.
func (c *Client) dropLocked(room string, k *keptRoom, err error) {
	delete(c.rooms, room)
	k.err = err
	close(k.decided)
}

// join joins a room and waits for the reply. While the server is too busy to decide, it tries again. ErrNotConnected also
// means that decided was closed meanwhile.
func (s *session) join(ctx context.Context, room string, k *keptRoom, decided <-chan struct{}) error {
	for backoff, pause := s.c.o.nextPause(0); ; backoff, pause = s.c.o.nextPause(backoff) {
		q, err := s.askJoin(ctx, &outgoing{Join: room}, k)
		if err == nil {
			_, err = s.await(ctx, q)
		}
		if !errors.As(err, new(busyError)) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w: the server did not decide: %v", ctx.Err(), err)
		case <-decided: // by another connection, a Leave, or a join that comes late
			return ErrNotConnected
		case <-s.c.ctx.Done():
			return s.c.over()
		}
	}
}

// askJoin sends a join, unless the room is not kept any more.
func (s *session) askJoin(ctx context.Context, m *outgoing, k *keptRoom) (q question, err error) {
	err = s.c.changeRooms(ctx, func() error {
		s.c.mu.Lock()
		gone := k.err
		s.c.mu.Unlock()
		if gone == nil {
			q, gone = s.ask(ctx, m)
		}
		return gone
	})
	return q, err
}

// A rejoin is a join of a new connection.
type rejoin struct {
	room string
	kept *keptRoom
	q    question
}

// rejoin joins the kept rooms, before the application hears of the connection. It returns those for which the server is
// too busy now. An error means that the connection has failed.
func (s *session) rejoin() (late []*lateRoom, err error) {
	todo := s.c.toRejoin(s)
	var asked []rejoin
	for len(todo)+len(asked) > 0 {
		ctx, cancel := context.WithTimeout(s.c.ctx, s.c.o.RequestTimeout) // each reply has this time, and not all of them
		var r rejoin
		var err error
		if send := len(todo) > 0 && len(asked) < maxRejoins; send {
			r, todo = todo[0], todo[1:]
			if r.q, err = s.askJoin(ctx, &outgoing{Join: r.room}, r.kept); err == nil {
				asked = append(asked, r)
			}
		} else {
			r, asked = asked[0], asked[1:]
			if _, err = s.await(ctx, r.q); err == nil {
				s.c.decide(s, r, nil)
			}
		}
		cancel()
		var refused RemoteError
		switch {
		case err == nil, errors.Is(err, ErrLeft):
		case errors.As(err, new(busyError)):
			late = append(late, &lateRoom{room: r.room, kept: r.kept})
		case errors.As(err, &refused):
			if s.c.decide(s, r, refused) {
				s.c.o.OnJoinError(s.c, r.room, refused)
			}
		case s.ctx.Err() != nil:
			return nil, s.cause()
		default:
			return nil, fmt.Errorf("crosscast/client: joining %.64q again: %w", r.room, err)
		}
	}
	return late, nil
}

// toRejoin returns the rooms that are not joined on s.
func (c *Client) toRejoin(s *session) (todo []rejoin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for room, k := range c.rooms {
		if k.on != s {
			todo = append(todo, rejoin{room: room, kept: k})
		} else {
			k.decideLocked()
		}
	}
	return todo
}

// decideLocked wakes the calls of Join that wait for the connection.
func (k *keptRoom) decideLocked() {
	close(k.decided)
	k.decided = make(chan struct{})
}

// decide records the reply to a rejoin. It returns true if a room that was joined is lost.
func (c *Client) decide(s *session, r rejoin, refusal error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := r.kept
	switch {
	case k.err != nil:
	case refusal == nil:
		k.noteJoined(s)
		k.decideLocked()
	default:
		c.dropLocked(r.room, k, refusal)
		return k.joined
	}
	return false
}

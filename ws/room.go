package ws

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/wsconn"
)

var (
	errNoJoins = Errorf("joins are not allowed")
	errServers = Errorf("this room is the server's to leave")
)

// ErrBusy in an error of [Options.AllowJoin] means that nothing was decided: the client is to try again later, by itself.
var ErrBusy = errors.New("crosscast/ws: busy")

// isTemporary reports whether a join that has failed might succeed later: AllowJoin could not decide, the client has
// sent too many events, or the bus denies the room now. denied means the last. Errors and their methods are the
// application's.
func isTemporary(err error) (temporary, denied bool) {
	_ = guard.Call(func() error {
		denied = errors.Is(err, crosscast.ErrDenied)
		var timeout interface{ Timeout() bool }
		temporary = denied || errors.Is(err, ErrBusy) || errors.Is(err, wsconn.ErrTooMany) ||
			errors.As(err, &timeout) && timeout.Timeout()
		return nil
	})
	return temporary, denied
}

// join returns the handler of a client's join.
func (c *conn) join(room string) Handler {
	return func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
		err := c.mayJoin(ctx, s, room)
		if err == nil {
			err = s.Join(ctx, room)
		}
		if err != nil {
			if temporary, _ := isTemporary(err); !temporary && ctx.Err() == nil { // else the socket is being closed
				c.server.stats.refused.Count("join")
			}
			return err
		}
		c.noteJoined(room)
		return nil
	}
}

func (c *conn) mayJoin(ctx context.Context, s *crosscast.Socket, room string) error {
	switch {
	case c.server.o.AllowJoin == nil:
		return errNoJoins
	case len(room) > limit.Name:
		return &limit.Error{What: "room", Len: len(room), Max: limit.Name, Name: true}
	}
	return c.server.o.AllowJoin(ctx, s, room)
}

// leave returns the handler of a client's leave. Rooms that only the application's code has joined stay.
func (c *conn) leave(room string) Handler {
	return func(_ context.Context, s *crosscast.Socket, _ json.RawMessage) error {
		defer c.endWatchOutside(s, room)
		if _, ok := c.joined[room]; ok {
			delete(c.joined, room)
			return s.Leave(room)
		}
		if slices.Contains(s.Rooms(), room) {
			return errServers
		}
		return nil // the server might have taken the client out of it
	}
}

// fewJoined is the number of rooms up to which joined may keep rooms that the socket is not in any more.
const fewJoined = 32

// noteJoined adds a room to joined. The server might have taken the socket out of others meanwhile. Therefore joined is
// kept below fewJoined rooms, or twice as many as the socket is in.
func (c *conn) noteJoined(room string) {
	if c.joined == nil {
		c.joined, c.mostJoined = make(map[string]struct{}), fewJoined
	}
	c.joined[room] = struct{}{}
	if len(c.joined) <= c.mostJoined {
		return
	}
	left := c.joined
	c.joined = make(map[string]struct{})
	for _, room := range c.socket.Rooms() {
		if _, ok := left[room]; ok {
			c.joined[room] = struct{}{}
		}
	}
	c.mostJoined = max(fewJoined, 2*len(c.joined))
}

package ws

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/presence"
)

// A PresenceUpdate is what a ControlPresence says about a room: see "Presence" in the package documentation.
type PresenceUpdate struct {
	// At counts the updates of the room on this node. A client that has missed one asks again.
	At    uint64
	Count int // of the members: users with a socket in the room
	// All means that Set has all members. Otherwise Set has those who joined, or who show something else now, and Left those
	// who left.
	All  bool
	Set  []crosscast.Member
	Left []string
	// Counted means that there are too many members: Count is all that the client gets.
	Counted bool
}

// maxPresences is the number of rooms of which a client may be told who is there at the same time.
const maxPresences = 1000

var (
	errNoPresence     = Errorf("presence is not available")
	errNotInRoom      = Errorf("not in the room")
	errManyPresences  = Errorf("presence of too many rooms")
	errPresenceOption = errors.New("crosscast/ws: Options.PresenceMost must not be negative")
)

// initPresence checks the options, and sets their defaults.
func (s *Server) initPresence() error {
	o := &s.o
	o.PresenceGather = cmp.Or(o.PresenceGather, 200*time.Millisecond)
	o.PresenceMost = cmp.Or(o.PresenceMost, 1000)
	if o.PresenceMost < 0 {
		return errPresenceOption
	}
	if err := cmp.Or(
		bounds.Time("crosscast/ws: Options.PresenceGather", o.PresenceGather),
		bounds.Time("crosscast/ws: Options.PresenceGrace", cmp.Or(o.PresenceGrace, 1)),
	); err != nil {
		return err
	}
	if o.AllowPresence != nil {
		s.presence = presence.New(presence.Config{
			Namespace: s.ns, Grace: o.PresenceGrace, Gather: o.PresenceGather, Most: o.PresenceMost,
		})
	}
	return nil
}

// watch returns the handler of a client's wish to know who is in a room.
func (c *conn) watch(room string) Handler {
	return func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
		err := c.mayWatch(ctx, s, room)
		if err == nil {
			err = c.server.presence.Join(ctx, s, c, room)
		}
		if err != nil {
			c.server.stats.refused.Count("presence")
			if temporary, _ := isTemporary(err); !temporary {
				c.endWatch(s, room) // it might have been allowed before
			}
			return err
		}
		if c.watched == nil {
			c.watched = make(map[string]struct{})
		}
		c.watched[room] = struct{}{}
		return nil
	}
}

func (c *conn) mayWatch(ctx context.Context, s *crosscast.Socket, room string) error {
	_, again := c.watched[room]
	switch {
	case c.server.presence == nil:
		return errNoPresence
	case !slices.Contains(s.Rooms(), room):
		return errNotInRoom
	case !again && len(c.watched) >= maxPresences:
		return errManyPresences
	}
	return c.server.o.AllowPresence(ctx, s, room)
}

// unwatch returns the handler of its end. A room that the client does not watch is no error.
func (c *conn) unwatch(room string) Handler {
	return func(_ context.Context, s *crosscast.Socket, _ json.RawMessage) error {
		c.endWatch(s, room)
		return nil
	}
}

func (c *conn) endWatch(s *crosscast.Socket, room string) {
	if _, ok := c.watched[room]; ok {
		delete(c.watched, room)
		c.server.presence.Leave(s, room)
	}
}

// endWatchOutside ends the watch of a room if the client is not in it any more.
func (c *conn) endWatchOutside(s *crosscast.Socket, room string) {
	if len(c.watched) > 0 && !slices.Contains(s.Rooms(), room) {
		c.endWatch(s, room)
	}
}

// endWatches is called at the end of the connection.
func (c *conn) endWatches() {
	for room := range c.watched {
		c.endWatch(c.socket, room)
	}
}

// SendPresence implements presence.Client. Clients with the same format share a frame.
func (c *conn) SendPresence(u *presence.Update) {
	frame, made := u.Frames[c.Format]
	if !made {
		frame = c.server.presenceFrame(c, u)
		if u.Frames == nil {
			u.Frames = make(map[any][]byte)
		}
		u.Frames[c.Format] = frame
	}
	if frame != nil {
		_ = c.Queue.SendFrame(frame) // the queue handles slow clients
	}
}

// presenceFrame makes the frame of an update; nil: there is none.
func (s *Server) presenceFrame(c *conn, u *presence.Update) []byte {
	control := Control{Kind: ControlPresence, Room: u.Room, Presence: &PresenceUpdate{
		At: u.At, Count: u.Count, All: u.Sync, Set: u.Set, Left: u.Left, Counted: u.Counted,
	}}
	var payload []byte
	typ := s.typ
	err := guard.Call(func() (err error) { typ, payload, err = s.control(c.Format.Form, control); return err })
	guard.Log(s.ns.Logger(), "ws.Envelope.Control", err)
	if err != nil || len(payload) == 0 {
		return nil
	}
	return c.Format.Append(nil, typ, payload)
}

// appendPresence appends the message of an update.
func appendPresence(b []byte, room string, u *PresenceUpdate) ([]byte, error) {
	name, err := json.Marshal(room)
	if err != nil {
		return nil, err
	}
	b = fmt.Appendf(b, `{"presence":{"room":%s,"at":%d,"count":%d`, name, u.At, u.Count)
	if u.All || len(u.Set) > 0 {
		key := "set"
		if u.All {
			key = "all"
		}
		b = fmt.Appendf(b, `,"%s":[`, key)
		for i := range u.Set {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendMember(b, &u.Set[i]); err != nil {
				return nil, err
			}
		}
		b = append(b, ']')
	}
	if len(u.Left) > 0 {
		left, err := json.Marshal(u.Left)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"left":`...), left...)
	}
	return append(b, "}}"...), nil
}

func appendMember(b []byte, m *crosscast.Member) ([]byte, error) {
	user, err := json.Marshal(m.User)
	if err != nil {
		return nil, err
	}
	b = append(append(b, '['), user...)
	if len(m.Presence) > 0 {
		b = append(append(b, ','), bytes.TrimSpace(m.Presence)...)
	}
	return append(b, ']'), nil
}

var _ presence.Client = (*conn)(nil)

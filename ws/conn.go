package ws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// conn is the crosscast.Conn of one client. In addition to the goroutines of wsconn.Conn it has, while there are events,
// one that handles them.
type conn struct {
	wsconn.Conn
	server *Server
	socket *crosscast.Socket
	ctx    context.Context // of handlers
	cancel context.CancelFunc
	events wsconn.Lane[event]
	done   wsconn.Latch // opened when everything has ended

	sentAway atomic.Bool // a GapReconnect will close the socket

	// Used by the lane only:
	joined     map[string]struct{} // rooms that the client has joined; nil before the first
	mostJoined int                 // joined is looked through when it has more
	watched    map[string]struct{} // rooms of which the client is told who is there
}

func newConn(s *Server, r *http.Request) *conn {
	c := &conn{server: s}
	c.Conn.Init(&s.config)
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(r.Context()))
	c.events.Init(&c.Conn, c)
	return c
}

// start starts the connection's goroutines. The socket might be closed already.
func (c *conn) start(s *crosscast.Socket) {
	c.socket, c.Debtor = s, s
	c.events.Start(c.open)
	c.Start(c)
}

// Silent implements wsconn.Owner.
func (c *conn) Silent() { c.end(wsconn.CauseOf(crosscast.ReasonTimeout)) }

// refuse ends an upgraded connection that did not become a socket.
func (c *conn) refuse(err error) {
	c.cancel()
	c.Queue.Close(wsconn.ReasonOf(err))
}

// Send implements crosscast.Conn.
func (c *conn) Send(m *crosscast.Message) error {
	err := c.Queue.Send(m)
	if err != nil && errors.Is(err, errNotPacked) {
		c.tellMissed()
	}
	if m.Ack != 0 {
		c.Asked()
	}
	return err
}

// Close implements crosscast.Conn.
func (c *conn) Close(reason crosscast.Reason) {
	c.SetCause(wsconn.CauseOf(reason))
	left := reason == crosscast.ReasonLeft
	c.StopPings()
	c.events.Close(!left, reason)
	if reason == crosscast.ReasonDrained {
		c.tellReconnect()
	}
	c.Queue.Close(reason)
	if !left {
		c.cancel() // in the end, so that no other handler starts, and no reply says that the running one has succeeded
	}
}

// maxReconnectWait spreads the clients of a drain that are closed within one step of it.
const maxReconnectWait = time.Second

// tellReconnect tells the client when to come back. It does without, if the Envelope fails.
func (c *conn) tellReconnect() {
	err := guard.Call(func() error {
		return c.sendControl(Control{Kind: ControlReconnect, Wait: rand.N(maxReconnectWait)})
	})
	guard.Log(c.server.ns.Logger(), "ws.Envelope.Control", err)
}

// Done is closed when the connection and its handlers have ended.
func (c *conn) Done() <-chan struct{} { return c.done.Done() }

// end closes the socket for a cause.
func (c *conn) end(why wsconn.Cause) { c.socket.Close(c.SetCause(why).Reason) }

// replaced closes the socket in favour of a newer one of the same user.
func (c *conn) replaced() { c.end(wsconn.CauseOf(crosscast.ReasonReplaced)) }

// ReadEnded implements wsconn.Owner.
func (c *conn) ReadEnded() {
	if why := c.SetCause(wsconn.CauseOf(wsconn.ReasonInternal)); why.Reason != crosscast.ReasonLeft {
		c.end(why)
		return
	}
	c.events.Leave(event{kind: eventLeft})
}

// HandleMessage implements wsconn.Owner.
func (c *conn) HandleMessage(typ websocket.MessageType, b []byte) error {
	if typ != c.server.typeOf(c.Format.Form) && (c.Format.Form != formJSON || typ != websocket.MessageBinary) {
		text := "only text messages are understood"
		if typ == websocket.MessageText {
			text = "only binary messages are understood"
		}
		return wsconn.Unacceptable{
			Reason: crosscast.ReasonProtocol, Code: websocket.StatusUnsupportedData, Text: text,
		}
	}
	if typ == websocket.MessageText {
		if err := wsconn.CheckText(b); err != nil {
			return err
		}
	}
	m, err := c.parse(typ, b)
	kind, name, kinds := m.kind()
	if err == nil && m.isReply() {
		c.handleReply(&m)
		return nil
	}
	e := event{kind: kind, name: name, data: m.Data, id: m.ID}
	switch {
	case err != nil:
		e = event{kind: eventMalformed, err: err}
	case kinds > 1:
		e = event{kind: eventMalformed, err: errManyKinds}
	}
	if e.kind == eventMalformed {
		c.server.stats.refused.Count("malformed")
	}
	refused, err := c.Admit()
	if err != nil {
		return err
	}
	if refused {
		e = event{kind: eventRefused, wasJoin: e.isWish(), id: e.id}
	}
	c.events.Push(e)
	return nil
}

// parse parses a message. The text of an error might contain much of the message, and waits like an event.
func (c *conn) parse(typ websocket.MessageType, b []byte) (m received, err error) {
	err = guard.Call(func() (err error) { m, err = c.server.parseForm(c.Format.Form, typ, b); return err })
	if err == nil {
		return m, nil
	}
	c.server.reportPanic(c.socket, err)
	text := "malformed message"
	_ = guard.Call(func() error { // the methods of an error are the application's, too
		if !errors.As(err, new(*PanicError)) {
			text = err.Error()
		}
		return nil
	})
	return received{}, errors.New(strings.ToValidUTF8(strings.Clone(text[:min(len(text), maxErrorText)]), ""))
}

// maxErrorText is how many bytes of an error about a malformed message a client gets.
const maxErrorText = 200

// event is a message of the client that waits for its turn, or the note that the client has left.
type event struct {
	kind    eventKind
	known   bool   // it has a handler
	wasJoin bool   // an eventRefused that was a wish
	name    string // of the event, or of the room
	data    json.RawMessage
	id      uint64 // of the reply that the client waits for; 0: none
	err     error  // of a malformed message
}

type eventKind uint8

const (
	eventSent eventKind = iota // an event that the client has sent
	eventJoin
	eventLeave
	eventWatch
	eventUnwatch
	eventMalformed
	eventRefused // one too many
	eventCaught  // an event that CatchAll handles
	eventLeft    // the client has left
)

// isWish reports whether e, if it fails only for now, is one that the client tries again by itself.
func (e *event) isWish() bool { return e.kind == eventJoin || e.kind == eventWatch || e.wasJoin }

// kind returns what m is, and of how many kinds it is at once: 0 is a reply.
func (m *Incoming) kind() (kind eventKind, name string, kinds int) {
	name = m.Event
	for i, of := range [...]string{m.Event, m.Join, m.Leave, m.Watch, m.Unwatch} {
		if of != "" {
			kind, name, kinds = eventKind(i), of, kinds+1
		}
	}
	return kind, name, kinds
}

// title is the name of e in errors.
func (e *event) title() string {
	switch e.kind {
	case eventJoin:
		return fmt.Sprintf("join %.64q", e.name)
	case eventLeave:
		return fmt.Sprintf("leave %.64q", e.name)
	case eventWatch, eventUnwatch:
		return fmt.Sprintf("presence %.64q", e.name)
	}
	return e.name
}

// Size implements wsconn.Event.
func (e event) Size() int { return len(e.name) + len(e.data) }

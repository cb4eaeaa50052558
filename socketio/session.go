package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/admission"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// The states of a session. Only connecting and open are followed by another state, which is always higher.
const (
	connecting = iota // until the client is connected; emissions wait
	open
	closed // by the server
	gone   // the client has left
)

// A session is the crosscast.Conn of one client in one namespace. Its goroutine exists until it has a socket, and later
// while there are events to handle.
type session struct {
	queue *crosscast.Queue // shared with the connection
	now   atomic.Uint32    // the state; set under mu

	conn    *conn
	space   *space
	auth    json.RawMessage
	again   bool            // the client might take the answer to a former session for this session's
	ctx     context.Context // of handlers
	cancel  context.CancelFunc
	opening context.Context // until there is a socket; ends when the client leaves
	abandon context.CancelFunc
	events  wsconn.Lane[event]
	done    chan struct{} // closed when everything has ended

	mu     sync.Mutex // guards the fields below
	former *session   // of the same client and namespace, must end first; nil once this session has begun
	socket *crosscast.Socket
	ending crosscast.Reason // why the connection has ended, for a socket that is made later
	held   [][]byte         // frames that wait until the client is connected
	bytes  int              // of held
}

func newSession(c *conn, sp *space, auth json.RawMessage, former *session) *session {
	s := &session{queue: c.Queue, conn: c, space: sp, auth: auth, former: former, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(c.base)
	s.opening, s.abandon = context.WithCancel(c.ctx)
	s.events.Init(&c.Conn, s)
	return s
}

// state returns the session's state, after work under mu that enters it.
func (s *session) state() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.Load()
}

// open waits for the end of the former session, makes the session's socket, and starts the handling of events.
func (s *session) open() {
	var socket *crosscast.Socket
	err := guard.ErrExit
	defer func() {
		s.abandon()
		if socket == nil {
			s.refuse(err)
			return
		}
		s.mu.Lock()
		s.socket = socket
		ending := s.ending
		s.mu.Unlock()
		if ending != "" {
			socket.Close(ending)
		}
		s.tellOutage(socket)
		if s.admit() {
			s.conn.noteConnected()
		}
		s.events.Start(s.first)
	}()
	s.await()
	s.conn.AwaitTurn(s.opening)
	err = guard.Call(func() (err error) { socket, err = s.connect(); return err })
}

// await waits until the former session has ended, or the client has left this one. In the second case this one never
// begins.
func (s *session) await() {
	if s.former == nil {
		return
	}
	select {
	case <-s.former.done:
	case <-s.opening.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening.Err() == nil {
		s.former = nil
	}
}

// follow ends the session when the client connects to the namespace again. It returns the session that must end before
// the next one begins: this one or, if this one has not begun, the one that it waits for. There are never more than
// two.
func (s *session) follow() *session {
	s.handleDisconnect()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.former != nil {
		return s.former
	}
	return s
}

// connect calls Authenticate and makes the client's socket.
func (s *session) connect() (socket *crosscast.Socket, err error) {
	ctx, cancel := context.WithTimeout(s.opening, s.conn.server.o.ConnectTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := s.conn.handshake.of(s.space.name, s.auth)
	var client Client
	if f := s.space.Authenticate; f != nil {
		if client, err = f(ctx, h); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil { // it might have ignored ctx
			return nil, err
		}
	}
	place, why := s.space.users.Enter(ctx, client.User)
	if why != nil {
		return nil, why
	}
	o := crosscast.ConnectOptions{User: client.User, Rooms: client.Rooms, Data: client.Data, Presence: client.Presence, Handshake: h}
	if place != nil {
		defer func() {
			if socket == nil { // also after a panic of the application's code
				place.Leave()
			}
		}()
		place.Take()
		o.OnClose = func(*crosscast.Socket, crosscast.Reason) { place.Leave() }
	}
	if socket, err = s.space.ns.Connect(ctx, s, o); err != nil {
		return nil, err
	}
	if !client.Expires.IsZero() {
		_ = socket.SetExpires(client.Expires) // a socket that is closed already needs none
	}
	if replaced := func() { socket.Close(crosscast.ReasonReplaced) }; place != nil && !place.Ready(replaced) {
		replaced()
	}
	return socket, nil
}

// refuse ends a session that did not become a socket.
func (s *session) refuse(err error) {
	defer close(s.done)
	c := s.conn
	s.cancel()
	s.events.Close(true, crosscast.ReasonLeft) // nothing is handled, because there is no socket
	if c.hasEnded() || !c.forget(s) {
		return
	}
	told, visible := connectErrorOf(err)
	if told == nil {
		c.close(wsconn.ReasonOf(err))
		return
	}
	cause := "authenticate"
	if why, ok := err.(*admission.Refusal); ok {
		cause = why.Cause
		c.server.firsts.Warn(c.server.log, cause, "crosscast/socketio: a client was refused; others are only counted, in Stats",
			"why", why.Text, "cure", why.Cure)
	}
	c.server.stats.refused.Count(cause)
	defer c.refuse(s.space.name, told) // even if OnError ends the goroutine
	if !visible {
		c.server.report(nil, "", err)
	}
}

// connectErrorOf returns the answer to the client for an error (nil if the node is closing), and whether the client
// sees the error's own text. Errors and their methods are the application's.
func connectErrorOf(err error) (told *ConnectError, visible bool) {
	told = &ConnectError{Message: string(wsconn.ReasonInternal)}
	_ = guard.Call(func() error {
		var own *ConnectError
		switch {
		case errors.Is(err, crosscast.ErrClosed), errors.Is(err, crosscast.ErrDraining):
			told = nil
		case errors.As(err, &own) && own != nil:
			told, visible = own, true
		case errors.As(err, new(*admission.Refusal)):
			told.Message, visible = err.Error(), true
		case wsconn.ForClient(err):
			told, visible = &ConnectError{Message: err.Error()}, true
		default:
			told.Message = string(wsconn.ReasonOf(err))
		}
		return nil
	})
	return told, visible
}

// admit sends the client its socket's ID, and the emissions that have waited. It reports whether the client waits for
// an answer.
func (s *session) admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Load() != connecting {
		return false
	}
	id := []byte(`{"sid":"` + s.socket.ID() + `"}`)
	frame := appendHeader(make([]byte, 0, headerSize(s.space.name)+len(id)), connect, s.space.name, 0, 0, false)
	s.conn.sendText(append(frame, id...)) // the queue handles slow clients
	for _, frame := range s.held {
		_ = s.queue.SendFrame(frame)
	}
	s.held = nil
	s.now.Store(open)
	return true
}

// Send implements crosscast.Conn.
func (s *session) Send(m *crosscast.Message) (err error) {
	if s.now.Load() == open {
		err = s.queue.Send(m)
	} else {
		err = s.hold(m)
	}
	if m.Ack != 0 {
		s.conn.Asked()
	}
	return err
}

// hold keeps m's frame until the client is connected, because some clients accept no event before.
func (s *session) hold(m *crosscast.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.now.Load() {
	case open:
		return s.queue.Send(m)
	case closed, gone:
		return crosscast.ErrClosed
	}
	if m.Volatile {
		return crosscast.ErrDropped
	}
	frame, err := m.Frame(s.conn.Framer)
	if err != nil {
		return errors.Join(crosscast.ErrDropped, err)
	}
	if s.bytes += len(frame); s.bytes > maxHeld && len(s.held) > 0 {
		return crosscast.ErrSlow
	}
	s.held = append(s.held, frame)
	return nil
}

// maxHeld is how many bytes may wait until the client is connected.
const maxHeld = 1 << 20

// Close implements crosscast.Conn.
func (s *session) Close(reason crosscast.Reason) {
	s.mu.Lock()
	was := s.now.Load()
	s.now.Store(max(was, closed))
	s.held = nil
	s.mu.Unlock()
	left, ends := reason == crosscast.ReasonLeft, endsConnection(reason)
	if !ends || reason == ReasonForced {
		switch was {
		case connecting:
			s.conn.refuse(s.space.name, &ConnectError{Message: string(reason)})
		case open:
			frame := make([]byte, 0, headerSize(s.space.name))
			s.conn.sendText(appendHeader(frame, disconnect, s.space.name, 0, 0, false))
		}
	}
	s.events.Close(!left, reason)
	if !left {
		s.cancel() // after Close, so that no other handler starts once the running one ends
	}
	if ends {
		s.conn.close(reason)
	}
}

// endsConnection reports whether closing a socket for a reason ends the whole connection.
func endsConnection(r crosscast.Reason) bool {
	switch r {
	case ReasonForced, crosscast.ReasonShutdown, crosscast.ReasonDrained, crosscast.ReasonSlow, crosscast.ReasonTimeout,
		crosscast.ReasonProtocol, crosscast.ReasonExpired, crosscast.ReasonFlood, wsconn.ReasonInternal:
		return true
	}
	return false
}

// Done is closed when the session's handlers have ended. Server.close waits for the connection.
func (s *session) Done() <-chan struct{} { return s.done }

// end closes the session's socket because the connection ends. A socket that the client has left closes by itself.
func (s *session) end(reason crosscast.Reason) {
	s.mu.Lock()
	socket := s.socket
	s.ending = reason
	left := s.now.Load() == gone
	s.mu.Unlock()
	if socket != nil && !left {
		socket.Close(reason)
	}
}

// leave closes the session's socket after all events of the client.
func (s *session) leave() {
	s.mu.Lock()
	s.ending = crosscast.ReasonLeft
	s.mu.Unlock()
	s.handleRest()
}

// handleDisconnect is leave for a client that leaves only the namespace.
func (s *session) handleDisconnect() {
	s.mu.Lock()
	was := s.now.Load()
	s.now.Store(gone)
	s.mu.Unlock()
	if was != gone {
		s.abandon()
		s.handleRest()
	}
}

// handleRest closes the session's socket after the remaining events.
func (s *session) handleRest() {
	s.events.Leave(event{left: true})
}

// first is called before the first event is handled.
func (s *session) first() {
	if f := s.space.OnConnect; f != nil {
		if s.call("", func() error { f(s.ctx, s.socket); return nil }) != nil {
			s.socket.Close(wsconn.ReasonInternal)
		}
	}
}

// Late implements wsconn.Worker.
func (s *session) Late() { s.cancel() }

// Last implements wsconn.Worker.
func (s *session) Last(reason crosscast.Reason) {
	defer func() {
		s.cancel()
		close(s.done)
	}()
	if f := s.space.OnDisconnect; f != nil {
		_ = s.call("", func() error { f(context.WithoutCancel(s.ctx), s.socket, reason); return nil })
	}
}

// call calls f, and reports its error.
func (s *session) call(event string, f func() error) error {
	err := guard.Call(f)
	if err != nil {
		s.conn.server.report(s.socket, event, err)
	}
	return err
}

package socketio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// A conn is the connection of one client: Engine.IO's part, and the client's namespaces. In addition to the goroutines
// of wsconn.Conn, each of its sessions has its own.
type conn struct {
	wsconn.Conn
	server    *Server
	handshake Handshake
	base64    bool            // the client accepts no binary messages
	frames    framer          // set by accept
	base      context.Context // of handlers: the request's, without its end
	ctx       context.Context // of opening sessions; ends with the connection
	cancel    context.CancelFunc
	done      chan struct{} // closed when the connection has ended
	sentAway  atomic.Bool   // a GapReconnect will close it

	// Used by the reader only: a packet that waits for attachments.
	partial     *packet
	attachments [][]byte
	bytes       int         // of both
	late        *time.Timer // armed while there is a partial packet; nil: there was none yet

	opening sync.WaitGroup // sessions that have no socket yet

	mu       sync.Mutex // guards the fields below; locked before a session's mu
	sessions map[string]*session
	timer    *time.Timer // for the first namespace; nil: a namespace was connected
	ended    bool
}

func newConn(s *Server, r *http.Request) *conn {
	c := &conn{
		server: s, handshake: newHandshake(r, s.hidden), base64: r.URL.Query().Get("b64") == "1",
		done: make(chan struct{}), sessions: make(map[string]*session, 1),
	}
	config := &s.config
	if c.base64 {
		config = &s.base64
	}
	c.Conn.Init(config)
	c.Debtor = debtor{c}
	c.base = context.WithoutCancel(r.Context())
	c.ctx, c.cancel = context.WithCancel(c.base)
	return c
}

// accept upgrades a request.
func (c *conn) accept(w http.ResponseWriter, r *http.Request) error {
	if err := c.Conn.Accept(w, r); err != nil {
		return err
	}
	c.frames = framer{c.server.o.MaxAttachments, c.base64, c.Format}
	return nil
}

// sendText queues a packet without attachments. The queue handles slow clients.
func (c *conn) sendText(packet []byte) { _ = c.Queue.SendFrame(c.frames.text(packet)) }

// start sends the first packet, and starts the connection's goroutines.
func (c *conn) start() {
	o := &c.server.o
	var id [15]byte
	rand.Read(id[:])
	open, _ := json.Marshal(struct {
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval int64    `json:"pingInterval"`
		PingTimeout  int64    `json:"pingTimeout"`
		MaxPayload   int      `json:"maxPayload"`
	}{
		base64.URLEncoding.EncodeToString(id[:]), []string{},
		o.PingInterval.Milliseconds(), o.PingTimeout.Milliseconds(), o.MaxPayload,
	})
	c.sendText(append([]byte{engineOpen}, open...))
	c.mu.Lock()
	if !c.ended {
		c.timer = time.AfterFunc(o.ConnectTimeout, c.endUnconnected)
	}
	c.mu.Unlock()
	c.Start(c)
}

// endUnconnected ends a connection whose client has not connected to any namespace.
func (c *conn) endUnconnected() {
	c.mu.Lock()
	waits := c.timer != nil
	c.mu.Unlock()
	if waits {
		c.timeOut()
	}
}

// Silent implements wsconn.Owner.
func (c *conn) Silent() { c.timeOut() }

func (c *conn) timeOut() { c.close(crosscast.ReasonTimeout) }

// ReadEnded implements wsconn.Owner. If a function of the application has ended the goroutine that reads, the connection
// ends, too.
func (c *conn) ReadEnded() {
	why := c.SetCause(wsconn.CauseOf(wsconn.ReasonInternal))
	c.partial, c.attachments = nil, nil
	if c.late != nil {
		c.late.Stop()
	}
	if why.Reason == crosscast.ReasonProtocol {
		c.server.stats.malformed.Add(1)
	}
	c.server.warn(why, c.handshake.Address)
	if why.Reason == crosscast.ReasonLeft {
		c.leave()
	} else {
		c.close(why.Reason)
	}
	<-c.Queue.Done()
	c.server.remove(c)
	close(c.done)
}

// wait waits for the end of the connection, and of its sessions that are not sockets.
func (c *conn) wait() {
	<-c.done
	c.opening.Wait()
}

// close ends the connection and its sockets from the server's side. It does not block. Only the first call of close or
// leave has an effect.
func (c *conn) close(reason crosscast.Reason) {
	reason = c.SetCause(wsconn.CauseOf(reason)).Reason
	c.end(reason, func(s *session) { s.end(reason) })
}

// leave ends the connection after the client has ended it. The client's events are handled first.
func (c *conn) leave() { c.end(crosscast.ReasonLeft, (*session).leave) }

func (c *conn) end(reason crosscast.Reason, session func(*session)) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
	sessions := slices.Collect(maps.Values(c.sessions)) // nothing is added to them any more
	c.mu.Unlock()
	if reason == crosscast.ReasonTimeout {
		c.server.stats.timeouts.Add(1)
	}
	c.StopPings()
	c.cancel()
	for _, s := range sessions {
		session(s)
	}
	c.Queue.Close(reason) // after the frames that closing the sockets has sent
}

func (c *conn) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// malformed returns the error for a message that the client may not send.
func malformed(err error) error {
	why := wsconn.CauseOf(crosscast.ReasonProtocol)
	why.Text = err.Error()
	return wsconn.Unacceptable(why)
}

// HandleMessage implements wsconn.Owner. A message is a packet of Engine.IO.
func (c *conn) HandleMessage(typ websocket.MessageType, b []byte) error {
	if typ == websocket.MessageBinary {
		return c.handleAttachment(slices.Clone(b))
	}
	if err := wsconn.CheckText(b); err != nil {
		return err
	}
	if len(b) == 0 {
		return malformed(errType)
	}
	switch b[0] {
	case engineMessage:
		return c.handleText(b[1:])
	case enginePong:
		c.Pong()
	case engineBase64:
		data, err := base64.StdEncoding.DecodeString(string(b[1:]))
		if err != nil {
			return malformed(err)
		}
		return c.handleAttachment(data)
	case engineClose:
		return wsconn.Unacceptable(wsconn.CauseOf(crosscast.ReasonLeft))
	case engineOpen, engineUpgrade, engineNoop: // no meaning here, and harmless on Node.js
	default: // only the server may send a ping
		return malformed(errType)
	}
	return nil
}

// handleText handles a packet of Socket.IO, without its attachments.
func (c *conn) handleText(text []byte) error {
	if c.partial != nil {
		return malformed(errAttachments)
	}
	p, err := parsePacket(text, c.server.o.MaxAttachments)
	if err != nil {
		return malformed(err)
	}
	if p.attachments > 0 {
		c.partial, c.bytes = &p, p.size()
		if patience := c.server.o.PingInterval + c.server.o.PingTimeout; c.late == nil {
			c.late = time.AfterFunc(patience, c.timeOut)
		} else {
			c.late.Reset(patience)
		}
		return nil
	}
	return c.handlePacket(&p, nil)
}

// handleAttachment handles an attachment, and may keep it.
func (c *conn) handleAttachment(b []byte) error {
	p := c.partial
	if p == nil {
		return malformed(errAttachments)
	}
	if c.bytes += len(b); c.bytes > c.server.o.MaxPacket {
		return wsconn.Unacceptable{
			Reason: crosscast.ReasonProtocol, Code: websocket.StatusMessageTooBig, Text: errPacket,
		}
	}
	c.attachments = append(c.attachments, b)
	if len(c.attachments) < p.attachments {
		c.late.Reset(c.server.o.PingInterval + c.server.o.PingTimeout)
		return nil
	}
	c.late.Stop()
	attachments := c.attachments
	c.partial, c.attachments = nil, nil
	return c.handlePacket(p, attachments)
}

const errPacket = "packet too large, with its attachments"

// handlePacket handles a packet of Socket.IO.
func (c *conn) handlePacket(p *packet, attachments [][]byte) error {
	c.server.stats.in.Add(1)
	c.mu.Lock()
	s := c.sessions[p.namespace]
	c.mu.Unlock()
	state := uint32(gone)
	if s != nil {
		state = s.state()
	}
	refused := false
	if p.typ != ack && p.typ != disconnect {
		var err error
		if refused, err = c.Admit(); err != nil {
			return err
		}
	}
	switch {
	case p.typ == connect && refused:
		c.refuse(p.namespace, &ConnectError{Message: wsconn.ErrTooMany.Error()})
		return nil
	case p.typ == connect:
		c.handleConnect(p, s, state < closed)
		return nil
	case state == connecting && !s.again || state == gone:
		return malformed(errState)
	case p.typ == disconnect:
		s.handleDisconnect()
		return nil
	}
	args, err := parseArgs(p.values, attachments)
	if err != nil {
		return malformed(err)
	}
	if p.typ == ack {
		s.handleAck(p.id, args)
		return nil
	}
	e := event{name: p.event, args: args, id: p.id, hasID: p.hasID}
	if refused {
		e = event{id: p.id, hasID: p.hasID, refused: true}
	}
	s.events.Push(e)
	return nil
}

// handleConnect begins a session. The session waits for the end of the client's former one in the namespace, if there
// was one. again means that the client seems to be connected already: it might have left before the answer came,
// without telling the server.
func (c *conn) handleConnect(p *packet, former *session, again bool) {
	if former != nil {
		former = former.follow()
	}
	sp := c.server.spaces[p.namespace]
	if sp == nil {
		c.server.stats.refused.Count("namespace")
		c.refuse(p.namespace, &ConnectError{Message: "Invalid namespace"})
		return
	}
	if most := c.server.o.MaxAuth; len(p.auth) > most {
		c.server.stats.refused.Count("auth")
		c.refuse(p.namespace, &ConnectError{Message: "auth too large"})
		c.server.largeAuth.Do(func() {
			c.server.report(nil, "", fmt.Errorf("crosscast/socketio: an auth of %d bytes, more than MaxAuth, %d; "+
				"others are only counted", len(p.auth), most))
		})
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	s := newSession(c, sp, p.auth, former)
	s.again = again
	c.sessions[p.namespace] = s
	c.opening.Go(s.open)
}

// refuse sends the client a connect_error for a namespace.
func (c *conn) refuse(namespace string, why *ConnectError) {
	type object struct {
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}
	var text []byte
	err := guard.Call(func() (err error) { text, err = json.Marshal(object{why.Message, why.Data}); return err })
	if err == nil && !utf8.Valid(text) { // from a json.RawMessage or a MarshalJSON within Data
		err = errors.New("crosscast/socketio: ConnectError.Data is not UTF-8")
	}
	if err != nil {
		c.server.report(nil, "", err)
		text, _ = json.Marshal(object{Message: why.Message})
	}
	frame := appendHeader(make([]byte, 0, headerSize(namespace)+len(text)), connectError, namespace, 0, 0, false)
	c.sendText(append(frame, text...))
}

// noteConnected records that the client is in a namespace.
func (c *conn) noteConnected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// forget removes a session that did not become a socket, and reports whether the client waits for an answer. A session
// that the client has left is not removed, because the next one has to wait for those before it.
func (c *conn) forget(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.sessions[s.space.name] == s && s.state() == connecting
	if waits {
		delete(c.sessions, s.space.name)
	}
	return waits
}

// A debtor is all sockets of a connection, because they share one reader.
type debtor struct{ c *conn }

func (d debtor) sockets() []*crosscast.Socket {
	d.c.mu.Lock()
	sessions := slices.Collect(maps.Values(d.c.sessions))
	d.c.mu.Unlock()
	var sockets []*crosscast.Socket
	for _, s := range sessions {
		s.mu.Lock()
		if s.socket != nil {
			sockets = append(sockets, s.socket)
		}
		s.mu.Unlock()
	}
	return sockets
}

// Owes implements wsconn.Debtor.
func (d debtor) Owes() bool { return slices.ContainsFunc(d.sockets(), (*crosscast.Socket).Owes) }

// RefuseAll implements wsconn.Debtor.
func (d debtor) RefuseAll() {
	for _, s := range d.sockets() {
		s.RefuseAll()
	}
}

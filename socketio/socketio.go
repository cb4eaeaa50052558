package socketio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/warn"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// ReasonForced closes a client's whole connection, with all its sockets, whichever of them is closed with it: what
// disconnect(true) does on Node.js.
const ReasonForced crosscast.Reason = "forced server close"

// A Handler handles one event of a client, with the event's arguments, which may be kept.
//
// ctx has the values of the request's context. It ends when the server closes the socket; when the client
// leaves, not before Options.LeaveTimeout.
//
// When the client asked for an acknowledgement, it gets one when the handler has returned: see [Answered]. An error is
// acknowledged with one argument, {"error":"…"}: the text of an [Errorf], and of an error of crosscast about a name or
// a size, which mostly comes from what the client sent; of any other the client is only told that there was one. What
// the client is not told, or not in full, Options.OnError gets.
type Handler func(ctx context.Context, s *crosscast.Socket, args Args) error

// Events are the handlers by the name of the event.
type Events map[string]Handler

// A Namespace is what clients find under a name.
type Namespace struct {
	// Authenticate says who a client is, or refuses it, as a middleware does: with a [*ConnectError] or an [Errorf], whose
	// text the client sees; of any other error it is only told that there was one, and Options.OnError gets it. ctx ends
	// when the client leaves, or after Options.ConnectTimeout. Default: everybody is an anonymous client.
	Authenticate func(ctx context.Context, h *Handshake) (Client, error)
	// Events are the handlers. An event that has none is counted, and otherwise ignored, unless the client asked for an
	// acknowledgement: then it is one of an error.
	Events Events
	// OnConnect is called before the first event of a socket is handled. Optional.
	OnConnect func(ctx context.Context, s *crosscast.Socket)
	// OnDisconnect is called after the last one, when the socket's memberships have ended. It may still emit, for
	// example "left" to the socket's former Rooms: its ctx has not ended. Optional.
	OnDisconnect func(ctx context.Context, s *crosscast.Socket, reason crosscast.Reason)
}

// A Client says who a client is. The zero value is an anonymous client in no room.
type Client struct {
	User  string   // whom the socket belongs to; empty: nobody
	Rooms []string // joined before the client is told that it is connected
	Data  any      // see crosscast.ConnectOptions
}

// Options of a [Server]. Only Namespaces must be set.
type Options struct {
	// Namespaces are those that clients may connect to, by name: "/", or "/" and more without a comma. The node keeps them,
	// see [crosscast.Namespace.Keep].
	Namespaces map[string]*Namespace
	// OnError is told what a handler or Authenticate returned, or panicked with (a [*PanicError], which also closes the
	// connection), unless it was for the client; and why a socket could not be made, see
	// [crosscast.Namespace.Connect]. Where there is no event it is empty; where there is no socket yet, s is nil.
	// Default: logs with the node's Logger, or slog.Default.
	OnError func(s *crosscast.Socket, event string, err error)

	// Origins are the pages from which browsers may connect, beside those of the server's own host. Each is a host, such as
	// "example.com", or a scheme and a host, such as "https://example.com", and may be a pattern of path.Match, such as
	// "*.example.com"; upper and lower case are the same. "*" is every page. A browser on another page is refused (403);
	// a client that sends no header Origin is not checked. Default: none.
	Origins []string
	// Subprotocols are the websocket subprotocols of the server, the best first. A connection gets the first one that its
	// client offers, or none. Default: none.
	Subprotocols []string
	// CompressFrom is the size of the smallest message to a client that is compressed, in bytes, for clients that offer
	// the extension permessage-deflate; they may compress theirs, too. It is negotiated without context takeover, so that
	// an idle connection keeps no compressor. Compressing takes time for each client of each broadcast. Default 0: nothing
	// is compressed, and the extension is refused; at most 1 GiB.
	CompressFrom int
	// MaxPayload is the size of the largest websocket message taken from a client, in bytes. Default 1,000,000; 1 byte
	// to 1 GiB.
	MaxPayload int
	// MaxPacket is the size of the largest packet with its attachments, of which each is at most MaxPayload: so much
	// waits while some are missing. The next must come within PingInterval and PingTimeout. Default 2 × MaxPayload; 1 byte
	// to 2 GiB.
	MaxPacket int
	// MaxHeaders is the size of the largest URL and headers of a request, in bytes, as the connection keeps them; a request
	// with more is refused (431). Default 16 KiB, as on Node.js; 1 byte to 1 GiB.
	MaxHeaders int
	// MaxAuth is the size of the largest auth of a client, in bytes of JSON: a client with more is refused, which OnError
	// is told of once. Every answer about sockets has that of each, so it is bounded apart from MaxPayload. Default 16 KiB;
	// 1 byte to 1 GiB.
	MaxAuth int
	// HiddenHeaders are the names of the headers that a [Handshake] has but its JSON has not, so that other nodes are not
	// told of them. Default: Cookie, Authorization and Proxy-Authorization. Empty, and not nil: none.
	HiddenHeaders []string
	// MaxAttachments is how many binary attachments a packet may have, both ways. Clients take 10 unless they are told
	// otherwise. Default 10, at most 1,000.
	MaxAttachments int
	// EventBytes is how many bytes of a socket's events may wait to be handled before reading pauses, each counting 256
	// more than its arguments. An event is always taken when none waits. Default 256 KiB; 1 byte to
	// 1 GiB.
	EventBytes int
	// Queue is how packets wait for the client, those of all its sockets together. Its Framer, OnClose and WriteTimeout are
	// not used. A DropNotice makes a packet as it is written, such as 42["missed",3].
	Queue crosscast.QueueOptions
	// PingInterval is the time between the answer to a ping and the next one. Default 25 s; above 0, and at most
	// 1 h, as the other times.
	PingInterval time.Duration
	// PingTimeout is how long after a ping something must have come from the client. Default 20 s.
	PingTimeout time.Duration
	// LeaveTimeout is how long what a client has sent may still be handled when it has left a namespace or the connection:
	// then the context of the handler that runs is cancelled, and the rest dropped. Default 30 s.
	LeaveTimeout time.Duration
	// ConnectTimeout is how long a client may take to connect to its first namespace, and Authenticate to any. Default
	// 45 s.
	ConnectTimeout time.Duration
	// WriteTimeout bounds the writing of one packet. Default 10 s.
	WriteTimeout time.Duration
}

// Errorf makes an error whose text the client may see.
func Errorf(format string, args ...any) error { return wsconn.Errorf(format, args...) }

// A PanicError is what Options.OnError gets when a function of the application's panicked: with the Value, and the
// Stack of its goroutine.
type PanicError = crosscast.PanicError

// A ConnectError refuses a client that connects to a namespace. The client's event "connect_error" has both.
type ConnectError struct {
	Message string
	Data    any // marshalled as JSON; nil: none
}

func (e *ConnectError) Error() string { return e.Message }

// A space is a namespace of a server.
type space struct {
	Namespace
	name string
	ns   *crosscast.Namespace
}

// A Server accepts Socket.IO clients. It is an http.Handler, usually of "/socket.io/". Its methods may be called
// concurrently. It needs no closing: the node closes its connections.
type Server struct {
	o      Options
	log    *slog.Logger
	spaces map[string]*space
	hidden map[string]bool // headers, in lower case
	config wsconn.Config   // of connections
	base64 wsconn.Config   // of connections of clients that want no binary messages
	stats  counters
	firsts warn.Firsts // that were refused, or closed

	largeAuth sync.Once // was reported

	mu     sync.Mutex // guards what follows
	conns  map[*conn]struct{}
	closed bool // the node is closing
}

// New returns a server of node's clients.
func New(node *crosscast.Node, o Options) (*Server, error) {
	if node == nil {
		return nil, errors.New("crosscast/socketio: New without a node")
	}
	o.MaxPayload = cmp.Or(o.MaxPayload, 1_000_000)
	o.MaxPacket = cmp.Or(o.MaxPacket, 2*min(o.MaxPayload, bounds.MaxSize))
	o.MaxHeaders = cmp.Or(o.MaxHeaders, 16<<10)
	o.MaxAuth = cmp.Or(o.MaxAuth, 16<<10)
	if o.HiddenHeaders == nil {
		o.HiddenHeaders = []string{"cookie", "authorization", "proxy-authorization"}
	}
	o.MaxAttachments = cmp.Or(o.MaxAttachments, 10)
	o.EventBytes = cmp.Or(o.EventBytes, 256<<10)
	o.PingInterval = cmp.Or(o.PingInterval, 25*time.Second)
	o.PingTimeout = cmp.Or(o.PingTimeout, 20*time.Second)
	o.LeaveTimeout = cmp.Or(o.LeaveTimeout, 30*time.Second)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 45*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	if o.OnError == nil {
		o.OnError = func(s *crosscast.Socket, event string, err error) {
			wsconn.LogError(node.Logger(), "socketio", s, event, err)
		}
	}
	s := &Server{
		o: o, log: node.Logger(), spaces: make(map[string]*space), conns: make(map[*conn]struct{}), hidden: make(map[string]bool),
	}
	for _, name := range o.HiddenHeaders {
		s.hidden[strings.ToLower(name)] = true
	}
	for name, n := range o.Namespaces {
		sp, err := newSpace(node, name, n)
		if err != nil {
			return nil, err
		}
		s.spaces[name] = sp
	}
	if len(s.spaces) == 0 {
		return nil, errors.New("crosscast/socketio: Options without a namespace")
	}
	s.config = wsconn.Config{
		Owner: "crosscast/socketio", Firsts: &s.firsts, Logger: s.log,
		Origins: o.Origins, Subprotocols: o.Subprotocols, CompressFrom: o.CompressFrom,
		ReadLimit: o.MaxPayload, LimitOption: "MaxPayload", Queue: o.Queue,
		Write: s.write, WriteTimeout: o.WriteTimeout, PingInterval: o.PingInterval, PingTimeout: o.PingTimeout,
	}
	if err := cmp.Or(
		s.config.Check(),
		bounds.Size("crosscast/socketio: Options.MaxPacket", o.MaxPacket/2, 0),
		bounds.Size("crosscast/socketio: Options.MaxHeaders", o.MaxHeaders, 1),
		bounds.Size("crosscast/socketio: Options.MaxAuth", o.MaxAuth, 1),
		bounds.Count("crosscast/socketio: Options.MaxAttachments", o.MaxAttachments, 1000),
		bounds.Size("crosscast/socketio: Options.EventBytes", o.EventBytes, 1),
		bounds.Time("crosscast/socketio: Options.PingInterval", o.PingInterval),
		bounds.Time("crosscast/socketio: Options.LeaveTimeout", o.LeaveTimeout),
		bounds.Time("crosscast/socketio: Options.ConnectTimeout", o.ConnectTimeout),
	); err != nil {
		return nil, err
	}
	s.config.Queue.Framer = framer{o.MaxAttachments}
	s.base64 = s.config
	s.base64.Write = s.writeBase64
	if err := node.OnClose(s.close); err != nil {
		return nil, err
	}
	for _, sp := range s.spaces {
		sp.ns.Keep()
	}
	return s, nil
}

func newSpace(node *crosscast.Node, name string, n *Namespace) (*space, error) {
	if n == nil || !validNamespace(name) {
		return nil, fmt.Errorf("crosscast/socketio: namespace %.64q: nil, or not a name", name)
	}
	for event, h := range n.Events {
		if h == nil || event == "" || len(event) > crosscast.MaxName {
			return nil, fmt.Errorf("crosscast/socketio: event %.64q: no handler, or not a name of 1 to 255 bytes", event)
		}
		if isReserved(event) {
			return nil, fmt.Errorf("crosscast/socketio: event %q is reserved", event)
		}
	}
	ns, err := node.Of(name)
	if err != nil {
		return nil, err
	}
	sp := &space{Namespace: *n, name: name, ns: ns}
	sp.Events = maps.Clone(n.Events)
	return sp, nil
}

// ServeHTTP accepts a client. It returns at once; the connection goes on.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := check(r)
	if f == nil {
		f = headTooLarge(r, s.o.MaxHeaders)
	}
	if f != nil {
		s.stats.refuse(f.cause)
		s.firsts.Warn(s.log, f.cause, "crosscast/socketio: a request was refused; others are only counted, in Stats",
			"why", f.Message, "address", r.RemoteAddr)
		f.answer(w)
		return
	}
	c := newConn(s, r)
	if err := c.Accept(w, r); err != nil {
		s.stats.refuse("websocket")
		return
	}
	if !s.add(c) {
		c.Queue.Close(crosscast.ReasonShutdown)
		return
	}
	c.start()
}

// warn logs the first client that a limit of packets has closed, for each limit, and the first that speaks something else.
// What is common to bindings, such as a client that is too slow, the connection logs.
func (s *Server) warn(why wsconn.Cause, address string) {
	var cure string
	switch {
	case why.Text == errPacket:
		cure = "Options.MaxPacket"
	case why.Text == errTooMany.Error():
		cure = "Options.MaxAttachments"
	case why.Reason != crosscast.ReasonProtocol || why.Code == websocket.StatusMessageTooBig:
		return
	default:
		cure = "clients are to be socket.io-client of version 3 or 4, or to speak as it does"
	}
	s.firsts.Warn(s.log, "closed: "+cure, "crosscast/socketio: a client was closed; others are only counted, in Stats",
		"why", why.Text, "cure", cure, "address", address)
}

// report tells the application of an error. s may be nil.
func (s *Server) report(socket *crosscast.Socket, event string, err error) {
	failed := guard.Call(func() error { s.o.OnError(socket, event, err); return nil })
	guard.Log(s.log, "socketio.Options.OnError", failed)
}

// add registers a connection, unless the node is closing.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[c] = struct{}{}
	}
	return !s.closed
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// close ends what the node's closing of sockets leaves: connections without any.
func (s *Server) close() {
	s.mu.Lock()
	s.closed = true
	conns := maps.Clone(s.conns)
	s.mu.Unlock()
	for c := range conns {
		c.close(crosscast.ReasonShutdown)
	}
	for c := range conns {
		c.wait()
	}
}

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
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/admission"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/warn"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// ReasonForced closes the whole connection of a client, with all its sockets, like disconnect(true) on Node.js.
const ReasonForced crosscast.Reason = "forced server close"

// A Handler handles one event of a client. It may keep the arguments.
//
// ctx has the values of the request's context. It is cancelled when the server closes the socket. When the client
// leaves, handlers may run on for Options.LeaveTimeout before it is cancelled.
//
// If the client waits for an acknowledgement, it gets one after the handler has returned: see [Answered]. An error is
// acknowledged with one argument, {"error":"…"}. The client sees the text of two kinds of errors: those of [Errorf],
// and crosscast's errors about a name or a size, which mostly came from the client. For any other error it gets
// "internal error". Options.OnError gets each error whose text the client does not get.
type Handler func(ctx context.Context, s *crosscast.Socket, args Args) error

// Events maps the names of events to their handlers.
type Events map[string]Handler

// A Namespace holds the functions for one namespace.
type Namespace struct {
	// Authenticate returns the client's user and rooms, or refuses it, like a middleware of Node.js. The client sees
	// the text of a [*ConnectError] or an [Errorf]. For any other error it gets "internal error", and Options.OnError
	// gets the error. ctx ends when the client leaves, or after Options.ConnectTimeout. Default: everybody is
	// anonymous.
	Authenticate func(ctx context.Context, h *Handshake) (Client, error)
	// Events are the handlers. An event without a handler goes to CatchAll.
	Events Events
	// CatchAll handles the events that have no handler in Events. [EventName] returns their names, of 1 to 255 bytes.
	// Default: such an event is counted. It is acknowledged with an error if the client waits for that, and otherwise
	// ignored.
	CatchAll Handler
	// Wrap returns the handler that is called in place of next, for example to log, to measure, or to check a right. [New]
	// calls it once for each of Events, and for CatchAll with an empty name; a client's event does not. Optional.
	Wrap func(event string, next Handler) Handler
	// OnConnect is called before the first event of a socket is handled. Optional.
	OnConnect func(ctx context.Context, s *crosscast.Socket)
	// OnDisconnect is called after the last event, when the socket's memberships have ended. It may still emit, for
	// example "left" to the socket's former Rooms: its ctx has not ended. Optional.
	OnDisconnect func(ctx context.Context, s *crosscast.Socket, reason crosscast.Reason)
}

// A Client is the result of Authenticate. The zero value is an anonymous client in no room.
type Client struct {
	User  string   // the socket's user; empty: none
	Rooms []string // joined before the client gets the answer that it is connected
	Data  any      // see crosscast.ConnectOptions
	// Presence is what the socket shows of itself: see crosscast.ConnectOptions. [crosscast.Socket.SetPresence] changes it.
	// Clients of Socket.IO are told who is in a room by events of the application: see [crosscast.Watch.Follow].
	Presence any
	// Expires is when the client's credential expires, and the whole connection with it: see
	// [crosscast.Socket.SetExpires]. The zero time means never.
	Expires time.Time
}

// Options of a [Server]. Only Namespaces must be set.
type Options struct {
	// Namespaces are the namespaces of clients, by name: "/", or "/" and more without a comma. The node keeps them: see
	// [crosscast.Namespace.Keep].
	Namespaces map[string]*Namespace
	// OnError gets errors of handlers and of Authenticate, unless the client gets their text, and panics (as
	// a [*PanicError]). A panic of a handler or of OnConnect also closes the connection. OnError also gets errors of
	// [crosscast.Namespace.Connect]. event is empty for errors without an event, and s is nil if there is no socket
	// yet. Default: logs with the node's Logger, or slog.Default.
	OnError func(s *crosscast.Socket, event string, err error)

	// Origins are the pages from which browsers may connect, in addition to pages of the server's own host. Each one is
	// a host ("example.com"), or a scheme and a host ("https://example.com"), and may be a pattern of path.Match
	// ("*.example.com"). Case does not matter. "*" allows every page. A browser on another page gets status 403.
	// Clients that send no header Origin are not checked. Default: none.
	Origins []string
	// Subprotocols are the websocket subprotocols of the server, the best first. A connection gets the first one that
	// its client offers, or none. Default: none.
	Subprotocols []string
	// CompressFrom is the size in bytes from which messages to a client are compressed. Default 0: nothing is
	// compressed, and the extension permessage-deflate is refused. At most 1 GiB. The client must offer the extension,
	// and may then compress its messages, too. It is negotiated without context takeover, so an idle connection keeps
	// no compressor. A broadcast is compressed once for all clients.
	CompressFrom int
	// MaxPayload is the largest size of a client's websocket message, in bytes. Default 1,000,000; 1 byte to 1 GiB.
	MaxPayload int
	// MaxPacket is the largest size of a packet with its attachments, in bytes. Default 2 × MaxPayload; 1 byte to 2
	// GiB. Each attachment is at most MaxPayload, and must come within PingInterval and PingTimeout after the one
	// before.
	MaxPacket int
	// MaxHeaders is the largest size of a request's URL and headers, in bytes. Default 16 KiB, as on Node.js; 1 byte to
	// 1 GiB. A larger request gets status 431. The connection keeps the URL and headers.
	MaxHeaders int
	// MaxAuth is the largest size of a client's auth, in bytes of JSON. Default 16 KiB; 1 byte to 1 GiB. A client with
	// a larger one is refused, and OnError gets one error for the first of them. Each answer about sockets contains the
	// auth of each socket, so it has its own limit.
	MaxAuth int
	// HiddenHeaders are the names of headers that a [Handshake] has but its JSON has not, so that other nodes do not
	// get them. Default: Cookie, Authorization and Proxy-Authorization. Empty, and not nil: none.
	HiddenHeaders []string
	// MaxAttachments is the largest number of binary attachments of a packet, in both directions. Default 10, which is
	// also the clients' default; at most 1,000.
	MaxAttachments int
	// EventBytes is how many bytes of a socket's events may wait before reading pauses. Default 256 KiB; 1 byte to 1
	// GiB. Each event counts as its name and arguments and 256 bytes more. One event may always wait, whatever its
	// size.
	EventBytes int
	// EventRate is how many events a second a client may send, and EventBurst is how many of them at once. EventPolicy says
	// what happens to more. A client that connects to a namespace counts as one event, but acknowledgements and pings do
	// not. All sockets of a client count together. Default 0: any number; otherwise 0.001 to 1,000,000. The default for
	// EventBurst is as many as in a second.
	EventRate   float64
	EventBurst  int
	EventPolicy EventPolicy

	// MaxClients is how many clients the server has at the same time, at most. A client counts from its request until
	// its connection is gone. Another one gets status 503, with Retry-After. Default 0: any number.
	MaxClients int
	// MaxUserClients is how many clients a user has on this node at the same time, at most: exactly, in each namespace.
	// Another one gets a connect_error, "too many clients of this user". Default 0: any number. Clients without a user do
	// not count.
	MaxUserClients int
	// MaxUserClientsTotal is the same for all nodes together, as well as one question to them can tell. Each connect
	// of a client with a user waits for their answers, up to 2 s. Nodes that do not answer count as none, and clients that
	// connect to several nodes at once do not see each other. Default 0: any number, and nothing is asked.
	MaxUserClientsTotal int
	// KickOldest accepts a user's client above MaxUserClients or MaxUserClientsTotal, and closes the oldest ones of that
	// user on this node instead, with [crosscast.ReasonReplaced]. They get a disconnect, so that they do not come back by
	// themselves. A client is refused only if clients on other nodes alone are too many.
	KickOldest bool
	// HandshakeRate is how many requests a second the server accepts, and HandshakeBurst is how many of them at once. More
	// get status 429, with Retry-After. They count before Authenticate. Default 0: any number; otherwise as for EventRate
	// and EventBurst.
	HandshakeRate  float64
	HandshakeBurst int
	// GapEvent is the event with which clients are told that they might have missed something, in the place of that. Its
	// argument is {room, ago, wait}: see "Gaps" in the package documentation. Default: none; nobody is told.
	GapEvent string
	// Gaps selects what is done for clients that might have missed something, because the node has or because they are
	// too slow. Default: [GapTell].
	Gaps GapPolicy
	// GapSpread is the time over which the clients that are told of a gap spread their queries, for each 1,000 of them on
	// this node. Default 1 s, at most 1 h; negative: none. In all it is at most 1 h.
	GapSpread time.Duration
	// Queue holds the packets that wait for the client, those of all its sockets together. Its Framer, OnClose,
	// TryWrite and WriteTimeout are not used. A DropNotice returns a packet in its written form, such as 42["missed",3].
	// The default is a GapEvent, if that is set and Gaps is not [GapIgnore].
	Queue crosscast.QueueOptions
	// PingInterval is the time between the answer to a ping and the next one. Default 25 s. All times must be above 0,
	// and at most 1 h.
	PingInterval time.Duration
	// PingTimeout is how long after a ping the client must have sent something. Default 20 s.
	PingTimeout time.Duration
	// LeaveTimeout is how long a client's remaining events are handled after it has left a namespace or the connection.
	// Then the context of the running handler is cancelled, and the other events are dropped. Default 30 s.
	LeaveTimeout time.Duration
	// ConnectTimeout is how long a client may take to connect to its first namespace, and Authenticate for any
	// namespace. Default 45 s.
	ConnectTimeout time.Duration
	// WriteTimeout is how long the writing of one packet may take, and that of the answer to the request. Default 10 s.
	WriteTimeout time.Duration
}

// Errorf returns an error whose text the client may see.
func Errorf(format string, args ...any) error { return wsconn.Errorf(format, args...) }

// A PanicError is the error for Options.OnError when a function of the application panicked. It has the Value and the
// Stack of the panic.
type PanicError = crosscast.PanicError

// A ConnectError refuses a client that connects to a namespace. The client's event "connect_error" has both fields.
type ConnectError struct {
	Message string
	Data    any // marshalled as JSON; nil: none
}

func (e *ConnectError) Error() string { return e.Message }

// A space is a namespace of a server.
type space struct {
	Namespace
	name  string
	ns    *crosscast.Namespace
	users admission.Users

	outage wsconn.Outage
}

// A Server accepts Socket.IO clients. It is an http.Handler, usually for "/socket.io/". Its methods may be called
// concurrently. It has no Close: the node closes its connections.
type Server struct {
	o      Options
	log    *slog.Logger
	spaces map[string]*space
	hidden map[string]bool // headers, in lower case
	config wsconn.Config   // of connections
	base64 wsconn.Config   // of connections of clients that accept no binary messages
	stats  counters
	door   admission.Door
	firsts warn.Firsts // logged refusals and closures, by cause

	latestWindow atomic.Int64 // of the latest gap

	largeAuth sync.Once // the first too large auth was reported

	mu     sync.Mutex // guards the fields below
	conns  map[*conn]struct{}
	queues crosscast.QueueStats // of connections that have ended
	closed bool                 // the node is closing
}

// New returns a server for the clients of a node.
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
	o.GapSpread = cmp.Or(o.GapSpread, time.Second)
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
		ReadLimit: o.MaxPayload, LimitOption: "MaxPayload", EventBytes: o.EventBytes, LeaveTimeout: o.LeaveTimeout,
		Rate:    wsconn.Rate{Events: o.EventRate, Burst: o.EventBurst, Policy: wsconn.EventPolicy(o.EventPolicy), Paused: &s.stats.paused},
		Refused: &s.stats.refused, Ended: s.door.Leave, Queue: o.Queue,
		Framer:  func(f wsconn.Format) crosscast.Framer { return framer{o.MaxAttachments, false, f} },
		Written: &s.stats.out, Type: websocket.MessageText, WriteTimeout: o.WriteTimeout,
		// Pings bypass the queue, which might drop them, or delay them until a client that reads counts as dead.
		Ping:         wsconn.Format{}.Append(nil, websocket.MessageText, []byte{enginePing}),
		PingInterval: o.PingInterval, PingTimeout: o.PingTimeout,
	}
	limits := admission.Limits{
		MaxClients: o.MaxClients, MaxUserClients: o.MaxUserClients, MaxUserClientsTotal: o.MaxUserClientsTotal,
		KickOldest: o.KickOldest, HandshakeRate: o.HandshakeRate, HandshakeBurst: o.HandshakeBurst,
	}
	if o.tellsGaps() && o.Queue.DropNotice == nil {
		s.config.DropNotices = s.dropNotices
	}
	if err := cmp.Or(
		s.config.Check(),
		o.checkGaps(),
		bounds.Time("crosscast/socketio: Options.GapSpread", max(o.GapSpread, 1)), // negative: none
		limits.Check("crosscast/socketio"),
		bounds.Size("crosscast/socketio: Options.MaxPacket", o.MaxPacket/2, 0),
		bounds.Size("crosscast/socketio: Options.MaxHeaders", o.MaxHeaders, 1),
		bounds.Size("crosscast/socketio: Options.MaxAuth", o.MaxAuth, 1),
		bounds.Count("crosscast/socketio: Options.MaxAttachments", o.MaxAttachments, 1000),
		bounds.Time("crosscast/socketio: Options.PingInterval", o.PingInterval),
		bounds.Time("crosscast/socketio: Options.ConnectTimeout", o.ConnectTimeout),
	); err != nil {
		return nil, err
	}
	s.base64 = s.config
	s.base64.Framer = func(f wsconn.Format) crosscast.Framer { return framer{o.MaxAttachments, true, f} }
	if err := node.OnClose(s.close); err != nil {
		return nil, err
	}
	if err := s.startGaps(); err != nil {
		return nil, err
	}
	s.door.Init(limits)
	for _, sp := range s.spaces {
		sp.users.Init(sp.ns, limits)
		sp.ns.Keep()
	}
	return s, nil
}

func newSpace(node *crosscast.Node, name string, n *Namespace) (*space, error) {
	if n == nil || !validNamespace(name) {
		return nil, fmt.Errorf("crosscast/socketio: namespace %.64q: nil, or not a name", name)
	}
	for event, h := range n.Events {
		if h == nil || event == "" || len(event) > limit.Name {
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
	sp.Events, sp.CatchAll, err = wsconn.WrapHandlers("its Wrap", n.Wrap, n.Events, n.CatchAll)
	if err != nil {
		return nil, errtext.Errorf("crosscast/socketio: namespace %q: %w", name, err)
	}
	return sp, nil
}

// ServeHTTP accepts a client. It returns at once; the connection goes on.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := check(r)
	if f == nil {
		f = headTooLarge(r, s.o.MaxHeaders)
	}
	if f == nil {
		f = tooMany(admission.Ending(s.accepts()))
	}
	if f == nil {
		f = tooMany(s.door.Enter())
	}
	if f != nil {
		s.stats.refused.Count(f.cause)
		if f.cause != admission.CauseDraining { // that is no fault
			s.firsts.Warn(s.log, f.cause, "crosscast/socketio: a request was refused; others are only counted, in Stats",
				"why", f.Message, "cure", f.cure(), "address", r.RemoteAddr)
		}
		f.answer(w)
		return
	}
	upgraded := false
	defer func() {
		if !upgraded {
			s.door.Leave()
		}
	}()
	c := newConn(s, r)
	if err := c.accept(w, r); err != nil {
		s.stats.refused.Count("websocket")
		return
	}
	upgraded = true
	if !s.add(c) {
		c.Queue.Close(crosscast.ReasonShutdown)
		return
	}
	c.start()
}

// warn logs the first client that each limit of packets has closed, and the first that broke the protocol in another
// way. wsconn logs causes that all bindings share, such as slow clients.
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

// report calls OnError, a function of the application. s may be nil.
func (s *Server) report(socket *crosscast.Socket, event string, err error) {
	failed := guard.Call(func() error { s.o.OnError(socket, event, err); return nil })
	guard.Log(s.log, "socketio.Options.OnError", failed)
}

// accepts returns why the node takes no sockets now, or nil.
func (s *Server) accepts() error {
	for _, sp := range s.spaces {
		return sp.ns.Accepts() // the same for all
	}
	return nil
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
	addQueue(&s.queues, c.Queue.Stats())
}

// close ends the connections. The node's closing of sockets has left those without a socket.
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

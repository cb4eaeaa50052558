package ws

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/admission"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/presence"
	"github.com/crosscast/crosscast/internal/warn"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// A Handler handles one event of a client. data is a JSON text, or nil if the event has none; another [Envelope] might
// define it differently. The handler may keep data.
//
// ctx has the values of the request's context. It is cancelled when the server closes the socket. When the client
// leaves, handlers may run on for Options.LeaveTimeout before it is cancelled.
//
// If the client waits for a reply, it gets one after the handler has returned: see [Answered]. An error goes to the
// client in that reply, or in an event "error" if the client does not wait. The client sees the text of three kinds of
// errors: those of [Errorf], those of [Typed] and [TypedAnswer] about data that does not fit T, which name the Go type, and
// crosscast's errors about a name or a size, which mostly came from the client. Any other error goes to Options.OnError, and
// the client gets "internal error".
type Handler func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error

// Events maps the names of events to their handlers.
type Events map[string]Handler

// Typed makes a [Handler] of a function that takes its data unmarshalled. Without data, it gets the zero T. The client sees
// the error if its data does not fit.
func Typed[T any](f func(ctx context.Context, s *crosscast.Socket, data T) error) Handler {
	return func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
		v, err := unmarshal[T](data)
		if err != nil {
			return err
		}
		return f(ctx, s, v)
	}
}

func unmarshal[T any](data json.RawMessage) (v T, err error) {
	if len(data) > 0 {
		if err := json.Unmarshal(data, &v); err != nil {
			return v, Errorf("data: %v", err)
		}
	}
	return v, nil
}

// Errorf returns an error whose text the client may see.
func Errorf(format string, args ...any) error { return wsconn.Errorf(format, args...) }

// A PanicError is the error for Options.OnError when a handler panicked. It has the Value and the Stack of the panic.
type PanicError = crosscast.PanicError

// Options of a [Server]. The zero value works.
type Options struct {
	// Events are the handlers. An event without a handler goes to CatchAll.
	Events Events
	// CatchAll handles the events that have no handler in Events. [EventName] returns their names, of 1 to 255 bytes.
	// Default: such an event is answered with an error.
	CatchAll Handler
	// Wrap returns the handler that is called in place of next, for example to log, to measure, or to check a right. [New]
	// calls it once for each of Events, and for CatchAll with an empty name; a client's event does not. It does not see
	// joins and leaves by the protocol. Optional.
	Wrap func(event string, next Handler) Handler
	// AllowJoin decides whether a client may join a room by the protocol. An error refuses the join for good, and the client
	// sees its text by the rule of Handler. Two kinds of errors only put it off, so that the client tries again by itself:
	// those that match [ErrBusy], and timeouts (errors with a method Timeout() bool that returns true, such as
	// context.DeadlineExceeded). AllowJoin is called again for a room that the socket is in already; a refusal does
	// not end that membership. It takes its turn among the client's events, and ctx is that of a Handler. Rooms that the
	// application's code joins are not its matter. Default: nil; every join of a client is refused.
	AllowJoin func(ctx context.Context, s *crosscast.Socket, room string) error
	// AllowPresence opens rooms: it decides whether a client may know who is in a room that the client is in, by user, with
	// what each shows ([crosscast.ConnectOptions.Presence]). Its errors are as those of AllowJoin. Once it has returned
	// nil, the client is told until it leaves the room, or asks again and is refused. All clients of a room share one watch. See "Presence" in the package
	// documentation. Default: nil; every client is refused, and nothing is watched.
	AllowPresence func(ctx context.Context, s *crosscast.Socket, room string) error
	// PresenceGrace is how long a user without a socket in the room still counts as there for clients, so that a reconnect is
	// no event: see [crosscast.WatchOptions]. Default 0, at most 1 h.
	PresenceGrace time.Duration
	// PresenceGather is how long changes are gathered before clients are told of them. Default 200 ms; above 0, and at most
	// 1 h.
	PresenceGather time.Duration
	// PresenceMost is the number of users in a room above which its clients are told only how many there are. So it is for
	// more than 256 KiB of users with what they show. Default 1,000.
	PresenceMost int
	// OnConnect is called before the first event of a socket is handled. Optional.
	OnConnect func(ctx context.Context, s *crosscast.Socket)
	// OnDisconnect is called after the last event, when the socket's memberships have ended. It may still emit, for
	// example "left" to the socket's former Rooms: its ctx has not ended. Optional.
	OnDisconnect func(ctx context.Context, s *crosscast.Socket, reason crosscast.Reason)
	// OnError gets errors of handlers, unless the client gets their text, and panics (as a [*PanicError]). A panic of a
	// handler, of AllowJoin or of OnConnect also closes the socket. event is empty for OnConnect, OnDisconnect and
	// Envelope; for a join it is the word and the quoted room: join "room1". A join of a room that the bus denies is not
	// reported, because each client tries it again, and the node logs the room. Default: logs with the node's Logger, or
	// slog.Default.
	OnError func(s *crosscast.Socket, event string, err error)

	// Envelope is the format of messages. Default: [JSON].
	Envelope Envelope
	// Origins are the pages from which browsers may connect, in addition to pages of the server's own host. Each one is
	// a host ("example.com"), or a scheme and a host ("https://example.com"), and may be a pattern of path.Match
	// ("*.example.com"). Case does not matter. "*" allows every page. A browser on another page gets status 403.
	// Clients that send no header Origin are not checked. Default: none.
	Origins []string
	// Subprotocols are the websocket subprotocols of the server, the best first. A connection gets the first one that
	// its client offers, or none. Those of this package come behind them: see "Subprotocols" in the package documentation.
	// Default: none.
	Subprotocols []string
	// CompressFrom is the size in bytes from which messages to a client are compressed. Default 0: nothing is
	// compressed, and the extension permessage-deflate is refused. At most 1 GiB. The client must offer the extension,
	// and may then compress its messages, too. It is negotiated without context takeover, so an idle connection keeps
	// no compressor. A broadcast is compressed once for all clients.
	CompressFrom int
	// ReadLimit is the largest size of a client's message, in bytes. Default 1 MiB; 1 byte to 1 GiB.
	ReadLimit int
	// EventBytes is how many bytes of a client's events may wait before reading pauses. Default 256 KiB; 1 byte to 1
	// GiB. Each event counts as its name and data and 256 bytes more. One event may always wait, whatever its size.
	EventBytes int
	// LeaveTimeout is how long a client's remaining events are handled after it has left. Then the context of the
	// running handler is cancelled, and the other events are dropped. Default 30 s; above 0, and at most 1 h.
	LeaveTimeout time.Duration
	// EventRate is how many events a second a client may send, and EventBurst is how many of them at once. EventPolicy says
	// what happens to more. Joins, leaves and malformed messages count as events, but replies to EmitAck and pings do not.
	// Default 0: any number; otherwise 0.001 to 1,000,000. The default for EventBurst is as many as in a second.
	EventRate   float64
	EventBurst  int
	EventPolicy EventPolicy

	// MaxClients is how many clients the server has at the same time, at most. A client counts from its request until
	// its connection is gone. Another one gets status 503, with Retry-After. Default 0: any number.
	MaxClients int
	// MaxUserClients is how many clients a user has on this node at the same time, at most: exactly. Another one gets
	// status 429, with Retry-After. Default 0: any number. Clients without a user do not count.
	MaxUserClients int
	// MaxUserClientsTotal is the same for all nodes together, as well as one question to them can tell. Each handshake
	// of a client with a user waits for their answers, up to 2 s. Nodes that do not answer count as none, and clients that
	// connect to several nodes at once do not see each other. Default 0: any number, and nothing is asked.
	MaxUserClientsTotal int
	// KickOldest accepts a user's client above MaxUserClients or MaxUserClientsTotal, and closes the oldest ones of that
	// user on this node instead, with [crosscast.ReasonReplaced]. They should not come back by themselves, so the close
	// code is 4001. A client is refused only if clients on other nodes alone are too many.
	KickOldest bool
	// HandshakeRate is how many requests a second the server accepts, and HandshakeBurst is how many of them at once. More
	// get status 429, with Retry-After. They count when Accept is called. A limit that also protects the application's
	// own authentication belongs in front of it. Default 0: any number; otherwise as for EventRate and EventBurst.
	HandshakeRate  float64
	HandshakeBurst int
	// ConnectTimeout is how long [crosscast.Namespace.Connect] may take for a request that was upgraded. Then the client
	// gets the close code 1013. Default 45 s; above 0, and at most 1 h. The reading of the request is bounded by
	// http.Server.ReadHeaderTimeout, and the writing of its answer by WriteTimeout.
	ConnectTimeout time.Duration
	// Gaps selects what is done for clients that might have missed something, because the node has or because they are
	// too slow. Default: [GapTell].
	Gaps GapPolicy
	// GapSpread is the time over which the clients that are told of a gap spread their queries, for each 1,000 of them on
	// this node. Default 1 s, at most 1 h; negative: none. In all it is at most 1 h.
	GapSpread time.Duration
	// Queue holds the messages that wait for the client. Its Framer, OnClose, TryWrite and WriteTimeout are not used. The
	// default DropNotice is a gap of everything, unless Gaps is [GapIgnore]. A DropNotice of the application's is in the form of
	// the Envelope, and converted for clients of msgpack. It also gets
	// the gaps of clients that do not keep up: see [crosscast.Queue.SendNotice].
	Queue crosscast.QueueOptions
	// PingInterval is the time between the answer to a ping and the next one. Default 25 s, at most 1 h; negative: no
	// pings.
	PingInterval time.Duration
	// PingTimeout is how long after a ping the client must have sent something. Default 20 s; above 0, and at most 1 h.
	PingTimeout time.Duration
	// WriteTimeout is how long the writing of one message may take, and that of the answer to the request. Default 10 s;
	// above 0, and at most 1 h.
	WriteTimeout time.Duration
}

// A Server accepts websocket clients for one namespace. Its methods may be called concurrently. It has no Close: the
// node closes its sockets.
type Server struct {
	ns     *crosscast.Namespace
	o      Options
	config wsconn.Config
	typ    websocket.MessageType // of the Envelope's messages
	forms  []string              // the subprotocols of this package that it speaks
	door   admission.Door
	users  admission.Users
	stats  counters

	presence *presence.Rooms // nil: clients are not told who is where

	latestWindow atomic.Int64 // of the latest gap
	outage       wsconn.Outage
}

// New returns a server for ns, which is node.Namespace or one of [crosscast.Node.Of].
func New(ns *crosscast.Namespace, o Options) (*Server, error) {
	if ns == nil {
		return nil, errors.New("crosscast/ws: New without a namespace")
	}
	for event, h := range o.Events {
		if h == nil || event == "" || len(event) > limit.Name {
			return nil, fmt.Errorf("crosscast/ws: event %.64q: no handler, or not a name of 1 to 255 bytes", event)
		}
	}
	var err error
	o.Events, o.CatchAll, err = wsconn.WrapHandlers("crosscast/ws: Options.Wrap", o.Wrap, o.Events, o.CatchAll)
	if err != nil {
		return nil, err
	}
	o.ReadLimit = cmp.Or(o.ReadLimit, 1<<20)
	o.EventBytes = cmp.Or(o.EventBytes, 256<<10)
	o.LeaveTimeout = cmp.Or(o.LeaveTimeout, 30*time.Second)
	o.PingInterval = cmp.Or(o.PingInterval, 25*time.Second)
	o.PingTimeout = cmp.Or(o.PingTimeout, 20*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 45*time.Second)
	o.GapSpread = cmp.Or(o.GapSpread, time.Second)
	if o.Envelope == nil {
		o.Envelope = JSON{}
	}
	if !reflect.ValueOf(o.Envelope).Comparable() {
		return nil, fmt.Errorf("crosscast/ws: Envelope of type %T is not comparable", o.Envelope)
	}
	if o.OnError == nil {
		o.OnError = func(s *crosscast.Socket, event string, err error) { wsconn.LogError(ns.Logger(), "ws", s, event, err) }
	}
	s := &Server{ns: ns, o: o, typ: websocket.MessageText, forms: o.offered()}
	if o.Envelope.Binary() {
		s.typ = websocket.MessageBinary
	}
	s.config = wsconn.Config{
		Owner: "crosscast/ws", Firsts: new(warn.Firsts), Logger: ns.Logger(),
		Origins: o.Origins, Subprotocols: slices.Concat(o.Subprotocols, s.forms), CompressFrom: o.CompressFrom,
		ReadLimit: o.ReadLimit, LimitOption: "ReadLimit", EventBytes: o.EventBytes, LeaveTimeout: o.LeaveTimeout,
		Rate:    wsconn.Rate{Events: o.EventRate, Burst: o.EventBurst, Policy: wsconn.EventPolicy(o.EventPolicy), Paused: &s.stats.paused},
		Refused: &s.stats.refused, Ended: s.door.Leave, Queue: o.Queue,
		Form: s.formOf, Framer: s.framer, Type: s.typ, WriteTimeout: o.WriteTimeout,
		Ping: wsconn.WebsocketPing(), PingInterval: o.PingInterval, PingTimeout: o.PingTimeout,
	}
	switch {
	case o.Queue.DropNotice != nil:
		s.config.DropNotices = s.ownNotices
	case o.Gaps != GapIgnore:
		s.config.DropNotices = s.dropNotices
	}
	limits := admission.Limits{
		MaxClients: o.MaxClients, MaxUserClients: o.MaxUserClients, MaxUserClientsTotal: o.MaxUserClientsTotal,
		KickOldest: o.KickOldest, HandshakeRate: o.HandshakeRate, HandshakeBurst: o.HandshakeBurst,
	}
	if err := cmp.Or(
		s.config.Check(),
		limits.Check("crosscast/ws"),
		bounds.Time("crosscast/ws: Options.ConnectTimeout", o.ConnectTimeout),
		bounds.Time("crosscast/ws: Options.GapSpread", max(o.GapSpread, 1)), // negative: none
		o.checkGaps(),
		s.initPresence(),
	); err != nil {
		return nil, err
	}
	s.door.Init(limits)
	s.users.Init(ns, limits)
	if o.Gaps != GapIgnore {
		if err := ns.OnGap(s.handleGap); err != nil {
			return nil, errtext.Errorf("crosscast/ws: %w", err)
		}
	}
	return s, nil
}

// A Client describes the sender of a request. The zero value is an anonymous client in no room.
type Client struct {
	User  string   // the socket's user; empty: none
	Rooms []string // joined before Accept returns
	Data  any      // see crosscast.ConnectOptions
	// Presence is what the socket shows of itself: see crosscast.ConnectOptions. [crosscast.Socket.SetPresence] changes it.
	Presence any
	// Expires is when the client's credential expires, and the connection with it: see [crosscast.Socket.SetExpires].
	// The zero time means never.
	Expires time.Time
}

// Accept upgrades a request, which the application has authenticated, and returns its socket. The handler of the
// request may then return; the socket goes on.
//
// After an error there is no socket. The client gets an HTTP status or, if the request was already upgraded, a close
// code (see "Close codes"). Errors after the upgrade are those of [crosscast.Namespace.Connect], which the request's
// context and Options.ConnectTimeout bound.
func (s *Server) Accept(w http.ResponseWriter, r *http.Request, client Client) (*crosscast.Socket, error) {
	if err := client.check(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		s.stats.refused.Count("client")
		s.warn("limit", "a request was refused", err, "give Accept a Client within the limits of names")
		return nil, err
	}
	if err := s.checkOffers(r.Header); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		s.stats.refused.Count("subprotocol")
		s.warn("subprotocol", "a request was refused", err, "offer a subprotocol that the server knows, or none")
		return nil, errtext.Errorf("crosscast/ws: %w", err)
	}
	if err := s.ns.Accepts(); err != nil {
		if why := admission.Ending(err); why != nil {
			return nil, errors.Join(err, s.refuse(w, why))
		}
	}
	if why := s.door.Enter(); why != nil {
		return nil, s.refuse(w, why)
	}
	var c *conn // once the request was upgraded
	var place *admission.Place
	var socket *crosscast.Socket
	var err error
	defer func() {
		if socket != nil {
			return
		}
		place.Leave() // also after a panic of the application's code, such as the marshalling of Data
		if c == nil {
			s.door.Leave()
		} else {
			c.refuse(err)
		}
	}()
	place, why := s.users.Enter(r.Context(), client.User)
	if why != nil {
		return nil, s.refuse(w, why)
	}
	upgraded := newConn(s, r)
	if err := upgraded.Conn.Accept(w, r); err != nil {
		s.stats.refused.Count("websocket")
		return nil, errtext.Errorf("crosscast/ws: %w", err)
	}
	c = upgraded
	place.Take()
	o := crosscast.ConnectOptions{User: client.User, Rooms: client.Rooms, Data: client.Data, Presence: client.Presence}
	if place != nil {
		o.OnClose = func(*crosscast.Socket, crosscast.Reason) { place.Leave() }
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.o.ConnectTimeout)
	defer cancel()
	socket, err = s.ns.Connect(ctx, c, o)
	if err != nil {
		s.stats.refused.Count("connect")
		s.warn("connect", "a client was sent away", err, "see Namespace.Connect")
		return nil, err
	}
	if !client.Expires.IsZero() {
		_ = socket.SetExpires(client.Expires) // a socket that is closed already needs none
	}
	s.tellOutage(c, socket)
	c.start(socket)
	if place != nil && !place.Ready(c.replaced) {
		c.replaced()
	}
	return socket, nil
}

// refuse answers a request that a limit does not let in.
func (s *Server) refuse(w http.ResponseWriter, why *admission.Refusal) error {
	s.stats.refused.Count(why.Cause)
	if why.Cause != admission.CauseDraining { // that is no fault
		s.warn(why.Cause, "a request was refused", why, why.Cure)
	}
	why.SetHeader(w.Header())
	http.Error(w, why.Text, why.Status)
	return errtext.Errorf("crosscast/ws: %w", why)
}

// Reject upgrades a request and closes the connection with code 4001 and a text for the client, of up to 123 bytes. It
// is for clients that should not come back, such as those without a valid login: package client and client.js give up.
// A status 401 or 403 tells a client in Go the same, but a script in a browser sees no status. Until its connection is
// gone, the client counts towards Options.MaxClients, and its request counts towards HandshakeRate. An error means that
// the request was not upgraded; the client gets an HTTP status.
func (s *Server) Reject(w http.ResponseWriter, r *http.Request, text string) error {
	if why := s.door.Enter(); why != nil {
		return s.refuse(w, why)
	}
	c := newConn(s, r)
	defer c.cancel()
	if err := c.Conn.Accept(w, r); err != nil {
		s.door.Leave()
		return errtext.Errorf("crosscast/ws: %w", err)
	}
	c.SetCause(wsconn.Cause{Reason: wsconn.ReasonRefused, Code: wsconn.StatusRefused, Text: text})
	c.Queue.Close(wsconn.ReasonRefused)
	return nil
}

// warn logs the first refusal for a cause.
func (s *Server) warn(cause, message string, err error, cure string) {
	if !errors.Is(err, crosscast.ErrClosed) && !errors.Is(err, crosscast.ErrDraining) {
		s.config.Firsts.Warn(s.ns.Logger(), cause, "crosscast/ws: "+message+"; more for this cause is not logged",
			"error", err, "cure", cure)
	}
}

// ServeHTTP accepts anonymous clients.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { _, _ = s.Accept(w, r, Client{}) }

// check makes the checks of Connect before the upgrade, while the answer can still be an HTTP status.
func (c *Client) check() error {
	if len(c.User) > limit.Name {
		return &limit.Error{What: "user", Len: len(c.User), Max: limit.Name, Name: true}
	}
	for _, room := range c.Rooms {
		if room == "" || len(room) > limit.Name {
			return &limit.Error{What: "room", Len: len(room), Max: limit.Name, Name: true}
		}
	}
	return nil
}

// report calls OnError, a function of the application.
func (s *Server) report(socket *crosscast.Socket, event string, err error) {
	failed := guard.Call(func() error { s.o.OnError(socket, event, err); return nil })
	guard.Log(s.ns.Logger(), "ws.Options.OnError", failed)
}

// reportPanic reports err if it is a panic of the Envelope.
func (s *Server) reportPanic(socket *crosscast.Socket, err error) {
	if errors.As(err, new(*PanicError)) {
		s.report(socket, "", err)
	}
}

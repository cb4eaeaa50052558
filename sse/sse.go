package sse

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/wsinside"
	"github.com/crosscast/crosscast/ws"
)

// Options of a [Server], beside those of its [ws.Server]. The zero value works.
type Options struct {
	// PostLimit is the largest body of a POST, in bytes. A larger one gets status 413. As many bytes of a client may wait
	// to be read; one POST may always wait. Default 64 KiB; 1 byte to 1 GiB. A POST that is forwarded must also fit in
	// an instruction of the bus.
	PostLimit int
	// PostTimeout is how long the reading of a POST may take, and how long the answer of another node. Default 5 s;
	// above 0, and at most 1 h.
	PostTimeout time.Duration
	// MaxPosts is how many POSTs are under way at the same time, at most. Another one gets status 503, with Retry-After.
	// Default 256; at most 1,000,000.
	MaxPosts int
	// GapMargin is how much earlier than the last ID of a client that comes back its gap begins: for events under way, and
	// for what its node had not noticed yet. A node notices what it misses within four heartbeats, so with a longer
	// crosscast.Options.Heartbeat use four of these and 2 s. The clients of package client and client.js have the same
	// option. Default 6 s; above 0, and at most 1 h.
	GapMargin time.Duration
}

// A Server connects clients to a [ws.Server] by streams of server-sent events. Its methods may be called concurrently. It
// has no Close: the node closes its sockets, and the streams with them.
type Server struct {
	node   *crosscast.Node
	server *ws.Server
	inside wsinside.Server
	o      Options
	posts  chan struct{} // holds one for each POST under way
	misses misses
	stats  counters
}

// New returns a server whose clients become sockets of server, which belongs to node. The options of server hold for
// them, too: see the package documentation.
func New(node *crosscast.Node, server *ws.Server, o Options) (*Server, error) {
	if node == nil || server == nil {
		return nil, errors.New("crosscast/sse: New without a node or without a ws.Server")
	}
	s := &Server{node: node, server: server, inside: wsinside.Of(server), o: o}
	if ns, err := node.Of(s.inside.Namespace.Name()); err != nil || ns != s.inside.Namespace {
		return nil, errors.New("crosscast/sse: the ws.Server belongs to another node")
	}
	if s.inside.Binary {
		return nil, errors.New("crosscast/sse: the ws.Server has a binary Envelope, and streams are text")
	}
	s.o.PostLimit = cmp.Or(o.PostLimit, 64<<10)
	s.o.PostTimeout = cmp.Or(o.PostTimeout, 5*time.Second)
	s.o.MaxPosts = cmp.Or(o.MaxPosts, 256)
	s.o.GapMargin = cmp.Or(o.GapMargin, 6*time.Second)
	if err := cmp.Or(
		bounds.Size("crosscast/sse: Options.PostLimit", s.o.PostLimit, 1),
		bounds.Time("crosscast/sse: Options.PostTimeout", s.o.PostTimeout),
		bounds.Count("crosscast/sse: Options.MaxPosts", s.o.MaxPosts, 1e6),
		bounds.Time("crosscast/sse: Options.GapMargin", s.o.GapMargin),
	); err != nil {
		return nil, err
	}
	s.posts = make(chan struct{}, s.o.MaxPosts)
	s.misses.init()
	if err := node.OnRequest(forwarded, s.handleForwarded); err != nil {
		return nil, errtext.Errorf("crosscast/sse: %w", err)
	}
	return s, nil
}

// Accept serves a request, which the application has authenticated. What it does depends on the request:
//
//   - GET: it makes a socket, and returns when the stream has ended.
//   - POST: it passes the client's messages on to its stream. client.User must be that of the stream. The other fields
//     of client do not matter.
//   - GET for a websocket: it is [ws.Server.Accept].
//   - OPTIONS: it answers whether a page of another origin may do that. A browser sends no credentials with it. The client
//     does not matter.
//
// The client has got an answer in any case, also after an error. The error never has a secret in it.
func (s *Server) Accept(w http.ResponseWriter, r *http.Request, client ws.Client) error {
	if isWebsocket(r) {
		_, err := s.server.Accept(w, r, client)
		return err
	}
	if !s.inside.Config.AllowsOrigin(r) {
		return s.refuse(w, &refusal{"origin", "this page may not do that", http.StatusForbidden, 0})
	}
	allowPage(w, r)
	switch r.Method {
	case http.MethodGet:
		return s.stream(w, r, client)
	case http.MethodPost:
		return s.post(w, r, client.User)
	case http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Allow", "GET, POST, OPTIONS")
	return s.refuse(w, &refusal{"method", "only GET and POST are understood", http.StatusMethodNotAllowed, 0})
}

// ServeHTTP accepts anonymous clients.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { _ = s.Accept(w, r, ws.Client{}) }

// Reject ends a stream as [ws.Server.Reject] ends a connection: the client should not come back.
func (s *Server) Reject(w http.ResponseWriter, r *http.Request, text string) error {
	if r.Method != http.MethodGet || isWebsocket(r) {
		return s.server.Reject(w, r, text)
	}
	return s.connect(w, r, "", func(w http.ResponseWriter, r *http.Request) error { return s.server.Reject(w, r, text) })
}

// isWebsocket reports whether a request is the handshake of a websocket, or what a proxy has left of one: no stream is made
// for that.
func isWebsocket(r *http.Request) bool {
	return r.Method == http.MethodGet && (strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-Websocket-Key") != "")
}

// allowPage lets the browser give the answer to a page of another origin, which Options.Origins allows.
func allowPage(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, "+header)
		h.Set("Access-Control-Max-Age", "600")
	}
}

// A refusal is the error of a request that is not served. Its text has nothing of the request in it.
type refusal struct {
	cause  string // as in Stats
	text   string
	status int
	after  time.Duration // 0: the client may not just try again
}

func (r *refusal) Error() string { return r.text }

func (s *Server) refuse(w http.ResponseWriter, why *refusal) error {
	s.stats.refused.Count(why.cause)
	if why.cause != "gone" && why.cause != "busy" { // those are no faults
		s.inside.Config.Firsts.Warn(s.inside.Namespace.Logger(), "sse "+why.cause,
			"crosscast/sse: a request was refused; more for this cause is not logged", "error", why, "cause", why.cause)
	}
	if why.after > 0 {
		seconds := (why.after + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	http.Error(w, why.text, why.status)
	return errtext.Errorf("crosscast/sse: %w", why)
}

// streams are those of all servers of this process, by ID.
var streams struct {
	sync.RWMutex // guards m
	m            map[string]*stream
}

func register(st *stream) {
	streams.Lock()
	defer streams.Unlock()
	if streams.m == nil {
		streams.m = make(map[string]*stream)
	}
	streams.m[st.id] = st
}

func unregister(st *stream) {
	streams.Lock()
	defer streams.Unlock()
	delete(streams.m, st.id)
}

// stream serves a GET.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, client ws.Client) error {
	return s.connect(w, r, client.User, func(w http.ResponseWriter, r *http.Request) error {
		_, err := s.server.Accept(w, r, client)
		return err
	})
}

// connect makes a websocket's handshake of a request, and serves the stream that carries its frames.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, user string, accept func(http.ResponseWriter, *http.Request) error) error {
	rc := http.NewResponseController(w)
	if !canFlush(w) || rc.SetWriteDeadline(time.Now().Add(s.inside.Config.WriteTimeout)) != nil {
		return s.refuse(w, &refusal{"response", "a middleware's http.ResponseWriter needs a method Unwrap", http.StatusInternalServerError, 0})
	}
	st := &stream{
		w: w, rc: rc, limit: s.o.PostLimit, node: s.node.ID(), namespace: s.inside.Namespace.Name(), user: user,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	secret := st.mint()
	answer := &handshake{w: w, stream: st, header: make(http.Header)}
	answer.begin = func() error {
		register(st)
		s.stats.streams.Add(1)
		return st.begin(s.hello(st, secret, answer.header.Get("Sec-Websocket-Protocol")), s.absence(r))
	}
	defer func() { // also after a panic of the application's code
		st.detach()
		if answer.begun {
			unregister(st)
			s.stats.streams.Add(-1)
		}
	}()
	err := accept(answer, upgradeOf(r))
	if answer.begun {
		st.serve(r.Context())
	}
	return err
}

// mint draws the stream's ID and its secret, which it returns.
func (st *stream) mint() (secret string) {
	var random [idBytes + secretBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	st.id = encode(random[:idBytes])
	secret = encode(random[idBytes:])
	st.hash = hashOf(secret)
	return secret
}

// upgradeOf returns a websocket handshake with the values of a request that is none.
func upgradeOf(r *http.Request) *http.Request {
	up := r.Clone(r.Context())
	up.Proto, up.ProtoMajor, up.ProtoMinor = "HTTP/1.1", 1, 1
	for name := range up.Header {
		if strings.HasPrefix(name, "Sec-Websocket-") {
			delete(up.Header, name)
		}
	}
	if takesBytes(r) {
		up.Header.Set("Sec-WebSocket-Protocol", withBytes)
	}
	up.Header.Set("Connection", "Upgrade")
	up.Header.Set("Upgrade", "websocket")
	up.Header.Set("Sec-WebSocket-Version", "13")
	up.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==") // its proof is not sent to anybody
	return up
}

// withBytes is the subprotocol of package ws in which bytes are binary messages.
const withBytes = "crosscast.json.1"

// takesBytes reports whether a client asks for events "bytes", as client.js does.
func takesBytes(r *http.Request) bool {
	for accepted := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		if typ, params, err := mime.ParseMediaType(accepted); err == nil && typ == "text/event-stream" && params["protocol"] == withBytes {
			return true
		}
	}
	return false
}

// canFlush reports whether what is written to a response can be sent at once.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// counters are those of Stats.
type counters struct {
	streams          atomic.Int64
	posts, forwarded atomic.Uint64
	refused          tally
}

// Stats is a snapshot of a [Server]. The counters never fall. The statistics of the [ws.Server] have the sockets and
// events of streams, too.
type Stats struct {
	Streams int // open now

	// Posts counts the POSTs of clients that reached their streams, and Forwarded those of them that came to this node for
	// a stream of another one.
	Posts, Forwarded uint64
	// Refused counts refusals, by cause: "origin" (a page that Options.Origins does not allow), "method", "response" (a
	// middleware in the way), "posts" (more than MaxPosts), "size" (larger than PostLimit, or than the bus carries),
	// "body" (not read in time, empty, or not UTF-8), "token" (none, or malformed), "secret" (a foreign one), "user"
	// (another user than the stream's), "gone" (the stream, or its node), "busy" (as much as may wait waits), "misses"
	// (too many of the last four).
	Refused map[string]uint64
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{
		Streams: int(c.streams.Load()), Posts: c.posts.Load(), Forwarded: c.forwarded.Load(), Refused: c.refused.Snapshot(),
	}
}

// token is what the client presents.
func token(st *stream, secret string) string { return fmt.Sprintf("%s.%s.%s", st.node, st.id, secret) }

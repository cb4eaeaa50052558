// Package chat is a chat server, its web page and its client, on crosscast: what the programs of examples/chat share.
//
// Events of a client: joinRoom, a room ID; sendToRoom, {roomId, text}. Events to it: connected {id, node}; joined
// {roomId, node}; roomMessage {fromNode, fromSocketId, roomId, text, at}; gap {rooms, reason, since, until}: messages
// to these rooms (null: to any) may be missing; error {message}.
package chat

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
)

// Message is what everyone in a room gets.
type Message struct {
	FromNode     string `json:"fromNode"`
	FromSocketID string `json:"fromSocketId"`
	RoomID       string `json:"roomId"`
	Text         string `json:"text"`
	At           string `json:"at"`
}

// Joined answers joinRoom.
type Joined struct {
	RoomID string `json:"roomId"`
	Node   string `json:"node"`
}

// Connected greets a client.
type Connected struct {
	ID   crosscast.SocketID `json:"id"`
	Node string             `json:"node"`
}

// Gap tells a client that it may have missed messages.
type Gap struct {
	Rooms  []string `json:"rooms"` // null: any
	Reason string   `json:"reason"`
	Since  string   `json:"since"`
	Until  string   `json:"until"`
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Redis returns a client with the settings that package redisadapter recommends.
func Redis(url string) (*redis.Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	o.DialerRetries = 1
	o.Protocol = 2
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}

// ServerOptions say what server to start.
type ServerOptions struct {
	Name    string                // of the node
	Address string                // to listen on
	Redis   redis.UniversalClient // nil: the server knows of no other
	Printer *Printer
}

// A Server is one chat server.
type Server struct {
	name    string
	node    *crosscast.Node
	p       *Printer
	url     string
	http    *http.Server
	stopped chan error
}

// StartServer starts a server, which ends with Close. ctx bounds the start.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	s := &Server{name: o.Name, p: o.Printer, stopped: make(chan error, 1)}
	var started atomic.Pointer[crosscast.Node] // gaps may come before Start has returned, and clients have not
	options := crosscast.Options{
		Name: o.Name, Logger: s.p.logger(o.Name),
		OnGap: func(g crosscast.Gap) {
			if n := started.Load(); n != nil {
				s.gap(n, &g)
			}
		},
		OnLoss: func(l crosscast.Loss) { s.print("lost: %d emissions: %v", l.Instructions, l.Err) },
	}
	if o.Redis != nil {
		options.Adapter = redisadapter.New(o.Redis, redisadapter.Options{Logger: options.Logger})
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, err
	}
	if s.node, err = crosscast.Start(ctx, options); err != nil {
		_ = listener.Close()
		return nil, err
	}
	started.Store(s.node)
	handler, err := s.handler()
	if err != nil {
		_ = listener.Close()
		return nil, errors.Join(err, s.node.Close(ctx))
	}
	s.url = fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	s.http = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	go func() { s.stopped <- s.http.Serve(listener) }()
	s.print("listening on %s", s.url)
	return s, nil
}

// URL is where the server's page is.
func (s *Server) URL() string { return s.url }

// Node is the server's node.
func (s *Server) Node() *crosscast.Node { return s.node }

// Run returns when ctx ends, after closing the server, or when serving fails.
func (s *Server) Run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.stopped:
		s.stopped <- http.ErrServerClosed
	}
	stop, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return errors.Join(err, s.Close(stop))
}

// Close stops accepting, tells the clients, and takes the node out of the cluster.
func (s *Server) Close(ctx context.Context) error {
	s.print("stopping")
	err := s.http.Shutdown(ctx)
	err = errors.Join(err, s.node.Close(ctx))
	if served := <-s.stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (s *Server) print(format string, args ...any) { s.p.Print(s.name, format, args...) }

func (s *Server) handler() (http.Handler, error) {
	sockets, err := ws.New(s.node.Namespace, ws.Options{
		Events: ws.Events{"joinRoom": ws.Typed(s.joinRoom), "sendToRoom": ws.Typed(s.sendToRoom)},
		OnConnect: func(ctx context.Context, c *crosscast.Socket) {
			s.print("connected: %s", c.ID())
			_ = c.Emit(ctx, "connected", Connected{c.ID(), s.name}) // fails only when the client has left
		},
		OnDisconnect: func(_ context.Context, c *crosscast.Socket, reason crosscast.Reason) {
			s.print("disconnected: %s (%s)", c.ID(), reason)
		},
		OnError: func(c *crosscast.Socket, event string, err error) { s.print("%s of %s: %v", event, c.ID(), err) },
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /client.js", ws.ClientJS)
	mux.Handle("GET /ws", sockets)
	mux.HandleFunc("POST /emit/{roomId}", s.emitOverHTTP)
	mux.HandleFunc("GET /stats", s.stats)
	return http.NewCrossOriginProtection().Handler(mux), nil
}

func (s *Server) joinRoom(ctx context.Context, c *crosscast.Socket, room string) error {
	err := c.Join(ctx, room)
	if err != nil && !errors.Is(err, crosscast.ErrNotConnected) {
		return err
	}
	// Without the link to Redis the client hears this server's clients at once, and the others' once the link is back.
	s.print("%s joined %q", c.ID(), room)
	return c.Emit(ctx, "joined", Joined{room, s.name})
}

type sendToRoom struct {
	RoomID string `json:"roomId"`
	Text   string `json:"text"`
}

func (s *Server) sendToRoom(ctx context.Context, c *crosscast.Socket, m sendToRoom) error {
	err := s.broadcast(ctx, m.RoomID, m.Text, string(c.ID()))
	if errors.Is(err, crosscast.ErrNotConnected) {
		return ws.Errorf("sent to the clients of this server only: %v", err)
	}
	return err
}

func (s *Server) broadcast(ctx context.Context, room, text, from string) error {
	m := Message{FromNode: s.name, FromSocketID: from, RoomID: room, Text: text, At: timestamp(time.Now())}
	err := s.node.To(room).Emit(ctx, "roomMessage", m)
	if err == nil {
		s.print("broadcast to %q from %s: %.100q", room, from, text)
	}
	return err
}

// gap tells the clients of this server that messages may be missing, before they get anything later.
func (s *Server) gap(n *crosscast.Node, g *crosscast.Gap) {
	m := Gap{Reason: string(g.Reason), Since: timestamp(g.Since), Until: timestamp(g.Until)}
	ctx := context.Background() // Local: does not wait
	if g.Names == nil {
		s.print("messages to any room may be missing: %s", g.Reason)
		_ = n.Everyone().Local().Emit(ctx, "gap", m)
		return
	}
	for _, a := range g.Names {
		if a.Space == crosscast.RoomSpace {
			m.Rooms = append(m.Rooms, a.Name)
		}
	}
	s.print("messages to %q may be missing: %s", m.Rooms, g.Reason)
	for rooms := range slices.Chunk(m.Rooms, 500) {
		m.Rooms = rooms
		_ = n.To(rooms...).Local().Emit(ctx, "gap", m)
	}
}

//go:embed page/index.html
var page []byte

func servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; img-src data:; "+
		"script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; "+
		"frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(page)
}

// maxBody is the size of the largest body of POST /emit.
const maxBody = 1 << 20

func (s *Server) emitOverHTTP(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("roomId")
	var body struct {
		Text string `json:"text"`
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &body)
	}
	if err == nil {
		body.Text = cmp.Or(body.Text, "hello from HTTP")
		err = s.broadcast(r.Context(), room, body.Text, "HTTP")
	}
	if err != nil {
		writeJSON(w, statusOf(err), map[string]any{"ok": false, "error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, struct {
		OK     bool   `json:"ok"`
		Node   string `json:"node"`
		RoomID string `json:"roomId"`
		Text   string `json:"text"`
	}{true, s.name, room, body.Text})
}

func statusOf(err error) int {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), errors.Is(err, crosscast.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &syntax), errors.As(err, &typ), errors.Is(err, crosscast.ErrInvalidName),
		errors.Is(err, io.ErrUnexpectedEOF):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable // the link to Redis, or this server, is down
}

func (s *Server) stats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"node": s.name, "id": s.node.ID(), "stats": s.node.Stats()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// Package chat is a chat server and its web page, on crosscast: what examples/chat and examples/socketio/server share.
//
// A client says its name in the query of its request. Its events: joinRoom, a room ID; sendToRoom, {roomId, text}. Events
// to it: connected {id, name, node}; joined {roomId, node}; roomMessage {from, fromNode, fromSocketId, roomId, text, at}.
// The bindings tell clients by themselves that messages may be missing.
package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
)

// Message is what everyone in a room gets.
type Message struct {
	From         string `json:"from"` // the name
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
	Name string             `json:"name"`
	Node string             `json:"node"`
}

// Name returns the name in a client's query. There is no login here, so anybody can have any name.
func Name(query url.Values) string {
	const most = 40 // bytes
	name := strings.TrimSpace(query.Get("name"))
	if name == "" || len(name) > most || !utf8.ValidString(name) {
		return "somebody"
	}
	return name
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// SendToRoom is what a client says.
type SendToRoom struct {
	RoomID string `json:"roomId"`
	Text   string `json:"text"`
}

// A Protocol is what differs between the chats.
type Protocol struct {
	// Adapter makes what the servers meet with.
	Adapter func(redisURL string, log *slog.Logger) crosscast.Adapter
	// Clients adds to mux what clients connect to, with s's handlers, and the scripts of the page: client.js, a client of
	// the protocol, and connect.js, which has the function that the page connects with.
	Clients func(s *Server, mux *http.ServeMux) error
	// Errorf makes an error that the client is told.
	Errorf func(format string, args ...any) error
}

// ServerOptions say what server to start.
type ServerOptions struct {
	Name     string    // of the node
	Address  string    // to listen on
	Protocol *Protocol //
	RedisURL string    // empty: the server knows of no other
	Printer  *Printer
	Framed   bool // other pages of this machine may show the page inside of theirs
}

// A Server is one chat server.
type Server struct {
	name     string
	protocol *Protocol
	node     *crosscast.Node
	p        *Printer
	framed   bool
	url      string
	http     *http.Server
	stopped  chan error
}

// StartServer starts a server, which ends with Close. ctx bounds the start.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	s := &Server{name: o.Name, protocol: o.Protocol, p: o.Printer, framed: o.Framed, stopped: make(chan error, 1)}
	options := crosscast.Options{
		Name: o.Name, Logger: s.p.logger(o.Name),
		OnGap:  func(_ *crosscast.Node, g crosscast.Gap) { s.print("messages may be missing: %s", g.Reason) },
		OnLoss: func(_ *crosscast.Node, l crosscast.Loss) { s.print("lost: %d emissions: %v", l.Instructions, l.Err) },
	}
	if o.RedisURL != "" {
		options.Adapter = o.Protocol.Adapter(o.RedisURL, options.Logger)
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, err
	}
	if s.node, err = crosscast.Start(ctx, options); err != nil {
		_ = listener.Close()
		return nil, err
	}
	handler, err := s.handler()
	if err != nil {
		_ = listener.Close()
		return nil, errors.Join(err, s.node.Close(ctx))
	}
	s.url = fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	go func() { s.stopped <- s.http.Serve(listener) }()
	s.print("listening on %s", s.url)
	return s, nil
}

// URL is where the server's page is.
func (s *Server) URL() string { return s.url }

// Node is the server's node.
func (s *Server) Node() *crosscast.Node { return s.node }

// Run returns when ctx ends, after sending the clients away and closing the server, or when serving fails.
func (s *Server) Run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.stopped:
		s.stopped <- http.ErrServerClosed
	}
	stop, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	// There is no load balancer here, which would need some seconds of notice.
	err = errors.Join(err, s.node.Drain(stop, crosscast.DrainOptions{Notice: -1, Window: 2 * time.Second}))
	return errors.Join(err, s.Close(stop))
}

// Close takes the node out of the cluster, which ends the clients' connections, and then stops serving. The other way
// round http.Server.Shutdown would wait for requests that last, such as streams of events.
func (s *Server) Close(ctx context.Context) error {
	s.print("stopping")
	err := s.node.Close(ctx)
	err = errors.Join(err, s.http.Shutdown(ctx))
	if served := <-s.stopped; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (s *Server) print(format string, args ...any) { s.p.Print(s.name, format, args...) }

// Connected greets a client.
func (s *Server) Connected(ctx context.Context, c *crosscast.Socket) {
	s.print("connected: %s (%s)", c.User(), c.ID())
	_ = c.Emit(ctx, "connected", Connected{c.ID(), c.User(), s.name}) // fails only when the client has left
}

// Disconnected prints that a client has left.
func (s *Server) Disconnected(_ context.Context, c *crosscast.Socket, reason crosscast.Reason) {
	s.print("disconnected: %s (%s)", c.User(), reason)
}

// Failed prints what went wrong with an event of a client. c may be nil.
func (s *Server) Failed(c *crosscast.Socket, event string, err error) {
	who := "a new client"
	if c != nil {
		who = c.User()
	}
	s.print("%s of %s: %v", event, who, err)
}

// JoinRoom handles joinRoom.
func (s *Server) JoinRoom(ctx context.Context, c *crosscast.Socket, room string) error {
	if err := c.Join(ctx, room); err != nil {
		return err
	}
	// Without the link to Redis the client hears this server's clients at once, and the others' once the link is back.
	s.print("%s joined %q", c.User(), room)
	return c.Emit(ctx, "joined", Joined{room, s.name})
}

// SendToRoom handles sendToRoom.
func (s *Server) SendToRoom(ctx context.Context, c *crosscast.Socket, m SendToRoom) error {
	err := s.broadcast(ctx, m.RoomID, m.Text, c.User(), string(c.ID()))
	if errors.Is(err, crosscast.ErrNotConnected) {
		return s.protocol.Errorf("sent to the clients of this server only: %v", err)
	}
	return err
}

func (s *Server) broadcast(ctx context.Context, room, text, from, id string) error {
	m := Message{From: from, FromNode: s.name, FromSocketID: id, RoomID: room, Text: text, At: timestamp(time.Now())}
	err := s.node.To(room).Emit(ctx, "roomMessage", m)
	if err == nil {
		s.print("broadcast to %q from %s: %.100q", room, from, text)
	}
	return err
}

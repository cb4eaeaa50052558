// Command server serves gorilla/websocket connections with a crosscast node: each gets a Queue over its blocking
// WriteMessage. A client joins the room that its URL names, and what it sends goes to everyone else there:
//
//	go run ./server -addr localhost:8080
//	websocat ws://localhost:8080/?room=lobby
//	> {"event":"say","data":"hello"}
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
	"github.com/gorilla/websocket"
)

const (
	writeTimeout = 10 * time.Second
	pongTimeout  = 60 * time.Second
	pingInterval = pongTimeout * 9 / 10
	maxMessage   = 64 << 10 // bytes
	maxEvents    = 16       // that wait to be handled: 1 MiB at most
)

var upgrader = websocket.Upgrader{}

// serve connects every websocket to node.
func serve(node *crosscast.Node) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // Upgrade has answered
		}
		queue := newQueue(conn)
		socket, err := node.Connect(r.Context(), queue, crosscast.ConnectOptions{Rooms: []string{r.FormValue("room")}})
		if err != nil {
			log.Print(err)
			queue.Close(reasonOf(err))
			return
		}
		_ = socket.Emit(r.Context(), "ready", nil) // from here on the client misses nothing
		go ping(conn, queue)
		events := make(chan message, maxEvents)
		handled := make(chan struct{})
		go func() {
			defer close(handled)
			for m := range events {
				handle(r.Context(), socket, queue, m)
			}
		}()
		reason := read(conn, socket, events)
		close(events)
		<-handled // what the client has sent before it left
		socket.Close(reason)
		<-queue.Done()
	}
}

// reasonOf is why a connection ends that did not become a socket.
func reasonOf(err error) crosscast.Reason {
	switch {
	case errors.Is(err, crosscast.ErrClosed):
		return crosscast.ReasonShutdown
	case errors.Is(err, crosscast.ErrInvalidName):
		return crosscast.ReasonProtocol // the client has named the room
	}
	return crosscast.ReasonInternal
}

// newQueue is all that gorilla's connection needs to be a crosscast.Conn. It allows one writer at a time, which the
// queue is; WriteControl and Close may run beside it.
func newQueue(conn *websocket.Conn) *crosscast.Queue {
	write := func(frame []byte) error {
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		return conn.WriteMessage(websocket.TextMessage, frame)
	}
	return crosscast.NewQueue(write, crosscast.QueueOptions{
		OnClose: func(reason crosscast.Reason) {
			code := websocket.CloseNormalClosure
			switch reason {
			case crosscast.ReasonShutdown:
				code = websocket.CloseGoingAway
			case crosscast.ReasonSlow, crosscast.ReasonTimeout:
				code = websocket.ClosePolicyViolation
			case crosscast.ReasonProtocol:
				code = websocket.CloseProtocolError
			case crosscast.ReasonInternal:
				code = websocket.CloseInternalServerErr
			}
			text := websocket.FormatCloseMessage(code, string(reason))
			_ = conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second)) // it may be broken
			_ = conn.Close()                                                                 // ends read, and a write that blocks
		},
	})
}

// A message of a client is an event, or without one the reply to an EmitAck.
type message struct {
	Event string
	Data  json.RawMessage
	ID    uint64
	Error *string
}

// read reads what the client sends until the connection ends. It waits while maxEvents events wait to be handled.
func read(conn *websocket.Conn, socket *crosscast.Socket, events chan<- message) crosscast.Reason {
	conn.SetReadLimit(maxMessage)
	alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(pongTimeout)) }
	conn.SetPongHandler(alive)
	for {
		if alive("") != nil { // also after a pause, in which no pong could be read
			return crosscast.ReasonLeft
		}
		typ, text, err := conn.ReadMessage()
		var network net.Error
		switch {
		case errors.As(err, &network) && network.Timeout():
			return crosscast.ReasonTimeout
		case err != nil:
			return crosscast.ReasonLeft
		}
		var m message
		if typ != websocket.TextMessage || !utf8.Valid(text) || json.Unmarshal(text, &m) != nil {
			return crosscast.ReasonProtocol
		}
		switch {
		case m.Event != "":
			events <- m
		case m.ID != 0:
			handleReply(socket, m)
		default:
			return crosscast.ReasonProtocol
		}
	}
}

// handleReply passes on a reply at once: a handler might wait for it. ErrDropped means that nobody waits any more.
func handleReply(socket *crosscast.Socket, m message) {
	if m.Error == nil {
		err := socket.Reply(m.ID, m.Data)
		if err == nil || errors.Is(err, crosscast.ErrDropped) {
			return
		}
		log.Print(err)
	}
	_ = socket.Refuse(m.ID) // the client counts as silent at once
}

// handle sends what the client says to the others in its rooms, and replies if the client asked for it.
func handle(ctx context.Context, socket *crosscast.Socket, queue *crosscast.Queue, m message) {
	var payload any // nil when there is no data
	if m.Data != nil {
		payload = m.Data
	}
	reply := struct {
		ID    uint64 `json:"id"`
		Error string `json:"error,omitempty"`
	}{ID: m.ID}
	if err := socket.To(socket.Rooms()...).Emit(ctx, m.Event, payload); err != nil {
		log.Print(err)
		reply.Error = "not sent"
	}
	if m.ID != 0 {
		frame, _ := json.Marshal(reply) // a number and a text
		_ = queue.SendFrame(frame)      // the queue deals with a client that does not take it
	}
}

// ping keeps a connection alive on which nothing is said, and finds out when it is not.
func ping(conn *websocket.Conn, queue *crosscast.Queue) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				_ = conn.Close() // ends read, which closes the socket
				return
			}
		case <-queue.Done():
			return
		}
	}
}

func main() {
	addr := flag.String("addr", "localhost:8080", "where to listen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	// With an adapter, such as redisadapter's, several of these servers behave like one.
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr: *addr, Handler: serve(node), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
	}
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Print(err)
			stop()
		}
	}()
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := errors.Join(node.Close(closing), server.Shutdown(closing)); err != nil {
		log.Print(err)
	}
}

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
	maxMessage   = 64 << 10
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
			queue.Close(crosscast.ReasonProtocol)
			return
		}
		_ = socket.Emit(r.Context(), "ready", nil) // from here on the client misses nothing
		go ping(conn, queue)
		socket.Close(read(r.Context(), conn, socket))
		<-queue.Done()
	}
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
				code = websocket.CloseServiceRestart
			case crosscast.ReasonSlow:
				code = websocket.CloseTryAgainLater
			case crosscast.ReasonProtocol:
				code = websocket.CloseUnsupportedData
			}
			text := websocket.FormatCloseMessage(code, string(reason))
			_ = conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second)) // it may be broken
			_ = conn.Close()                                                                 // ends read, and a write that blocks
		},
	})
}

// read sends what the client says to the others in its rooms, until the connection ends.
func read(ctx context.Context, conn *websocket.Conn, socket *crosscast.Socket) crosscast.Reason {
	conn.SetReadLimit(maxMessage)
	alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(pongTimeout)) }
	conn.SetPongHandler(alive)
	if alive("") != nil {
		return crosscast.ReasonLeft
	}
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return crosscast.ReasonLeft
		}
		var message struct {
			Event string
			Data  json.RawMessage
		}
		if !utf8.Valid(text) || json.Unmarshal(text, &message) != nil || message.Event == "" {
			return crosscast.ReasonProtocol
		}
		var payload any // nil when there is no data
		if message.Data != nil {
			payload = message.Data
		}
		if err := socket.To(socket.Rooms()...).Emit(ctx, message.Event, payload); err != nil {
			log.Print(err)
		}
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

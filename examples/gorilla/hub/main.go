package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/gorilla/websocket"
)

const (
	writeTimeout = 10 * time.Second
	pongTimeout  = 60 * time.Second
	pingInterval = pongTimeout * 9 / 10
	maxText      = 4096
)

// A Hub has the clients of this process.
type Hub struct {
	node       *crosscast.Node
	clients    map[*Client]bool
	broadcast  chan []byte
	register   chan *Client
	unregister chan *Client
}

func newHub() *Hub {
	h := &Hub{
		clients:    make(map[*Client]bool),
		broadcast:  make(chan []byte),
		register:   make(chan *Client),
		unregister: make(chan *Client),
	}
	go h.run()
	return h
}

// connect makes one hub of those of all processes: what one emits to "chat", each broadcasts to its own clients.
func (h *Hub) connect(ctx context.Context, a crosscast.Adapter) (err error) {
	if h.node, err = crosscast.Start(ctx, crosscast.Options{Adapter: a}); err == nil {
		_, err = h.node.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { h.broadcast <- m.Payload.Data },
		}, "chat")
	}
	return err
}

func (h *Hub) run() {
	for {
		select {
		case c := <-h.register:
			h.clients[c] = true
		case c := <-h.unregister:
			h.drop(c)
		case text := <-h.broadcast:
			if !utf8.Valid(text) {
				continue // who gets it would end the connection
			}
			for c := range h.clients {
				select {
				case c.send <- text:
				default: // too slow
					h.drop(c)
				}
			}
		}
	}
}

func (h *Hub) drop(c *Client) {
	if h.clients[c] {
		delete(h.clients, c)
		close(c.send)
	}
}

// A Client is one connection, with a goroutine that reads and one that writes.
type Client struct {
	hub  *Hub
	conn *websocket.Conn
	send chan []byte
}

var upgrader = websocket.Upgrader{}

func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	c := &Client{hub: h, conn: conn, send: make(chan []byte, 256)}
	h.register <- c
	go c.write()
	c.read()
}

func (c *Client) read() {
	defer func() {
		c.hub.unregister <- c
		warn(c.conn.Close())
	}()
	c.conn.SetReadLimit(maxText)
	alive := func(string) error { return c.conn.SetReadDeadline(time.Now().Add(pongTimeout)) }
	c.conn.SetPongHandler(alive)
	warn(alive(""))
	for {
		_, text, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		warn(c.hub.node.To("chat").Emit(context.Background(), "text", crosscast.Bytes(text)))
	}
}

func (c *Client) write() {
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	defer c.conn.Close() // ends read
	for {
		var err error
		select {
		case text, open := <-c.send:
			warn(c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)))
			if !open {
				_ = c.conn.WriteMessage(websocket.CloseMessage, nil) // unless the client has gone
				return
			}
			err = c.conn.WriteMessage(websocket.TextMessage, text)
		case <-ping.C:
			err = c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout))
		}
		if err != nil {
			return
		}
	}
}

// warn logs an error that nobody can act on.
func warn(err error) {
	if err != nil {
		log.Print(err)
	}
}

func main() {
	addr := flag.String("addr", "localhost:8080", "where to listen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	hub := newHub()
	if err := hub.connect(ctx, redisadapter.Dial("redis://localhost:6379", redisadapter.Options{})); err != nil {
		log.Fatal(err)
	}
	defer hub.node.Close(context.Background())
	server := &http.Server{Addr: *addr, Handler: hub, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}
	context.AfterFunc(ctx, func() { warn(server.Close()) })
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

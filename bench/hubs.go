package main

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
)

// Servers by hand: they receive from go-redis, and broadcast to the clients of a library without clusters.

// hear calls broadcast with what a client is to get for each message.
func hear(p *proc, broadcast func(message []byte)) error {
	return receiveGoRedis(p, func(payload []byte, _ int) { broadcast(envelope(nil, payload)) })
}

// hubBuffer is how many messages may wait for a client. The window is one of averages, so a client may be further behind.
// Where memory counts, it is what both have by default.
func (p *proc) hubBuffer() int {
	if p.Clients > 1000 {
		return 256
	}
	return 16 * p.Window
}

// serveGorilla is gorilla's usual hub: a channel and a goroutine for each client.
func serveGorilla(p *proc) (http.Handler, error) {
	var mu sync.Mutex
	var members []chan []byte
	err := hear(p, func(message []byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range members {
			select {
			case m <- message:
			default: // the client is too slow
			}
		}
	})
	upgrader := websocket.Upgrader{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		member := make(chan []byte, p.hubBuffer())
		mu.Lock()
		members = append(members, member)
		mu.Unlock()
		go func() {
			var pings <-chan time.Time
			if p.Ping > 0 {
				pings = time.Tick(p.Ping)
			}
			for {
				var err error
				select {
				case m := <-member:
					err = conn.WriteMessage(websocket.TextMessage, m)
				case <-pings:
					err = conn.WriteMessage(websocket.PingMessage, nil)
				}
				if err != nil {
					return
				}
			}
		}()
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}), err
}

func serveMelody(p *proc) (http.Handler, error) {
	m := melody.New()
	m.Config.MessageBufferSize = p.hubBuffer()
	if p.Ping > 0 {
		m.Config.PingPeriod = p.Ping
	}
	err := hear(p, func(message []byte) {
		if err := m.Broadcast(message); err != nil {
			p.fail(err)
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = m.HandleRequest(w, r) }), err
}

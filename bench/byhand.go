package main

import (
	"io"
	"net"
	"net/http"
	"sync"
)

// A hub has frames by hand, and for each client one buffer, which is not bounded, swapped under a lock, and written at
// once. That is the least that a server can do for its clients.
type hub struct {
	mu      sync.Mutex
	members []*member
}

// serveByHand is the limit.
func serveByHand(p *proc) (http.Handler, error) {
	h := &hub{}
	return h, hear(p, h.broadcast)
}

func (h *hub) broadcast(message []byte) {
	bytes := frame(message)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.members {
		m.mu.Lock()
		m.waiting = append(m.waiting, bytes...)
		wake := !m.writing
		m.writing = true
		m.mu.Unlock()
		if wake {
			m.wake <- struct{}{}
		}
	}
}

// frame makes a frame of a text of 126 to 65,535 bytes.
func frame(message []byte) []byte {
	size := len(message)
	return append(append(make([]byte, 0, 4+size), 0x81, 126, byte(size>>8), byte(size)), message...)
}

type member struct {
	conn    net.Conn
	wake    chan struct{}
	mu      sync.Mutex
	waiting []byte
	writing bool
}

func (m *member) write() {
	var b []byte
	for range m.wake {
		for {
			m.mu.Lock()
			b, m.waiting = m.waiting, b[:0]
			m.writing = len(b) > 0
			m.mu.Unlock()
			if len(b) == 0 {
				break
			}
			if _, err := m.conn.Write(b); err != nil {
				return
			}
		}
	}
}

// accept accepts a client. It does not prove that it has read the key, and the clients do not check it.
func accept(w http.ResponseWriter) (net.Conn, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	}
	return conn, err
}

func (h *hub) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	conn, err := accept(w)
	if err != nil {
		return
	}
	m := &member{conn: conn, wake: make(chan struct{}, 1)}
	go m.write()
	h.mu.Lock()
	h.members = append(h.members, m)
	h.mu.Unlock()
}

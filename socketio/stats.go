package socketio

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats is a snapshot of a [Server]. What happened only rises.
type Stats struct {
	Connections int // open now; each carries the sockets of one client in several namespaces

	In, Out uint64 // Socket.IO packets that clients sent, and packets written to them, pings not included
	// Malformed counts connections that were closed because of what the client sent: no packet, or one that it may not
	// send, or not now.
	Malformed uint64
	// Unhandled counts events that have no handler.
	Unhandled uint64
	// Timeouts counts connections that were closed because the client sent nothing, or did not connect to a namespace.
	Timeouts uint64
	// Refused counts what was refused, by cause. Requests: "transport" (polling, mostly), "session" (that wants to go on
	// after polling), "method", "upgrade" (no websocket), "version" (of Engine.IO, clients before version 3),
	// "headers" (more than MaxHeaders), "websocket" (no valid handshake, or an origin that is not one of Options.Origins).
	// Connects to a namespace: "namespace" (there is none of that name), "auth" (larger than MaxAuth), "authenticate"
	// (Authenticate, or what it returned).
	Refused map[string]uint64
}

type counters struct {
	in, out, malformed, unhandled, timeouts atomic.Uint64

	mu      sync.Mutex // guards what follows
	refused map[string]uint64
}

// refuse counts a refusal. There are only a few causes.
func (c *counters) refuse(cause string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[string]uint64)
	}
	c.refused[cause]++
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	connections := len(s.conns)
	s.mu.Unlock()
	c := &s.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := maps.Clone(c.refused)
	if refused == nil {
		refused = make(map[string]uint64)
	}
	return Stats{
		Connections: connections, In: c.in.Load(), Out: c.out.Load(), Malformed: c.malformed.Load(),
		Unhandled: c.unhandled.Load(), Timeouts: c.timeouts.Load(), Refused: refused,
	}
}

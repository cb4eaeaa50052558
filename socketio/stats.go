package socketio

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats is a snapshot of a [Server]. The counters never fall.
type Stats struct {
	Connections int // open now; one for each client, whatever its number of namespaces

	In, Out uint64 // Socket.IO packets from and to clients, without pings
	// Malformed counts connections that were closed because of a malformed packet, or of a packet that the client may
	// not send, or not now.
	Malformed uint64
	// Unhandled counts events without a handler.
	Unhandled uint64
	// Timeouts counts connections that were closed because the client sent nothing, connected to no namespace in time,
	// or did not send an attachment in time.
	Timeouts uint64
	// Refused counts refusals, by cause. Causes for requests: "transport" (mostly polling), "session" (an upgrade from
	// polling), "method", "upgrade" (no websocket), "version" (of Engine.IO: clients before version 3), "headers" (more
	// than MaxHeaders), "websocket" (an invalid handshake, or an origin that Options.Origins does not allow). Causes
	// for connects to a namespace: "namespace" (none of that name), "auth" (larger than MaxAuth), "authenticate"
	// (Authenticate returned an error, or its socket could not be made).
	Refused map[string]uint64
}

type counters struct {
	in, out, malformed, unhandled, timeouts atomic.Uint64

	mu      sync.Mutex // guards the fields below
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

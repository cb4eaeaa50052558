package ws

import (
	"sync/atomic"

	"github.com/crosscast/crosscast/internal/wsconn"
)

// An EventPolicy is what happens to the events that a client sends above Options.EventRate.
type EventPolicy uint8

const (
	// EventPause lets the events wait for their turn, up to Options.EventBytes. Then reading pauses. A pause loses
	// nothing. When the client leaves, its events still wait for their turns, for up to Options.LeaveTimeout.
	EventPause EventPolicy = iota
	// EventRefuse answers the event with the error "too many events", in its place.
	EventRefuse
	// EventClose closes the socket, with [crosscast.ReasonFlood].
	EventClose
)

// Stats is a snapshot of a [Server]. The counters never fall.
type Stats struct {
	Connections int // open now, with those that are about to be closed

	// Unhandled counts events without a handler.
	Unhandled uint64
	// Paused counts the pauses of EventPause.
	Paused uint64
	// Refused counts refusals, by cause. Causes for requests: "client" (a Client of Accept with a name that is too
	// long), "clients" (more than MaxClients), "user clients" (more than MaxUserClients or MaxUserClientsTotal),
	// "subprotocol" (a list of them that is malformed or too long, or only unknown versions of crosscast's),
	// "handshakes" (above HandshakeRate), "draining" (the node drains, or is closed), "websocket" (an invalid handshake,
	// or an origin that Options.Origins does not allow). Cause for a request that was upgraded: "connect" (its socket could
	// not be made). Causes for events: "events" (above EventRate: refused, or their connection closed), "malformed" (a message
	// that is none of the protocol, which is answered with an error), "join" (a room that AllowJoin refuses for good, or one
	// above MaxRooms; not a join that is put off), "presence" (a room that the client is not in, or that AllowPresence does
	// not open, or one too many).
	Refused map[string]uint64
}

type counters struct {
	unhandled, paused atomic.Uint64
	refused           wsconn.Tally
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{
		Connections: s.door.Inside(), Unhandled: c.unhandled.Load(), Paused: c.paused.Load(), Refused: c.refused.Snapshot(),
	}
}

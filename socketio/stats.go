package socketio

import (
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// An EventPolicy is what happens to the events that a client sends above Options.EventRate.
type EventPolicy uint8

const (
	// EventPause lets the events wait for their turn, up to Options.EventBytes of each socket. Then reading pauses. A
	// pause loses nothing. When the client leaves, its events still wait for their turns, for up to
	// Options.LeaveTimeout.
	EventPause EventPolicy = iota
	// EventRefuse acknowledges the event with the error "too many events", in its place. If the client does not wait
	// for that, the event is only counted. A connect to a namespace gets a connect_error.
	EventRefuse
	// EventClose closes the whole connection, with [crosscast.ReasonFlood].
	EventClose
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
	// Paused counts the pauses of EventPause.
	Paused uint64
	// Refused counts refusals, by cause. Causes for requests: "transport" (mostly polling), "session" (an upgrade from
	// polling), "method", "upgrade" (no websocket), "version" (of Engine.IO: clients before version 3), "headers" (more
	// than MaxHeaders), "clients" (more than MaxClients), "handshakes" (above HandshakeRate), "draining" (the node drains,
	// or is closed), "websocket" (an invalid handshake, or an origin that Options.Origins does not allow). Causes for connects to a namespace: "namespace"
	// (none of that name), "auth" (larger than MaxAuth), "user clients" (more than MaxUserClients or
	// MaxUserClientsTotal), "authenticate" (Authenticate returned an error, or its socket could not be made). Cause for
	// events and connects: "events" (above EventRate: refused, or their connection closed).
	Refused map[string]uint64
	// Queues has the sums over the queues of all connections, open and closed. HighWater is the largest.
	// crosscast.Stats.Queues does not have them, because the sockets of a connection share one.
	Queues crosscast.QueueStats
}

type counters struct {
	in, out, malformed, unhandled, timeouts, paused atomic.Uint64

	refused wsconn.Tally
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	connections, queues := s.sumQueues()
	c := &s.stats
	return Stats{
		Connections: connections, Queues: queues, In: c.in.Load(), Out: c.out.Load(), Malformed: c.malformed.Load(),
		Unhandled: c.unhandled.Load(), Timeouts: c.timeouts.Load(),
		Paused: c.paused.Load(), Refused: c.refused.Snapshot(),
	}
}

// sumQueues returns the number of connections, and the sums over the queues of these and former ones.
func (s *Server) sumQueues() (connections int, sum crosscast.QueueStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum = s.queues
	for c := range s.conns {
		addQueue(&sum, c.Queue.Stats())
	}
	return len(s.conns), sum
}

func addQueue(sum *crosscast.QueueStats, q crosscast.QueueStats) {
	sum.QueuedFrames += q.QueuedFrames
	sum.QueuedBytes += q.QueuedBytes
	sum.BatchFrames += q.BatchFrames
	sum.BatchBytes += q.BatchBytes
	sum.HighWater = max(sum.HighWater, q.HighWater)
	sum.WrittenFrames += q.WrittenFrames
	sum.WrittenBytes += q.WrittenBytes
	sum.Dropped += q.Dropped
	sum.Starts += q.Starts
}

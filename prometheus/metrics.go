package prometheus

import (
	"time"

	"github.com/crosscast/crosscast"
)

type kind string

const (
	gauge     kind = "gauge"
	counter   kind = "counter"
	histogram kind = "histogram"
)

// A metric is one row of docs/metrics.md.
type metric struct {
	name   string
	kind   kind
	labels []string
	help   string
	read   func(s *snapshot, to sink)
}

var metrics = []metric{
	// The node.
	{"crosscast_ready", gauge, nil, "1 while the node is ready: it has reached the bus once, and does not drain or close.",
		func(s *snapshot, to sink) { to.bool(s.ready == nil) }},
	{"crosscast_sockets", gauge, nil, "Sockets that are open: one for each client, or for each of its namespaces.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Sockets)) }},
	{"crosscast_connects_total", counter, nil, "Sockets that were opened.",
		func(s *snapshot, to sink) { to.count(s.node.Connects) }},
	{"crosscast_disconnects_total", counter, []string{"reason"}, "Sockets that were closed, by crosscast.Reason. Slow clients have \"too slow\"; texts of the application's are \"application\".",
		func(s *snapshot, to sink) { each(to, s.node.Disconnects, nil) }},
	{"crosscast_rooms", gauge, nil, "Rooms with a socket on this node.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Rooms)) }},
	{"crosscast_users", gauge, nil, "Users with a socket on this node.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Users)) }},
	{"crosscast_memberships", gauge, nil, "Memberships of sockets in rooms.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Memberships)) }},
	{"crosscast_namespaces", gauge, nil, "Namespaces in use.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Namespaces)) }},
	{"crosscast_subscriptions", gauge, nil, "Subscriptions of the application's (Subscribe).",
		func(s *snapshot, to sink) { to.value(float64(s.node.Subscriptions)) }},
	{"crosscast_interests", gauge, nil, "Rooms and users that the node subscribes to on the bus.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Interests)) }},
	{"crosscast_delivered_total", counter, nil, "Messages that were handed to sockets and subscriptions.",
		func(s *snapshot, to sink) { to.count(s.node.Delivered) }},
	{"crosscast_dropped_total", counter, []string{"reason"}, "What the node did not pass on, by crosscast.DropReason.",
		func(s *snapshot, to sink) { each(to, s.node.Dropped, crosscast.DropReasons()) }},
	{"crosscast_panics_total", counter, nil, "Panics of the application's functions.",
		func(s *snapshot, to sink) { to.count(s.node.Panics) }},
	{"crosscast_gaps_total", counter, []string{"reason"}, "Stretches in which the node might have missed messages, by crosscast.GapReason.",
		func(s *snapshot, to sink) { each(to, s.node.GapReasons, crosscast.GapReasons()) }},
	{"crosscast_losses_total", counter, []string{"reason"}, "Runs of this node's emissions that peers might not have got, by crosscast.LossReason.",
		func(s *snapshot, to sink) { each(to, s.node.LossReasons, crosscast.LossReasons()) }},
	{"crosscast_queries_total", counter, []string{"outcome"}, "Questions to the cluster: complete, incomplete, closed before they were complete, or failed.",
		func(s *snapshot, to sink) {
			q := &s.node.Queries
			to.count(q.Complete, "complete")
			to.count(q.Incomplete, "incomplete")
			to.count(q.Closed, "closed")
			to.count(q.Failed, "failed")
		}},
	{"crosscast_commands_total", counter, []string{"command"}, "Commands of peers that the node has obeyed.",
		func(s *snapshot, to sink) {
			c := &s.node.Commands
			to.count(c.Joins, "join")
			to.count(c.Leaves, "leave")
			to.count(c.Disconnects, "disconnect")
		}},
	{"crosscast_joins_total", counter, nil, "Calls of Join, Connect and Subscribe that waited for the bus, and were confirmed.",
		func(s *snapshot, to sink) { to.count(s.node.Joins.Count) }},
	{"crosscast_join_seconds_total", counter, nil, "How long they have waited.",
		func(s *snapshot, to sink) { to.value(s.node.Joins.Total.Seconds()) }},

	// Clients' queues, of all bindings.
	{"crosscast_client_messages_total", counter, nil, "Messages that queues have written to clients.",
		func(s *snapshot, to sink) { to.count(s.queues().WrittenFrames) }},
	{"crosscast_client_bytes_total", counter, nil, "Bytes of these.",
		func(s *snapshot, to sink) { to.count(s.queues().WrittenBytes) }},
	{"crosscast_client_dropped_total", counter, nil, "Messages that queues have dropped, because clients are slow or gone.",
		func(s *snapshot, to sink) { to.count(s.queues().Dropped) }},
	{"crosscast_client_queued_messages", gauge, nil, "Messages that wait in the queues of clients.",
		func(s *snapshot, to sink) { to.value(float64(s.queues().QueuedFrames)) }},
	{"crosscast_client_queued_bytes", gauge, nil, "Bytes of these, as the limits count them.",
		func(s *snapshot, to sink) { to.value(float64(s.queues().QueuedBytes)) }},

	// The cluster.
	{"crosscast_peers", gauge, nil, "Other nodes that the node hears.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Peers)) }},
	{"crosscast_peers_suspected", gauge, nil, "Peers whose heartbeats are missing.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Suspects)) }},
	{"crosscast_peer_round_trip_worst_seconds", gauge, nil, "The latest round trip to the peer that is furthest away; 0: not measured.",
		func(s *snapshot, to sink) {
			worst := time.Duration(0)
			for i := range s.peers {
				worst = max(worst, s.peers[i].RoundTrip)
			}
			to.value(worst.Seconds())
		}},

	// The link and the adapter.
	{"crosscast_link_state", gauge, []string{"half", "state"}, "1 for the state that a half of the link is in, by crosscast.LinkState; 0 for the others.",
		func(s *snapshot, to sink) {
			for _, state := range crosscast.LinkStates() {
				to.bool(s.link.Publishing.State == state, "publishing", string(state))
				to.bool(s.link.Subscribing.State == state, "subscribing", string(state))
			}
		}},
	{"crosscast_link_changed_timestamp_seconds", gauge, []string{"half"}, "When a half of the link has entered its state. No sample: not known.",
		func(s *snapshot, to sink) {
			for half, h := range map[string]crosscast.LinkHalf{"publishing": s.link.Publishing, "subscribing": s.link.Subscribing} {
				if !h.Since.IsZero() {
					to.value(float64(h.Since.UnixMilli())/1e3, half)
				}
			}
		}},
	{"crosscast_link_busy", gauge, nil, "1 while a call of the application's keeps the link from being read.",
		func(s *snapshot, to sink) { to.bool(s.link.Busy) }},
	{"crosscast_reconnects_total", counter, nil, "Working links that replaced another working one.",
		func(s *snapshot, to sink) { to.count(s.node.Adapter.Reconnects) }},
	{"crosscast_denied_channels", gauge, nil, "Channels whose subscription the bus refuses.",
		func(s *snapshot, to sink) { to.value(float64(s.node.Adapter.Denied)) }},
	{"crosscast_bus_queue_bytes", gauge, nil, "Bytes that wait to be published.",
		func(s *snapshot, to sink) { to.value(float64(s.node.QueueBytes)) }},
	{"crosscast_instructions_total", counter, []string{"direction"}, "Instructions that the node has handled (in), and the adapter has accepted (out).",
		func(s *snapshot, to sink) {
			to.count(s.node.InstructionsIn, "in")
			to.count(s.node.InstructionsOut, "out")
		}},
	{"crosscast_bus_messages_total", counter, []string{"direction"}, "Messages on the bus.",
		func(s *snapshot, to sink) {
			to.count(s.node.Adapter.FramesIn, "in")
			to.count(s.node.Adapter.FramesOut, "out")
		}},
	{"crosscast_bus_bytes_total", counter, []string{"direction"}, "Bytes of these.",
		func(s *snapshot, to sink) {
			to.count(s.node.Adapter.BytesIn, "in")
			to.count(s.node.Adapter.BytesOut, "out")
		}},
	{"crosscast_bus_dropped_total", counter, []string{"reason"}, "What the adapter did not pass on, by its own reasons.",
		func(s *snapshot, to sink) { each(to, s.node.Adapter.Dropped, nil) }},

	// Times.
	{"crosscast_publish_seconds", histogram, nil, "From handing a batch to the bus until its outcome was known.",
		func(s *snapshot, to sink) { to.histogram(s.node.Adapter.Times.Publish) }},
	{"crosscast_echo_seconds", histogram, nil, "From publishing a message that this node also hears until it came back.",
		func(s *snapshot, to sink) { to.histogram(s.node.Adapter.Times.Echo) }},
	{"crosscast_receive_seconds", histogram, nil, "From the arrival of a message until it was handled; of one in 64. Needs Options.Histograms.",
		func(s *snapshot, to sink) { to.histogram(s.node.Adapter.Times.Receive) }},
	{"crosscast_client_queue_seconds", histogram, nil, "From the delivery of a message until it was written to a client; of one in 64. Needs Options.Histograms.",
		func(s *snapshot, to sink) { to.histogram(s.node.Times.Queue) }},
	{"crosscast_peer_round_trip_seconds", histogram, nil, "Round trips to peers, of each every tenth heartbeat. Needs Options.Histograms.",
		func(s *snapshot, to sink) { to.histogram(s.node.Times.Peers) }},

	// Bindings.
	{"crosscast_connections", gauge, []string{"binding"}, "Connections of clients.",
		func(s *snapshot, to sink) {
			s.bindings(func(b binding) { to.value(float64(b.connections), b.name) })
		}},
	{"crosscast_refused_total", counter, []string{"binding", "cause"}, "Requests, connects and events that a binding has refused, by its own causes.",
		func(s *snapshot, to sink) {
			s.bindings(func(b binding) {
				for cause, n := range b.refused {
					to.count(n, b.name, cause)
				}
			})
		}},
	{"crosscast_unhandled_events_total", counter, []string{"binding"}, "Events of clients without a handler.",
		func(s *snapshot, to sink) { s.bindings(func(b binding) { to.count(b.unhandled, b.name) }) }},
	{"crosscast_paused_events_total", counter, []string{"binding"}, "Pauses of clients above EventRate.",
		func(s *snapshot, to sink) { s.bindings(func(b binding) { to.count(b.paused, b.name) }) }},
	{"crosscast_socketio_packets_total", counter, []string{"direction"}, "Packets of Socket.IO from clients (in) and to them (out).",
		func(s *snapshot, to sink) {
			var in, out uint64
			for i := range s.sio {
				in, out = in+s.sio[i].In, out+s.sio[i].Out
			}
			if len(s.sio) > 0 {
				to.count(in, "in")
				to.count(out, "out")
			}
		}},
	{"crosscast_socketio_malformed_total", counter, nil, "Connections that were closed because of a malformed packet of Socket.IO.",
		func(s *snapshot, to sink) {
			var n uint64
			for i := range s.sio {
				n += s.sio[i].Malformed
			}
			if len(s.sio) > 0 {
				to.count(n)
			}
		}},
}

// queues returns the sums over the queues of all clients.
func (s *snapshot) queues() crosscast.QueueStats {
	sum := s.node.Queues
	for i := range s.sio {
		q := &s.sio[i].Queues
		sum.QueuedFrames += q.QueuedFrames
		sum.QueuedBytes += q.QueuedBytes
		sum.WrittenFrames += q.WrittenFrames
		sum.WrittenBytes += q.WrittenBytes
		sum.Dropped += q.Dropped
	}
	return sum
}

// binding has the sums of all servers of a kind.
type binding struct {
	name              string
	connections       int
	unhandled, paused uint64
	refused           map[string]uint64
}

func (b *binding) add(connections int, unhandled, paused uint64, refused map[string]uint64) {
	b.connections += connections
	b.unhandled += unhandled
	b.paused += paused
	for cause, n := range refused {
		b.refused[cause] += n
	}
}

func (s *snapshot) bindings(f func(binding)) {
	b := binding{name: "ws", refused: map[string]uint64{}}
	for i := range s.ws {
		b.add(s.ws[i].Connections, s.ws[i].Unhandled, s.ws[i].Paused, s.ws[i].Refused)
	}
	if len(s.ws) > 0 {
		f(b)
	}
	b = binding{name: "socketio", refused: map[string]uint64{}}
	for i := range s.sio {
		b.add(s.sio[i].Connections, s.sio[i].Unhandled, s.sio[i].Paused, s.sio[i].Refused)
	}
	if len(s.sio) > 0 {
		f(b)
	}
}

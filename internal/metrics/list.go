package metrics

import (
	"time"

	"github.com/crosscast/crosscast"
)

// All are the metrics, in the order of docs/metrics.md.
var All = []Metric{
	// The node.
	{"crosscast_ready", Gauge, nil, "1 while the node is ready: it has reached the bus once, and does not drain or close.",
		func(s *Snapshot, to reader) { to.bool(s.ready == nil) }},
	{"crosscast_sockets", Gauge, nil, "Sockets that are open: one for each client, or for each of its namespaces.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Sockets)) }},
	{"crosscast_connects_total", Counter, nil, "Sockets that were opened.",
		func(s *Snapshot, to reader) { to.count(s.node.Connects) }},
	{"crosscast_disconnects_total", Counter, []string{"reason"}, "Sockets that were closed, by crosscast.Reason. Slow clients have \"too slow\"; texts of the application's are \"application\".",
		func(s *Snapshot, to reader) { each(to, s.node.Disconnects, nil) }},
	{"crosscast_rooms", Gauge, nil, "Rooms with a socket on this node.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Rooms)) }},
	{"crosscast_users", Gauge, nil, "Users with a socket on this node.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Users)) }},
	{"crosscast_memberships", Gauge, nil, "Memberships of sockets in rooms.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Memberships)) }},
	{"crosscast_namespaces", Gauge, nil, "Namespaces in use.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Namespaces)) }},
	{"crosscast_subscriptions", Gauge, nil, "Subscriptions of the application's (Subscribe).",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Subscriptions)) }},
	{"crosscast_interests", Gauge, nil, "Rooms and users that the node subscribes to on the bus.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Interests)) }},
	{"crosscast_delivered_total", Counter, nil, "Messages that were handed to sockets and subscriptions.",
		func(s *Snapshot, to reader) { to.count(s.node.Delivered) }},
	{"crosscast_dropped_total", Counter, []string{"reason"}, "What the node did not pass on, by crosscast.DropReason.",
		func(s *Snapshot, to reader) { each(to, s.node.Dropped, crosscast.DropReasons()) }},
	{"crosscast_panics_total", Counter, nil, "Panics of the application's functions.",
		func(s *Snapshot, to reader) { to.count(s.node.Panics) }},
	{"crosscast_gaps_total", Counter, []string{"reason"}, "Stretches in which the node might have missed messages, by crosscast.GapReason.",
		func(s *Snapshot, to reader) { each(to, s.node.GapReasons, crosscast.GapReasons()) }},
	{"crosscast_losses_total", Counter, []string{"reason"}, "Runs of this node's emissions that peers might not have got, by crosscast.LossReason.",
		func(s *Snapshot, to reader) { each(to, s.node.LossReasons, crosscast.LossReasons()) }},
	{"crosscast_queries_total", Counter, []string{"outcome"}, "Questions to the cluster: complete, incomplete, closed before they were complete, or failed.",
		func(s *Snapshot, to reader) {
			q := &s.node.Queries
			to.count(q.Complete, "complete")
			to.count(q.Incomplete, "incomplete")
			to.count(q.Closed, "closed")
			to.count(q.Failed, "failed")
		}},
	{"crosscast_commands_total", Counter, []string{"command"}, "Commands of peers that the node has obeyed.",
		func(s *Snapshot, to reader) {
			c := &s.node.Commands
			to.count(c.Joins, "join")
			to.count(c.Leaves, "leave")
			to.count(c.Disconnects, "disconnect")
		}},
	{"crosscast_joins_total", Counter, nil, "Calls of Join, Connect and Subscribe that waited for the bus, and were confirmed.",
		func(s *Snapshot, to reader) { to.count(s.node.Joins.Count) }},
	{"crosscast_join_seconds_total", Counter, nil, "How long they have waited.",
		func(s *Snapshot, to reader) { to.Value(s.node.Joins.Total.Seconds()) }},

	// Clients' queues, of all bindings.
	{"crosscast_client_messages_total", Counter, nil, "Messages that queues have written to clients.",
		func(s *Snapshot, to reader) { to.count(s.queues().WrittenFrames) }},
	{"crosscast_client_bytes_total", Counter, nil, "Bytes of these.",
		func(s *Snapshot, to reader) { to.count(s.queues().WrittenBytes) }},
	{"crosscast_client_dropped_total", Counter, nil, "Messages that queues have dropped, because clients are slow or gone.",
		func(s *Snapshot, to reader) { to.count(s.queues().Dropped) }},
	{"crosscast_client_queued_messages", Gauge, nil, "Messages that wait in the queues of clients.",
		func(s *Snapshot, to reader) { to.Value(float64(s.queues().QueuedFrames)) }},
	{"crosscast_client_queued_bytes", Gauge, nil, "Bytes of these, as the limits count them.",
		func(s *Snapshot, to reader) { to.Value(float64(s.queues().QueuedBytes)) }},

	// The cluster.
	{"crosscast_peers", Gauge, nil, "Other nodes that the node hears, or heard before its link failed.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Peers)) }},
	{"crosscast_peers_suspected", Gauge, nil, "Peers whose heartbeats are missing.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Suspects)) }},
	{"crosscast_peers_lost", Gauge, nil, "Nodes that have fallen silent without a goodbye in the last hour. One is not lost any more when a node of its name comes.",
		func(s *Snapshot, to reader) { to.Value(float64(len(s.node.Lost))) }},
	{"crosscast_peers_misrouted", Gauge, nil, "Nodes and emitters with other Topics, Sharded or shards in the options of their adapter: what one emits to rooms and users does not reach the other.",
		func(s *Snapshot, to reader) { to.Value(float64(len(s.node.Adapter.Misrouted))) }},
	{"crosscast_peers_unopened", Gauge, nil, "Nodes whose frames the seal has refused in the last minute: they have another key or none, or a wrong clock. A stranger might have written such frames, too.",
		func(s *Snapshot, to reader) { to.Value(float64(len(s.node.Adapter.Unopened))) }},
	{"crosscast_peer_round_trip_worst_seconds", Gauge, nil, "The latest round trip to the peer that is furthest away; 0: not measured.",
		func(s *Snapshot, to reader) {
			worst := time.Duration(0)
			for i := range s.peers {
				worst = max(worst, s.peers[i].RoundTrip)
			}
			to.Value(worst.Seconds())
		}},

	// The link and the adapter.
	{"crosscast_link_state", Gauge, []string{"half", "state"}, "1 for the state that a half of the link is in, by crosscast.LinkState; 0 for the others.",
		func(s *Snapshot, to reader) {
			for _, state := range crosscast.LinkStates() {
				to.bool(s.link.Publishing.State == state, "publishing", string(state))
				to.bool(s.link.Subscribing.State == state, "subscribing", string(state))
			}
		}},
	{"crosscast_link_changed_timestamp_seconds", Gauge, []string{"half"}, "When a half of the link has entered its state. No sample: not known.",
		func(s *Snapshot, to reader) {
			for half, h := range map[string]crosscast.LinkHalf{"publishing": s.link.Publishing, "subscribing": s.link.Subscribing} {
				if !h.Since.IsZero() {
					to.Value(float64(h.Since.UnixMilli())/1e3, half)
				}
			}
		}},
	{"crosscast_link_busy", Gauge, nil, "1 while a call of the application's keeps the link from being read.",
		func(s *Snapshot, to reader) { to.bool(s.link.Busy) }},
	{"crosscast_reconnects_total", Counter, nil, "Working links that replaced another working one.",
		func(s *Snapshot, to reader) { to.count(s.node.Adapter.Reconnects) }},
	{"crosscast_denied_channels", Gauge, nil, "Channels whose subscription the bus refuses.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.Adapter.Denied)) }},
	{"crosscast_bus_queue_bytes", Gauge, nil, "Bytes that wait to be published.",
		func(s *Snapshot, to reader) { to.Value(float64(s.node.QueueBytes)) }},
	{"crosscast_instructions_total", Counter, []string{"direction"}, "Instructions that the node has handled (in), and the adapter has accepted (out).",
		func(s *Snapshot, to reader) {
			to.count(s.node.InstructionsIn, "in")
			to.count(s.node.InstructionsOut, "out")
		}},
	{"crosscast_bus_messages_total", Counter, []string{"direction"}, "Messages on the bus.",
		func(s *Snapshot, to reader) {
			to.count(s.node.Adapter.FramesIn, "in")
			to.count(s.node.Adapter.FramesOut, "out")
		}},
	{"crosscast_bus_bytes_total", Counter, []string{"direction"}, "Bytes of these.",
		func(s *Snapshot, to reader) {
			to.count(s.node.Adapter.BytesIn, "in")
			to.count(s.node.Adapter.BytesOut, "out")
		}},
	{"crosscast_bus_dropped_total", Counter, []string{"reason"}, "What the adapter did not pass on, by its own reasons.",
		func(s *Snapshot, to reader) { each(to, s.node.Adapter.Dropped, nil) }},
	{"crosscast_seal_opened_total", Counter, []string{"key"}, "Sealed messages that each key has opened. A key that opens none any more may be removed. No sample: there is no seal.",
		func(s *Snapshot, to reader) { each(to, s.node.Adapter.Opened, nil) }},

	// Times.
	{"crosscast_publish_seconds", Histogram, nil, "From handing a batch to the bus until its outcome was known.",
		func(s *Snapshot, to reader) { to.histogram(s.node.Adapter.Times.Publish) }},
	{"crosscast_echo_seconds", Histogram, nil, "From publishing a message that this node also hears until it came back.",
		func(s *Snapshot, to reader) { to.histogram(s.node.Adapter.Times.Echo) }},
	{"crosscast_echo_latest_seconds", Gauge, nil, "The latest of these. No sample: the link is not live, or there was none yet.",
		func(s *Snapshot, to reader) {
			if d := s.node.Adapter.EchoRoundTrip; d > 0 && s.link.Live() {
				to.Value(d.Seconds())
			}
		}},
	{"crosscast_receive_seconds", Histogram, nil, "From the arrival of a message until it was handled; of one in 64. Needs Options.Histograms.",
		func(s *Snapshot, to reader) { to.histogram(s.node.Adapter.Times.Receive) }},
	{"crosscast_client_queue_seconds", Histogram, nil, "From the delivery of a message until it was written to a client; of one in 64. Needs Options.Histograms.",
		func(s *Snapshot, to reader) { to.histogram(s.node.Times.Queue) }},
	{"crosscast_peer_round_trip_seconds", Histogram, nil, "Round trips to peers, of each every tenth heartbeat. Needs Options.Histograms.",
		func(s *Snapshot, to reader) { to.histogram(s.node.Times.Peers) }},

	// Bindings.
	{"crosscast_connections", Gauge, []string{"binding"}, "Connections of clients. Those of sse are among those of ws.",
		func(s *Snapshot, to reader) {
			s.bindings(func(b binding) { to.Value(float64(b.connections), b.name) })
		}},
	{"crosscast_refused_total", Counter, []string{"binding", "cause"}, "Requests, connects and events that a binding has refused, by its own causes.",
		func(s *Snapshot, to reader) {
			s.bindings(func(b binding) {
				for cause, n := range b.refused {
					to.count(n, b.name, cause)
				}
			})
		}},
	{"crosscast_unhandled_events_total", Counter, []string{"binding"}, "Events of clients without a handler.",
		func(s *Snapshot, to reader) { s.bindings(func(b binding) { to.count(b.unhandled, b.name) }) }},
	{"crosscast_paused_events_total", Counter, []string{"binding"}, "Pauses of clients above EventRate.",
		func(s *Snapshot, to reader) { s.bindings(func(b binding) { to.count(b.paused, b.name) }) }},
	{"crosscast_sse_posts_total", Counter, []string{"stream"}, "POSTs of clients that have reached their streams, at this node (here) or at another one (elsewhere).",
		func(s *Snapshot, to reader) {
			var here, elsewhere uint64
			for i := range s.sse {
				here, elsewhere = here+s.sse[i].Posts-s.sse[i].Forwarded, elsewhere+s.sse[i].Forwarded
			}
			if len(s.sse) > 0 {
				to.count(here, "here")
				to.count(elsewhere, "elsewhere")
			}
		}},
	{"crosscast_socketio_packets_total", Counter, []string{"direction"}, "Packets of Socket.IO from clients (in) and to them (out).",
		func(s *Snapshot, to reader) {
			var in, out uint64
			for i := range s.sio {
				in, out = in+s.sio[i].In, out+s.sio[i].Out
			}
			if len(s.sio) > 0 {
				to.count(in, "in")
				to.count(out, "out")
			}
		}},
	{"crosscast_socketio_malformed_total", Counter, nil, "Connections that were closed because of a malformed packet of Socket.IO.",
		func(s *Snapshot, to reader) {
			var n uint64
			for i := range s.sio {
				n += s.sio[i].Malformed
			}
			if len(s.sio) > 0 {
				to.count(n)
			}
		}},
}

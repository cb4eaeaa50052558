package socketioadapter

// The sharded wire (createShardedAdapter). Each message is {type, data, uid, nsp}, as JSON, or as msgpack if there are
// bytes in it. These are the types, and the members of data:
//
//	3  BROADCAST                  packet {type, data [event, arguments…]}, opts {rooms, except, flags}; with a
//	                              requestId each client must reply
//	4  SOCKETS_JOIN               opts, rooms
//	5  SOCKETS_LEAVE              opts, rooms
//	6  DISCONNECT_SOCKETS         opts, close
//	7  FETCH_SOCKETS              opts, requestId
//	8  FETCH_SOCKETS_RESPONSE     requestId, sockets [{id, handshake, rooms, data}]
//	9  SERVER_SIDE_EMIT           packet [event, arguments…]; with a requestId an answer is wanted
//	10 SERVER_SIDE_EMIT_RESPONSE  requestId, packet: one value, left out when it is undefined
//	11 BROADCAST_CLIENT_COUNT     requestId, clientCount
//	12 BROADCAST_ACK              requestId, packet: one value
//
// This package adds the following, which servers ignore:
//
//   - a requestId in 4, 5 and 6. Nodes answer it with 11.
//   - command: true in a 7 that accompanies such a command. Servers answer the 7, and nodes do not.
//   - fields (kind.Fields) in other 7s, if nodes may leave out parts.
//   - sid, the client's ID, in 12.
//   - 2, a HEARTBEAT of a node to itself.
const (
	shardedEcho = 2 + iota
	shardedBroadcast
	shardedJoin
	shardedLeave
	shardedDisconnect
	shardedFetch
	shardedSockets
	shardedRequest
	shardedAnswer
	shardedClients
	shardedReply
)

// shardedTypes are the types of messages. Other kinds do not exist on this wire.
var shardedTypes = [...]uint64{
	broadcast: shardedBroadcast, join: shardedJoin, leave: shardedLeave, disconnect: shardedDisconnect,
	fetch: shardedFetch, request: shardedRequest, gotSockets: shardedSockets, answer: shardedAnswer,
	clients: shardedClients, reply: shardedReply, echo: shardedEcho,
}

// sharded writes m as msgpack. Servers expect JSON if there are no bytes in it.
func (f *form) sharded(m *message) {
	f.object(4)
	f.uint("type", shardedTypes[m.kind])
	f.key("data")
	switch m.kind {
	case broadcast:
		f.object(2 + one(m.id))
		f.key("packet")
		f.object(2)
		f.uint("type", packetEvent)
		f.emitted("data", m)
		f.optional("requestId", m.id)
		f.key("opts")
		f.opts(m, true)
	case join, leave:
		f.object(2 + one(m.id))
		f.key("opts")
		f.opts(m, true)
		f.list("rooms", m.rooms)
		f.optional("requestId", m.id)
	case disconnect:
		f.object(2 + one(m.id))
		f.key("opts")
		f.opts(m, true)
		f.bool("close", m.close)
		f.optional("requestId", m.id)
	case fetch:
		f.object(2 + hasLimit(m))
		f.key("opts")
		f.opts(m, true)
		f.text("requestId", m.id)
		f.limit(m)
	case request:
		f.object(1 + one(m.id))
		f.optional("requestId", m.id)
		f.emitted("packet", m)
	case gotSockets:
		f.object(2)
		f.text("requestId", m.id)
		f.sockets("sockets", m)
	case answer, reply:
		f.object(1 + hasValue(m) + one(string(m.client)))
		f.text("requestId", m.id)
		f.value("packet", m)
		f.optional("sid", string(m.client))
	case clients:
		f.object(2)
		f.text("requestId", m.id)
		f.uint("clientCount", uint64(m.count))
	case echo:
		f.object(1)
		f.uint("echo", m.number)
	}
	f.text("uid", m.uid)
	f.text("nsp", m.namespace)
}

// sharded reads a message that arrived on a channel.
func (r *reader) sharded(channel string, data []byte) {
	r.whole(data, (*reader).envelope)
	if r.err != nil {
		return
	}
	if r.raw.typ < 0 {
		r.foreign("no type")
		return
	}
	m := &r.m
	r.members(r.raw.data, "data", (*reader).body)
	if !r.channels.inNamespace(channel, m.namespace) {
		r.fail("of another namespace than its channel")
	}
	switch r.raw.typ {
	case shardedSockets, shardedAnswer, shardedClients, shardedReply:
		if m.id != "" && !r.awaits(m.id) {
			return
		}
	}
	switch r.raw.typ {
	case shardedBroadcast:
		m.kind = broadcast
		r.packet()
		r.options()
	case shardedJoin, shardedLeave, shardedDisconnect:
		m.kind = [...]messageKind{join, leave, disconnect}[r.raw.typ-shardedJoin]
		r.options()
		r.rooms()
		m.close = isTrue(r.raw.close)
	case shardedFetch:
		m.kind = fetch
		r.options()
	case shardedRequest:
		m.kind, m.data = request, r.raw.packet
	case shardedSockets:
		m.kind = gotSockets
		r.sockets()
	case shardedAnswer, shardedReply:
		m.kind = [...]messageKind{shardedAnswer: answer, shardedReply: reply}[r.raw.typ]
		m.data, m.client = r.raw.packet, r.socketID(r.raw.sid)
	case shardedClients:
		m.kind = clients
		r.clientCount()
	case shardedEcho:
		m.kind = echo
		r.echo()
	default:
		r.fail("a message of unknown type")
	}
	switch m.kind {
	case fetch, gotSockets, answer, reply, clients:
		if m.id == "" {
			r.fail("no requestId")
		}
	}
}

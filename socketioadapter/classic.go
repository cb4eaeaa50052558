package socketioadapter

import (
	"bytes"

	"github.com/crosscast/crosscast/internal/mpack"
)

// The classic wire (createAdapter, and redis-emitter). A broadcast without replies is msgpack:
//
//	[uid, {type: 2, data: [event, arguments…], nsp}, {rooms, except, flags}]
//
// All other messages are maps, as JSON, or as msgpack if there might be bytes in them. On the channel of requests:
//
//	{uid, requestId, type, …}
//	0 SOCKETS            rooms                          of old servers
//	1 ALL_ROOMS
//	2 REMOTE_JOIN        opts {rooms, except}, rooms    not answered; from old servers: sid, room
//	3 REMOTE_LEAVE       opts, rooms                    the same
//	4 REMOTE_DISCONNECT  opts, close                    the same
//	5 REMOTE_FETCH       opts
//	6 SERVER_SIDE_EMIT   data [event, arguments…]       with a requestId, an answer is wanted
//	7 BROADCAST          packet {type, data, nsp}, opts {rooms, except, flags {timeout}}; msgpack
//
// On the channels of answers:
//
//	{requestId, sockets [{id, handshake, rooms, data}]}    to 5; to 0 their IDs
//	{requestId, rooms}                                     to 1
//	{type: 6, requestId, data}                             to 6: one value, left out when it is undefined
//	{type: 8, requestId, clientCount}                      to 7, at once
//	{type: 9, requestId, packet}                           to 7, for each client: one value; msgpack
//	{requestId}                                            to the old forms of 2, 3 and 4
//
// This package adds the following members, which servers ignore:
//
//   - a requestId in 2, 3 and 4. Nodes answer it with 8.
//   - command: true in a 5 that accompanies such a command. Servers answer the 5, and nodes do not.
//   - fields (kind.Fields) in other 5s, if nodes may leave out parts.
//   - uid in every answer.
//   - sid, the client's ID, in 9.
const (
	classicSockets = iota
	classicAllRooms
	classicJoin
	classicLeave
	classicDisconnect
	classicFetch
	classicRequest
	classicBroadcast
	classicClients
	classicReply
)

// classic writes m as msgpack, and reports whether servers expect JSON instead.
func (f *form) classic(m *message) (asJSON bool) {
	switch m.kind {
	case broadcast:
		if m.id == "" {
			f.array(3)
			f.str(m.uid)
		} else {
			f.object(5)
			f.text("uid", m.uid)
			f.text("requestId", m.id)
			f.uint("type", classicBroadcast)
			f.key("packet")
		}
		f.object(3)
		f.uint("type", packetEvent)
		f.emitted("data", m)
		f.text("nsp", m.namespace)
		if m.id != "" {
			f.key("opts")
		}
		f.opts(m, true)
		return false
	case join, leave:
		f.object(4 + one(m.id))
		f.text("uid", m.uid)
		f.uint("type", classicTypes[m.kind])
		f.key("opts")
		f.opts(m, false)
		f.list("rooms", m.rooms)
		f.optional("requestId", m.id)
	case disconnect:
		f.object(4 + one(m.id))
		f.text("uid", m.uid)
		f.uint("type", classicDisconnect)
		f.key("opts")
		f.opts(m, false)
		f.bool("close", m.close)
		f.optional("requestId", m.id)
	case fetch:
		f.object(4 + hasLimit(m))
		f.text("uid", m.uid)
		f.text("requestId", m.id)
		f.uint("type", classicFetch)
		f.key("opts")
		f.opts(m, false)
		f.limit(m)
	case request:
		f.object(3 + one(m.id))
		f.text("uid", m.uid)
		f.optional("requestId", m.id)
		f.uint("type", classicRequest)
		f.emitted("data", m)
	case gotSockets, gotIDs:
		f.object(3)
		f.text("requestId", m.id)
		f.sockets("sockets", m)
		f.text("uid", m.uid)
	case gotRooms:
		f.object(3)
		f.text("requestId", m.id)
		f.list("rooms", m.rooms)
		f.text("uid", m.uid)
	case answer:
		f.object(3 + hasValue(m))
		f.uint("type", classicRequest)
		f.text("requestId", m.id)
		f.value("data", m)
		f.text("uid", m.uid)
	case clients:
		f.object(4)
		f.uint("type", classicClients)
		f.text("requestId", m.id)
		f.uint("clientCount", uint64(m.count))
		f.text("uid", m.uid)
	case reply:
		f.object(4 + hasValue(m))
		f.uint("type", classicReply)
		f.text("requestId", m.id)
		f.value("packet", m)
		f.text("uid", m.uid)
		f.text("sid", string(m.client))
		return false
	case done:
		f.object(2)
		f.text("requestId", m.id)
		f.text("uid", m.uid)
	case echo:
		f.object(2)
		f.uint("echo", m.number)
		f.text("uid", m.uid)
	}
	return true
}

// classicTypes are the types of commands with rooms.
var classicTypes = map[messageKind]uint64{join: classicJoin, leave: classicLeave}

// classic reads a message that arrived on a channel.
func (r *reader) classic(channel string, data []byte) {
	if ns, ok := r.channels.requestNamespace(channel); ok {
		r.m.namespace = ns
		r.whole(data, (*reader).classicMember)
		r.classicRequest()
		return
	}
	if r.channels.isResponse(channel) {
		// Most answers are for others. Looking for this node's uid takes a tenth of the time of reading.
		if isMap(data) && !bytes.Contains(data, r.uid) {
			return
		}
		r.whole(data, (*reader).classicMember)
		r.classicAnswer()
		return
	}
	c := mpack.NewCursor(data)
	n := c.Array()
	uid := c.Value()
	r.raw.packet, r.raw.opts = c.Value(), c.Value()
	if n < 3 {
		c.Fail()
	}
	c.Skip(n - 3)
	if c.Bad() || c.Left() > 0 {
		r.foreign("not an array of three")
		return
	}
	r.m.kind, r.m.uid = broadcast, r.text(uid)
	if r.m.uid == r.channels.self {
		return // the rest would take half of the time
	}
	r.packet()
	r.options()
	if r.m.namespace == "" {
		r.m.namespace = "/"
	}
	if !r.channels.inNamespace(channel, r.m.namespace) {
		r.fail("of another namespace than its channel")
	}
}

func (r *reader) classicMember(key, value []byte) {
	if string(key) == "nsp" {
		return // the channel names it
	}
	r.envelope(key, value)
	r.body(key, value)
}

func (r *reader) classicRequest() {
	m := &r.m
	switch r.raw.typ {
	case classicSockets:
		m.kind, m.target.Everyone = fetchIDs, true
		r.option([]byte("rooms"), r.raw.rooms)
	case classicAllRooms:
		m.kind, m.target.Everyone = fetchRooms, true
	case classicJoin, classicLeave, classicDisconnect:
		m.kind = [...]messageKind{join, leave, disconnect}[r.raw.typ-classicJoin]
		r.command()
	case classicFetch:
		m.kind = fetch
		r.options()
	case classicRequest:
		m.kind, m.data = request, r.raw.data
	case classicBroadcast:
		m.kind = broadcast
		r.packet()
		r.options()
	default:
		r.fail("a request of unknown type")
	}
	switch m.kind {
	case broadcast, fetch, fetchIDs, fetchRooms:
		if m.id == "" {
			r.fail("a question without a requestId")
		}
	}
}

func (r *reader) classicAnswer() {
	m := &r.m
	if m.id != "" && !r.awaits(m.id) {
		return
	}
	switch {
	case r.raw.typ == classicRequest:
		m.kind, m.data = answer, r.raw.data
	case r.raw.typ == classicClients:
		m.kind = clients
		r.clientCount()
	case r.raw.typ == classicReply:
		m.kind, m.data = reply, r.raw.packet
		m.client = r.socketID(r.raw.sid)
	case r.raw.sockets != nil:
		m.kind = gotSockets
		r.sockets()
	case r.raw.rooms != nil:
		m.kind = gotRooms
		r.rooms()
	case r.raw.echo != nil:
		m.kind = echo
		r.echo()
	default:
		m.kind = done
	}
	if m.kind != echo && m.id == "" {
		r.fail("an answer to nothing")
	}
}

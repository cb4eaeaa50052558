package socketioadapter

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/intern"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// reader reads messages of one wire. It turns JSON into msgpack first, so that there is only one parser. It accepts
// everything that JavaScript accepts: members in any order, unknown members, and null for a missing one. It must not be
// used concurrently.
//
// The next call of read reuses the result. Strings and sockets may be kept. Slices, also those of a target, and
// payloads must be copied.
type reader struct {
	channels *channels
	prefix   string               // of users' rooms
	uid      []byte               // of this node
	awaits   func(id string) bool // reports whether this node waits for an answer with this requestId

	m   message
	raw raw
	err error // the first error

	texts   [5][]string // memory for the target's lists, and for rooms
	ids     [2][]crosscast.SocketID
	scratch []byte // JSON as msgpack

	names, clients intern.Table // socket IDs have their own table: they are many, and would displace events and rooms
}

// raw has the members of a message before its type is known.
type raw struct {
	typ                                 int // -1: none
	opts, data, packet, rooms, sockets  []byte
	close, clientCount, sid, room, echo []byte
}

const (
	maxNames   = 1 << 16   // rooms in one list
	fewNames   = 64        // a list up to this size is not searched for repeated rooms
	maxScratch = 256 << 10 // kept from one message to the next
)

// read reads a message that arrived on a channel. The message might be from this node, or for another one. emitted and
// valued parse its data later. The error matches wire.ErrForeign if the message has none of the formats, otherwise
// wire.ErrMalformed.
func (r *reader) read(channel string, data []byte) (*message, error) {
	if cap(r.scratch) > maxScratch {
		r.scratch = nil
	}
	r.m, r.raw, r.err = message{fields: kind.AllFields}, raw{typ: -1}, nil
	if r.channels.sharded {
		r.sharded(channel, data)
	} else {
		r.classic(channel, data)
	}
	return &r.m, r.err
}

// fail records the reason for dropping the message.
func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", wire.ErrMalformed, what)
	}
}

func (r *reader) foreign(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", wire.ErrForeign, what)
	}
}

// member is a method of reader that gets one member of a map.
type member func(r *reader, key, value []byte)

// members reads a map.
func (r *reader) members(value []byte, what string, f member) {
	c := mpack.NewCursor(value)
	for n := c.Map(); n > 0 && !c.Bad(); n-- {
		key := c.Str()
		if v := c.Value(); !c.Bad() {
			f(r, key, v)
		}
	}
	if c.Bad() || c.Left() > 0 {
		r.fail(what)
	}
}

// whole reads a message that is a map, in JSON or msgpack.
func (r *reader) whole(data []byte, f member) {
	switch {
	case len(data) > 0 && data[0] == '{':
		var err error
		r.scratch = slices.Grow(r.scratch[:0], len(data)) // msgpack is mostly shorter
		if r.scratch, err = mpack.AppendFromJSON(r.scratch[:0], data); err != nil {
			r.fail("JSON")
			return
		}
		data = r.scratch
	case !isMap(data):
		r.foreign("not a map")
		return
	}
	r.members(data, "not one map", f)
}

// isMap reports whether data begins like a map in JSON or msgpack.
func isMap(data []byte) bool {
	return len(data) > 0 && (data[0] == '{' || data[0]&0xf0 == 0x80 || data[0] == 0xde || data[0] == 0xdf)
}

// envelope records the members that identify a message.
func (r *reader) envelope(key, value []byte) {
	switch string(key) {
	case "type":
		r.raw.typ = number(value)
	case "uid":
		r.m.uid = r.text(value)
	case "nsp":
		r.m.namespace = r.text(value)
	case "data":
		r.raw.data = value
	}
}

// body records the members with a message's content.
func (r *reader) body(key, value []byte) {
	switch string(key) {
	case "requestId":
		r.m.id = r.id(value)
	case "opts":
		r.raw.opts = value
	case "packet":
		r.raw.packet = value
	case "rooms":
		r.raw.rooms = value
	case "sockets":
		r.raw.sockets = value
	case "close":
		r.raw.close = value
	case "command":
		r.m.command = isTrue(value)
	case "fields":
		r.m.fields = kind.Fields(number(value)) & kind.AllFields
	case "clientCount":
		r.raw.clientCount = value
	case "sid":
		r.raw.sid = value
	case "room":
		r.raw.room = value
	case "echo":
		r.raw.echo = value
	}
}

// text reads a recurring string of at most limit.Name bytes. Other values are read as empty.
func (r *reader) text(value []byte) string {
	c := mpack.NewCursor(value)
	s := c.Str()
	if len(s) > limit.Name {
		r.fail("a text is too long")
		return ""
	}
	return r.names.Get(s)
}

// id reads the requestId; nil is read as empty.
func (r *reader) id(value []byte) string {
	c := mpack.NewCursor(value)
	if c.IsNil() {
		return ""
	}
	s := c.Str()
	if len(s) == 0 || len(s) > limit.Name {
		r.fail("requestId")
	}
	return string(s)
}

// number reads a number that is not negative. -1 means no number, or one that is too large.
func number(value []byte) int {
	c := mpack.NewCursor(value)
	if v := c.Uint(); !c.Bad() && v <= math.MaxInt32 {
		return int(v)
	}
	f, err := strconv.ParseFloat(numberText(value), 64)
	if err != nil || !(f >= 0 && f <= math.MaxInt32) {
		return -1
	}
	return int(f)
}

// numberText returns a number in JavaScript's form. "" means that the value is not a number.
func numberText(value []byte) string {
	var buf [32]byte
	text, _, err := mpack.AppendJSON(buf[:0], value, args.BufferJSON)
	if err != nil || len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return ""
	}
	return string(text)
}

// isTrue reports whether a value is true.
func isTrue(value []byte) bool {
	c := mpack.NewCursor(value)
	return c.Bool()
}

// list calls name for each room of an array, and returns the number of rooms. The array may be missing. In a long
// array, repeated rooms are left out. A room may be a number. "" stands for a value that is no name of a room.
func (r *reader) list(value []byte, name func(string)) int {
	if len(value) == 0 {
		return 0
	}
	c := mpack.NewCursor(value)
	if c.IsNil() {
		return 0
	}
	n := c.Array()
	if n > maxNames {
		c.Fail()
	}
	var seen map[string]struct{} // of a long list: a name of two bytes costs as much as the room has members
	if n > fewNames {
		seen = make(map[string]struct{})
	}
	for i := n; i > 0 && !c.Bad(); i-- {
		text := r.name(&c)
		if seen != nil {
			if _, again := seen[text]; again {
				continue
			}
			seen[text] = struct{}{}
		}
		name(text)
	}
	if c.Bad() || c.Left() > 0 {
		r.fail("a list of rooms")
		return 0
	}
	return n
}

func (r *reader) name(c *mpack.Cursor) string {
	if !c.AtStr() {
		return numberText(c.Value())
	}
	s := c.Str()
	switch {
	case len(s) == socketIDLen:
		return r.clients.Get(s)
	case len(s) <= limit.Name:
		return r.names.Get(s)
	}
	return string(s) // of a user, or unknown here
}

// options reads the target and the flags of a message.
func (r *reader) options() {
	r.m.target.Everyone = true
	r.members(r.raw.opts, "opts", (*reader).option)
}

func (r *reader) option(key, value []byte) {
	t := &r.m.target
	switch string(key) {
	case "rooms":
		p := place{r.texts[0][:0], r.texts[1][:0], r.ids[0][:0]}
		n := r.list(value, func(name string) { p.enter(name, r.prefix) })
		r.texts[0], r.texts[1], r.ids[0] = p.rooms, p.users, p.sockets
		t.Everyone, t.Rooms, t.Users, t.Sockets = n == 0, p.rooms, p.users, p.sockets
	case "except":
		p := place{r.texts[2][:0], r.texts[3][:0], r.ids[1][:0]}
		r.list(value, func(name string) { p.enter(name, r.prefix) })
		r.texts[2], r.texts[3], r.ids[1] = p.rooms, p.users, p.sockets
		t.ExceptRooms, t.ExceptUsers, t.ExceptSockets = p.rooms, p.users, p.sockets
	case "flags":
		c := mpack.NewCursor(value)
		if !c.IsNil() {
			r.members(value, "flags", (*reader).flag)
		}
	}
}

func (r *reader) flag(key, value []byte) {
	switch string(key) {
	case "volatile":
		r.m.volatile = isTrue(value)
	case "timeout":
		r.m.timeout = time.Duration(max(number(value), 0)) * time.Millisecond
	}
}

// command reads a command: for opts or, from old servers, for one socket.
func (r *reader) command() {
	m := &r.m
	if r.raw.opts != nil {
		r.options()
		r.rooms()
		m.close = isTrue(r.raw.close)
		return
	}
	m.old = true
	r.ids[0] = append(r.ids[0][:0], r.socketID(r.raw.sid))
	r.texts[4] = append(r.texts[4][:0], r.text(r.raw.room))
	m.target.Sockets, m.rooms, m.close = r.ids[0], r.texts[4], isTrue(r.raw.close)
	if m.target.Sockets[0] == "" || m.rooms[0] == "" && m.kind != disconnect {
		r.fail("a command without opts")
	}
}

// socketID reads the ID of a socket. "" means that there is none.
func (r *reader) socketID(value []byte) crosscast.SocketID {
	c := mpack.NewCursor(value)
	if s := c.Str(); len(s) <= limit.Name {
		return crosscast.SocketID(r.clients.Get(s))
	}
	return ""
}

func (r *reader) clientCount() {
	if r.m.count = number(r.raw.clientCount); r.m.count < 0 {
		r.fail("clientCount")
	}
}

func (r *reader) echo() {
	c := mpack.NewCursor(r.raw.echo)
	if r.m.number = c.Uint(); r.m.number == 0 {
		r.fail("echo")
	}
}

// rooms reads the rooms of a command, or of an answer.
func (r *reader) rooms() {
	r.texts[4] = r.texts[4][:0]
	r.list(r.raw.rooms, func(name string) {
		if len(name) > 0 && len(name) <= limit.Name {
			r.texts[4] = append(r.texts[4], name)
		}
	})
	r.m.rooms = r.texts[4]
}

// packet reads the packet of a broadcast.
func (r *reader) packet() { r.members(r.raw.packet, "packet", (*reader).packetMember) }

func (r *reader) packetMember(key, value []byte) {
	switch string(key) {
	case "type":
		if n := number(value); n != packetEvent && n != packetBinaryEvent {
			r.fail("a packet that is no event")
		}
	case "data":
		r.m.data = value
	case "nsp":
		if r.m.namespace == "" { // otherwise the channel has named it
			r.m.namespace = r.text(value)
		}
	}
}

const (
	packetEvent       = 2 // the type of all packets between servers
	packetBinaryEvent = 5 // the type of a packet with bytes between server and client
)

// emitted parses the data of a broadcast or request into its event and payload. The payload might be a part of the
// message.
func (r *reader) emitted() error {
	m := &r.m
	if m.data == nil {
		return fmt.Errorf("%w: no data", wire.ErrMalformed)
	}
	event, p, _, err := args.ParseMsgpack(m.data)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	case len(event) == 0 || len(event) > limit.Name:
		return fmt.Errorf("%w: an event of %d bytes", wire.ErrMalformed, len(event))
	}
	m.event, m.payload = event, p
	return nil
}

// valued parses the data of an answer or reply into a payload that may be kept.
func (r *reader) valued() error {
	m := &r.m
	if m.data == nil {
		return nil
	}
	p, _, err := args.FromMsgpackValue(m.data)
	if err != nil {
		return fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	p.Data = append([]byte(nil), p.Data...)
	m.payload = p
	return nil
}

package adaptertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/crosscast/crosscast"
)

var payloadRules = []rule{
	{
		name: "payloads",
		text: "A payload arrives as it was emitted, with the same encoding: none, JSON (the same value), binary " +
			"(byte for byte), and arguments. It may be empty, or have 1 MiB, or what an AdapterSizer allows if that is less.",
		run: func(b *bed) {
			n0, _, _ := b.three()
			largest := defaultPayload(n0.adapter)
			bytes256 := make([]byte, 256)
			for i := range bytes256 {
				bytes256[i] = byte(i)
			}
			large := make([]byte, largest)
			rand.NewChaCha8([32]byte{}).Read(large)
			b.checkPayloads(sameValue,
				crosscast.Payload{},
				crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`null`)},
				crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`""`)},
				crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`[[],{"a":[1,-2,true]},"\u0000é😀"]`)},
				crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`[9007199254740991,0.1,1e300,-1.5e-7]`)},
				crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`"` + strings.Repeat("j", largest-2) + `"`)},
				crosscast.Payload{Encoding: crosscast.EncodingBinary},
				crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte("\r\n+OK\r\n")},
				crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: bytes256},
				crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: large},
				// 1, "é", {"b": <bytes 00 ff>, "n": [null, 1.5]}
				crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x93\x01\xa2\xc3\xa9\x82\xa1b\xc4\x02\x00\xff" +
					"\xa1n\x92\xc0\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00")},
				// 1, "a"
				crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\x01\xa1a")},
				// {"a": <bytes 00 ff>}
				crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x91\x81\xa1a\xc4\x02\x00\xff")},
			)
		},
	},
	{
		name:       "payloads-json",
		text:       "A JSON payload arrives byte for byte.",
		capability: CapExactJSON,
		run: func(b *bed) {
			b.checkPayloads(bytes.Equal,
				crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(` { "a" : 1.50 , "a" : "\u0000\u00e9" } `)},
				crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("[10000000000000000000001,\n\"/\\/<\"]")},
			)
		},
	},
	{
		name:       "payloads-msgpack",
		text:       "A payload of msgpack arrives byte for byte, with its encoding.",
		capability: CapMsgPack,
		run: func(b *bed) {
			b.checkPayloads(bytes.Equal,
				crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: []byte("\xc0")},
				// {"a": [1.5, <bytes 00 ff>]}, with lengths that are not in the shortest form
				crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: []byte("\xde\x00\x01\xd9\x01a" +
					"\xdc\x00\x02\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc5\x00\x02\x00\xff")},
				crosscast.Payload{Encoding: crosscast.EncodingMsgPack, // bytes
					Data: append([]byte("\xc6\x00\x08\x00\x00"), make([]byte, 0x80000)...)},
			)
		},
	},
	{
		name: "payload-kept",
		text: "Emit and Publish keep nothing of the payload: the caller may overwrite it as soon as they return.",
		run: func(b *bed) {
			n0, n1, _ := b.three()
			c := b.connect(n1, connect{Rooms: []string{"r"}})
			s := b.subscribe(n1, "r")
			buf := make([]byte, 512)
			const rounds = 300
			for i := range rounds {
				for k := range buf {
					buf[k] = byte(i)
				}
				b.must(n0.To("r").Emit(b.ctx, "m", crosscast.Bytes(buf)))
				for k := range buf {
					buf[k] = 0xEE
				}
			}
			b.settle()
			s.wait("m", rounds)
			for _, l := range []*log{c.log, s.log} {
				for i, m := range l.messages() {
					if data := m.Payload.Data; len(data) != len(buf) || data[0] != byte(i) || data[511] != byte(i) {
						b.Fatalf("message %d arrived with what the application wrote to its buffer after Emit", i)
					}
				}
			}
		},
	},
	{
		name: "message",
		text: "A message has its origin, its namespace, and whether it is volatile.",
		run: func(b *bed) {
			n0, c, targets := b.messageBed()
			for _, t := range targets {
				b.emit(t, "m")
				b.settle() // different targets have no order
				b.emit(t.Volatile(), "m")
				b.settle()
			}
			for i, m := range c.messages(2 * len(targets)) {
				if m.From != n0.ID() || m.Namespace != "/chat" {
					b.Errorf("message %d says that it is from %q in %q; it is from %q in "+
						"/chat", i, m.From, m.Namespace, n0.ID())
				}
				if m.Volatile != (i%2 == 1) {
					b.Errorf("message %d: volatile is %v", i, m.Volatile)
				}
			}
		},
	},
	{
		name:       "message-target",
		text:       "A message has its target.",
		capability: CapSeparateSpaces,
		run: func(b *bed) {
			n0, c, targets := b.messageBed()
			for _, t := range targets {
				b.emit(t, "m")
				b.settle()
			}
			want := []crosscast.Target{
				{Rooms: []string{"r"}}, {Users: []string{"u"}}, {Sockets: []crosscast.SocketID{c.ID()}}, {Everyone: true},
				{Rooms: []string{"r", "s"}, Users: []string{"v"}, Sockets: []crosscast.SocketID{c.ID()},
					ExceptRooms: []string{"x", "y"},
					ExceptUsers: []string{"z"}, ExceptSockets: []crosscast.SocketID{n0.clients[0].ID()}},
			}
			for i, m := range c.messages(len(want)) {
				if fmt.Sprint(*m.Target) != fmt.Sprint(want[i]) {
					b.Errorf("message %d: the target %+v arrived as %+v", i, want[i], *m.Target)
				}
			}
		},
	},
	{
		name:       "message-meta",
		text:       "A message has the meta pairs that it was emitted with.",
		capability: CapMeta,
		run: func(b *bed) {
			_, c, targets := b.messageBed()
			pairs := []crosscast.KeyValue{
				{Key: "traceparent", Value: "00-0af7"}, {Key: "", Value: "\xff"}, {Key: strings.Repeat("k", 255)},
			}
			for _, t := range targets {
				b.emit(t.Meta(pairs...), "m")
				b.settle()
				b.emit(t, "m")
				b.settle()
			}
			for i, m := range c.messages(2 * len(targets)) {
				if i%2 == 0 && !slices.Equal(m.Meta, pairs) || i%2 == 1 && len(m.Meta) > 0 {
					b.Errorf("message %d: meta pairs are %q", i, m.Meta)
				}
			}
		},
	},
}

// messages returns the messages since the last call. There must be n.
func (c *client) messages(n int) []*crosscast.Message {
	c.b.Helper()
	got := c.log.messages()
	if len(got) != n {
		c.b.Fatalf("%d messages arrived instead of %d", len(got), n)
	}
	return got
}

// messageBed returns a client in a namespace, and targets on another node. Each target reaches the client.
func (b *bed) messageBed() (n0 *node, c *client, targets []crosscast.BoundTarget) {
	n0, n1, n2 := b.three()
	c = b.connectIn(n1, "/chat", connect{User: "u", Rooms: []string{"r"}})
	b.connectIn(n2, "/chat", connect{})
	ns, err := n0.Of("/chat")
	b.must(err)
	return n0, c, []crosscast.BoundTarget{
		ns.To("r"), ns.ToUser("u"), ns.ToSocket(c.ID()), ns.Everyone(),
		ns.To("r", "s").ToUser("v").ToSocket(c.ID()).Except("x", "y").ExceptUser("z").ExceptSocket(n0.clients[0].ID()),
	}
}

// checkPayloads emits payloads to one room, to two rooms and to everyone, and checks that they arrive everywhere. same
// compares JSON texts.
func (b *bed) checkPayloads(same func(a, b []byte) bool, payloads ...crosscast.Payload) {
	n0, n1, n2 := b.three()
	clients := []*client{b.connect(n0, connect{Rooms: []string{"r"}}), b.connect(n1, connect{Rooms: []string{"r"}}),
		b.connect(n2, connect{Rooms: []string{"r"}})}
	for i, p := range payloads {
		b.must(n0.To("r").Emit(b.ctx, fmt.Sprint("single", i), p))
		b.must(n0.To("r", "r2").Emit(b.ctx, fmt.Sprint("several", i), p))
		b.must(n0.Emit(b.ctx, fmt.Sprint("everyone", i), p))
	}
	b.settle()
	for _, c := range clients {
		got := c.log.messages()
		if len(got) != 3*len(payloads) {
			b.Errorf("a client on %s got %d messages instead of %d", c.node.Name(), len(got), 3*len(payloads))
			continue
		}
		for _, m := range got {
			i, err := strconv.Atoi(strings.TrimLeft(m.Event, "abcdefghijklmnopqrstuvwxyz"))
			b.must(err)
			want := payloads[i]
			equal := bytes.Equal(m.Payload.Data, want.Data)
			if want.Encoding == crosscast.EncodingJSON {
				equal = same(m.Payload.Data, want.Data)
			}
			if m.Payload.Encoding != want.Encoding || !equal {
				b.Errorf("%s: the payload %s arrived on %s as %s",
					m.Event, describe(want), c.node.Name(), describe(m.Payload))
			}
		}
	}
}

// sameValue reports whether two JSON texts stand for the same value.
func sameValue(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func describe(p crosscast.Payload) string {
	kinds := map[crosscast.Encoding]string{
		crosscast.EncodingNone: "none", crosscast.EncodingJSON: "JSON", crosscast.EncodingBinary: "binary", crosscast.EncodingArgs: "arguments",
		crosscast.EncodingMsgPack: "msgpack",
	}
	kind := kinds[p.Encoding]
	if len(p.Data) > 40 {
		return fmt.Sprintf("%s of %d bytes, %q…", kind, len(p.Data), p.Data[:40])
	}
	return fmt.Sprintf("%s %q", kind, p.Data)
}

package adaptertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/crosscast/crosscast"
)

var payloadRules = []rule{
	{
		name: "payloads",
		text: "A payload arrives byte for byte, and of the same encoding: none, JSON, binary, empty or of 1 MiB, and " +
			"arguments.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			clients := []*client{b.connect(n0, connect{Rooms: []string{"r"}}), b.connect(n1, connect{Rooms: []string{"r"}}),
				b.connect(n2, connect{Rooms: []string{"r"}})}
			bytes256 := make([]byte, 256)
			for i := range bytes256 {
				bytes256[i] = byte(i)
			}
			large := make([]byte, 1<<20)
			rand.NewChaCha8([32]byte{}).Read(large)
			text := strings.Repeat("j", 1<<20-2)
			// 1, "é", {"b": <bytes 00 ff>, "n": [null, 1.5]}
			args := crosscast.Payload{Encoding: crosscast.Args, Data: []byte("\x93\x01\xa2\xc3\xa9\x82\xa1b\xc4\x02\x00\xff" +
				"\xa1n\x92\xc0\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00")}
			payloads := []struct {
				given any
				want  crosscast.Payload
			}{
				{nil, crosscast.Payload{}},
				{json.RawMessage(`null`), crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`null`)}},
				{"", crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`""`)}},
				{map[string]any{"a": []int{1, 2}}, crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`{"a":[1,2]}`)}},
				{json.RawMessage(` { "a" : 1.50 , "a" : "\u0000é" } `),
					crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(` { "a" : 1.50 , "a" : "\u0000é" } `)}},
				{text, crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`"` + text + `"`)}},
				{[]byte{}, crosscast.Payload{Encoding: crosscast.Binary}},
				{[]byte("\r\n+OK\r\n"), crosscast.Payload{Encoding: crosscast.Binary, Data: []byte("\r\n+OK\r\n")}},
				{bytes256, crosscast.Payload{Encoding: crosscast.Binary, Data: bytes256}},
				{large, crosscast.Payload{Encoding: crosscast.Binary, Data: large}},
				{args, args},
			}
			for i, p := range payloads {
				b.must(n0.To("r").Emit(b.ctx, fmt.Sprint("single", i), p.given))
				b.must(n0.To("r", "r2").Emit(b.ctx, fmt.Sprint("several", i), p.given))
				b.must(n0.Emit(b.ctx, fmt.Sprint("everyone", i), p.given))
			}
			b.settle()
			for _, c := range clients {
				got := c.log.messages()
				if len(got) != 3*len(payloads) {
					b.Errorf("a client on %s got %d messages instead of %d", c.node.Name(), len(got), 3*len(payloads))
					continue
				}
				for i, m := range got {
					want := payloads[i/3].want
					if m.Payload.Encoding != want.Encoding || !bytes.Equal(m.Payload.Data, want.Data) {
						b.Errorf("%s: the payload %s arrived on %s as %s",
							m.Event, describe(want), c.node.Name(), describe(m.Payload))
					}
				}
			}
		},
	},
	{
		name: "payload-kept",
		text: "Emit and Publish keep nothing of the payload: it may be overwritten as soon as they return.",
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
				b.must(n0.To("r").Emit(b.ctx, "m", buf))
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
		text: "A message says where it comes from, whom it is for, in which namespace, whether it is volatile, and " +
			"its meta pairs.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c := b.connectIn(n1, "/chat", connect{User: "u", Rooms: []string{"r"}})
			b.connectIn(n2, "/chat", connect{})
			ns, err := n0.Of("/chat")
			b.must(err)
			pairs := []crosscast.KeyValue{
				{Key: "traceparent", Value: "00-0af7"}, {Key: "", Value: "\xff"}, {Key: strings.Repeat("k", 255)},
			}
			targets := []crosscast.BoundTarget{
				ns.To("r"), ns.ToUser("u"), ns.ToSocket(c.ID()), ns.Everyone(),
				ns.To("r", "s").ToUser("v").ToSocket(c.ID()).Except("x", "y").ExceptUser("z").ExceptSocket(n0.clients[0].ID()),
			}
			for _, t := range targets {
				b.emit(t.Volatile().Meta(pairs...), "m")
			}
			b.emit(ns.To("r"), "m")
			b.settle()
			want := []crosscast.Target{
				{Rooms: []string{"r"}}, {Users: []string{"u"}}, {Sockets: []crosscast.SocketID{c.ID()}}, {Everyone: true},
				{Rooms: []string{"r", "s"}, Users: []string{"v"}, Sockets: []crosscast.SocketID{c.ID()},
					ExceptRooms: []string{"x", "y"},
					ExceptUsers: []string{"z"}, ExceptSockets: []crosscast.SocketID{n0.clients[0].ID()}},
				{Rooms: []string{"r"}},
			}
			got := c.log.messages()
			if len(got) != len(want) {
				b.Fatalf("%d messages arrived instead of %d", len(got), len(want))
			}
			for i, m := range got {
				plain := i == len(got)-1
				switch {
				case m.From != n0.ID() || m.Namespace != "/chat":
					b.Errorf("message %d says that it is from %q in %q; it is from %q in "+
						"/chat", i, m.From, m.Namespace, n0.ID())
				case m.Volatile == plain:
					b.Errorf("message %d: volatile is %v", i, m.Volatile)
				case !plain && !slices.Equal(m.Meta, pairs) || plain && len(m.Meta) > 0:
					b.Errorf("message %d: meta pairs are %q", i, m.Meta)
				case fmt.Sprint(*m.Target) != fmt.Sprint(want[i]):
					b.Errorf("message %d: the target %+v arrived as %+v", i, want[i], *m.Target)
				}
			}
		},
	},
}

func describe(p crosscast.Payload) string {
	kinds := map[crosscast.Encoding]string{crosscast.None: "none", crosscast.JSON: "JSON", crosscast.Binary: "binary",
		crosscast.Args: "arguments"}
	kind := kinds[p.Encoding]
	if len(p.Data) > 40 {
		return fmt.Sprintf("%s of %d bytes, %q…", kind, len(p.Data), p.Data[:40])
	}
	return fmt.Sprintf("%s %q", kind, p.Data)
}

package interop

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/redistest"
)

// decoded is what the two decoders of Node.js made of one message.
type decoded struct {
	Notepack, Msgpack struct {
		Value any
		Error string
	}
}

// check compares it with what was encoded.
func (d *decoded) check(t *testing.T, want any) {
	t.Helper()
	for name, got := range map[string]struct {
		Value any
		Error string
	}{"notepack.io": d.Notepack, "@msgpack/msgpack": d.Msgpack} {
		if v := decodeValue(got.Value); got.Error != "" || !equal(v, want) {
			t.Errorf("%s made %s of %s: %s", name, show(v), show(want), got.Error)
		}
	}
}

// decodeInNode lets Node.js decode messages.
func decodeInNode(t *testing.T, p *process, messages [][]byte) []decoded {
	t.Helper()
	var out []decoded
	list := make([]any, len(messages))
	for i, m := range messages {
		list[i] = m
	}
	p.must(t, "decode", map[string]any{"messages": list}, &out)
	if len(out) != len(messages) {
		t.Fatalf("%d of %d messages", len(out), len(messages))
	}
	return out
}

// TestNodeDecodesJSON: what JSON becomes on the wire is the same value for the decoders of Node.js.
func TestNodeDecodesJSON(t *testing.T) {
	p := startProcess(t, "decoder", "decode.mjs")
	r := rand.New(rand.NewPCG(6, 7))
	texts := []string{
		"18446744073709551615", "9223372036854775808", "-9223372036854775808", "18446744073709551616", "1e21", "1e400",
		"-0.0", "1e2", "1.0", "0.1", "4294967295", "4294967296", `{"a":1,"a":2}`, `{"__proto__x":1}`, `"\ud83d\ude00"`,
	}
	for range 1000 {
		text, err := json.Marshal(randomValue(r, 4, false))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	var messages [][]byte
	var want []any
	for _, text := range texts {
		m, err := mpack.AppendFromJSON(nil, []byte(text))
		if err != nil {
			t.Fatalf("%.100s: %v", text, err)
		}
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil && text != "1e400" {
			t.Fatal(err)
		}
		messages, want = append(messages, m), append(want, v)
	}
	for i, d := range decodeInNode(t, p, messages) {
		if texts[i] == "1e400" { // JSON.parse knows it, and Go does not
			continue
		}
		d.check(t, want[i])
	}
}

// TestNodeDecodesEmissions: everything that a node publishes is read by the decoders of Node.js, and what it emits
// is for them what it was.
func TestNodeDecodesEmissions(t *testing.T) {
	p := startProcess(t, "decoder", "decode.mjs")
	cs := startClients(t)
	redis := redistest.Start(t, redistest.Config{})
	for _, col := range columns {
		if col.client != "redis" || col.outside || col.specific { // which publish no other way
			continue
		}
		t.Run(col.name, func(t *testing.T) {
			var published redistest.Publications
			var servers [2]*goServer
			for i := range servers {
				rdb := redis.Client()
				rdb.AddHook(&published)
				s, err := openGo(fmt.Sprintf("server %d", i), col, t.Name(), rdb, []string{"/"})
				must(t, err)
				t.Cleanup(func() { must(t, s.close()) })
				servers[i] = s
			}
			r := rand.New(rand.NewPCG(3, 4))
			cl, err := cs.connect(servers[1].port(), "/", hello{data: randomValue(r, 3, false), rooms: []string{"r1"}})
			must(t, err)
			defer cl.leave(t)
			cl.replies(t, "ask", randomValue(r, 3, true))

			var want [][]any
			for i := range 300 {
				args := []any{"random", i}
				for range r.IntN(4) {
					args = append(args, randomValue(r, 3, i%2 == 0))
				}
				to := []target{all(), room("r1"), room("r1", randomName(r)).but(randomName(r)), room(randomName(r))}[i%4]
				must(t, servers[0].emit(to, "random", args[1:]...))
				want = append(want, args)
			}
			_, err = servers[0].fetch(all())
			must(t, err)
			_, err = servers[0].emitAck(all().within(long), "ask", randomValue(r, 3, true))
			must(t, err)
			_, err = servers[0].serverSideEmitAck(all(), "asked", randomValue(r, 3, true), randomValue(r, 3, false))
			must(t, err)
			must(t, servers[0].join(room("r1").but("r2"), randomName(r)))
			must(t, servers[0].leave(room("r1"), randomName(r)))
			must(t, servers[0].disconnect(room("r2"), true))
			must(t, servers[0].node.Flush(t.Context()))

			var messages [][]byte
			for _, m := range published.Seen() {
				messages = append(messages, m.Data)
			}
			if len(messages) < len(want)+6 {
				t.Errorf("only %d messages were published", len(messages))
			}
			for i, d := range decodeInNode(t, p, messages) {
				if d.Notepack.Error != "" || d.Msgpack.Error != "" {
					t.Errorf("%q: %s, %s", messages[i][:min(300, len(messages[i]))], d.Notepack.Error, d.Msgpack.Error)
				}
				data, ok := emitted(decodeValue(d.Notepack.Value))
				if !ok || len(data) < 2 || data[0] != "random" {
					continue
				}
				if !equal(data, want[0]) || !equal(decodeValue(d.Msgpack.Value), decodeValue(d.Notepack.Value)) {
					t.Errorf("Node.js reads %s, want %s", show(data), show(want[0]))
				}
				want = want[1:]
			}
			if len(want) > 0 {
				t.Errorf("%d emissions were not published", len(want))
			}
		})
	}
}

func randomName(r *rand.Rand) string {
	name := []rune("r" + randomText(r))
	return string(name[:min(len(name), 60)])
}

// emitted returns the event and the arguments of a message that is an emission without acknowledgement.
func emitted(message any) ([]any, bool) {
	switch m := message.(type) {
	case []any: // [uid, packet, opts]
		if len(m) != 3 {
			return nil, false
		}
		return dataOf(m[1])
	case map[string]any:
		data, _ := m["data"].(map[string]any)
		return dataOf(data["packet"])
	}
	return nil, false
}

func dataOf(packet any) ([]any, bool) {
	p, _ := packet.(map[string]any)
	data, ok := p["data"].([]any)
	return data, ok
}

package crosscast_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

type tagged struct {
	Name  string `json:"name"`
	Empty int    `json:"empty,omitempty"`
	None  int    `json:"-"`
	Plain bool
}

// TestMsgPackTable is the table of docs/msgpack.md, from values of Go: what they are as msgpack, and as JSON.
func TestMsgPackTable(t *testing.T) {
	n := start(t, crosscast.Options{})
	for _, row := range []struct {
		value     any
		hex, json string
	}{
		{nil, "c0", `null`},
		{true, "c3", `true`},
		{int64(-5), "fb", `-5`},
		{int64(1<<53 + 1), "cf0020000000000001", `9007199254740993`},
		{uint64(math.MaxUint64), "cfffffffffffffffff", `18446744073709551615`},
		{int64(math.MinInt64), "d38000000000000000", `-9223372036854775808`},
		{1.0, "cb3ff0000000000000", `1`},
		{math.Copysign(0, -1), "cb8000000000000000", `-0`},
		{1e-7, "cb3e7ad7f29abcaf48", `1e-7`},
		{float32(0.5), "ca3f000000", `0.5`},
		{"é\n", "a3c3a90a", `"é\n"`},
		{[]byte{0, 255}, "c40200ff", `"AP8="`},
		{crosscast.Bytes{0, 255}, "c40200ff", `"AP8="`},
		{time.Unix(1, 5), "d7ff0000001400000001", `"1970-01-01T00:00:01.000000005Z"`},
		{time.Unix(1<<34, 0), "c70cff000000000000000400000000", `"2514-05-30T01:53:04Z"`},
		{[]any{1, nil}, "9201c0", `[1,null]`},
		{map[string]any{"b": 1, "a": 2}, "82a16102a16201", `{"a":2,"b":1}`},
		{tagged{Name: "x"}, "82a46e616d65a178a5506c61696ec2", `{"name":"x","Plain":false}`},
		{json.RawMessage(` {"a":1.0,"a":-0} `), "82a16101a161cb8000000000000000", `{"a":1,"a":-0}`},
		{raw("\xc7\x01\xff\x00"), "", ""}, // as an application's MarshalMsgpack might write
	} {
		p, err := n.Encode(crosscast.MsgPack(row.value))
		if row.hex == "" {
			if err == nil {
				t.Errorf("%v was not refused", row.value)
			}
			continue
		}
		ok(t, err)
		text, err := p.AppendJSON(nil)
		ok(t, err)
		if got := hex.EncodeToString(p.Data); got != row.hex || string(text) != row.json || p.Encoding != crosscast.EncodingMsgPack {
			t.Errorf("%v is %s, and as JSON %s; want %s and %s", row.value, got, text, row.hex, row.json)
		}
	}
}

// raw writes itself.
type raw string

func (r raw) MarshalMsgpack() ([]byte, error) { return []byte(r), nil }

// What JSON cannot say goes nowhere, and the error says why.
func TestMsgPackWithoutCounterpartIsRefused(t *testing.T) {
	type loop struct{ Next *loop }
	endless := new(loop)
	endless.Next = endless
	cluster := crosscast.NewCluster()
	n := start(t, crosscast.Options{Adapter: cluster.Adapter()})
	var r recorder
	s := connect(t, n.Namespace, &r, "room")
	for _, row := range []struct {
		value any
		why   string
	}{
		{math.NaN(), "not finite"},
		{[]float32{float32(math.Inf(-1))}, "not finite"},
		{map[int]string{1: "a"}, "a key of a map that is no string"},
		{raw("\x81\xc4\x01a\x01"), "a key of a map that is no string"},
		{"\xff", "not UTF-8"},
		{map[string]int{"\xed\xa0\x80": 1}, "not UTF-8"},
		{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "a time of the years 0 to 9999"},
		{time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), "a time of the years 0 to 9999"},
		{raw("\xd7\xff\xee\x6b\x28\x04\x00\x00\x00\x01"), "a time of"}, // a second of more than 10^9 ns
		{raw("\xd4\x00\x00"), "an extension"},                          // undefined
		{raw("\xd5\x05ab"), "an extension"},
		{raw("\xc1"), "malformed"},
		{raw(""), "malformed"},
		{raw("\x01\x01"), "malformed"},
		{raw("\xdd\xff\xff\xff\xff\x01"), "malformed"},
		{raw("\xdf\x7f\xff\xff\xff\xa1a"), "malformed"},
		{raw("\xc6\xff\xff\xff\xff"), "malformed"},
		{raw(strings.Repeat("\x91", 513) + "\xc0"), "too deep"},
		{json.RawMessage(strings.Repeat("[", 513) + strings.Repeat("]", 513)), "too deep"},
		{json.RawMessage(`{"a":1e400}`), "a number that is no float of 64 bits"},
		{json.RawMessage(`"\ud800"`), "half a surrogate pair"},
		{json.RawMessage("\"\xff\""), "no JSON in UTF-8"},
		{json.RawMessage(`{`), "no JSON"},
		{make(chan int), "unsupported"},
		{struct{ V any }{crosscast.MsgPack(1)}, "within another value"},
		{endless, "too large"},
		{crosscast.Bytes(make([]byte, 1<<20)), "too large"},
	} {
		refused := func(what string, err error) {
			t.Helper()
			text := fmt.Sprint(err)
			if errors.Is(err, crosscast.ErrTooLarge) {
				text += " too large"
			}
			if err == nil || !strings.Contains(text, row.why) {
				t.Errorf("%.40q, %s: got %v, want %s", fmt.Sprintf("%T", row.value), what, err, row.why)
			}
		}
		refused("Emit", n.To("room").Emit(ctx, "e", crosscast.MsgPack(row.value)))
		refused("Socket.Emit", s.Emit(ctx, "e", crosscast.MsgPack(row.value)))
		refused("EmitAck", readOut(n.To("room").EmitAck(ctx, "e", crosscast.MsgPack(row.value))))
		refused("Ask", readOut(n.Servers().Ask(ctx, "e", crosscast.MsgPack(row.value))))
		if v, isRaw := row.value.(raw); isRaw {
			refused("Payload", n.To("room").Emit(ctx, "e", crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: []byte(v)}))
		}
	}
	equal(t, "got", r.take(), "")
	if err := n.Emit(ctx, "e", []any{crosscast.MsgPack(1)}); err == nil || !strings.Contains(err.Error(), "within another value") {
		t.Errorf("in JSON: got %v", err)
	}
	ok(t, n.To("room").Emit(ctx, "e", crosscast.MsgPack(1)))
	equal(t, "got", r.take(), "e")
}

// A peer's msgpack is walked before anybody gets it. A payload of an encoding that this node does not know is counted and
// dropped, and a gap of its names; what comes behind it in the same bytes arrives.
func TestPayloadsOfPeersThatAreNotMsgPackAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var l log
		n := start(t, crosscast.Options{
			Adapter: d,
			OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
				l.add("%s of %s: %s", g.Reason, g.Origin, sorted(addressTexts(g.Names)))
			},
		})
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
				l.add("%s %x", m.Payload.Encoding, m.Payload.Data)
			},
		}, "room")
		ok(t, err)
		var reader crosscast.InstructionReader
		handle := func(instructions string) {
			for data := []byte(instructions); len(data) > 0; {
				inst, rest, err := reader.Read(data)
				ok(t, err)
				inst.From = "aaaaaaaa"
				d.h.Handle(inst)
				data = rest
			}
			synctest.Wait()
		}
		emission := func(room, payload string) string {
			return "\x96\x01\xc0\xc0\x92\xc2\x91" + string([]byte{0xa0 + byte(len(room))}) + room + "\xa1e" + payload
		}
		const fine = "\xd4\x04\x07" // 7
		handle(emission("room", fine))
		equal(t, "msgpack", l.take(), "msgpack 07")
		for _, bad := range []string{"\xc1", "\x91", "\xdd\xff\xff\xff\xff", "\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", "\x81\x01\x02", ""} {
			handle(emission("room", fmt.Sprintf("\xc7%c\x04%s", len(bad), bad)) + emission("room", fine))
			equal(t, fmt.Sprintf("%x", bad), l.take(), "invalid of aaaaaaaa: room; msgpack 07")
		}
		for _, later := range []string{"\xd4\x05x", "\xd4\x7fx", "\xd4\xffx", "\xc7\x00\x80"} {
			handle(emission("room", later) + emission("room", fine))
			equal(t, fmt.Sprintf("%x", later), l.take(), "invalid of aaaaaaaa: room; msgpack 07")
		}
		handle(emission("other", "\xd4\x05x"))
		equal(t, "of nobody", l.take(), "")
		equal(t, "invalid", n.Stats().Dropped["invalid"], 6)
		equal(t, "of a later version", n.Stats().Dropped["encoding"], 4)

		answers := make(map[string]string)
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Answer {
				answers[inst.Ref] = inst.Answer.Err
			}
		}
		ok(t, n.OnRequest("e", handlerOf(&l)))
		d.h.Handle(&crosscast.Instruction{
			Kind: kind.Request, Namespace: "/", From: "aaaaaaaa", Event: "e", Target: crosscast.Target{Everyone: true}, Ref: "r",
			Payload: crosscast.Payload{Encoding: 9},
		})
		synctest.Wait()
		equal(t, "request", answers["r"], "the payload is of an encoding that this node does not know")
		equal(t, "the handler was called", l.take(), "")
		equal(t, "of a later version", n.Stats().Dropped["encoding"], 5)
	})
	for _, number := range []string{"\x00", "\x01", "\x02", "\x03"} { // these have other forms
		var reader crosscast.InstructionReader
		if _, _, err := reader.Read([]byte("\x96\x01\xc0\xc0\xc0\xa1e\xd4" + number + "x")); err == nil {
			t.Errorf("an extension of type %q was taken", number)
		}
	}
}

// packFramer is one of several framers that make JSON.
type packFramer int

func (f packFramer) Frame(m *crosscast.Message) ([]byte, error) {
	return crosscast.JSONEnvelope{}.Frame(m)
}

// TestMsgPackIsConvertedOnce: framers share the JSON, no one makes it that nobody needs, and a message that is used again
// has forgotten it.
func TestMsgPackIsConvertedOnce(t *testing.T) {
	data := "\x92\xa1a\xc6\x00\x01\x00\x00" + strings.Repeat("x", 1<<16)
	m := &crosscast.Message{Event: "e", Payload: crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: []byte(data)}}
	if m.Text() != nil {
		t.Error("converted for nobody")
	}
	_, err := m.Frame(packFramer(0))
	ok(t, err)
	text := m.Text()
	for i := range 3 {
		frame, err := m.Frame(packFramer(i))
		ok(t, err)
		if m.Text() != text || !strings.Contains(string(frame), string(*text)) {
			t.Error("converted again")
		}
	}
	m = &crosscast.Message{Event: "e", Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("1")}}
	_, err = m.Frame(packFramer(0))
	ok(t, err)
	if m.Text() != nil {
		t.Error("JSON was converted")
	}

	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the pool gives the same message
	n := start(t, crosscast.Options{})
	var got []string
	connect(t, n.Namespace, envelopeConn{&got}, "room")
	for i := range 3 {
		ok(t, n.To("room").Emit(ctx, "e", crosscast.MsgPack(i)))
	}
	equal(t, "got", strings.Join(got, " "), `{"event":"e","data":0} {"event":"e","data":1} {"event":"e","data":2}`)
}

// An envelopeConn makes JSON of each message by itself.
type envelopeConn struct{ got *[]string }

func (c envelopeConn) Send(m *crosscast.Message) error {
	frame, err := crosscast.JSONEnvelope{}.Frame(m)
	*c.got = append(*c.got, string(frame))
	return err
}

func (envelopeConn) Close(crosscast.Reason) {}

// TestMsgPackArrives: from a node to the sockets, subscriptions and handlers of others, and back.
func TestMsgPackArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		var l log
		_, err := b.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			text, err := m.Payload.AppendJSON(nil)
			l.add("%s %s %v", m.Payload.Encoding, text, err)
		}}, "room")
		ok(t, err)
		ok(t, a.To("room").Emit(ctx, "e", crosscast.MsgPack(tagged{Name: "x"})))
		synctest.Wait()
		equal(t, "subscription", l.take(), `msgpack {"name":"x","Plain":false} <nil>`)

		ok(t, b.OnRequest("e", handlerOf(&l)))
		for r := range a.Servers().Only(b.ID()).Ask(ctx, "e", crosscast.MsgPack([]int{7})).All() {
			l.add("%s %x", r.Payload.Encoding, r.Payload.Data)
		}
		equal(t, "request", l.take(), `msgpack 9107; msgpack cb3fe0000000000000`)

		connectClient(t, b, func(s *crosscast.Socket, ack uint64) { s.Reply(ack, crosscast.MsgPack("n")) }, "asked")
		for r := range a.To("asked").EmitAck(ctx, "e", nil).All() {
			l.add("%s %x", r.Payload.Encoding, r.Payload.Data)
		}
		equal(t, "reply", l.take(), "msgpack a16e")
	})
}

// handlerOf answers requests with 0.5.
func handlerOf(l *log) func(context.Context, *crosscast.Request) (any, error) {
	return func(_ context.Context, r *crosscast.Request) (any, error) {
		l.add("%s %x", r.Payload.Encoding, r.Payload.Data)
		return crosscast.MsgPack(0.5), nil
	}
}

// countedFramer is one of many framers, and counts what it frames.
type countedFramer struct {
	id int
	n  *atomic.Int32
}

func (f countedFramer) Frame(*crosscast.Message) ([]byte, error) {
	f.n.Add(1)
	return []byte{byte(f.id)}, nil
}

// TestFramesOfManyFramers: each framer frames a message once, however many there are and whoever comes first, and a message
// that is used again has forgotten all of them.
func TestFramesOfManyFramers(t *testing.T) {
	n := start(t, crosscast.Options{})
	var framed atomic.Int32
	for i := range 100 {
		connect(t, n.Namespace, framerConn{t, countedFramer{i % 7, &framed}}, "room")
	}
	for range 20 {
		framed.Store(0)
		ok(t, n.To("room").Emit(ctx, "e", 1))
		equal(t, "framed", framed.Load(), 7)
	}

	var wg sync.WaitGroup
	framed.Store(0)
	m := &crosscast.Message{Event: "e"}
	for range 8 {
		wg.Go(func() {
			for i := range 700 {
				if b, err := m.Frame(countedFramer{i % 7, &framed}); err != nil || b[0] != byte(i%7) {
					t.Errorf("framer %d: %x, %v", i%7, b, err)
				}
			}
		})
	}
	wg.Wait()
	equal(t, "framed", framed.Load(), 7)
}

// A framerConn checks that it gets the frame of its framer.
type framerConn struct {
	tb testing.TB
	f  countedFramer
}

func (c framerConn) Send(m *crosscast.Message) error {
	b, err := m.Frame(c.f)
	if len(b) != 1 || b[0] != byte(c.f.id) {
		c.tb.Errorf("framer %d: %x, %v", c.f.id, b, err)
	}
	return err
}

func (framerConn) Close(crosscast.Reason) {}

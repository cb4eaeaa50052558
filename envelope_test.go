package crosscast_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
)

func TestJSONEnvelope(t *testing.T) {
	text := func(s string) crosscast.Payload {
		return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(s)}
	}
	args := func(s string) crosscast.Payload {
		return crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte(s)}
	}
	for _, c := range []struct {
		event   string
		payload crosscast.Payload
		want    string
	}{
		{"joined", crosscast.Payload{}, `{"event":"joined"}`},
		{"roomMessage", text(`{"text":"hi"}`), `{"event":"roomMessage","data":{"text":"hi"}}`},
		{"null", text(`null`), `{"event":"null","data":null}`},
		{"no bytes", text(``), `{"event":"no bytes"}`},
		{"bin", crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{0, 255, 1}}, `{"event":"bin","data":"AP8B"}`},
		{"empty bin", crosscast.Payload{Encoding: crosscast.EncodingBinary}, `{"event":"empty bin","data":""}`},
		{"args", args("\x92\x01\xc4\x03\x00\xff\x01"), `{"event":"args","data":[1,"AP8B"]}`},
		{"one", args("\x91\x81\xa1b\xc4\x03\x00\xff\x01"), `{"event":"one","data":{"b":"AP8B"}}`},
		{"no args", args("\x90"), `{"event":"no args","data":[]}`},
		{`say "x\y"`, text(`1`), `{"event":"say \"x\\y\"","data":1}`},
		{"line\nfeed\x01", text(`1`), `{"event":"line\nfeed\u0001","data":1}`},
		{"größe 🙂 <b>", text(`1`), `{"event":"größe 🙂 <b>","data":1}`},
		{"bad \xff utf", text(`1`), `{"event":"bad \ufffd utf","data":1}`},
	} {
		got, err := crosscast.JSONEnvelope{}.Frame(&crosscast.Message{Event: c.event, Payload: c.payload})
		if err != nil || string(got) != c.want {
			t.Errorf("%q: got %s, %v; want %s", c.event, got, err, c.want)
		}
	}
	for ack, want := range map[uint64]string{
		7:              `{"event":"e","data":[],"id":7}`,
		math.MaxUint64: `{"event":"e","data":[],"id":18446744073709551615}`,
	} {
		got, err := crosscast.JSONEnvelope{}.Frame(&crosscast.Message{Event: "e", Payload: text(`[]`), Ack: ack})
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	for _, p := range []crosscast.Payload{{Encoding: 77}, args(""), args("\x91"), args("\x91\xc1")} {
		if got, err := (crosscast.JSONEnvelope{}).Frame(&crosscast.Message{Event: "e", Payload: p}); err == nil {
			t.Errorf("encoding %d, %q: got %s, want an error", p.Encoding, p.Data, got)
		}
	}
}

func TestJSONEnvelopeAllocatesTheFrameOnly(t *testing.T) {
	for _, e := range []crosscast.Encoding{crosscast.EncodingNone, crosscast.EncodingJSON, crosscast.EncodingBinary} {
		m := &crosscast.Message{Event: "größe", Ack: math.MaxUint64, Payload: crosscast.Payload{Encoding: e, Data: []byte(`"0123456789"`)}}
		if n := testing.AllocsPerRun(100, func() { _, _ = crosscast.JSONEnvelope{}.Frame(m) }); n != 1 {
			t.Errorf("encoding %d: %v allocations, want 1", e, n)
		}
	}
}

func FuzzJSONEnvelope(f *testing.F) {
	f.Add("event", []byte("data"))
	f.Add("\"\\\x00\x1f\x7f\u2028", []byte{})
	f.Add("\xff\xc0\xaf", []byte{0xff})
	f.Fuzz(func(t *testing.T, event string, data []byte) {
		m := &crosscast.Message{Event: event, Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: data}}
		frame, err := crosscast.JSONEnvelope{}.Frame(m)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Event string
			Data  []byte
		}
		if err := json.Unmarshal(frame, &got); err != nil {
			t.Fatalf("%s: %v", frame, err)
		}
		// Every byte that is no UTF-8 becomes one U+FFFD, as when a string is walked by runes.
		if want := strings.Map(func(r rune) rune { return r }, event); got.Event != want || !bytes.Equal(got.Data, data) {
			t.Fatalf("got %q %q, want %q %q", got.Event, got.Data, want, data)
		}
	})
}

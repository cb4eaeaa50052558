package ws

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// FuzzForms is that a client's message, in any form, is refused or becomes JSON, with memory that its bytes pay for.
func FuzzForms(f *testing.F) {
	for _, message := range []string{
		"\x82\xa5event\xa1e\xa4data\x81\xa1a\xc4\x01x", "\x81\xa4data\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\x82\xa2id\x01\xa4data\xc0",
		"\x82\xa4join\xa1r\xa2id\x01", "\x81\xa4data" + strings.Repeat("\x91", 600), "\x82\xa5event\xa1e\xa5event\xa1f",
		"{\"event\":\"e\"}\x00\xff", "{\"id\":1}\x00", "\x00", "{\"event\":\"e\",\"data\":[1]}", "{\"id\":3,\"error\":\"no\"}",
	} {
		f.Add([]byte(message))
	}
	s := &Server{o: Options{Envelope: JSON{}}}
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, form := range []uint8{formJSON, formMsgPack} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := s.parseForm(form, websocket.MessageBinary, message)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 64*uint64(len(message))+64<<10 {
				t.Fatalf("form %d: %d bytes for %d", form, n, len(message))
			}
			if err != nil {
				continue
			}
			if len(m.Data) > 6*len(message)+2 || m.Data != nil && !json.Valid(m.Data) || m.reply != nil && (m.Data != nil || !m.isReply()) {
				t.Fatalf("form %d: %+v", form, m)
			}
			if m.ID > maxID || m.Event == "" && m.Join == "" && m.Leave == "" && m.ID == 0 {
				t.Fatalf("form %d: %+v", form, m)
			}
		}
	})
}

// TestRepliesAreCopied: the memory of a message is used again while the reply is on its way.
func TestRepliesAreCopied(t *testing.T) {
	s := &Server{o: Options{Envelope: JSON{}}}
	for form, text := range map[uint8]string{formJSON: "{\"id\":1}\x00abc", formMsgPack: "\x82\xa2id\x01\xa4data\xc4\x03abc"} {
		message := []byte(text)
		m, err := s.parseForm(form, websocket.MessageBinary, message)
		clear(message)
		if b, ok := m.reply.(crosscast.Bytes); err != nil || !ok || string(b) != "abc" {
			t.Errorf("form %d: got %q, %v", form, m.reply, err)
		}
	}
}

// TestFramesOfFormsAreShared: connections with equal forms have equal framers, also on different servers of one process.
func TestFramesOfFormsAreShared(t *testing.T) {
	var servers [2]*Server
	for i := range servers {
		o := Options{Envelope: JSON{}}
		servers[i] = &Server{o: o, forms: o.offered(), typ: websocket.MessageText}
	}
	for form := range formMsgPack + 1 {
		format := wsconn.Format{Form: form}
		if servers[0].framer(format) != servers[1].framer(format) {
			t.Errorf("form %d has two framers", form)
		}
		if other := (wsconn.Format{Form: (form + 1) % (formMsgPack + 1)}); servers[0].framer(format) == servers[0].framer(other) {
			t.Errorf("form %d has the framer of another form", form)
		}
	}
}

// BenchmarkForms is what the frame of a broadcast costs, once for all clients of a form.
func BenchmarkForms(b *testing.B) {
	text := []byte(`{"id":12345,"user":"alice","text":"hello, this is a message of a usual length","at":1732500000000,"ok":true}`)
	packed, err := appendPack(nil, "", 0, crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: text})
	if err != nil {
		b.Fatal(err)
	}
	value := packed[len("\x81\xa4data"):]
	s := &Server{o: Options{Envelope: JSON{}}, typ: websocket.MessageText}
	for name, p := range map[string]crosscast.Payload{
		"json": {Encoding: crosscast.EncodingJSON, Data: text}, "msgpack": {Encoding: crosscast.EncodingMsgPack, Data: value},
		"bytes": {Encoding: crosscast.EncodingBinary, Data: value},
	} {
		for form, to := range []string{"plain", "json.1", "msgpack.1"} {
			b.Run(name+"-to-"+to, func(b *testing.B) {
				framer := s.framer(wsconn.Format{Form: uint8(form)})
				b.ReportAllocs()
				for b.Loop() {
					if _, err := framer.Frame(&crosscast.Message{Event: "said", Payload: p}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

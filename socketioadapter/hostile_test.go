package socketioadapter_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
	"github.com/crosscast/crosscast/wire"
)

// deep is so many arrays in arrays.
func deep(n int) string { return strings.Repeat("\x91", n) + "\xc0" }

// TestMalformedIsDropped: malformed and foreign messages are dropped with their own errors, and reach no node.
func TestMalformedIsDropped(t *testing.T) {
	foreign, malformed := wire.ErrForeign, wire.ErrMalformed
	const main, requests, answers = "socket.io#/#", "socket.io-request#/#", "socket.io-response#/#"
	for _, c := range []struct {
		o    socketioadapter.Options
		on   string
		data string
		want error
	}{
		{classic, main, "", foreign},
		{classic, main, "hello", foreign},
		{classic, main, `{"type":2}`, foreign},
		{classic, main, "\x93", foreign},
		{classic, main, "\x92\xa1u\x80", foreign},
		{classic, main, "\x84\xa4type\x03\xa4data\x80\xa3uid\xa1u\xa3nsp\xa1/", foreign}, // of streams
		{classic, main, "\xdd\xff\xff\xff\xff", foreign},
		{classic, main, deep(100_000), foreign},
		{classic, main, "\x93\xa1u\xc0\x80", malformed},                                   // no packet
		{classic, main, "\x93\xa1u\x80\x80", malformed},                                   // no data
		{classic, main, "\x93\xa1u\x81\xa4data\x90\x80", malformed},                       // no event
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa0\x80", malformed},                   // an empty one
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xc0\x80", malformed},                   // one that is null
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\xc0", malformed},                  // no opts
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\xa1r", malformed},    // invalid rooms
		{classic, main, "\x93\xa1u\x82\xa4data\x91\xa1e\xa3nsp\xa2/n\x80", malformed},     // of another namespace
		{classic, main, "\x93\xa1u\x82\xa4type\x03\xa4data\x91\xa1e\x80", malformed},      // an acknowledgement
		{classic, main, "\x93\xa1u\x81\xa4data\x92\xa1e" + deep(600) + "\x80", malformed}, // too deep
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x80\x80", foreign},                // trailing bytes
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xda\x01\x00" + strings.Repeat("e", 256) + "\x80", malformed},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\xdd\x00\x01\x00\x01" + strings.Repeat("\x01", 1<<16+1),
			malformed}, // too many rooms
		{classic, requests, "nil", foreign},
		{classic, requests, "\xc0", foreign},
		{classic, requests, "{", malformed},
		{classic, requests, "{}", malformed},
		{classic, requests, `{"type":5,"requestId":"x"} x`, malformed},
		{classic, requests, `{"type":5,"requestId":"x"}`, malformed}, // ends a server's process
		{classic, requests, `{"type":7,"requestId":"x","packet":{"data":["e"]}}`, malformed},
		{classic, requests, `{"type":7,"requestId":"x","opts":{}}`, malformed},
		{classic, requests, `{"type":6}`, malformed},
		{classic, requests, `{"type":6,"data":{}}`, malformed},
		{classic, requests, `{"type":2}`, malformed},
		{classic, requests, `{"type":2,"sid":"s"}`, malformed},
		{classic, requests, `{"type":8,"requestId":"x","clientCount":1}`, malformed}, // an answer
		{classic, requests, `{"type":10}`, malformed},
		{classic, requests, `{"type":-1}`, malformed},
		{classic, requests, `{"type":"5","opts":{},"requestId":"x"}`, malformed},
		{classic, requests, `{"type":5,"opts":{},"requestId":"` + strings.Repeat("x", 256) + `"}`, malformed},
		{classic, requests, `{"type":5,"opts":{},"requestId":7}`, malformed},
		{classic, requests, `{"type":5,"opts":{}}`, malformed},
		{classic, answers, "hello", foreign},
		{classic, answers, `{"requestId":"aaaaaaaa~1"`, malformed},
		{classic, answers, `{"requestId":"aaaaaaaa~1","sockets":{}}`, malformed},
		{classic, answers, `{"requestId":"aaaaaaaa~1","sockets":[7]}`, malformed},
		{classic, answers, `{"requestId":"aaaaaaaa~1","rooms":["r"]}`, malformed}, // for no query of this node
		{classic, answers, `{"requestId":"aaaaaaaa~1"}`, malformed},
		{classic, answers, `{"x":"aaaaaaaa~1"}`, malformed},
		{classic, answers, `{"requestId":"aaaaaaaa~1","type":8}`, malformed},
		{classic, answers, `{"requestId":"aaaaaaaa~1","type":8,"clientCount":-1}`, malformed},
		{classic, answers, `{"requestId":"aaaaaaaa~1","type":8,"clientCount":1e99}`, malformed},
		{sharded, main, "", foreign},
		{sharded, main, "hello", foreign},
		{sharded, main, "{}", foreign},
		{sharded, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x80", foreign}, // of classic
		{sharded, main, `{"type":3,"uid":"u","nsp":"/"}`, malformed},
		{sharded, main, `{"type":3,"uid":"u","nsp":"/","data":{}}`, malformed},
		{sharded, main, `{"type":3,"uid":"u","nsp":"/","data":{"packet":{"data":["e"]}}}`, malformed},
		{sharded, main, `{"type":3,"uid":"u","data":{"opts":{},"packet":{"data":["e"]}}}`, malformed}, // no namespace
		{sharded, main, `{"type":3,"uid":"u","nsp":"/x","data":{"opts":{},"packet":{"data":["e"]}}}`, malformed},
		{sharded, main, `{"type":7,"uid":"u","nsp":"/","data":{"opts":{}}}`, malformed},
		{sharded, main, `{"type":1,"uid":"u","nsp":"/","data":{}}`, malformed},
		{sharded, main, `{"type":13,"uid":"u","nsp":"/","data":{}}`, malformed},
		{sharded, main, `{"type":8,"uid":"u","nsp":"/","data":{"requestId":"6161616161616161~1"}}`, malformed},
		{sharded, main, `{"type":11,"uid":"u","nsp":"/","data":{"requestId":"6161616161616161~1"}}`, malformed},
	} {
		s := newSide(t, "aaaaaaaa", c.o)
		_, err := s.Read(c.on, []byte(c.data))
		if !errors.Is(err, c.want) {
			t.Errorf("%.100q on %s: error %v, which is not %v", c.data, c.on, err, c.want)
		}
		if told := s.take(); len(told) > 0 {
			t.Errorf("%.100q on %s: the node was told %q", c.data, c.on, told)
		}
	}
}

// TestManyRooms: few bytes are not much work. A room that comes again is one, and a command has as many as a node's own.
func TestManyRooms(t *testing.T) {
	rooms := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i%1024)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	same := strings.Repeat("\xa1r", 1<<16)
	s := newSide(t, "aaaaaaaa", classic)
	for opts, want := range map[string]string{
		"\x81\xa5rooms\xdd\x00\x01\x00\x00" + same:          `emit from=u rooms=["r"] users=[] sockets=[] event="e"`,
		"\x81\xa5rooms\xdd\x00\x01\x00\x00\xa1a" + same[2:]: `emit from=u rooms=["a" "r"] users=[] sockets=[] event="e"`,
	} {
		got := s.read(sent{channel: "socket.io#/#", data: "\x93\xa1u\x81\xa4data\x91\xa1e" + opts})
		if len(got) != 1 || got[0] != want {
			t.Errorf("%.40q is told as %.200q instead of %q", opts, got, want)
		}
	}
	for _, c := range []struct {
		rooms string
		want  error
	}{
		{rooms(1024, `"%d",`), nil},
		{rooms(60_000, `"%d",`), nil},
		{rooms(1024, `"%d",`) + `,"x"`, wire.ErrMalformed},
	} {
		for _, typ := range []int{2, 3} {
			text := fmt.Sprintf(`{"type":%d,"opts":{},"rooms":[%s]}`, typ, c.rooms)
			if _, err := s.Read("socket.io-request#/#", []byte(text)); !errors.Is(err, c.want) {
				t.Errorf("%.60q: %v, want %v", text, err, c.want)
			}
		}
	}
}

// TestTolerance: messages that JavaScript accepts.
func TestTolerance(t *testing.T) {
	const main, requests = "socket.io#/#", "socket.io-request#/#"
	for _, c := range []struct {
		o              socketioadapter.Options
		on, data, want string
	}{
		{classic, main, "\x93\xc0\x81\xa4data\x91\xa1e\x80", `emit everyone event="e"`},
		{classic, main, "\x94\xa1u\x81\xa4data\x91\xa1e\x80\x01", `emit from=u everyone event="e"`},
		{classic, main, "\x93\xa1u\x83\xa1x\x91\xc0\xa4data\x91\xa1e\xa4type\x05\x83\xa1x\xc0\xa5flags\xc0\xa5rooms\xc0",
			`emit from=u everyone event="e"`},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\x94\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xff\xc3\xa0",
			`emit from=u rooms=["1.5" "-1"] users=[] sockets=[] event="e"`},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\x91\xc0", `emit from=u nobody event="e"`},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\x91\xd9\xff" + strings.Repeat("r", 255),
			`emit from=u rooms=["` + strings.Repeat("r", 255) + `"] users=[] sockets=[] event="e"`},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\x91\xda\x01\x00" + strings.Repeat("r", 256),
			`emit from=u nobody event="e"`},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\x91\xda\x01\x04user:" + strings.Repeat("u", 255),
			`emit from=u rooms=[] users=["` + strings.Repeat("u", 255) + `"] sockets=[] event="e"`},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x81\xa5rooms\x91\xa5user:",
			`emit from=u rooms=["user:"] users=[] sockets=[] event="e"`},
		{classic, main, "\x93\xa1u\x81\xa4data\x91\xa1e\x82\xa5rooms\x91\xa1q\xa5rooms\x91\xa1r",
			`emit from=u rooms=["r"] users=[] sockets=[] event="e"`},
		{classic, requests, "{\"opts\":{\"except\":null,\"rooms\":null},\"rooms\":[1],\"type\":2.0 }\n",
			`join everyone change=["1"]`},
		{classic, requests, `{"type":5,"requestId":"x","opts":{},"uid":null}`, `ask everyone ref=x question=1 fields=15`},
		{classic, requests, `{"type":6,"requestId":null,"data":["e"]}`, `request everyone event="e"`},
		{classic, requests, "\x82\xa4type\x06\xa4data\x91\xa1e", `request everyone event="e"`},
		{classic, requests, `{"type":4,"opts":{},"close":1}`, `disconnect everyone`},
		{classic, requests, `{"type":7,"requestId":"x","opts":{},"nsp":"/y","packet":{"nsp":"/x","data":["e"]}}`,
			`emit everyone event="e" ref=x`},
		{sharded, main, `{"nsp":"/","data":{"opts":{"flags":{"volatile":true,"timeout":null}},` +
			`"packet":{"data":["e"]}},"type":3}`,
			`emit volatile everyone event="e"`},
		{sharded, main, `{"nsp":"/","uid":"emitter","data":{"opts":{},"packet":{"data":["e"]}},"type":3}`,
			`emit everyone event="e"`},
	} {
		s := newSide(t, "aaaaaaaa", c.o)
		if got := s.read(sent{channel: c.on, data: c.data}); len(got) != 1 || got[0] != c.want {
			t.Errorf("%.100q on %s is told as %q instead of %q", c.data, c.on, got, c.want)
		}
	}
}

// TestQuestionsAreBounded: in number, in bytes, and in time.
func TestQuestionsAreBounded(t *testing.T) {
	const fetch = `{"uid":"u","requestId":"%d","type":5,"opts":{}}`
	ask := func(s *side, i int) bool {
		return len(s.read(sent{channel: "socket.io-request#/#", data: fmt.Sprintf(fetch, i)})) == 1
	}
	inBubble(t, func(t *testing.T) {
		s := newSide(t, "aaaaaaaa", classic)
		if !ask(s, 0) || ask(s, 0) {
			t.Error("a question that is open already is taken again")
		}
		for i := range 4095 {
			if !ask(s, i+1) {
				t.Fatalf("with %d open questions another is refused", i+1)
			}
		}
		if ask(s, 5000) {
			t.Error("a question is taken beside 4,096 open ones")
		}
		want := map[string]uint64{"question repeated": 1, "questions": 1}
		if got := socketioadapter.Dropped(s.Dialect); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("counted are %v instead of %v", got, want)
		}
		time.Sleep(16 * time.Second) // lasts
		if !ask(s, 5000) {
			t.Error("questions that nobody has answered for 16 s are still in the way")
		}
	})
	inBubble(t, func(t *testing.T) {
		s := newSide(t, "aaaaaaaa", classic)
		part := &crosscast.Instruction{Kind: kind.Answer, To: "u", Answer: &crosscast.Answer{
			Sockets: []crosscast.SocketInfo{{ID: socketA, Data: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)}},
		}}
		for i := range 3 {
			ask(s, i)
			part.Ref = fmt.Sprint(i)
			for range 7 {
				s.write(part)
			}
		}
		if n := socketioadapter.Dropped(s.Dialect)["answers"]; n != 1 {
			t.Errorf("of answers that take 21 MiB %d were given up", n)
		}
		part.Answer = &crosscast.Answer{Last: true}
		for i := range 2 {
			part.Ref = fmt.Sprint(i)
			if all := s.write(part); len(all) != 1 || len(all[0].data) < 7<<20 {
				t.Errorf("an answer within bounds is %d messages", len(all))
			}
		}
		// Of answers that take too much with their handshakes, these are left out.
		for i := range 3 {
			ask(s, 20+i)
			part.Ref, part.Answer = fmt.Sprint(20+i), &crosscast.Answer{Sockets: []crosscast.SocketInfo{
				{ID: socketA, Handshake: []byte(`"` + strings.Repeat("x", 7<<20) + `"`)},
			}}
			s.write(part)
			if i == 2 {
				part.Answer = &crosscast.Answer{Last: true}
				if all := s.write(part); len(all) != 1 || len(all[0].data) > 1000 {
					t.Errorf("an answer without its handshakes is %d messages", len(all))
				}
			}
		}
		if n := socketioadapter.Dropped(s.Dialect)["answers"]; n != 1 {
			t.Errorf("of answers that take 21 MiB with their handshakes, %d were given up", n-1)
		}
		if !ask(s, 9) {
			t.Error("a new question is refused")
		}
	})
}

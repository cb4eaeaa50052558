package socketioadapter_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

var modes = map[string]socketioadapter.Options{
	"classic": classic,
	"dynamic": sharded,
	"static":  {Mode: socketioadapter.Sharded, Subscription: socketioadapter.Static},
	"private": {Mode: socketioadapter.Sharded, Subscription: socketioadapter.DynamicPrivate},
}

func inEachMode(t *testing.T, run func(t *testing.T, o socketioadapter.Options)) {
	for name, o := range modes {
		t.Run(name, func(t *testing.T) { run(t, o) })
	}
}

var (
	everyone = crosscast.Target{Everyone: true}
	socketA  = crosscast.SocketID("aaaaaaaa------------")
	socketB  = crosscast.SocketID("bbbbbbbb------------")
)

func jsonOf(text string) crosscast.Payload {
	return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(text)}
}

// TestNodesUnderstandEachOther: another node reads each message as it was written.
func TestNodesUnderstandEachOther(t *testing.T) {
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		a, b := newSide(t, "aaaaaaaa", o), newSide(t, "bbbbbbbb", o)
		many := crosscast.Target{
			Rooms: []string{"r", "s"}, Users: []string{"u"}, Sockets: []crosscast.SocketID{socketB},
			ExceptRooms: []string{"x"}, ExceptUsers: []string{"y"}, ExceptSockets: []crosscast.SocketID{socketA},
		}
		const manyTold = `rooms=["r" "s" "user:u" "bbbbbbbb------------"] users=["u"] sockets=["bbbbbbbb------------"] ` +
			`except rooms=["x" "user:y" "aaaaaaaa------------"] users=["y"] sockets=["aaaaaaaa------------"]`
		for _, c := range []struct {
			in   crosscast.Instruction
			told string
		}{
			{
				crosscast.Instruction{Kind: kind.Emit, Target: everyone, Event: "e", Payload: jsonOf(`{"a":[1,"é"]}`)},
				`emit from=aaaaaaaa everyone event="e" json={"a":[1,"é"]}`,
			},
			{
				crosscast.Instruction{Kind: kind.Emit, Target: many, Event: "e", Volatile: true,
					Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{0, 255}}, Namespace: "/n"},
				`emit volatile ns="/n" from=aaaaaaaa ` + manyTold + ` event="e" binary=00ff`,
			},
			{
				crosscast.Instruction{Kind: kind.Emit, Target: crosscast.Target{Rooms: []string{"\xff"}}, Event: "\xfe",
					Namespace: "é\x00\xff"},
				`emit ns="é\x00\xff" from=aaaaaaaa rooms=["\xff"] users=[] sockets=[] event="\xfe"`,
			},
			{
				crosscast.Instruction{Kind: kind.Join, Target: many, Rooms: []string{"a", "\xff"}},
				`join from=aaaaaaaa ` + manyTold + ` change=["a" "\xff"]`,
			},
			{
				crosscast.Instruction{Kind: kind.Leave, Target: everyone, Rooms: []string{"a"}},
				`leave from=aaaaaaaa everyone change=["a"]`,
			},
			{
				crosscast.Instruction{Kind: kind.Disconnect, Target: everyone, Reason: "other"},
				`disconnect from=aaaaaaaa everyone`,
			},
			{
				crosscast.Instruction{Kind: kind.Request, Target: everyone, Event: "q", Payload: jsonOf(`1`)},
				`request from=aaaaaaaa everyone event="q" json=1`,
			},
			{crosscast.Instruction{Kind: kind.Goodbye, Target: everyone}, ""},
			{crosscast.Instruction{Kind: kind.Emit, Event: "e"}, ""},
			{
				crosscast.Instruction{
					Kind: kind.Emit, Event: "e", Target: crosscast.Target{ExceptRooms: []string{"r"}},
				},
				"",
			},
			{crosscast.Instruction{Kind: kind.Disconnect}, ""},
		} {
			messages := a.write(&c.in)
			var want []string
			if c.told != "" {
				want = []string{c.told}
			}
			if got := b.read(messages...); !slices.Equal(got, want) {
				t.Errorf("%s:\ntold     %q\nexpected %q", describe(&c.in), got, want)
			}
			if got := a.read(messages...); len(got) != 0 {
				t.Errorf("a node was told what it wrote itself: %q", got)
			}
		}
	})
}

// TestQuestionsAndAnswers: a query of one node reaches another, and the answer comes back.
func TestQuestionsAndAnswers(t *testing.T) {
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		a, b := newSide(t, "aaaaaaaa", o), newSide(t, "bbbbbbbb", o)
		socket := crosscast.SocketInfo{
			ID: socketB, User: "u", Rooms: []string{"r", "user:not"}, Data: []byte(`{"n":1}`), Handshake: []byte(`{"url":"/"}`),
		}
		const told = `socket=bbbbbbbb------------ user="u" rooms=["r" "user:not"] data={"n":1} handshake={"url":"/"}`
		ask := crosscast.Instruction{
			Kind: kind.Ask, Target: everyone,
			Question: &crosscast.Question{Kind: kind.AskSockets, Fields: kind.AllFields},
		}
		asking := func(k kind.Question, fields kind.Fields) crosscast.Instruction {
			in := ask
			in.Question = &crosscast.Question{Kind: k, Fields: fields}
			return in
		}
		for _, c := range []struct {
			name   string
			in     crosscast.Instruction
			parts  []crosscast.Answer
			told   []string // to the answering node
			answer []string // to the asking node
		}{
			{
				"sockets, in two parts", ask,
				[]crosscast.Answer{
					{Sockets: []crosscast.SocketInfo{socket}},
					{Sockets: []crosscast.SocketInfo{{ID: "bbbbbbbb-----------2"}}, Last: true},
				},
				[]string{`ask from=aaaaaaaa everyone ref=REF question=1 fields=15`},
				[]string{`count=0 last=true handled=false ` + told + ` socket=bbbbbbbb-----------2 user="" rooms=[] data= ` +
					`handshake={"headers":{},"time":"","address":"","xd`},
			},
			{
				"a socket whose data is too deep", ask,
				[]crosscast.Answer{{Last: true, Sockets: []crosscast.SocketInfo{
					{ID: socketB, Data: []byte(strings.Repeat("[", 600) + strings.Repeat("]", 600))},
				}}},
				[]string{`ask from=aaaaaaaa everyone ref=REF question=1 fields=15`},
				[]string{`count=0 last=true handled=false socket=bbbbbbbb------------ user="" rooms=[] data= ` +
					`handshake={"headers":{},"time":"","address":"","xd`},
			},
			{
				"how many sockets", asking(kind.AskCount, 0),
				[]crosscast.Answer{{Sockets: []crosscast.SocketInfo{{ID: socketB}}, Last: true}},
				[]string{`ask from=aaaaaaaa everyone ref=REF question=1 fields=0`},
				[]string{`count=0 last=true handled=false socket=bbbbbbbb------------ user="" rooms=[] data= handshake=`},
			},
			{
				"how many users", asking(kind.AskCount, kind.FieldUser),
				[]crosscast.Answer{{Sockets: []crosscast.SocketInfo{{ID: socketB, User: "u"}}, Last: true}},
				[]string{`ask from=aaaaaaaa everyone ref=REF question=1 fields=1`},
				[]string{`count=0 last=true handled=false socket=bbbbbbbb------------ user="u" rooms=[] data= handshake=`},
			},
			{
				"which rooms", asking(kind.AskRooms, 0),
				[]crosscast.Answer{{Sockets: []crosscast.SocketInfo{{ID: socketB, Rooms: []string{"r"}}}, Last: true}},
				[]string{`ask from=aaaaaaaa everyone ref=REF question=1 fields=2`},
				[]string{`count=0 last=true handled=false socket=bbbbbbbb------------ user="" rooms=["r"] data= handshake=`},
			},
			{
				"no sockets", ask, []crosscast.Answer{{Last: true}},
				[]string{`ask from=aaaaaaaa everyone ref=REF question=1 fields=15`},
				[]string{`count=0 last=true handled=false`},
			},
			{"an error", ask, []crosscast.Answer{{Sockets: []crosscast.SocketInfo{socket}}, {Err: "busy", Last: true}},
				[]string{`ask from=aaaaaaaa everyone ref=REF question=1 fields=15`}, nil},
			{
				"a join", crosscast.Instruction{Kind: kind.Join, Target: everyone, Rooms: []string{"x"}},
				[]crosscast.Answer{{Count: 3, Last: true}},
				[]string{`join from=aaaaaaaa everyone change=["x"] ref=REF`},
				[]string{`count=3 last=true handled=false`},
			},
			{
				"a leave", crosscast.Instruction{Kind: kind.Leave, Target: everyone, Rooms: []string{"x"}},
				[]crosscast.Answer{{Count: 1, Last: true}},
				[]string{`leave from=aaaaaaaa everyone change=["x"] ref=REF`},
				[]string{`count=1 last=true handled=false`},
			},
			{
				"a disconnect", crosscast.Instruction{Kind: kind.Disconnect, Target: everyone},
				[]crosscast.Answer{{Last: true}},
				[]string{`disconnect from=aaaaaaaa everyone ref=REF`},
				[]string{`count=0 last=true handled=false`},
			},
			{
				"a request", crosscast.Instruction{Kind: kind.Request, Target: everyone, Event: "q"},
				[]crosscast.Answer{{
					Handled: true, Last: true, Payload: crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\xa1x\x02")},
				}},
				[]string{`request from=aaaaaaaa everyone event="q" ref=REF`},
				[]string{`count=0 last=true handled=true json="x"`},
			},
			{
				"a request whose answer is nothing",
				crosscast.Instruction{Kind: kind.Request, Target: everyone, Event: "q", Payload: jsonOf("1")},
				[]crosscast.Answer{{Handled: true, Last: true}},
				[]string{`request from=aaaaaaaa everyone event="q" json=1 ref=REF`},
				[]string{`count=0 last=true handled=true`},
			},
			{
				"a request that nobody handles",
				crosscast.Instruction{Kind: kind.Request, Target: everyone, Event: "q"},
				[]crosscast.Answer{{Err: "no handler", Last: true}},
				[]string{`request from=aaaaaaaa everyone event="q" ref=REF`}, nil,
			},
			{
				"a request that concerns nobody here",
				crosscast.Instruction{Kind: kind.Request, Target: everyone, Event: "q"},
				[]crosscast.Answer{{Last: true}},
				[]string{`request from=aaaaaaaa everyone event="q" ref=REF`}, nil,
			},
			{
				"an acknowledged emission",
				crosscast.Instruction{Kind: kind.Emit, Target: everyone, Event: "e", TTL: 1500 * time.Millisecond},
				[]crosscast.Answer{
					{Count: 3, Replies: []crosscast.Reply{{Socket: socketB, Payload: jsonOf(`"x"`)}}},
					{Part: 1, Replies: []crosscast.Reply{{Socket: "bbbbbbbb-----------2",
						Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{1}}}}},
					{Part: 2, Replies: []crosscast.Reply{{Socket: "bbbbbbbb-----------3", Silent: true}}, Last: true},
				},
				[]string{`emit from=aaaaaaaa everyone event="e" ref=REF ttl=1.5s`},
				[]string{
					`count=3 last=true handled=false`,
					`count=0 last=false handled=false reply="bbbbbbbb------------" json="x"`,
					`count=0 last=false handled=false reply="bbbbbbbb-----------2" binary=01`,
				},
			},
			{
				"an acknowledged emission to which a client replies what cannot be carried",
				crosscast.Instruction{Kind: kind.Emit, Target: everyone, Event: "e"},
				[]crosscast.Answer{{Count: 2, Last: true, Replies: []crosscast.Reply{
					{Socket: socketA, Payload: jsonOf(strings.Repeat("[", 600) + strings.Repeat("]", 600))},
					{Socket: socketB, Payload: jsonOf("1")},
				}}},
				[]string{`emit from=aaaaaaaa everyone event="e" ref=REF`},
				[]string{
					`count=2 last=true handled=false`,
					`count=0 last=false handled=false reply="bbbbbbbb------------" json=1`,
				},
			},
			{
				"an acknowledged emission to nobody there",
				crosscast.Instruction{Kind: kind.Emit, Target: everyone, Event: "e"},
				[]crosscast.Answer{{Last: true}},
				[]string{`emit from=aaaaaaaa everyone event="e" ref=REF`},
				[]string{`count=0 last=true handled=false`},
			},
		} {
			for i, ns := range []string{"/", "/a#b", "\xff"} {
				in := c.in
				in.Namespace, in.Ref = ns, fmt.Sprint("z", i)
				var ref string
				b.node = func(in *crosscast.Instruction) { ref += in.Ref }
				told := b.read(a.write(&in)...)
				want := slices.Clone(c.told)
				for i := range want {
					want[i] = strings.Replace(want[i], "REF", ref, 1)
					if ns != "/" {
						want[i] = strings.Replace(want[i], " from", fmt.Sprintf(" ns=%q from", ns), 1)
					}
				}
				if !slices.Equal(told, want) {
					t.Errorf("%s: a node was told\n%q instead of\n%q", c.name, told, want)
				}
				var answers []sent
				for i := range c.parts {
					answers = append(answers, b.write(&crosscast.Instruction{
						Kind: kind.Answer, To: "aaaaaaaa", Ref: ref, Answer: &c.parts[i],
					})...)
				}
				want = nil
				for _, s := range c.answer {
					want = append(want, fmt.Sprintf("answer from=bbbbbbbb to=aaaaaaaa ref=z%d %s", i, s))
				}
				if got := a.read(answers...); !slices.Equal(got, want) {
					t.Errorf("%s: who asked was told\n%q instead of\n%q", c.name, got, want)
				}
				if got := newSide(t, "cccccccc", o).read(answers...); len(got) != 0 {
					t.Errorf("%s: who had not asked was told %q", c.name, got)
				}
				if got := b.read(answers...); len(got) != 0 {
					t.Errorf("%s: who answered was told %q", c.name, got)
				}
				if more := b.write(&crosscast.Instruction{
					Kind: kind.Answer, To: "aaaaaaaa", Ref: ref, Answer: &crosscast.Answer{Last: true},
				}); len(more) != 0 {
					t.Errorf("%s: after the last part of an answer another was written: %q", c.name, more)
				}
			}
		}
		if n := socketioadapter.Dropped(b.Dialect)["question repeated"]; n != 0 {
			t.Errorf("%d questions count as repeated", n)
		}
	})
}

// TestAnsweredCommands: servers answer a fetch, which has to find the sockets of the command.
func TestAnsweredCommands(t *testing.T) {
	for k, want := range map[kind.Kind][]string{
		kind.Join: {
			`{"uid":"aaaaaaaa","type":2,"opts":{"rooms":[],"except":[]},"rooms":["r"],"requestId":"aaaaaaaa~1"}`,
			`{"uid":"aaaaaaaa","requestId":"aaaaaaaa~1","type":5,"opts":{"rooms":[],"except":[]},"command":true}`,
		},
		kind.Leave: {
			`{"uid":"aaaaaaaa","requestId":"aaaaaaaa~1","type":5,"opts":{"rooms":[],"except":[]},"command":true}`,
			`{"uid":"aaaaaaaa","type":3,"opts":{"rooms":[],"except":[]},"rooms":["r"],"requestId":"aaaaaaaa~1"}`,
		},
		kind.Disconnect: {
			`{"uid":"aaaaaaaa","requestId":"aaaaaaaa~1","type":5,"opts":{"rooms":[],"except":[]},"command":true}`,
			`{"uid":"aaaaaaaa","type":4,"opts":{"rooms":[],"except":[]},"close":false,"requestId":"aaaaaaaa~1"}`,
		},
	} {
		in := &crosscast.Instruction{Kind: k, Target: everyone, Rooms: []string{"r"}, Ref: "1"}
		var got []string
		for _, m := range newSide(t, "aaaaaaaa", classic).write(in) {
			if m.channel != "socket.io-request#/#" {
				t.Errorf("it is on the channel %q", m.channel)
			}
			got = append(got, m.data)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is written as\n%q instead of\n%q", describe(in), got, want)
		}
	}
}

// TestAnswersMayBeKept: nothing of them is in the memory of the message.
func TestAnswersMayBeKept(t *testing.T) {
	for _, c := range []struct {
		o    socketioadapter.Options
		on   string
		data string
	}{
		{classic, "socket.io-response#/#", "\x83\xa4type\x09\xa9requestId\xaaaaaaaaaa~1\xa6packet\xc4\x03abc"},
		{classic, "socket.io-response#/#", "\x83\xa4type\x06\xa9requestId\xaaaaaaaaaa~1\xa4data\x92\xc4\x01x\xa3abc"},
		{classic, "socket.io-response#/#", "\x82\xa9requestId\xaaaaaaaaaa~1\xa7sockets\x91\x83\xa2id\xa3sss\xa5rooms\x91" +
			"\xa3rrr\xa4data\xc4\x03abc"},
		{sharded, "socket.io#/#", `{"type":12,"uid":"u","nsp":"/",` +
			`"data":{"requestId":"6161616161616161~1","packet":["abc"]}}`},
	} {
		s := newSide(t, "aaaaaaaa", c.o)
		var kept *crosscast.Answer
		s.node = func(in *crosscast.Instruction) { kept = in.Answer }
		data := []byte(c.data)
		if _, err := s.Read(c.on, data); err != nil || kept == nil {
			t.Fatalf("%q: answer %v, %v", c.data, kept, err)
		}
		before := describe(&crosscast.Instruction{Kind: kind.Answer, Answer: kept})
		clear(data)
		// Another message, as JSON, which takes the place of the one before in the reader's memory.
		s.read(sent{channel: s.Home()[len(s.Home())-1], data: `{"type":11,"uid":"u","nsp":"/","data":{"requestId":"` +
			strings.Repeat("z", 200) + `","clientCount":1}}`})
		if after := describe(&crosscast.Instruction{Kind: kind.Answer, Answer: kept}); after != before {
			t.Errorf("%q: the answer %q became %q", c.data, before, after)
		}
	}
}

// TestOldQuestions: queries of old servers.
func TestOldQuestions(t *testing.T) {
	sockets := []crosscast.SocketInfo{
		{ID: socketB, User: "u", Rooms: []string{"r"}}, {ID: "bbbbbbbb-----------2", Rooms: []string{"r", "s"}},
	}
	for _, c := range []struct{ asked, told, channel, answer string }{
		{
			`{"requestId":"x","type":0,"rooms":["r"]}`, `ask rooms=["r"] users=[] sockets=[] ref=x question=1 fields=0`,
			"socket.io-response#/#",
			`{"requestId":"x","sockets":["bbbbbbbb------------","bbbbbbbb-----------2"],"uid":"bbbbbbbb"}`,
		},
		{
			`{"requestId":"x","type":0,"rooms":[]}`, `ask everyone ref=x question=1 fields=0`, "socket.io-response#/#",
			`{"requestId":"x","sockets":["bbbbbbbb------------","bbbbbbbb-----------2"],"uid":"bbbbbbbb"}`,
		},
		{
			`{"uid":"U","requestId":"x","type":1}`, `ask from=U everyone ref=x question=1 fields=3`,
			"socket.io-response#/#U#",
			`{"requestId":"x","rooms":["bbbbbbbb------------","r","user:u","bbbbbbbb-----------2","s"],"uid":"bbbbbbbb"}`,
		},
	} {
		b := newSide(t, "bbbbbbbb", classic)
		if got := b.read(sent{channel: "socket.io-request#/#", data: c.asked}); len(got) != 1 || got[0] != c.told {
			t.Errorf("%s: the node was told %q instead of %q", c.asked, got, c.told)
		}
		to := crosscast.NodeID("")
		if strings.Contains(c.asked, "uid") {
			to = "U"
		}
		got := b.write(&crosscast.Instruction{
			Kind: kind.Answer, To: to, Ref: "x", Answer: &crosscast.Answer{Sockets: sockets, Last: true},
		})
		if len(got) != 1 || got[0].channel != c.channel || got[0].data != c.answer {
			t.Errorf("%s: the answer is %q", c.asked, got)
		}
	}
}

// TestOldCommands: old servers command one socket, and only the node that has it answers.
func TestOldCommands(t *testing.T) {
	for _, c := range []struct{ command, told string }{
		{
			`{"requestId":"x","type":2,"sid":"bbbbbbbb------------","room":"r"}`,
			`join rooms=[] users=[] sockets=["bbbbbbbb------------"] change=["r"] ref=x`,
		},
		{
			`{"requestId":"x","type":3,"sid":"bbbbbbbb------------","room":"r"}`,
			`leave rooms=[] users=[] sockets=["bbbbbbbb------------"] change=["r"] ref=x`,
		},
		{
			`{"requestId":"x","type":4,"sid":"bbbbbbbb------------","close":true}`,
			`disconnect rooms=[] users=[] sockets=["bbbbbbbb------------"] reason="forced server close" ref=x`,
		},
	} {
		for count, want := range []string{"", `{"requestId":"x","uid":"bbbbbbbb"}`} {
			b := newSide(t, "bbbbbbbb", classic)
			if got := b.read(sent{channel: "socket.io-request#/#", data: c.command}); len(got) != 1 || got[0] != c.told {
				t.Errorf("%s: the node was told %q instead of %q", c.command, got, c.told)
			}
			answer := ""
			for _, m := range b.write(&crosscast.Instruction{
				Kind: kind.Answer, Ref: "x", Answer: &crosscast.Answer{Count: count, Last: true},
			}) {
				answer += m.data
			}
			if answer != want {
				t.Errorf("%s, of which %d sockets were found: the answer is %q instead of %q", c.command, count, answer, want)
			}
		}
	}
}

// TestWhatCannotBeCarriedIsRefused: the call returns an error, and nothing is written.
func TestWhatCannotBeCarriedIsRefused(t *testing.T) {
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		s := newSide(t, "aaaaaaaa", o)
		for _, in := range []crosscast.Instruction{
			{Kind: kind.Emit, To: "bbbbbbbb", Target: everyone, Event: "e"},
			{Kind: kind.Join, To: "bbbbbbbb", Target: everyone, Rooms: []string{"r"}},
			{Kind: kind.Ask, To: "bbbbbbbb", Target: everyone, Question: &crosscast.Question{Kind: 1}},
			{Kind: kind.Ask, Target: everyone, Question: &crosscast.Question{Kind: kind.AskNodes}},
			{Kind: kind.Ask, Target: everyone},
			{Kind: kind.Request, To: "bbbbbbbb", Target: everyone, Event: "e"},
			{Kind: kind.Request, Target: crosscast.Target{Rooms: []string{"r"}}, Event: "e"},
			{Kind: kind.Watch, Target: everyone, Rooms: []string{"r"}},
			{Kind: kind.Watch},
			{Kind: kind.Presence, To: "bbbbbbbb"},
			{Kind: 99, Target: everyone},
		} {
			if all, err := s.tryWrite(&in); !errors.Is(err, errors.ErrUnsupported) || len(all) > 0 {
				t.Errorf("%+v: %d messages, error %v", in, len(all), err)
			}
		}
		for _, event := range []string{
			"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener",
		} {
			in := &crosscast.Instruction{Kind: kind.Emit, Target: everyone, Event: event}
			if all, err := s.tryWrite(in); err == nil || len(all) > 0 {
				t.Errorf("the event %q was emitted", event)
			}
		}
		for _, event := range []string{"connect", "connection", "new_namespace"} {
			in := &crosscast.Instruction{Kind: kind.Request, Target: everyone, Event: event}
			if all, err := s.tryWrite(in); err == nil || len(all) > 0 {
				t.Errorf("the request %q was sent", event)
			}
		}
	})
}

// TestEcho: an echo comes back to its node only, with its number.
func TestEcho(t *testing.T) {
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		for _, emitter := range []bool{false, true} {
			a := startSide(t, crosscast.NodeInfo{ID: "aaaaaaaa"}, o, emitter)
			b := newSide(t, "bbbbbbbb", o)
			for _, n := range []uint64{1, 200, 1 << 40, 1<<64 - 1} {
				topic, data := a.Echo(n)
				if !slices.Contains(a.Home(), topic) || slices.Contains(b.Home(), topic) {
					t.Errorf("the echo is on %q, where the node hears %q and another %q", topic, a.Home(), b.Home())
				}
				if got, err := a.Read(topic, slices.Clone(data)); got != n || err != nil {
					t.Errorf("the echo %d is read as %d, %v", n, got, err)
				}
				if got, _ := b.Read(topic, data); got != 0 || len(b.take()) > 0 {
					t.Errorf("another node reads the echo as %d", got)
				}
			}
		}
	})
}

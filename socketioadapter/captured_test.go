package socketioadapter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

var (
	classic = socketioadapter.Options{}
	sharded = socketioadapter.Options{Mode: socketioadapter.Sharded}
)

// TestReadsWhatServersPublish: each captured message becomes its instruction, at a node that is none of those servers.
// Answers are for others, and become nothing.
func TestReadsWhatServersPublish(t *testing.T) {
	for _, file := range []struct {
		name string
		o    socketioadapter.Options
		want map[string][]string
	}{
		{"classic.txt", classic, map[string][]string{
			"emit all text": {`emit from=YGuAYI everyone event="test" args="\x93\x01\xa12\xc0"`},
			"emit binary":   {`emit from=YGuAYI everyone event="test" binary=0304`},
			"to 1 room":     {`emit from=YGuAYI rooms=["r1"] users=[] sockets=[] event="test" json="x"`},
			"socket.broadcast": {`emit from=YGuAYI everyone except rooms=["CknrhRD8-jJiPj4cAAAA"] users=[] ` +
				`sockets=["CknrhRD8-jJiPj4cAAAA"] event="test" json="x"`},
			"emit undefined + nested undefined + date + float": {`emit from=YGuAYI everyone event="test" ` +
				`args="\x94\xc0\x81\xa1y\x01\xd6\xff\x00\x00\x00\x00\xcb?\xf8\x00\x00\x00\x00\x00\x00"`},
			"to 2 rooms except volatile compress": {`emit volatile from=YGuAYI rooms=["r1" "r2"] users=[] sockets=[] ` +
				`except rooms=["r3"] users=[] sockets=[] event="test" json="x"`},
			"to sid": {`emit from=YGuAYI rooms=["K2uQLtpeGQHxMJ2SAAAB"] users=[] sockets=["K2uQLtpeGQHxMJ2SAAAB"] ` +
				`event="test" json="x"`},
			"timeout emit ack": {`emit from=YGuAYI everyone event="test" ref=0Nya-X ttl=500ms`},
			"timeout emit ack room": {
				`emit from=YGuAYI rooms=["r1"] users=[] sockets=[] event="test" ref=DwPHlh ttl=500ms`},
			"fetchSockets":       {`ask from=YGuAYI everyone ref=svg-Y7 question=1 fields=15`},
			"socketsJoin":        {`join from=YGuAYI rooms=["r1"] users=[] sockets=[] change=["j1" "j2"]`},
			"socketsLeave":       {`leave from=YGuAYI rooms=["r1"] users=[] sockets=[] change=["j1"]`},
			"serverSideEmit":     {`request from=YGuAYI everyone event="hello" args="\x92\x01\xa12"`},
			"serverSideEmit ack": {`request from=YGuAYI everyone event="q" json=1 ref=we-vjl`},
			"allRooms":           {`ask from=YGuAYI everyone ref=qX9H8N question=1 fields=3`},
			"disconnectSockets": {
				`disconnect from=YGuAYI rooms=["r1"] users=[] sockets=[] reason="forced server close"`},
		}},
		{"emitter.txt", classic, map[string][]string{
			"emit all": {`emit everyone event="hi" args="\x94\x01\xa12\xc4\x02\x01\x02\x81\xa1a\x93\xc0\xc0\xcb?\xf8` +
				`\x00\x00\x00\x00\x00\x00"`},
			"emit to a room":         {`emit rooms=["room1"] users=[] sockets=[] event="x"`},
			"emit to a numeric room": {`emit rooms=["42"] users=[] sockets=[] event="x"`},
			"emit to rooms except volatile compress": {`emit volatile rooms=["room1" "room2"] users=[] sockets=[] ` +
				`except rooms=["room3"] users=[] sockets=[] event="x" json={"a":1}`},
			"emit in a namespace without a slash": {`emit ns="/chat" everyone event="x"`},
			"emit a number as event":              {`emit everyone event="7" json="x"`},
			"emit a date":                         {`emit everyone event="d" json="1970-01-01T00:00:01.500Z"`},
			"socketsJoin": {`join rooms=["r1"] users=[] sockets=[] except rooms=["r2"] users=[] sockets=[] ` +
				`change=["a" "b"]`},
			"socketsLeave":      {`leave everyone change=["a"]`},
			"disconnectSockets": {`disconnect rooms=["r1"] users=[] sockets=[] reason="forced server close"`},
			"serverSideEmit": {`request everyone event="hello" ` +
				`args="\x93\x01\xa12\x81\xa1a\x82\xa4type\xa6Buffer\xa4data\x91\x01"`},
		}},
		{"sharded.txt", sharded, map[string][]string{
			"emit all text": {`emit from=c43c05d238252f40 everyone event="test" args="\x93\x01\xa12\xc0"`},
			"emit binary":   {`emit from=c43c05d238252f40 everyone event="test" binary=0304`},
			"emit undefined + nested undefined + date + float": {`emit from=c43c05d238252f40 everyone event="test" ` +
				`args="\x94\xc0\x81\xa1y\x01\xb81970-01-01T00:00:00.000Z\xcb?\xf8\x00\x00\x00\x00\x00\x00"`},
			"to 1 room": {`emit from=c43c05d238252f40 rooms=["r1"] users=[] sockets=[] event="test" json="x"`},
			"to 2 rooms except volatile compress": {`emit volatile from=c43c05d238252f40 rooms=["r1" "r2"] users=[] ` +
				`sockets=[] except rooms=["r3"] users=[] sockets=[] event="test" json="x"`},
			"to sid": {`emit from=c43c05d238252f40 rooms=["gYpyS4VRP71brncSAAAB"] users=[] ` +
				`sockets=["gYpyS4VRP71brncSAAAB"] event="test" json="x"`},
			"socket.broadcast": {`emit from=c43c05d238252f40 everyone except rooms=["26mi4yW7tx5nhSpEAAAA"] users=[] ` +
				`sockets=["26mi4yW7tx5nhSpEAAAA"] event="test" json="x"`},
			"timeout emit ack": {`emit from=c43c05d238252f40 everyone event="test" ref=10630f70c5254421 ttl=500ms`},
			"timeout emit ack room": {`emit from=c43c05d238252f40 rooms=["r1"] users=[] sockets=[] event="test" ` +
				`ref=55346de43d361424 ttl=500ms`},
			"fetchSockets":       {`ask from=c43c05d238252f40 everyone ref=ae430c4868ddb960 question=1 fields=15`},
			"socketsJoin":        {`join from=c43c05d238252f40 rooms=["r1"] users=[] sockets=[] change=["j1" "j2"]`},
			"socketsLeave":       {`leave from=c43c05d238252f40 rooms=["r1"] users=[] sockets=[] change=["j1"]`},
			"serverSideEmit":     {`request from=c43c05d238252f40 everyone event="hello" args="\x92\x01\xa12"`},
			"serverSideEmit ack": {`request from=c43c05d238252f40 everyone event="q" json=1 ref=e98d0479a700acd6`},
			"disconnectSockets": {
				`disconnect from=c43c05d238252f40 rooms=["r1"] users=[] sockets=[] reason="forced server close"`},
		}},
	} {
		all := captured(t, file.name)
		for title, messages := range all {
			s := newSide(t, "abcdefgh", file.o)
			if got := s.read(messages...); !slices.Equal(got, file.want[title]) {
				t.Errorf("%s, %s:\ngot  %s\nwant %s", file.name, title, strings.Join(got, "\n     "),
					strings.Join(file.want[title], "\n     "))
			}
		}
		if len(all) != len(file.want) {
			t.Errorf("%s: %d things were done, and %d are expected", file.name, len(all), len(file.want))
		}
	}
}

// TestReadsAnswersOfServers: the captured answers, to this node's own questions.
func TestReadsAnswersOfServers(t *testing.T) {
	for _, file := range []struct {
		name     string
		o        socketioadapter.Options
		uid      string // of the asking server
		own      string // uid of this node
		from, as string
	}{
		{"classic.txt", classic, "YGuAYI", "abcdefgh", "", "K2uQLtpeGQHxMJ2SAAAB"},
		{"sharded.txt", sharded, "c43c05d238252f40", "6162636465666768", " from=84513c98c9577a0a", "gYpyS4VRP71brncSAAAB"},
	} {
		all := captured(t, file.name)
		for title, want := range map[string][]string{
			"timeout emit ack":   {`count=1 last=true handled=false`, `count=0 last=false handled=false reply="" json="ackB"`},
			"serverSideEmit ack": {`count=0 last=true handled=true json="ans"`},
			"fetchSockets": {`count=0 last=true handled=false socket=` + file.as + ` user="" rooms=["r1"] data= ` +
				`handshake={"headers":{"sec-websocket-version":"13"`},
		} {
			s := newSide(t, "abcdefgh", file.o)
			messages := all[title]
			id := requestID(t, messages[0].data)
			for i := range messages {
				m := &messages[i]
				m.channel = strings.Replace(m.channel, file.uid, file.own, 1)
				// msgpack has the length before the text
				m.data = strings.Replace(m.data, "\xa6"+id, "\xaa"+file.own+"~1", 1)
				m.data = strings.Replace(m.data, `"`+id, `"`+file.own+"~1", 1)
			}
			for i := range want {
				want[i] = "answer" + file.from + " to=abcdefgh ref=1 " + want[i]
			}
			if got := s.read(messages[1:]...); !slices.Equal(got, want) {
				t.Errorf("%s, %s:\ngot  %s\nwant %s", file.name, title, strings.Join(got, "\n     "),
					strings.Join(want, "\n     "))
			}
		}
	}
}

// requestID finds the requestId in a message.
func requestID(t *testing.T, data string) string {
	t.Helper()
	_, rest, ok := strings.Cut(data, "requestId")
	if !ok {
		t.Fatalf("%q has no requestId", data)
	}
	if id, ok := strings.CutPrefix(rest, `":"`); ok {
		id, _, _ = strings.Cut(id, `"`)
		return id
	}
	return rest[1 : 1+rest[0]&0x1f]
}

// TestWritesWhatServersPublish: a node that does the same writes the same bytes.
func TestWritesWhatServersPublish(t *testing.T) {
	json := func(s string) crosscast.Payload {
		return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(s)}
	}
	everyone, r1 := crosscast.Target{Everyone: true}, crosscast.Target{Rooms: []string{"r1"}}
	emit := func(target crosscast.Target, p crosscast.Payload) crosscast.Instruction {
		return crosscast.Instruction{Kind: kind.Emit, Namespace: "/", Target: target, Event: "test", Payload: p}
	}
	what := map[string]crosscast.Instruction{
		"emit all text": emit(everyone, crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x93\x01\xa12\xc0")}),
		"emit binary":   emit(everyone, crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{3, 4}}),
		"to 1 room":     emit(r1, json(`"x"`)),
		"to sid":        emit(crosscast.Target{Sockets: []crosscast.SocketID{"SOCKET"}}, json(`"x"`)),
		"socket.broadcast": emit(crosscast.Target{Everyone: true, ExceptSockets: []crosscast.SocketID{"SOCKET"}},
			json(`"x"`)),
		"timeout emit ack":      {Ref: "1", TTL: 500e6, Kind: kind.Emit, Target: everyone, Event: "test"},
		"timeout emit ack room": {Ref: "1", TTL: 500e6, Kind: kind.Emit, Target: r1, Event: "test"},
		"fetchSockets": {
			Ref: "1", Kind: kind.Ask, Target: everyone, Question: &crosscast.Question{Kind: kind.AskSockets, Fields: kind.AllFields},
		},
		"socketsJoin":  {Kind: kind.Join, Target: r1, Rooms: []string{"j1", "j2"}},
		"socketsLeave": {Kind: kind.Leave, Target: r1, Rooms: []string{"j1"}},
		"serverSideEmit": {Kind: kind.Request, Target: everyone, Event: "hello",
			Payload: crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\x01\xa12")}},
		"serverSideEmit ack": {Kind: kind.Request, Target: everyone, Event: "q", Payload: json("1"), Ref: "1"},
		"disconnectSockets":  {Kind: kind.Disconnect, Target: r1, Reason: "forced server close"},
	}
	for _, file := range []struct {
		name string
		o    socketioadapter.Options
		uid  string // of the publishing server
		own  string // uid of this node
	}{
		{"classic.txt", classic, "YGuAYI", "abcdef"},
		{"sharded.txt", sharded, "c43c05d238252f40", "6162636465666768"},
	} {
		id := crosscast.NodeID("abcdefgh"[:min(8, len(file.own))])
		for title, messages := range captured(t, file.name) {
			in, ok := what[title]
			if !ok {
				continue
			}
			want := messages[0]
			if strings.Contains(want.data, "requestId") {
				old := requestID(t, want.data)
				want.data = strings.Replace(want.data, "\xa6"+old, "\xa8"+file.own+"~1", 1)
				want.data = strings.Replace(want.data, `"`+old, `"`+file.own+"~1", 1)
			}
			want.data = strings.Replace(want.data, file.uid, file.own, 1)
			for _, ids := range []*[]crosscast.SocketID{&in.Target.Sockets, &in.Target.ExceptSockets} {
				if len(*ids) > 0 {
					*ids = []crosscast.SocketID{findSocket(t, want.data)}
				}
			}
			got := newSide(t, id, file.o).write(&in)
			if len(got) != 1 || got[0].channel != want.channel || got[0].data != want.data {
				t.Errorf("%s, %s:\ngot  %q\nwant %q", file.name, title, got, want)
			}
		}
	}
}

// findSocket finds the ID of a socket in a message.
func findSocket(t *testing.T, data string) crosscast.SocketID {
	t.Helper()
	for i := range len(data) - 19 {
		word := data[i : i+20]
		if strings.HasSuffix(word, "AAAA") || strings.HasSuffix(word, "AAAB") {
			return crosscast.SocketID(word)
		}
	}
	t.Fatalf("no socket in %q", data)
	return ""
}

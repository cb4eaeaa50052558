package socketioadapter_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
	"github.com/crosscast/crosscast/wire"
)

// side is one node's end of the wire, without a bus. It records the messages of its dialect, and the instructions for
// the node.
type side struct {
	tb testing.TB
	wire.Dialect
	id   crosscast.NodeID
	told []string // instructions, described

	forgets bool                            // no answer is awaited
	node    func(in *crosscast.Instruction) // further work of the node; may be nil
}

func newSide(tb testing.TB, id crosscast.NodeID, o socketioadapter.Options) *side {
	return startSide(tb, crosscast.NodeInfo{ID: id}, o)
}

func startSide(tb testing.TB, self crosscast.NodeInfo, o socketioadapter.Options, emitOnly ...bool) *side {
	s := &side{tb: tb, Dialect: socketioadapter.NewDialect(o), id: self.ID}
	start := starting(self, s, emitOnly...)
	start.Logger = o.Logger
	s.Begin(start)
	return s
}

func (s *side) Handle(in *crosscast.Instruction) {
	s.told = append(s.told, describe(in))
	if s.node != nil {
		s.node(in)
	}
}

func (s *side) Gap(crosscast.Gap)         {}
func (s *side) Link(crosscast.LinkStatus) {}
func (s *side) Awaits(ref string) bool    { return !s.forgets }

func (s *side) Loss(crosscast.Loss) {}

func (s *side) Outage(time.Time, crosscast.GapReason) {}

// take returns the instructions since the last call.
func (s *side) take() []string {
	told := s.told
	s.told = nil
	return told
}

// sent is a message on a channel.
type sent struct {
	channel string
	name    crosscast.Address
	data    string
}

// write writes an instruction, which must succeed.
func (s *side) write(in *crosscast.Instruction) []sent {
	s.tb.Helper()
	all, err := s.tryWrite(in)
	if err != nil {
		s.tb.Fatalf("writing %s: %v", describe(in), err)
	}
	return all
}

func (s *side) tryWrite(in *crosscast.Instruction) (all []sent, err error) {
	one := *in
	one.From = s.id
	err = s.Write(&one, func(channel string, name crosscast.Address, data []byte) {
		all = append(all, sent{channel, name, string(data)})
		clear(data) // it is not the caller's to keep
	})
	return all, err
}

// read reads messages, which must be valid, and returns the instructions for the node.
func (s *side) read(all ...sent) []string {
	s.tb.Helper()
	for _, m := range all {
		if _, err := s.Read(m.channel, []byte(m.data)); err != nil {
			s.tb.Fatalf("reading %q on %q: %v", m.data, m.channel, err)
		}
	}
	return s.take()
}

// unsaid is the TTL of a query without a timeout.
const unsaid = 5 * time.Second

// describe formats an instruction, without zero fields, and without a TTL of unsaid.
func describe(in *crosscast.Instruction) string {
	var b strings.Builder
	names := [...]string{
		kind.Emit: "emit", kind.Join: "join", kind.Leave: "leave",
		kind.Disconnect: "disconnect", kind.Ask: "ask", kind.Answer: "answer",
		kind.Request: "request",
	}
	b.WriteString(names[in.Kind])
	add := func(format string, args ...any) { fmt.Fprintf(&b, " "+format, args...) }
	if in.Volatile {
		add("volatile")
	}
	if in.Namespace != "/" {
		add("ns=%q", in.Namespace)
	}
	if in.From != "" {
		add("from=%s", in.From)
	}
	if in.To != "" {
		add("to=%s", in.To)
	}
	if t := &in.Target; in.Kind != kind.Answer {
		if t.Everyone {
			add("everyone")
		}
		if len(t.Rooms)+len(t.Users)+len(t.Sockets) > 0 {
			add("rooms=%q users=%q sockets=%q", t.Rooms, t.Users, t.Sockets)
		}
		if !t.Everyone && len(t.Rooms)+len(t.Users)+len(t.Sockets) == 0 {
			add("nobody")
		}
		if len(t.ExceptRooms)+len(t.ExceptUsers)+len(t.ExceptSockets) > 0 {
			add("except rooms=%q users=%q sockets=%q", t.ExceptRooms, t.ExceptUsers, t.ExceptSockets)
		}
	}
	if in.Event != "" {
		add("event=%q", in.Event)
	}
	add("%s", describePayload(in.Payload))
	if in.Kind == kind.Join || in.Kind == kind.Leave {
		add("change=%q", in.Rooms)
	}
	if in.Reason != "" {
		add("reason=%q", in.Reason)
	}
	if in.Ref != "" {
		add("ref=%s", in.Ref)
	}
	if in.TTL > 0 && in.TTL != unsaid {
		add("ttl=%v", in.TTL)
	}
	if q := in.Question; q != nil {
		add("question=%d fields=%d", q.Kind, q.Fields)
	}
	if a := in.Answer; a != nil {
		add("count=%d last=%v handled=%v %s", a.Count, a.Last, a.Handled, describePayload(a.Payload))
		for i := range a.Sockets {
			s := &a.Sockets[i]
			add("socket=%s user=%q rooms=%q data=%s handshake=%.40s", s.ID, s.User, s.Rooms, s.Data, s.Handshake)
		}
		for _, r := range a.Replies {
			add("reply=%q %s", r.Socket, describePayload(r.Payload))
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func describePayload(p crosscast.Payload) string {
	switch p.Encoding {
	case crosscast.EncodingNone:
		return ""
	case crosscast.EncodingJSON:
		return "json=" + string(p.Data)
	case crosscast.EncodingBinary:
		return fmt.Sprintf("binary=%x", p.Data)
	}
	return fmt.Sprintf("args=%q", p.Data)
}

// captured reads messages that servers published, by action.
func captured(tb testing.TB, file string) map[string][]sent {
	tb.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	all := make(map[string][]sent)
	title := ""
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "# "); ok {
			title = text
			continue
		}
		channel, rest := quoted(tb, line)
		data, _ := quoted(tb, strings.TrimPrefix(rest, " "))
		all[title] = append(all[title], sent{channel: channel, data: data})
	}
	if err := lines.Err(); err != nil || len(all) == 0 {
		tb.Fatalf("%s: %d things, %v", file, len(all), err)
	}
	return all
}

// quoted takes a string off line that is quoted as redis-cli does, which Go does alike.
func quoted(tb testing.TB, line string) (s, rest string) {
	tb.Helper()
	prefix, err := strconv.QuotedPrefix(line)
	if err != nil {
		tb.Fatalf("%.60s: %v", line, err)
	}
	s, err = strconv.Unquote(prefix)
	if err != nil {
		tb.Fatalf("%.60s: %v", line, err)
	}
	return s, line[len(prefix):]
}

// inBubble runs a test with a clock of its own.
func inBubble(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, run)
}

// starting is the argument of Start.
func starting(self crosscast.NodeInfo, h crosscast.AdapterHandler, emitOnly ...bool) crosscast.AdapterStart {
	return crosscast.AdapterStart{Self: self, Handler: h, EmitOnly: len(emitOnly) > 0 && emitOnly[0]}
}

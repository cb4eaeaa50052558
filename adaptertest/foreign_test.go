package adaptertest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// A foreign is an adapter over a wire that others have defined, in short: it stands for one that has no more than rooms,
// questions that everyone answers with all its sockets, and answers that do not say whose they are. It carries
// instructions by an in-process adapter, but only what such a wire has.
type foreign struct {
	whole
	bus *foreignBus

	mu    sync.Mutex // guards what follows
	hears map[address]bool
	asked map[string]*foreignQuestion // by others, who wait for an answer
}

// A foreignQuestion is what a node has to answer.
type foreignQuestion struct {
	kind    kind.Kind
	sockets []crosscast.SocketInfo // of the parts of the answer so far
}

// foreignBus is what a bus knows of who listens.
type foreignBus struct {
	mu    sync.Mutex // guards nodes
	nodes []*foreign
}

// overForeign is the harness of it.
func overForeign(testing.TB) Cluster {
	bus, cluster := new(foreignBus), crosscast.NewCluster()
	return Cluster{Adapter: func() crosscast.Adapter {
		return &foreign{
			whole: cluster.Adapter().(whole), bus: bus,
			hears: make(map[address]bool), asked: make(map[string]*foreignQuestion),
		}
	}}
}

const foreignUser = "user:" // begins the rooms of users

func (f *foreign) TextOnly() bool { return true }

func (f *foreign) CheckRoom(crosscast.SocketID, string, string) error { return nil }

var foreignLacks = map[Capability]string{
	CapExactJSON:      "values are written anew",
	CapMsgPack:        "values are JSON",
	CapByteNames:      "names are text",
	CapSeparateSpaces: "there are only rooms",
	CapMeta:           "messages have no meta pairs",
	CapOneNode:        "nothing is for one node",
	CapNamedAnswers:   "answers do not say whose they are",
	CapNodes:          "nodes do not introduce themselves",
	CapReasons:        "there is one reason",
	CapPresence:       "nobody is told who comes and goes",
}

func (f *foreign) Start(ctx context.Context, s crosscast.AdapterStart) error {
	if !s.EmitOnly {
		f.set([]address{{Namespace: "/", Space: crosscast.SpaceNamespace}}, true)
	}
	s.Handler = foreignHandler{f, s.Handler}
	if err := f.whole.Start(ctx, s); err != nil {
		return err
	}
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	f.bus.nodes = append(f.bus.nodes, f)
	return nil
}

func (f *foreign) Close(ctx context.Context) error {
	f.bus.mu.Lock()
	f.bus.nodes = slices.DeleteFunc(f.bus.nodes, func(p *foreign) bool { return p == f })
	f.bus.mu.Unlock()
	return f.whole.Close(ctx)
}

// CountPeers counts who hears what everyone is asked.
func (f *foreign) CountPeers(ctx context.Context, inst *instruction, _ bool) (int, error) {
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	n := 0
	for _, p := range f.bus.nodes {
		if p != f && p.hearsIn(inst.Namespace) {
			n++
		}
	}
	return n, ctx.Err()
}

func (f *foreign) hearsIn(namespace string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hears[address{Namespace: namespace, Space: crosscast.SpaceNamespace}]
}

// foreignLatency is how long a confirmation takes.
const foreignLatency = 100 * time.Microsecond

func (f *foreign) Subscribe(ctx context.Context, names ...address) error {
	<-time.After(foreignLatency)
	f.set(names, true)
	return f.whole.Subscribe(ctx, foreignNames(names)...)
}

func (f *foreign) Unsubscribe(ctx context.Context, names ...address) error {
	f.set(names, false)
	return f.whole.Unsubscribe(ctx, foreignNames(names)...)
}

func (f *foreign) set(names []address, hears bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range names {
		f.hears[a] = hears
	}
}

// foreignNames makes rooms of names.
func foreignNames(names []address) (rooms []address) {
	for _, a := range names {
		switch a.Space {
		case crosscast.SpaceNamespace:
			continue
		case crosscast.SpaceUser:
			a.Name = foreignUser + a.Name
		}
		a.Space = crosscast.SpaceRoom
		rooms = append(rooms, a)
	}
	return rooms
}

func (f *foreign) Publish(ctx context.Context, inst *instruction) error {
	if inst.Kind == kind.Answer {
		var err error
		for _, c := range f.answer(inst) {
			err = cmp.Or(err, f.whole.Publish(ctx, c))
		}
		return err
	}
	c, err := f.carried(inst)
	if c == nil {
		return err
	}
	return f.whole.Publish(ctx, c)
}

func (f *foreign) Deliver(ctx context.Context, inst *instruction) (crosscast.Receipt, error) {
	c, err := f.carried(inst)
	if c == nil {
		return crosscast.Receipt{}, err
	}
	return f.whole.Deliver(ctx, c)
}

func unsupported(what string) error { return fmt.Errorf("%s: %w", what, errors.ErrUnsupported) }

// carried returns what the wire carries of inst; nil: nothing.
func (f *foreign) carried(inst *instruction) (*instruction, error) {
	c := cloneInstruction(inst)
	switch inst.Kind {
	case kind.Hello, kind.Heartbeat, kind.Goodbye:
		return nil, f.whole.Flush(context.Background()) // an error when it is closed
	case kind.Watch, kind.Presence:
		return nil, unsupported("presence")
	case kind.Ask:
		c.Question = &crosscast.Question{Kind: kind.AskSockets, Fields: kind.AllFields}
	case kind.Request:
		if !inst.Target.Everyone {
			return nil, unsupported("requests to those with a member")
		}
	}
	if inst.To != "" {
		return nil, unsupported("instructions to one node")
	}
	c.Meta, c.Reason = nil, ""
	c.Target = crosscast.Target{
		Everyone:    inst.Target.Everyone,
		Rooms:       foreignRooms(inst.Target.Rooms, inst.Target.Users, inst.Target.Sockets),
		ExceptRooms: foreignRooms(inst.Target.ExceptRooms, inst.Target.ExceptUsers, inst.Target.ExceptSockets),
	}
	for _, name := range slices.Concat(c.Target.Rooms, c.Target.ExceptRooms, []string{c.Namespace, c.Event}) {
		if !utf8.ValidString(name) {
			return nil, unsupported("names that are not text")
		}
	}
	if c.Payload.Encoding == crosscast.EncodingMsgPack {
		data, err := c.Payload.AppendJSON(nil)
		if err != nil {
			return nil, err
		}
		c.Payload = crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: data}
	}
	if c.Payload.Encoding == crosscast.EncodingJSON {
		var v any
		if err := json.Unmarshal(c.Payload.Data, &v); err != nil {
			return nil, err
		}
		c.Payload.Data, _ = json.Marshal(v)
	}
	return c, nil
}

func foreignRooms(rooms, users []string, sockets []crosscast.SocketID) []string {
	all := slices.Clone(rooms)
	for _, u := range users {
		all = append(all, foreignUser+u)
	}
	for _, id := range sockets {
		all = append(all, string(id))
	}
	return all
}

// answer returns what is sent of an answer: it has no sender, and the form that its question has.
func (f *foreign) answer(inst *instruction) []*instruction {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, a := string(inst.To)+" "+inst.Ref, inst.Answer
	q := f.asked[key]
	if a.Last {
		delete(f.asked, key)
	}
	var out []*crosscast.Answer
	switch {
	case q == nil: // of a node that was closed meanwhile
	case q.kind == kind.Emit:
		if a.Part == 0 {
			out = append(out, &crosscast.Answer{Count: a.Count, Last: true})
		}
		for _, r := range a.Replies {
			if r.Socket = ""; !r.Silent {
				out = append(out, &crosscast.Answer{Replies: []crosscast.Reply{r}})
			}
		}
	case q.kind == kind.Ask:
		if q.sockets = append(q.sockets, a.Sockets...); a.Last {
			out = append(out, &crosscast.Answer{Sockets: q.sockets, Last: true})
		}
	case a.Err == "": // else nothing is said
		out = append(out, &crosscast.Answer{Count: a.Count, Payload: a.Payload, Handled: a.Handled, Last: true})
	}
	var all []*instruction
	for _, a := range out {
		c := cloneInstruction(inst)
		c.From, c.Answer = "", a
		all = append(all, c)
	}
	return all
}

// foreignHandler makes instructions of what the wire carried.
type foreignHandler struct {
	f *foreign
	h crosscast.AdapterHandler
}

func (h foreignHandler) Handle(inst *instruction) {
	f := h.f
	single := inst.Kind == kind.Emit && inst.Ref == "" && !inst.Target.Everyone && len(inst.Target.Rooms) == 1
	if inst.Kind != kind.Answer && !single && !f.hearsIn(inst.Namespace) {
		return
	}
	c := *inst
	c.Target.Users, c.Target.Sockets = foreignSpaces(inst.Target.Rooms)
	c.Target.ExceptUsers, c.Target.ExceptSockets = foreignSpaces(inst.Target.ExceptRooms)
	if inst.Kind == kind.Disconnect {
		c.Reason = crosscast.ReasonServer
	}
	if inst.Ref != "" && inst.Kind != kind.Answer {
		f.mu.Lock()
		f.asked[string(inst.From)+" "+inst.Ref] = &foreignQuestion{kind: inst.Kind}
		f.mu.Unlock()
	}
	h.h.Handle(&c)
}

// foreignSpaces returns the users and sockets that rooms may be.
func foreignSpaces(rooms []string) (users []string, sockets []crosscast.SocketID) {
	for _, r := range rooms {
		if u, ok := strings.CutPrefix(r, foreignUser); ok {
			users = append(users, u)
		}
		if id := crosscast.SocketID(r); id.Node() != "" {
			sockets = append(sockets, id)
		}
	}
	return users, sockets
}

func (h foreignHandler) Gap(g crosscast.Gap)   { h.h.Gap(g) }
func (h foreignHandler) Loss(l crosscast.Loss) { h.h.Loss(l) }

func (h foreignHandler) Outage(since time.Time, why crosscast.GapReason) { h.h.Outage(since, why) }

func (h foreignHandler) Awaits(ref string) bool { return h.h.Awaits(ref) }

func (h foreignHandler) Link(s crosscast.LinkStatus) { h.h.Link(s) }

// TestForeign runs the suite on it. What it lacks must keep it from checking these rules and no other.
func TestForeign(t *testing.T) { Run(t, Harness{New: overForeign, Lacks: foreignLacks}) }

// A rule that needs what a driver lacks would be red, or it need not be left out.
func TestLackingIsSeen(t *testing.T) {
	forgotten = make(chan struct{})
	t.Cleanup(func() { close(forgotten) })
	for _, r := range allRules() {
		if _, ok := foreignLacks[r.capability]; !ok {
			continue
		}
		red, said := record(t, Harness{New: overForeign, Patience: 300 * time.Millisecond}, r)
		if !red {
			t.Errorf("rule %s is green without %s", r.name, r.capability)
		}
		t.Logf("%s:\n%.300s", r.name, said)
	}
}

func TestLacksIsChecked(t *testing.T) {
	for _, try := range []struct {
		lacks map[Capability]string
		said  string
	}{
		{map[Capability]string{CapMeta: "no room for them"}, ""},
		{map[Capability]string{CapMeta: ""}, `adaptertest: Lacks gives no reason for "meta"`},
		{map[Capability]string{"metaphysics": "why not"},
			`adaptertest: Lacks names "metaphysics", which is no capability`},
		{map[Capability]string{"": "why not"}, `adaptertest: Lacks names "", which is no capability`},
	} {
		r := &recorder{TB: t}
		checkLacks(r, try.lacks)
		if said := strings.Join(r.said, "\n"); said != try.said {
			t.Errorf("of %v: %q", try.lacks, said)
		}
	}
}

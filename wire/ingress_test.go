package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

func TestIngressParses(t *testing.T) {
	long := strings.Repeat("x", 255)
	for text, want := range map[string]crosscast.Instruction{
		`{"rooms":["a"],"event":"e"}`: {Namespace: "/", Event: "e", Target: crosscast.Target{Rooms: []string{"a"}}},
		` {"data" : {"a": [1, null]} , "event":"\u00e9", "users":["u","v"],"rooms":["a"],"except":["b"],` +
			`"namespace":"/n"} ` + "\n": {
			Namespace: "/n", Event: "é",
			Target:  crosscast.Target{Rooms: []string{"a"}, Users: []string{"u", "v"}, ExceptRooms: []string{"b"}},
			Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"a": [1, null]}`)},
		},
		`{"everyone":true,"event":"e","data":null}`: {
			Namespace: "/", Event: "e", Target: crosscast.Target{Everyone: true},
			Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("null")},
		},
		`{"everyone":false,"rooms":["a"],"users":[],"event":"` + long + `"}`: {
			Namespace: "/", Event: long, Target: crosscast.Target{Rooms: []string{"a"}, Users: []string{}},
		},
	} {
		inst, _, err := wire.ParseIngress([]byte(text))
		want.Kind = kind.Emit
		if err != nil || !reflect.DeepEqual(*inst, want) {
			t.Errorf("%s: %+v, %v; want %+v", text, inst, err, want)
		}
	}
}

// refused are messages by the reason that they are counted for.
func refused() map[string][]string {
	long := strings.Repeat("x", 256)
	many := strings.Repeat(`"a",`, 1024) + `"a"`
	return map[string][]string{
		"ingress syntax": {
			"", " ", "{", "null", "[]", `"x"`, "1", `{"rooms":["a"],"event":"e"`, `{"rooms":["a"],"event":"e"}}`, "{} {}",
			`{"rooms":["a"],"event":"e"} {"rooms":["a"],"event":"e"}`, `{"rooms":["a"] "event":"e"}`, `{rooms:["a"]}`,
			`{"rooms":["a"],"event":"e",}`, `{"rooms":["a` + "\xff" + `"],"event":"e"}`, "\xef\xbb\xbf{}", "cc\x01",
			`{"rooms":["a"],"event":"e","data":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		},
		"ingress member": {
			"{}", `{"rooms":["a"]}`, `{"rooms":["a"],"event":"e","Data":1}`, `{"rooms":["a"],"Event":"e"}`,
			`{"rooms":["a"],"event":"e","excpet":["b"]}`, `{"rooms":["a"],"event":"e","":1}`,
			`{"rooms":["a"],"rooms":["b"],"event":"e"}`, `{"rooms":["a"],"event":"e","data":1,"data":2}`,
			`{"rooms":"a","event":"e"}`, `{"rooms":null,"users":["u"],"event":"e"}`, `{"rooms":[1],"event":"e"}`,
			`{"rooms":{"a":1},"event":"e"}`, `{"users":[["u"]],"event":"e"}`, `{"rooms":["a"],"except":"b","event":"e"}`,
			`{"rooms":["a"],"event":1}`, `{"rooms":["a"],"event":null}`, `{"rooms":["a"],"event":["e"]}`,
			`{"rooms":["a"],"event":"e","namespace":null}`, `{"everyone":1,"event":"e"}`, `{"everyone":"true","event":"e"}`,
			`{"everyone":null,"rooms":["a"],"event":"e"}`, `{"everyone":{},"event":"e"}`,
		},
		"ingress name": {
			`{"rooms":["a"],"event":""}`, `{"rooms":[""],"event":"e"}`, `{"rooms":["a",null],"event":"e"}`,
			`{"users":["` + long + `"],"event":"e"}`, `{"rooms":["a"],"except":["` + long + `"],"event":"e"}`,
			`{"rooms":["a"],"event":"` + long + `"}`, `{"rooms":["a"],"event":"e","namespace":""}`,
			`{"rooms":["a"],"event":"e","namespace":"` + long + `"}`,
		},
		"ingress target": {
			`{"event":"e"}`, `{"rooms":[],"event":"e"}`, `{"everyone":false,"event":"e"}`, `{"except":["a"],"event":"e"}`,
			`{"everyone":true,"rooms":["a"],"event":"e"}`, `{"everyone":true,"users":[],"event":"e"}`,
		},
		"ingress size": {
			`{"rooms":[` + many + `],"event":"e"}`,
			`{"rooms":["a"],"event":"e","data":"` + strings.Repeat("x", 1<<20) + `"}`,
		},
	}
}

func TestIngressRefuses(t *testing.T) {
	for reason, texts := range refused() {
		for _, text := range texts {
			if len(text) > 1<<20 {
				continue // not the parser's to refuse
			}
			if inst, why, err := wire.ParseIngress([]byte(text)); err == nil || why != reason {
				t.Errorf("%.80s: %+v, %q (%v); want %q", text, inst, why, err, reason)
			}
		}
	}
}

// outside publishes messages that no node would send.
func (s *site) outside(topic, text string) (receivers int) {
	f := []wire.Frame{{Topic: topic, Data: []byte(text)}}
	s.hub.Port("outside").Publish(s.t.Context(), f)
	return f[0].Receivers
}

// withIngress runs f with two nodes that opted in, and one that did not.
func withIngress(t *testing.T, o wire.Options, f func(t *testing.T, s *site)) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, hub: membus.New()}
		o.Ingress = true
		for _, s.options = range []wire.Options{o, o, {}} {
			s.add()
		}
		f(t, s)
		synctest.Wait()
	})
}

func (s *site) dropped(i int) map[string]uint64 {
	dropped := s.nodes[i].Stats().Adapter.Dropped
	maps.DeleteFunc(dropped, func(reason string, _ uint64) bool { return reason == "unwanted" })
	return dropped
}

func TestIngressReachesClients(t *testing.T) {
	withIngress(t, wire.Options{}, func(t *testing.T, s *site) {
		executed := 0
		s.hub.OnExecute(func(wire.Frame) { executed++ })
		for _, text := range []string{
			`{"rooms":["r","r","x"],"users":["u"],"event":"one","data":{"n":1}}`,
			`{"everyone":true,"event":"two"}`,
			`{"users":["u"],"event":"three"}`,
			`{"users":["u"],"except":["r"],"event":"nobody"}`,
			`{"rooms":["other"],"event":"nobody"}`,
			`{"namespace":"elsewhere","everyone":true,"event":"nobody"}`,
		} {
			if n := s.outside("cc:in", text); n != 2 {
				t.Errorf("%d nodes heard it instead of the 2 that opted in", n)
			}
		}
		synctest.Wait()
		s.mu.Lock()
		for i, want := range [][]string{{"one", "two", "three"}, {"one", "two", "three"}, nil} {
			if !slices.Equal(s.got[i], want) {
				t.Errorf("node %d got %q, want %q", i, s.got[i], want)
			}
		}
		s.mu.Unlock()
		if executed != 6 {
			t.Errorf("6 messages crossed the bus %d times", executed)
		}
		for i := range s.nodes {
			if d := s.dropped(i); len(d) > 0 {
				t.Errorf("node %d dropped %v", i, d)
			}
		}
		if from := s.last.From; from != "" {
			t.Errorf("a message from outside is said to come from %q", from)
		}
	})
}

func TestIngressCountsWhatItRefuses(t *testing.T) {
	var log bytes.Buffer
	withIngress(t, wire.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, s *site) {
		want := map[string]uint64{}
		for reason, texts := range refused() {
			for _, text := range texts {
				s.outside("cc:in", text)
			}
			want[reason] = uint64(len(texts))
		}
		// What only a node may say is not taken from there, nor what only the ingress takes anywhere else.
		node := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "stranger", Number: 1})
		goodbye := &crosscast.Instruction{Kind: kind.Disconnect, Target: crosscast.Target{Everyone: true}}
		frame := string(wire.AppendItem(node, goodbye, crosscast.Address{}, 0))
		s.outside("cc:in", frame)
		want["ingress syntax"]++
		for _, topic := range []string{"cc:all", "cc:r:/:r", "cc:n:" + string(s.nodes[0].ID())} {
			s.outside(topic, `{"everyone":true,"event":"e"}`)
		}
		s.want()
		for i := range 2 {
			want["foreign"] = 2
			if i == 0 {
				want["foreign"] = 3
			}
			if got := s.dropped(i); !maps.Equal(got, want) {
				t.Errorf("node %d dropped %v, want %v", i, got, want)
			}
		}
		if d := s.dropped(2); !maps.Equal(d, map[string]uint64{"foreign": 2}) {
			t.Errorf("a node without an ingress dropped %v", d)
		}
		if n := strings.Count(log.String(), "refused"); n != 2*5 {
			t.Errorf("2 nodes logged %d refusals, instead of one for each reason:\n%s", n, log.String())
		}
		s.outside("cc:in", `{"everyone":true,"event":"still there"}`)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Equal(s.got[0], []string{"still there"}) {
			t.Errorf("got %q", s.got[0])
		}
	})
}

// MaxFrame limits the ingress, too.
func TestIngressIsLimited(t *testing.T) {
	withIngress(t, wire.Options{MaxFrame: 16 << 10}, func(t *testing.T, s *site) {
		s.outside("cc:in", `{"rooms":["r"],"event":"e","data":"`+strings.Repeat("x", 16<<10)+`"}`)
		synctest.Wait()
		if d := s.dropped(0); !maps.Equal(d, map[string]uint64{"ingress size": 1}) {
			t.Errorf("dropped %v", d)
		}
	})
}

// An outage is the node's as ever, and the ingress is back after it.
func TestIngressAfterAnOutage(t *testing.T) {
	withIngress(t, wire.Options{}, func(t *testing.T, s *site) {
		s.ports[0].Cut()
		s.outside("cc:in", `{"rooms":["r"],"event":"missed"}`)
		time.Sleep(time.Second)
		if gaps := s.seen(0); len(gaps) != 1 || gaps[0].Names != nil || gaps[0].Reason != reasons.GapLinkLost {
			t.Errorf("gaps: %+v", gaps)
		}
		s.outside("cc:in", `{"rooms":["r"],"event":"heard"}`)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Equal(s.got[0], []string{"heard"}) || !slices.Equal(s.got[1], []string{"missed", "heard"}) {
			t.Errorf("got %q", s.got)
		}
	})
}

func TestIngressDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := membus.New().Port("node")
		p.Deny("cc:in", true)
		start := func(o wire.Options) error {
			n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.New(p, o)})
			if err == nil {
				n.Close(context.Background())
			}
			return err
		}
		err := start(wire.Options{Ingress: true})
		if !errors.Is(err, crosscast.ErrDenied) || !strings.Contains(err.Error(), "cc:in") {
			t.Error("Start of a node that may not hear the ingress:", err)
		}
		if err := start(wire.Options{}); err != nil {
			t.Error("Start of a node without one:", err)
		}
	})
}

// FuzzIngress: whatever comes in, it is refused for a reason, or is an emission that a node could have made, and says
// what a plain reading of the JSON says.
func FuzzIngress(f *testing.F) {
	f.Add([]byte(`{"namespace":"/n","rooms":["a","b"],"users":["u"],"except":["c"],"event":"e","data":{"x":[1,2.5,null]}}`))
	f.Add([]byte(`{"everyone":true,"event":"e"}`))
	for _, texts := range refused() {
		for _, text := range texts {
			if len(text) < 10000 {
				f.Add([]byte(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		inst, reason, err := wire.ParseIngress(text)
		if err != nil {
			if inst != nil || !strings.HasPrefix(reason, "ingress ") || err.Error() == "" || len(err.Error()) > 2000 {
				t.Fatalf("refused as %q, with %+v: %v", reason, inst, err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatal("taken, but no JSON")
		}
		var plain struct {
			Namespace            string
			Rooms, Users, Except []string
			Everyone             bool
			Event                string
			Data                 json.RawMessage
		}
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&plain); err != nil {
			t.Fatalf("taken, but: %v", err)
		}
		if plain.Namespace == "" {
			plain.Namespace = "/"
		}
		g := &inst.Target
		same := inst.Namespace == plain.Namespace && inst.Event == plain.Event && g.Everyone == plain.Everyone &&
			slices.Equal(g.Rooms, plain.Rooms) && slices.Equal(g.Users, plain.Users) &&
			slices.Equal(g.ExceptRooms, plain.Except) &&
			bytes.Equal(inst.Payload.Data, plain.Data)
		if !same {
			t.Fatalf("read as %+v, plainly %+v", inst, plain)
		}
		others := len(g.Sockets) + len(g.ExceptSockets) + len(g.ExceptUsers) + len(inst.Rooms)
		if inst.Kind != kind.Emit || inst.From+inst.To != "" || inst.Ref != "" || inst.Event == "" || inst.Volatile ||
			!g.Everyone && len(g.Rooms)+len(g.Users) == 0 || others > 0 {
			t.Fatalf("no emission: %+v", inst)
		}
		if _, err := crosscast.AppendInstruction(nil, inst); err != nil {
			t.Fatalf("no node may send %+v: %v", inst, err)
		}
		if inst.Payload.Encoding == crosscast.EncodingJSON && !json.Valid(inst.Payload.Data) {
			t.Fatalf("the payload is not JSON: %q", inst.Payload.Data)
		}
	})
}

package crosscast_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// TestStatsOfPeers: each chosen peer answers with its own, which its node counts.
func TestStatsOfPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		connect(t, nodes[1].Namespace, new(recorder), "r", "s")
		connect(t, nodes[2].Namespace, new(recorder), "r")
		ok(t, nodes[0].To("r").Emit(ctx, "e", nil))
		synctest.Wait()
		of := func(s crosscast.Servers) string {
			t.Helper()
			var all []string
			answers := s.Stats(ctx)
			for s := range answers.All() {
				synctest.Wait() // the answer is counted after it was published
				for i, n := range nodes {
					if n.ID() == s.Node {
						own := n.Stats()
						if own.InstructionsOut--; s.InstructionsOut != own.InstructionsOut { // the answer itself
							t.Errorf("%d: %d instructions out, want %d", i, s.InstructionsOut, own.InstructionsOut)
						}
						all = append(all, fmt.Sprintf("%d:%d sockets, %d memberships, %d delivered, %d peers", i, s.Sockets,
							s.Memberships, s.Delivered, s.Peers))
					}
				}
			}
			ok(t, answers.Err())
			return sorted(all)
		}
		s := nodes[0].Servers()
		one, two := "1:1 sockets, 2 memberships, 1 delivered, 2 peers", "2:1 sockets, 1 memberships, 1 delivered, 2 peers"
		equal(t, "all", of(s), one+" "+two)
		equal(t, "only", of(s.Only(nodes[2].ID())), two)
		equal(t, "with", of(s.With("s")), one)
		equal(t, "with nobody", of(s.With("x")), "")
		equal(t, "none", of(s.Only()), "")
		other, err := nodes[0].Of("other") // which nobody uses
		ok(t, err)
		equal(t, "of another namespace", of(other.Servers()), one+" "+two)
		equal(t, "with, of another namespace", of(other.Servers().With("s")), "")
		equal(t, "own", nodes[1].Stats().Node, nodes[1].ID())

		_, err = s.Only("nobodyis").Stats(ctx).Collect()
		var incomplete *crosscast.IncompleteError
		if !errors.As(err, &incomplete) || len(incomplete.Missing) != 1 || incomplete.Missing[0].ID != "nobodyis" {
			t.Errorf("of an unknown node: %v", err)
		}
		_, err = s.With("").Stats(ctx).Collect()
		if !errors.Is(err, crosscast.ErrInvalidName) {
			t.Errorf("with an empty name: %v", err)
		}
		single := start(t, crosscast.Options{})
		all, err := single.Servers().Stats(ctx).Collect()
		ok(t, err)
		equal(t, "of a single server", len(all), 0)
	})
}

// statsAnswered returns the result of a query of which a peer's answer has the given payload.
func statsAnswered(tb testing.TB, p crosscast.Payload) ([]crosscast.Stats, error) {
	d := newDriver(tb)
	d.onPublish = func(inst *crosscast.Instruction) {
		if inst.Kind == kind.Ask {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Answer, From: "peerpeer", Ref: inst.Ref, Answer: &crosscast.Answer{Last: true, Payload: p},
			})
		}
	}
	n := start(tb, crosscast.Options{Adapter: d})
	d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: "peerpeer", Node: crosscast.NodeInfo{Heartbeat: time.Second}})
	return n.Servers().Stats(ctx).Collect()
}

// TestStatsAreComplete: every field of Stats arrives, whatever is in it.
func TestStatsAreComplete(t *testing.T) {
	var want crosscast.Stats
	fillValue(reflect.ValueOf(&want).Elem())
	want.Node, want.Adapter.Link.Publishing.Err, want.Adapter.Link.Subscribing.Err = "peerpeer", nil, nil
	text, err := json.Marshal(want)
	ok(t, err)
	text = append(text[:len(text)-1], `,"Publishing":"broken pipe","Later":{"x":[1]}}`...)
	got, err := statsAnswered(t, crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: text})
	ok(t, err)
	equal(t, "stats", len(got), 1)
	if err := got[0].Adapter.Link.Publishing.Err; err == nil || err.Error() != "broken pipe" {
		t.Errorf("an error: %v", err)
	}
	got[0].Adapter.Link.Publishing.Err = nil
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v\nwant %+v", got[0], want)
	}
}

// fillValue sets every part of v that is not an interface.
func fillValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1e9, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			fillValue(v.Field(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillValue(key)
		fillValue(value)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1 << 20)
	case reflect.Uint64:
		v.SetUint(1<<64 - 1)
	}
}

// badStats are payloads that are none.
var badStats = []crosscast.Payload{
	{Encoding: crosscast.EncodingBinary, Data: []byte("{}")},
	{Encoding: crosscast.EncodingJSON, Data: []byte(`[]`)},
	{Encoding: crosscast.EncodingJSON, Data: []byte(`{"Sockets":-1e99}`)},
	{Encoding: crosscast.EncodingJSON, Data: []byte(`{"Adapter":{"Link":{"Publishing":{"Err":{}}}}}`)},
	{Encoding: crosscast.EncodingJSON, Data: []byte(strings.Repeat("[", 60000) + strings.Repeat("]", 4000))},
	{Encoding: crosscast.EncodingJSON, Data: []byte(`{"Node":"` + strings.Repeat("x", 64<<10) + `"}`)},
}

// TestStatsThatAreNone: the peer that sends them is missing.
func TestStatsThatAreNone(t *testing.T) {
	for _, p := range badStats {
		got, err := statsAnswered(t, p)
		var incomplete *crosscast.IncompleteError
		if len(got) != 0 || !errors.As(err, &incomplete) || len(incomplete.Missing) != 1 {
			t.Errorf("%.40s: %v, %v", p.Data, got, err)
		}
	}
	got, err := statsAnswered(t, crosscast.Payload{})
	ok(t, err)
	equal(t, "of a peer with nothing to say", len(got), 0)
}

// FuzzStats: what a peer sends is an error or Stats, and costs no more than a multiple of its bytes.
func FuzzStats(f *testing.F) {
	text, err := json.Marshal(crosscast.Stats{Dropped: map[crosscast.DropReason]uint64{"a": 1}})
	ok(f, err)
	f.Add(text)
	for _, p := range badStats {
		if len(p.Data) < 1000 {
			f.Add(p.Data)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := statsAnswered(t, crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: text})
		runtime.ReadMemStats(&after)
		if err == nil && (len(got) != 1 || got[0].Node != "peerpeer") {
			t.Errorf("%v", got)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(1<<20+200*len(text)) {
			t.Errorf("%d bytes cost %d", len(text), used)
		}
	})
}

package crosscast

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func (tb *table) wantLost(t *testing.T, names ...string) {
	t.Helper()
	var got []string
	for _, l := range tb.gone(tb.now) {
		got = append(got, fmt.Sprintf("%s %v ago", l.Name, tb.now.Sub(l.Heard)))
	}
	if strings.Join(got, ", ") != strings.Join(names, ", ") {
		t.Errorf("lost are %q, want %q", got, names)
	}
}

// A peer that falls silent is remembered, until it is back, says goodbye, another of its name comes, or an hour is over.
func TestLostPeers(t *testing.T) {
	tb := newTable()
	comes := func(id NodeID, name string) {
		for range 2 {
			tb.hear(NodeInfo{ID: id, Name: name, Heartbeat: time.Second}, nil, tb.now)
		}
	}
	dies := func(id NodeID, name string) {
		comes(id, name)
		tb.beat(7, true)
	}
	tb.wantLost(t)
	dies("a", "one")
	tb.wantLost(t, "one 7s ago")
	comes("b", "two")
	tb.wantLost(t, "one 7s ago")
	if name := tb.inLog("a"); name != "one (a)" {
		t.Errorf("the lost peer is called %s", name)
	}
	comes("a", "one") // it had only stood still
	tb.wantLost(t)

	dies("a", "one")
	tb.hear(NodeInfo{ID: "a", Name: "one", Heartbeat: time.Second}, nil, tb.now) // a message that was late
	tb.wantLost(t, "two 7s ago")
	tb.beat(7, true)
	tb.wantLost(t, "two 14s ago", "one 7s ago")
	comes("c", "one") // it has started anew
	tb.wantLost(t, "two 14s ago")
	comes("c", "one")
	tb.forget("b") // it had more to say, but its heartbeats did not come
	tb.wantLost(t)

	comes("d", "one") // two of a name: each that comes stands for one that was lost
	tb.beat(7, true)
	tb.wantLost(t, "one 7s ago", "one 7s ago")
	comes("e", "one")
	tb.wantLost(t, "one 7s ago")
	tb.forget("e")

	tb.hear(NodeInfo{ID: "f", Name: "forged", Heartbeat: time.Second}, nil, tb.now)
	tb.beat(7, true)
	tb.wantLost(t, "one 14s ago")
	tb.beat(3600-14, true)
	tb.wantLost(t, "one 1h0m0s ago")
	tb.beat(1, true)
	tb.wantLost(t)
}

// The list is bounded, and Stats with the longest names can still be sent.
func TestLostPeersAreBounded(t *testing.T) {
	tb := newTable()
	for i := range 2 * maxLost {
		id := NodeID(fmt.Sprintf("%08d", i))
		for range 2 {
			tb.hear(NodeInfo{ID: id, Name: strings.Repeat("\x01", 250) + string(id)[3:], Heartbeat: time.Second}, nil, tb.now)
		}
		tb.beat(7, true)
	}
	lost := tb.gone(tb.now)
	if len(lost) != maxLost || lost[maxLost-1].ID != NodeID(fmt.Sprintf("%08d", 2*maxLost-1)) {
		t.Errorf("%d peers, the latest is %s", len(lost), lost[len(lost)-1].ID)
	}
	text, err := json.Marshal(Stats{Lost: lost})
	if err != nil || len(text) > maxStats-8<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

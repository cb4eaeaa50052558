package crosscast

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// table is peers with a clock that a test moves.
type table struct {
	peers
	now    time.Time
	events []string
	silent []string // what an adapter would be told
}

func newTable() *table {
	tb := &table{now: time.Unix(1e9, 0)}
	tb.changed = func(e NodeEvent) {
		kind := [...]string{1: "joined", "suspect", "alive", "left", "expired"}[e.Kind]
		tb.events = append(tb.events, fmt.Sprint(kind, " ", e.Peer.ID))
	}
	tb.ticks(true)
	return tb
}

// ticks is a tick of the node's, of which it reports whether the node takes it for the end of a pause.
func (tb *table) ticks(proven bool) bool {
	_, paused, silent := tb.tick(tb.now, time.Second, proven)
	for _, s := range silent {
		told := fmt.Sprintf("%s %v ago", s.id, tb.now.Sub(s.last))
		if s.suspected {
			told += " suspected"
		}
		if s.expired {
			told += " expired"
		}
		tb.silent = append(tb.silent, told)
	}
	return paused
}

func (tb *table) hears(ids ...NodeID) {
	for _, id := range ids {
		tb.hear(NodeInfo{ID: id, Heartbeat: time.Second}, nil, tb.now)
	}
}

// beat lets seconds pass, one tick each, in which those in alive are heard.
func (tb *table) beat(seconds int, proven bool, alive ...NodeID) {
	for range seconds {
		tb.now = tb.now.Add(time.Second)
		tb.hears(alive...)
		tb.ticks(proven)
	}
}

// stand lets seconds pass without a tick, and reports whether the node takes that for a pause.
func (tb *table) stand(seconds int) bool {
	tb.now = tb.now.Add(time.Duration(seconds) * time.Second)
	return tb.ticks(true)
}

func (tb *table) want(t *testing.T, events string) {
	t.Helper()
	if got := strings.Join(tb.events, ", "); got != events {
		t.Errorf("got %q, want %q", got, events)
	}
	tb.events = nil
}

func TestPeerLife(t *testing.T) {
	tb := newTable()
	tb.hears("a", "b")
	tb.hears("a")
	tb.want(t, "joined a, joined b")
	tb.beat(3, true, "b")
	tb.want(t, "")
	tb.beat(1, true, "b")
	tb.want(t, "suspect a")
	if l := tb.list(); len(l) != 2 || !l[0].Suspect || l[1].Suspect {
		t.Errorf("%+v", l)
	}
	tb.beat(2, true, "b")
	tb.want(t, "")
	tb.hears("a")
	tb.want(t, "alive a")
	tb.beat(6, true, "b")
	tb.want(t, "suspect a")
	tb.beat(1, true, "b")
	tb.want(t, "expired a")
	tb.hears("a")
	tb.want(t, "joined a")
	tb.forget("b")
	tb.want(t, "left b")
	tb.hears("b") // so the goodbye was somebody else's
	tb.want(t, "joined b")
}

func TestPeersOfAnUnprovenNode(t *testing.T) {
	tb := newTable()
	tb.hears("a")
	tb.beat(100, false)
	tb.want(t, "joined a")
	tb.beat(4, true) // from here on it has its full time
	tb.want(t, "")
	tb.beat(1, true)
	tb.want(t, "suspect a")
	tb.beat(2, true)
	tb.want(t, "")
	tb.beat(1, true)
	tb.want(t, "expired a")
}

func TestPeersOfANodeThatStoodStill(t *testing.T) {
	tb := newTable()
	tb.hears("a")
	for seconds, paused := range map[int]bool{2: false, 5: false, 6: true, 1000: true} {
		if tb.beat(2, true, "a"); tb.stand(seconds) != paused {
			t.Errorf("%d s: paused is not %v", seconds, paused)
		}
	}
	tb.want(t, "joined a")
	// A node that is always late still finds out who is dead, each tick counting for one heartbeat.
	for range 4 {
		tb.stand(3)
	}
	tb.want(t, "suspect a")
	for range 3 {
		tb.stand(3)
	}
	tb.want(t, "expired a")
}

// The adapter is told of each silence once, and since when: a time in which nothing could have been heard, or that was
// not counted, makes no difference. Of a goodbye it is told nothing.
func TestSilences(t *testing.T) {
	tb := newTable()
	want := func(silent string) {
		t.Helper()
		if got := strings.Join(tb.silent, ", "); got != silent {
			t.Errorf("got %q, want %q", got, silent)
		}
		tb.silent = nil
	}
	tb.hears("a", "b")
	tb.beat(3, true, "b")
	want("")
	tb.beat(1, true, "b")
	want("a 4s ago suspected")
	tb.hears("a")
	tb.beat(4, true, "b")
	want("a 4s ago suspected")
	tb.beat(3, true, "b")
	want("a 7s ago expired")
	tb.hears("a")
	tb.forget("a")
	tb.beat(10, true, "b")
	want("")
	tb.beat(100, false)
	tb.beat(5, true)
	want("b 1m45s ago suspected")
	tb.hears("b", "c")
	tb.stand(2)
	tb.now = tb.now.Add(time.Second)
	tb.m["c"].heard = tb.now.Add(-time.Hour) // as if no tick had seen it suspected
	tb.ticks(true)
	want("c 3s ago suspected expired")
}

func TestPeersAreBounded(t *testing.T) {
	tb := newTable()
	for i := range 2 * maxPeers {
		tb.hear(NodeInfo{ID: NodeID(fmt.Sprintf("%08d", i)), Heartbeat: 1 << 60}, nil, tb.now)
	}
	if len(tb.m) != maxPeers {
		t.Error(len(tb.m))
	}
	if hb := tb.list()[0].Heartbeat; hb != time.Minute {
		t.Error(hb)
	}
}

// TestFloodOfPeers: of names that are heard once a full table forgets the oldest, and nobody who has a heartbeat.
func TestFloodOfPeers(t *testing.T) {
	tb := newTable()
	tb.beat(2, true, "real")
	for i := range 3 * maxPeers {
		tb.now = tb.now.Add(time.Nanosecond)
		tb.hears(NodeID(fmt.Sprintf("%08d", i)))
	}
	for i := 3*maxPeers - maxPeers/2; i < 3*maxPeers; i++ {
		if id := NodeID(fmt.Sprintf("%08d", i)); tb.m[id] == nil {
			t.Fatalf("%s was forgotten before older ones", id)
		}
	}
	tb.events = nil
	tb.now = tb.now.Add(time.Millisecond)
	tb.hears("new")
	if tb.m["real"] == nil || tb.m["new"] == nil || len(tb.m) != maxPeers {
		t.Errorf("of %d peers real is %v, new is %v", len(tb.m), tb.m["real"], tb.m["new"])
	}
	if len(tb.events) != 2 || !strings.HasPrefix(tb.events[0], "expired ") || tb.events[1] != "joined new" {
		t.Error(tb.events)
	}
	// Nobody is pushed out who is heard again and again.
	for id := range tb.m {
		tb.hears(id)
	}
	tb.events = nil
	tb.hears("late")
	tb.want(t, "")
	// Those who fall silent make room before they are taken for dead.
	tb.beat(4, true, "real", "new")
	tb.events = nil
	tb.hears("late")
	if tb.m["late"] == nil || tb.m["real"] == nil || tb.m["new"] == nil {
		t.Error("no room for a peer, though others are silent")
	}
}

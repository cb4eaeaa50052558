package faults_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast/faults/books"
)

// tried is a bed for a test of the harness itself.
func tried(t *testing.T) *bed {
	*ledgers = t.TempDir()
	b, _ := newBed(t, &row{number: -1, nodes: 2, heartbeat: 250 * time.Millisecond}, resp2, true, 1)
	return b
}

// TestHarness: a run without a fault balances; and a gap that nobody has permitted is a problem.
func TestHarness(t *testing.T) {
	b := tried(t)
	b.start()
	b.settle()
	if r := b.finish(); r.Sent == 0 || r.Gaps != 0 || r.Missed != 0 {
		t.Errorf("nothing has happened, and the report is %+v", r)
	}
	from := b.ledger.Len()
	b.site.endSubscribers()
	b.wait(from, "a gap", func(e *books.Entry) bool { return e.Is == books.GapOf })
	b.settle()
	if r := books.Balance(b.ledger.Entries()); len(r.Problems) == 0 || !strings.HasPrefix(r.Problems[0], "OVER-REPORT") {
		t.Errorf("a gap that no fault explains: problems %q", r.Problems)
	}
}

// TestHarnessKillsAndPauses: what a node's process has told before it was killed is in the ledger, and a process that is
// paused ends with its test.
func TestHarnessKillsAndPauses(t *testing.T) {
	b := tried(t)
	b.start()
	b.nodes[0].kill()
	if _, err := b.nodes[0].try(command{Do: "stats"}); err == nil {
		t.Error("a killed process answers")
	}
	if len(b.live()) != 1 {
		t.Errorf("%d nodes are left", len(b.live()))
	}
	if b.count(func(e *books.Entry) bool { return e.Is == books.Sent && e.Node == b.nodes[0].id }) == 0 {
		t.Error("the killed node has told nothing")
	}
	b.nodes[1].pause()
}

// TestSchedule: the same seed makes the same schedule, in every row another one.
func TestSchedule(t *testing.T) {
	draw := func(seed uint64, r *row, k kind) uint64 { return schedule(seed, r, k).Uint64() }
	one, two := &row{number: 1}, &row{number: 2}
	if first, again := draw(7, one, resp2), draw(7, one, resp2); first != again {
		t.Error("one seed makes two schedules")
	}
	if d := draw(7, one, resp2); d == draw(8, one, resp2) || d == draw(7, two, resp2) || d == draw(7, one, resp3) {
		t.Error("two runs have one schedule")
	}
}

// TestWanted: a whole name means that kind only, so that what the replay prints repeats one run.
func TestWanted(t *testing.T) {
	for list, want := range map[string][]kind{
		"Redis, RESP2": {resp2}, "NATS": {natsOne}, "NATS, 3 servers": {natsMany}, "Cluster": {cluster}, "RESP": {resp2, resp3},
		"NATS,Sentinel": {sentinel, natsOne},
	} {
		got := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !wanted(list, k) })
		if !slices.Equal(got, want) {
			t.Errorf("%q means %q", list, got)
		}
	}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if told := os.Getenv(configVariable); told != "" {
		if err := child(told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		args   string
		rounds int
		span   time.Duration
		runs   string // workloads and their contestants
		err    string
	}{
		{args: "-only W1 -contestants crosscast,limit-a", rounds: 5, span: 2 * time.Second, runs: "W1: crosscast limit-a"},
		{args: "-only W0 -contestants crosscast -rounds 1", rounds: 1, span: 2 * time.Second,
			runs: "W0-1: crosscast; W0-100: crosscast; W0-1000: crosscast; W0-100-tls: crosscast; W0-socketio: crosscast; W0-latency-1: crosscast; " +
				"W0-latency-10: crosscast; W0-stalled: crosscast; W0-10000: crosscast; W0-10000-tls: crosscast"},
		{args: "-quick -only W0-100", rounds: 3, span: time.Second, runs: "W0-100: crosscast by-hand centrifuge"},
		{args: "-only W1,W0-1 -contestants by-hand -for 10ms", rounds: 5, span: 10 * time.Millisecond, runs: "W0-1: by-hand"},
		{args: "-only W1 -contestants crosscast,limit-a -before x", rounds: 5, span: 2 * time.Second,
			runs: "W1: crosscast limit-a before"},
		{args: "-only W1 -contestants limit-a -before x", rounds: 5, span: 2 * time.Second, runs: "W1: limit-a"},
		{args: "-only W99", err: `no workload "W99"; there are W0-1, `},
		{args: "-contestants nobody", err: `no workload has a contestant of "nobody"`},
		{args: "-rounds -1", err: "at least one round"},
		{args: "-for 1ms", err: "and 10ms"},
		{args: "W1", err: `unexpected "W1"`},
		{args: "-unknown", err: "not defined"},
	} {
		o, err := parse(strings.Fields(test.args), io.Discard)
		if test.err != "" || err != nil {
			if err == nil || test.err == "" || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.args, err, test.err)
			}
			continue
		}
		var runs []string
		for _, w := range o.bench.workloads {
			run := w.name + ":"
			for _, c := range w.contestants {
				run += " " + c.name
			}
			runs = append(runs, run)
		}
		if got := strings.Join(runs, "; "); got != test.runs {
			t.Errorf("%s: %q, want %q", test.args, got, test.runs)
		}
		if b := o.bench; b.rounds != test.rounds || b.span != test.span {
			t.Errorf("%s: %d rounds of %v", test.args, b.rounds, b.span)
		}
	}
}

// TestRounds checks that a goal can be judged by 15 pairs, also of a workload that takes long.
func TestRounds(t *testing.T) {
	for args, want := range map[string]int{"-only W6": 5, "-only W0-10000": 3, "-only W6 -rounds 15": 15, "-only W0-10000 -rounds 1": 1} {
		o, err := parse(strings.Fields(args), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.bench.workloads[0].rounds(&o.bench); got != want {
			t.Errorf("%s: %d rounds, want %d", args, got, want)
		}
	}
}

// TestQuick checks that a quick run takes at most three minutes. A run takes a second and a half, and about another one
// to start and to stop.
func TestQuick(t *testing.T) {
	o, err := parse([]string{"-quick"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	for _, w := range o.bench.workloads {
		runs += o.bench.rounds * len(w.contestants)
	}
	if runs > 70 {
		t.Errorf("%d runs", runs)
	}
}

// TestWorkloads checks what the command line and the goals rely on.
func TestWorkloads(t *testing.T) {
	seen := make(map[string]bool)
	for _, w := range workloads() {
		if seen[w.name] {
			t.Errorf("two workloads %s", w.name)
		}
		seen[w.name] = true
		names := make(map[string]bool)
		for _, c := range w.contestants {
			if names[c.name] {
				t.Errorf("%s: two contestants %s", w.name, c.name)
			}
			names[c.name] = true
			if label := plainLabel(c.what); len(label) > 51 {
				t.Errorf("%s: %q is too long for a chart", w.name, label)
			}
		}
		keys := make(map[string]bool)
		for _, m := range w.metrics {
			keys[m.key] = true
		}
		for _, g := range w.goals {
			if g.against != "" && !names[g.against] || g.of != "" && !names[g.of] || !names[ownName] || !keys[g.metric] {
				t.Errorf("%s: a goal of %s against %s", w.name, g.metric, g.against)
			}
		}
	}
}

// TestRun lets some contestants send a few messages through a real Redis, and looks at what is printed and written.
func TestRun(t *testing.T) {
	requireRedis(t)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	dir := t.TempDir()
	var out, log bytes.Buffer
	file := filepath.Join(dir, "results.json")
	args := strings.Fields("-only W1,W0-1 -contestants crosscast,limit-b,by-hand,centrifuge -rounds 2 -for 50ms -charts " + dir + " -json " + file)
	if err := parent(t.Context(), args, &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	for _, run := range []string{"W1 crosscast", "W1 limit-b", "W1 centrifuge", "W0-1 crosscast", "W0-1 by-hand", "W0-1 centrifuge"} {
		workload, contestant, _ := strings.Cut(run, " ")
		for round := 1; round <= 2; round++ {
			line := fmt.Sprintf("%-12s round %d  %-22s", workload, round, contestant)
			if strings.Count(log.String(), line) != 1 {
				t.Errorf("not one line %q:\n%s", line, log.String())
			}
		}
	}
	if !strings.Contains(out.String(), "### W1: ") || !strings.Contains(out.String(), "goal, rate ≥ 0.5 of limit-b: ") {
		t.Errorf("printed:\n%s", out.String())
	}
	for _, name := range []string{"speed-w1.svg", "speed-w0-1.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	var again bytes.Buffer
	if err := parent(t.Context(), []string{"-from", file}, &again, io.Discard); err != nil || again.String() != out.String() {
		t.Errorf("from the file: %v\n%s", err, again.String())
	}
}

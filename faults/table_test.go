package faults_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// A result is that of one row on one kind of server. results.json has the latest of each; one of the short matrix does not
// replace one of the full.
type result struct {
	Row       string        `json:"row"`
	Server    string        `json:"server"`
	Heartbeat time.Duration `json:"heartbeat"`
	Short     bool          `json:"short,omitempty"`
	Passed    bool          `json:"passed"`
	Recovery  time.Duration `json:"recovery,omitempty"`
	Sent      int64         `json:"sent,omitempty"`
	Missed    int64         `json:"missed,omitempty"` // each is part of a reported gap
	Gaps      int           `json:"gaps,omitempty"`
	Reasons   []string      `json:"reasons,omitempty"` // of the gaps
	Excess    time.Duration `json:"excess,omitempty"`  // of the widest gap over the fault
	Note      string        `json:"note,omitempty"`
	Unproved  string        `json:"unproved,omitempty"`
	Took      time.Duration `json:"took,omitempty"`
}

const (
	resultsFile = "results.json"
	tableFile   = "../docs/faults.md"
	tableBegin  = "<!-- The table is generated: see faults/doc.go. -->\n"
	tableEnd    = "<!-- The end of the table. -->\n"
)

var write = flag.Bool("write", false, "TestTable writes docs/faults.md instead of checking it")

func (v *result) is(r *row, k kind) bool { return v.Row == r.name() && v.Server == string(k) }

// text is a table for people.
func (r *results) text() string {
	var s strings.Builder
	for _, v := range r.all {
		fmt.Fprintf(&s, "faults: row %-4s %-13s %s %6.1fs  recovery %-7v missed %d of %d, gaps %d %v, excess %v  %s\n",
			v.Row, v.Server, verdict(&v), v.Took.Seconds(), v.Recovery.Round(time.Millisecond), v.Missed, v.Sent, v.Gaps, v.Reasons,
			v.Excess.Round(time.Millisecond), v.Note)
	}
	passed := 0
	for _, v := range r.all {
		if v.Passed {
			passed++
		}
	}
	fmt.Fprintf(&s, "faults: %d of %d passed\n", passed, len(r.all))
	return s.String()
}

func verdict(v *result) string {
	if !v.Passed {
		return "FAILED"
	}
	return "passed"
}

// keep enters the results in the file, and writes the table.
func (r *results) keep(t *testing.T) {
	kept := readResults(t)
	for _, v := range r.all {
		i := slices.IndexFunc(kept, func(o result) bool { return o.Row == v.Row && o.Server == v.Server })
		switch {
		case i < 0:
			kept = append(kept, v)
		case kept[i].Short || !v.Short:
			kept[i] = v
		}
	}
	slices.SortFunc(kept, func(a, b result) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Server, b.Server))
	})
	text, err := json.MarshalIndent(kept, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(resultsFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	page := readPage(t)
	if err := os.WriteFile(tableFile, []byte(page.with(table(kept))), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readResults(t *testing.T) (kept []result) {
	text, err := os.ReadFile(resultsFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatalf("%s: %v", resultsFile, err)
	}
	return kept
}

// A page is what stands around the table.
type page struct{ before, table, after string }

func readPage(t *testing.T) page {
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), tableBegin)
	now, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("%s has no place for the table", tableFile)
	}
	return page{before, now, after}
}

func (p page) with(table string) string { return p.before + tableBegin + table + tableEnd + p.after }

// table makes the table: every registered row on each of its kinds of server, run or not.
func table(kept []result) string {
	var s strings.Builder
	s.WriteString(overview(kept))
	s.WriteString("\n| row | fault | expected | servers | heartbeat | result | recovery | missed, of emissions | gaps | over-report |\n")
	s.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range matrix() {
		head := fmt.Sprintf("| %s | %s | %s |", r.name(), r.fault, r.expect)
		if r.applies != "" {
			fmt.Fprintf(&s, "%s – | – | %s | | | | |\n", head, r.applies)
			continue
		}
		for _, k := range r.kinds {
			i := slices.IndexFunc(kept, func(v result) bool { return v.is(r, k) })
			if i < 0 {
				fmt.Fprintf(&s, "%s %s | – | not run | | | | |\n", head, k)
				continue
			}
			fmt.Fprintf(&s, "%s %s |%s\n", head, k, kept[i].cells())
		}
		for _, where := range r.elsewhere() {
			fmt.Fprintf(&s, "%s %s | – | does not apply: %s | | | | |\n", head, where.kinds, where.why)
		}
	}
	return s.String() + "\n"
}

// A notHere is why a row does not run on some kinds.
type notHere struct{ kinds, why string }

func (r *row) elsewhere() (all []notHere) {
	for _, c := range columns {
		if slices.Contains(r.kinds, c.kind) {
			continue
		}
		why := r.why(c.kind)
		if i := slices.IndexFunc(all, func(n notHere) bool { return n.why == why }); i >= 0 {
			all[i].kinds += "; " + string(c.kind)
			continue
		}
		all = append(all, notHere{string(c.kind), why})
	}
	return all
}

// overview is a small table: a line a row, a column a kind.
func overview(kept []result) string {
	var s strings.Builder
	s.WriteString("\n| row |")
	for _, k := range kinds {
		fmt.Fprintf(&s, " %s |", k)
	}
	s.WriteString("\n|---|" + strings.Repeat("---|", len(kinds)) + "\n")
	for _, r := range matrix() {
		if r.applies != "" {
			continue
		}
		fmt.Fprintf(&s, "| %s |", r.name())
		for _, k := range kinds {
			cell := "–"
			if slices.Contains(r.kinds, k) {
				cell = "not run"
			}
			if i := slices.IndexFunc(kept, func(v result) bool { return v.is(r, k) }); i >= 0 {
				if cell = verdict(&kept[i]); kept[i].Passed && kept[i].Recovery > 0 {
					cell = figure(kept[i].Recovery)
				}
			}
			fmt.Fprintf(&s, " %s |", cell)
		}
		s.WriteString("\n")
	}
	return s.String()
}

func (v *result) cells() string {
	heartbeat := v.Heartbeat.String()
	if v.Short {
		heartbeat += ", shortened"
	}
	recovery, missed, gaps, excess := "", "", "none", ""
	if v.Recovery > 0 {
		recovery = figure(v.Recovery)
	}
	if v.Sent > 0 {
		missed = fmt.Sprintf("%d, all reported, of %d", v.Missed, v.Sent)
		if v.Missed == 0 {
			missed = fmt.Sprintf("0 of %d", v.Sent)
		}
	}
	if v.Gaps > 0 {
		gaps = fmt.Sprintf("%d: %s", v.Gaps, strings.Join(v.Reasons, ", "))
		excess = figure(v.Excess)
	}
	verdict := verdict(v)
	for _, more := range []string{v.Note, v.Unproved} {
		if more != "" {
			verdict += "; " + more
		}
	}
	if v.Sent == 0 {
		gaps = ""
	}
	if !v.Passed {
		missed = ""
	}
	return fmt.Sprintf(" %s | %s | %s | %s | %s | %s |", heartbeat, verdict, recovery, missed, gaps, excess)
}

func figure(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// TestTable checks that the table of docs/faults.md is that of the kept results, and that no row fails in it.
func TestTable(t *testing.T) {
	kept := readResults(t)
	page := readPage(t)
	want := table(kept)
	if *write {
		if err := os.WriteFile(tableFile, []byte(page.with(want)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page.table != want {
		t.Errorf("the table of %s is not that of %s; to update it: go test -run TestTable -write", tableFile, resultsFile)
	}
	for _, v := range kept {
		if !v.Passed {
			t.Errorf("row %s failed on %s when it was last kept", v.Row, v.Server)
		}
		if !slices.ContainsFunc(rows, func(r *row) bool {
			return r.name() == v.Row && slices.ContainsFunc(r.kinds, func(k kind) bool { return v.is(r, k) })
		}) {
			t.Errorf("%s has a result of row %s on %s, which is not registered", resultsFile, v.Row, v.Server)
		}
	}
	seen, long := map[string]bool{}, []string{}
	for _, r := range matrix() {
		if r.fullOnly {
			long = append(long, r.name())
		}
		if seen[r.name()] {
			t.Errorf("there are two rows %s", r.name())
		}
		seen[r.name()] = true
		if r.fault == "" || r.expect == "" || r.run == nil && r.applies == "" {
			t.Errorf("row %s is not complete", r.name())
		}
		for _, c := range columns {
			if r.applies == "" && !slices.Contains(r.kinds, c.kind) && r.why(c.kind) == "" {
				t.Errorf("row %s says nothing about %s", r.name(), c.kind)
			}
		}
	}
	if says := "need a quiet machine: rows " + strings.Join(long, ", ") + ".\n"; !strings.Contains(page.before, says) {
		t.Errorf("%s does not say of the rows that are only in the full matrix: %s", tableFile, says)
	}
}

// TestTableShowsWhatWasNotRun: a row without a result is never shown as passed.
func TestTableShowsWhatWasNotRun(t *testing.T) {
	text := table(nil)
	if strings.Contains(text, "passed") || strings.Count(text, "not run") == 0 {
		t.Errorf("the table without results:\n%s", text)
	}
	if n := strings.Count(text, "\n"); n < len(rows) {
		t.Errorf("the table has %d lines for %d rows", n, len(rows))
	}
}

package interop

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of results into README.md")

const (
	tableBegin = "<!-- table: go test -run Matrix -update -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// results are what became of the rows, in mixed clusters. It is not safe for concurrent use.
type results struct {
	planned, ran int
	failed       map[result]bool // whether it was tried, and then whether it failed in any cluster
}

type result struct {
	row, column string
	node        bool // who emits runs on Node.js
}

// add is called for each row of each cell; run reports whether it was not filtered out.
func (r *results) add(c *cell, row string, run, passed bool) {
	r.planned++
	if !run {
		return
	}
	r.ran++
	if !c.mixed() {
		return
	}
	k := result{row, c.column.name, byNode(c)}
	r.failed[k] = r.failed[k] || !passed
}

// table has a line for each row and a column for each kind of cluster. A cell says who emitted: N, G or both.
func (r *results) table() string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, row := range rows {
		b.WriteString("| " + row.name + " |")
		for _, c := range columns {
			var by []string
			for _, node := range []bool{true, false} {
				failed, tried := r.failed[result{row.name, c.name, node}]
				if !tried {
					continue
				}
				name := "G"
				if node {
					name = "N"
				}
				if failed {
					name = "**not " + name + "**"
				}
				by = append(by, name)
			}
			if by == nil {
				by = []string{"–"}
			}
			b.WriteString(" " + strings.Join(by, " ") + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// compare fails when README.md has another table, or writes ours into it. It does neither where not everything ran.
func (r *results) compare(t *testing.T) {
	table := r.table()
	t.Logf("Who emitted (N: Node.js, G: Go) in clusters of both:\n%s", table)
	if r.ran < r.planned {
		t.Logf("%d of %d rows ran: README.md is not compared", r.ran, r.planned)
		return
	}
	const name = "README.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), tableBegin)
	old, after, ended := strings.Cut(rest, tableEnd)
	switch {
	case !begun || !ended:
		t.Errorf("%s has no table", name)
	case *update:
		if err := os.WriteFile(name, []byte(before+tableBegin+"\n"+table+"\n"+tableEnd+after), 0o644); err != nil {
			t.Error(err)
		}
	case strings.TrimSpace(old) != strings.TrimSpace(table):
		t.Errorf("%s says otherwise (go test -run Matrix -update writes it):\n%s", name, difference(old, table))
	}
}

// difference has the lines of new that old lacks.
func difference(old, new string) string {
	var b strings.Builder
	lines := strings.Split(old, "\n")
	for line := range strings.Lines(new) {
		if !slices.Contains(lines, strings.TrimSuffix(line, "\n")) {
			fmt.Fprintf(&b, "+ %s", line)
		}
	}
	return b.String()
}

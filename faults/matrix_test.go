package faults_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast/internal/redistest"
)

var (
	mode    = flag.String("matrix", "", `"short": rows once, on their cheapest server; "full": each on every kind of server`)
	only    = flag.String("rows", "", "run only these rows: 1,4,12a")
	onKinds = flag.String("servers", "", `run only on these kinds of servers, by a part of the name: "RESP3,Cluster"`)
	keep    = flag.Bool("keep", false, "enter the results in results.json and in docs/faults.md")
	seed    = flag.Uint64("seed", 0, "of what is random; 0: a new one")
	ledgers = flag.String("ledgers", "", "directory for the ledgers of failed runs; default: that for temporary files")
)

func TestMain(m *testing.M) {
	if config := os.Getenv(childVariable); config != "" {
		play(config)
		return
	}
	if config := os.Getenv(serverVariable); config != "" {
		serve(config)
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // rows wait for most of their time
		panic(err)
	}
	redistest.Main(m)
}

// TestMatrix runs the rows. Those that check only books run beside each other, then those that check times run alone.
func TestMatrix(t *testing.T) {
	if *mode == "" {
		t.Skip(`the matrix runs with -matrix short or -matrix full`)
	}
	if *mode != "short" && *mode != "full" {
		t.Fatalf("-matrix %q", *mode)
	}
	short := *mode == "short"
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)

	results := &results{}
	var runs []run
	for _, r := range matrix() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), r.name()) || r.applies != "" {
			continue
		}
		if short && r.fullOnly && *only == "" {
			continue
		}
		kinds := slices.DeleteFunc(slices.Clone(r.kinds), func(k kind) bool {
			return *onKinds != "" && !wanted(*onKinds, k)
		})
		if short && *onKinds == "" {
			kinds = kinds[:1]
		}
		for _, k := range kinds {
			runs = append(runs, run{r, k})
		}
	}
	if len(runs) == 0 {
		t.Fatal("no such rows")
	}
	t.Run("together", func(t *testing.T) {
		for _, r := range runs {
			if !r.row.alone {
				t.Run(r.name(), func(t *testing.T) {
					t.Parallel()
					r.do(t, short, results)
				})
			}
		}
	})
	t.Run("alone", func(t *testing.T) {
		for _, r := range runs {
			if r.row.alone {
				t.Run(r.name(), func(t *testing.T) { r.do(t, short, results) })
			}
		}
	})
	for _, r := range runs {
		if !slices.ContainsFunc(results.all, func(v result) bool { return v.is(r.row, r.kind) && v.Passed }) {
			t.Errorf("row %s did not pass on %s, or did not run", r.row.name(), r.kind)
		}
	}
	fmt.Print(results.text())
	if *keep {
		results.keep(t)
	}
}

// wanted reports whether a list of kinds, or of parts of their names, has a kind.
func wanted(list string, k kind) bool {
	if slices.Contains(kinds, kind(list)) {
		return kind(list) == k
	}
	return slices.ContainsFunc(strings.Split(list, ","), func(part string) bool {
		if slices.Contains(kinds, kind(part)) {
			return kind(part) == k
		}
		return strings.Contains(string(k), part)
	})
}

// A run is a row on a kind of server.
type run struct {
	row  *row
	kind kind
}

func (r run) name() string { return r.row.name() + " " + slug(r.kind) }

func (r run) do(t *testing.T, short bool, results *results) {
	b, directory := newBed(t, r.row, r.kind, short, *seed)
	began := time.Now()
	t.Cleanup(func() {
		if !t.Failed() && !t.Skipped() {
			_ = os.RemoveAll(directory)
			return
		}
		t.Logf("the ledger is in %s: go run ./replay %s; -seed %d -rows %s repeats the schedule", directory, directory,
			*seed, r.row.name())
	})
	done := false
	defer func() {
		v := result{
			Row: r.row.name(), Server: string(r.kind), Heartbeat: b.heartbeat, Short: short, Passed: done && !t.Failed(),
			Recovery: b.recovery, Note: b.note, Took: time.Since(began), Unproved: b.unproved,
		}
		report := b.report
		v.Sent, v.Missed, v.Gaps, v.Reasons, v.Excess = report.Sent, report.Missed, report.Gaps, report.Reasons, report.Excess
		if v.Recovery == 0 {
			v.Recovery = report.Recovery
		}
		results.add(v)
	}()
	r.row.run(b)
	b.report = b.finish()
	done = true
}

// results are those of the runs of a matrix.
type results struct {
	mu  sync.Mutex // guards all
	all []result
}

func (r *results) add(v result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, v)
}

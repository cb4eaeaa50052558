package faults_test

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A row is one fault of the matrix. It is registered by the file that has its function, with register.
type row struct {
	number int
	part   string // "a", "b": a row can have several
	fault  string // what is done, for the table
	expect string // what must come out, for the table

	kinds     []kind        // on which it runs; the first is the cheapest, which the short matrix takes
	heartbeat time.Duration // of the short matrix; default 250 ms. In the full one it is 1 s
	nodes     int           // default 3
	alone     bool          // it checks times, so nothing else runs meanwhile
	fullOnly  bool          // it takes too long for the short matrix

	// applies is why it is not run at all, for the table; empty: it is.
	applies string

	run func(b *bed)
}

// rows are all that are registered.
var rows []*row

// register adds rows. It returns a value, so that it can be called in a var of the package.
func register(rs ...*row) bool {
	for _, r := range rs {
		if len(r.kinds) == 0 {
			r.kinds = []kind{resp2}
		}
		r.heartbeat = cmp.Or(r.heartbeat, 250*time.Millisecond)
		r.nodes = cmp.Or(r.nodes, 3)
		rows = append(rows, r)
	}
	return true
}

// matrix returns the rows in order.
func matrix() []*row {
	all := slices.Clone(rows)
	slices.SortFunc(all, func(a, b *row) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.part, b.part))
	})
	return all
}

func (r *row) name() string { return fmt.Sprint(r.number, r.part) }

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
	// not is why it does not run on kinds that have a column of their own, for the table: see columns.
	not map[kind]string

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

// columns are the kinds about which each row says something, with the reason why a row that says nothing itself does not
// apply.
var columns = []struct {
	kind kind
	not  string
}{
	{sharded, ""}, {shards, ""}, {natsOne, ""}, {natsMany, "the number of servers makes no difference here"},
}

// why is why the row does not run on a kind; empty: nobody has said it.
func (r *row) why(k kind) string {
	for _, c := range columns {
		if c.kind == k {
			return cmp.Or(r.not[k], c.not)
		}
	}
	return ""
}

// otherwise is a reason for all columns.
func otherwise(why string) map[kind]string {
	return map[kind]string{sharded: why, shards: why, natsOne: why, natsMany: why}
}

func (r *row) name() string { return fmt.Sprint(r.number, r.part) }

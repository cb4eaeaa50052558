package crosscast

// A queryOutcome is how a query has ended, for Stats.Queries.
type queryOutcome uint8

const (
	queryComplete queryOutcome = iota
	queryIncomplete
	queryClosed
	queryFailed
)

// failedQuery returns a query of which nothing was published.
func (n *Node) failedQuery(err error) *query {
	n.stats.queries[queryFailed].Add(1)
	return &query{failure: err}
}

// count counts the query, once. The node's own pings do not count.
func (q *query) count() {
	if q.began.IsZero() && q.counted.CompareAndSwap(false, true) {
		q.n.stats.queries[q.outcome()].Add(1)
	}
}

func (q *query) outcome() queryOutcome {
	q.mu.Lock()
	open := len(q.waiting) > 0 || !q.expects.completeLocked()
	q.mu.Unlock()
	switch e := q.incomplete(); {
	case open:
		return queryClosed
	case len(e.Missing) > 0 || len(e.Silent) > 0:
		return queryIncomplete
	}
	return queryComplete
}

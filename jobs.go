package crosscast

import (
	"context"
	"sync"
	"time"
)

// jobs are a node's work for its peers, on goroutines that Close waits for. Their number is limited.
type jobs struct {
	ctx       context.Context // of the work; ends with the node
	cancel    context.CancelFunc
	answering places         // for peers' queries and commands
	serving   places         // for peers' requests, which the application's handlers might hold
	running   sync.WaitGroup // these goroutines, the crew's, and those that collect clients' replies
}

// maxAnswering is the number of queries and commands of peers that a node works on at a time, and of requests.
const maxAnswering = 256

func newJobs() jobs {
	ctx, cancel := context.WithCancel(context.Background())
	return jobs{ctx: ctx, cancel: cancel, answering: make(places, maxAnswering), serving: make(places, maxAnswering)}
}

// places has an element for each goroutine that works for a peer.
type places chan struct{}

// take takes a place for a peer that waits for the given time, and reports whether one was free.
func (p places) take(patience time.Duration) bool {
	if len(p) >= roomFor(patience, cap(p)) {
		return false
	}
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) free() { <-p }

// roomFor is the number of places that may be taken when a peer gets one for the given time. A few askers that wait for
// an hour must not shut out many that wait for seconds.
func roomFor(patience time.Duration, places int) int {
	switch {
	case patience <= 10*time.Second:
		return places
	case patience <= time.Minute:
		return places / 2
	}
	return places / 4
}

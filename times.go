package crosscast

import (
	"context"
	"time"

	"github.com/crosscast/crosscast/internal/histogram"
	"github.com/crosscast/crosscast/kind"
)

// times are the durations that a node measures with Options.Histograms.
type times struct {
	queue, peers histogram.Histogram
	deliveries   histogram.Sampler
	beats        int // of the heart
}

// timed makes the queues that get m measure it, if it is due.
func (t *times) timed(m *Message) {
	if t.deliveries.Due() {
		m.timed, m.at = &t.queue, time.Now()
	}
}

// pingEvery is how many heartbeats there are between two queries for the round trip.
const pingEvery = 10

// ping queries the peers for the round trip, every tenth time. The heart calls it.
func (t *times) ping(n *Node) {
	if t.beats++; t.beats%pingEvery != 0 || n.foreign != nil || n.peers.isEmpty() {
		return
	}
	n.spawn(func() {
		ctx, cancel := context.WithTimeout(n.jobs.ctx, defaultQuery)
		defer cancel()
		q := n.query(ctx, &Instruction{
			Kind: kind.Ask, Namespace: "/", Target: Target{Rooms: []string{pingRoom}}, Question: &Question{Kind: kind.AskStats},
		}, nil, func(q *query) { q.began = time.Now() })
		q.read(func(NodeID, *Answer) bool { return true })
	})
}

// pingRoom is a room without members: a node without members of a room answers the query for its Stats at once.
const pingRoom = "\x00ping"

// handlePong notes that a peer has answered the query that began at the given time.
func (n *Node) handlePong(from NodeID, began time.Time) {
	d := time.Since(began)
	n.times.peers.Observe(d)
	n.peers.noteTrip(from, d)
}

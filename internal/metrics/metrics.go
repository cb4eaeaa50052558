// Package metrics is the list of all metrics, and how they are read from the Stats. The modules prometheus and otel export
// them.
package metrics

import (
	"slices"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// Kind is what a metric is.
type Kind string

const (
	Gauge     Kind = "gauge"
	Counter   Kind = "counter"
	Histogram Kind = "histogram"
)

// A Metric is one row of docs/metrics.md. Its name follows the rules of Prometheus.
type Metric struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
	read   func(s *Snapshot, to reader)
}

// Read passes the samples to a sink.
func (m *Metric) Read(s *Snapshot, to Sink) { m.read(s, reader{to}) }

// A Sink takes the samples of a metric, with the values of its labels.
type Sink interface {
	Value(v float64, labels ...string)
	// Histogram takes a histogram that was measured: Counts is not nil.
	Histogram(h crosscast.Histogram)
}

// A Snapshot is what one reading of all metrics is made of.
type Snapshot struct {
	node  crosscast.Stats
	link  crosscast.LinkStatus
	peers []crosscast.Peer
	ready error
	ws    []ws.Stats
	sio   []socketio.Stats
	sse   []sse.Stats
}

// Take reads the Stats of a node and its bindings.
func Take(node *crosscast.Node, servers []*ws.Server, sio []*socketio.Server, streams []*sse.Server) *Snapshot {
	s := &Snapshot{node: node.Stats(), link: node.Link(), peers: node.Nodes(), ready: node.Ready()}
	for _, server := range servers {
		s.ws = append(s.ws, server.Stats())
	}
	for _, server := range sio {
		s.sio = append(s.sio, server.Stats())
	}
	for _, server := range streams {
		s.sse = append(s.sse, server.Stats())
	}
	return s
}

// reader passes samples of several types to a sink.
type reader struct{ Sink }

// count is Value for a counter of the library's.
func (r reader) count(v uint64, labels ...string) { r.Value(float64(v), labels...) }

func (r reader) bool(v bool, labels ...string) {
	if v {
		r.Value(1, labels...)
	} else {
		r.Value(0, labels...)
	}
}

// histogram leaves out one that was not measured.
func (r reader) histogram(h crosscast.Histogram) {
	if h.Counts != nil {
		r.Histogram(h)
	}
}

// each counts by reason. Reasons that are listed and did not occur are 0, so that their first occurrence is a rise.
func each[R ~string](to reader, counts map[R]uint64, listed []R) {
	for _, reason := range listed {
		to.count(counts[reason], string(reason))
	}
	for reason, n := range counts {
		if !slices.Contains(listed, reason) {
			to.count(n, string(reason))
		}
	}
}

// queues returns the sums over the queues of all clients.
func (s *Snapshot) queues() crosscast.QueueStats {
	sum := s.node.Queues
	for i := range s.sio {
		q := &s.sio[i].Queues
		sum.QueuedFrames += q.QueuedFrames
		sum.QueuedBytes += q.QueuedBytes
		sum.WrittenFrames += q.WrittenFrames
		sum.WrittenBytes += q.WrittenBytes
		sum.Dropped += q.Dropped
	}
	return sum
}

// binding has the sums of all servers of a kind.
type binding struct {
	name              string
	connections       int
	unhandled, paused uint64
	refused           map[string]uint64
}

func (b *binding) add(connections int, unhandled, paused uint64, refused map[string]uint64) {
	b.connections += connections
	b.unhandled += unhandled
	b.paused += paused
	for cause, n := range refused {
		b.refused[cause] += n
	}
}

func (s *Snapshot) bindings(f func(binding)) {
	b := binding{name: "ws", refused: map[string]uint64{}}
	for i := range s.ws {
		b.add(s.ws[i].Connections, s.ws[i].Unhandled, s.ws[i].Paused, s.ws[i].Refused)
	}
	if len(s.ws) > 0 {
		f(b)
	}
	b = binding{name: "sse", refused: map[string]uint64{}}
	for i := range s.sse { // their events are those of ws
		b.add(s.sse[i].Streams, 0, 0, s.sse[i].Refused)
	}
	if len(s.sse) > 0 {
		f(b)
	}
	b = binding{name: "socketio", refused: map[string]uint64{}}
	for i := range s.sio {
		b.add(s.sio[i].Connections, s.sio[i].Unhandled, s.sio[i].Paused, s.sio[i].Refused)
	}
	if len(s.sio) > 0 {
		f(b)
	}
}

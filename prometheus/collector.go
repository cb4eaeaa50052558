// Package prometheus exports what crosscast counts, for Prometheus:
//
//	registry.MustRegister(prometheus.New(node, prometheus.Options{WS: []*ws.Server{server}}))
//
// docs/metrics.md of the repository lists the metrics. Nothing is counted for them while messages flow: a scrape reads the
// Stats. It costs about 0.1 ms, and 0.1 µs for each client. No label has the name of a room, a user or an event, so the
// number of series does not grow with the application: about 300 for each node.
//
// The module also has a board for Grafana (grafana.json) and rules for alerts (alerts.yaml), which [Dashboard] and [Alerts]
// return.
package prometheus

import (
	_ "embed"
	"slices"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/ws"
)

//go:embed grafana.json
var dashboard []byte

// Dashboard returns the board for Grafana, as JSON to import.
func Dashboard() []byte { return append([]byte(nil), dashboard...) }

//go:embed alerts.yaml
var alerts []byte

// Alerts returns the rules for alerts, as YAML for rule_files of Prometheus.
func Alerts() []byte { return append([]byte(nil), alerts...) }

// Options of a collector. The zero value exports the node and its adapter.
type Options struct {
	// WS and SocketIO are the node's bindings, whose Stats are exported, too: the sums over those of a kind.
	WS       []*ws.Server
	SocketIO []*socketio.Server
	// Labels are added to each metric. They must be constant. Prometheus itself adds job and instance. Default: the label
	// node, with the node's name.
	Labels client.Labels
}

// New returns a collector of the node's metrics. Its methods may be called concurrently. Times are exported if
// Options.Histograms of the node is set, and those that cost nothing always.
//
// A process with several nodes registers one collector for each. They must have different names, or different Labels.
func New(node *crosscast.Node, o Options) client.Collector {
	if o.Labels == nil {
		o.Labels = client.Labels{"node": node.Name()}
	}
	c := &collector{node: node, o: o, descs: make(map[*metric]*client.Desc, len(metrics))}
	for i := range metrics {
		m := &metrics[i]
		c.descs[m] = client.NewDesc(m.name, m.help, m.labels, o.Labels)
	}
	return c
}

type collector struct {
	node  *crosscast.Node
	o     Options
	descs map[*metric]*client.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *client.Desc) {
	for i := range metrics {
		out <- c.descs[&metrics[i]]
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- client.Metric) {
	s := snapshot{node: c.node.Stats(), link: c.node.Link(), peers: c.node.Nodes(), ready: c.node.Ready()}
	for _, server := range c.o.WS {
		s.ws = append(s.ws, server.Stats())
	}
	for _, server := range c.o.SocketIO {
		s.sio = append(s.sio, server.Stats())
	}
	for i := range metrics {
		m := &metrics[i]
		m.read(&s, sink{c.descs[m], m.kind, out})
	}
}

// snapshot is what a scrape reads.
type snapshot struct {
	node  crosscast.Stats
	link  crosscast.LinkStatus
	peers []crosscast.Peer
	ready error
	ws    []ws.Stats
	sio   []socketio.Stats
}

// sink makes the samples of one metric.
type sink struct {
	desc *client.Desc
	kind kind
	out  chan<- client.Metric
}

func (s sink) value(v float64, labels ...string) {
	typ := client.CounterValue
	if s.kind == gauge {
		typ = client.GaugeValue
	}
	s.out <- client.MustNewConstMetric(s.desc, typ, v, labels...)
}

// count is value for a counter of the library's.
func (s sink) count(v uint64, labels ...string) { s.value(float64(v), labels...) }

func (s sink) bool(v bool, labels ...string) {
	if v {
		s.value(1, labels...)
	} else {
		s.value(0, labels...)
	}
}

// histogram makes a histogram of bounds in seconds. One that was not measured is left out.
func (s sink) histogram(h crosscast.Histogram) {
	if h.Counts == nil {
		return
	}
	buckets := make(map[float64]uint64, len(h.Counts))
	sum := uint64(0)
	for i, n := range h.Counts {
		if sum += n; i < len(h.Counts)-1 {
			buckets[1e-6*float64(uint64(1)<<i)] = sum
		}
	}
	s.out <- client.MustNewConstHistogram(s.desc, sum, h.Sum.Seconds(), buckets)
}

// each counts by reason. Reasons that are listed and did not occur are 0, so that their first occurrence is a rise.
func each[R ~string](s sink, counts map[R]uint64, listed []R) {
	for _, reason := range listed {
		s.count(counts[reason], string(reason))
	}
	for reason, n := range counts {
		if !slices.Contains(listed, reason) {
			s.count(n, string(reason))
		}
	}
}

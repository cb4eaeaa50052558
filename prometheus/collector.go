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

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/metrics"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/sse"
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
	// WS, SocketIO and SSE are the node's bindings, whose Stats are exported, too: the sums over those of a kind.
	WS       []*ws.Server
	SocketIO []*socketio.Server
	SSE      []*sse.Server
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
	c := &collector{node: node, o: o, descs: make(map[*metrics.Metric]*client.Desc, len(metrics.All))}
	for i := range metrics.All {
		m := &metrics.All[i]
		c.descs[m] = client.NewDesc(m.Name, m.Help, m.Labels, o.Labels)
	}
	return c
}

type collector struct {
	node  *crosscast.Node
	o     Options
	descs map[*metrics.Metric]*client.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *client.Desc) {
	for i := range metrics.All {
		out <- c.descs[&metrics.All[i]]
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- client.Metric) {
	s := metrics.Take(c.node, c.o.WS, c.o.SocketIO, c.o.SSE)
	for i := range metrics.All {
		m := &metrics.All[i]
		m.Read(s, sink{c.descs[m], m.Kind, out})
	}
}

// sink makes the samples of one metric.
type sink struct {
	desc *client.Desc
	kind metrics.Kind
	out  chan<- client.Metric
}

func (s sink) Value(v float64, labels ...string) {
	typ := client.CounterValue
	if s.kind == metrics.Gauge {
		typ = client.GaugeValue
	}
	s.out <- client.MustNewConstMetric(s.desc, typ, v, labels...)
}

// Histogram has bounds in seconds.
func (s sink) Histogram(h crosscast.Histogram) {
	buckets := make(map[float64]uint64, len(h.Counts))
	sum := uint64(0)
	for i, n := range h.Counts {
		if sum += n; i < len(h.Counts)-1 {
			buckets[1e-6*float64(uint64(1)<<i)] = sum
		}
	}
	s.out <- client.MustNewConstHistogram(s.desc, sum, h.Sum.Seconds(), buckets)
}

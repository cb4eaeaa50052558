package otelcrosscast_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/metrics"
	otelcrosscast "github.com/crosscast/crosscast/otel"
	"github.com/crosscast/crosscast/ws"
)

// collect returns the samples as lines, by the name that an exporter for Prometheus would give them, and all names.
func collect(t *testing.T, c *collector) (lines []string, names map[string]bool) {
	t.Helper()
	var all metricdata.ResourceMetrics
	ok(t, c.reader.Collect(t.Context(), &all))
	names = make(map[string]bool)
	add := func(name string, set attribute.Set, v any) {
		names[name] = true
		lines = append(lines, fmt.Sprintf("%s{%s} %v", name, set.Encoded(attribute.DefaultEncoder()), v))
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			name := strings.ReplaceAll(m.Name, ".", "_")
			if unit := map[bool]string{true: "s"}[strings.HasSuffix(name, "_seconds")] +
				map[bool]string{true: "By"}[strings.HasSuffix(name, "_bytes")]; m.Unit != unit {
				t.Errorf("%s has the unit %q", m.Name, m.Unit)
			}
			switch data := m.Data.(type) {
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					add(name, p.Attributes, p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					add(name+"_total", p.Attributes, p.Value)
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(name+"_total", p.Attributes, p.Value)
				}
			}
		}
	}
	return lines, names
}

// TestMetrics: the instruments have the names and the values of module prometheus, and none has the name of a room.
func TestMetrics(t *testing.T) {
	cluster, c := crosscast.NewCluster(), newCollector()
	n := start(t, crosscast.Options{Name: "n1", Adapter: cluster.Adapter(), Histograms: true})
	start(t, crosscast.Options{Name: "n2", Adapter: cluster.Adapter()})
	server, err := ws.New(n.Namespace, ws.Options{})
	ok(t, err)
	r, err := otelcrosscast.RegisterMetrics(n, otelcrosscast.MetricsOptions{
		MeterProvider: c.o.MeterProvider, WS: []*ws.Server{server},
	})
	ok(t, err)
	s := connect(t, n, client{}, "hidden-room")
	connect(t, n, client{}, "hidden-room")
	ok(t, n.To("hidden-room").Emit(t.Context(), "hidden-event", nil))
	s.Close("hidden reason")

	lines, names := collect(t, c)
	for _, want := range []string{
		"crosscast_ready{node=n1} 1", "crosscast_sockets{node=n1} 1", "crosscast_connects_total{node=n1} 2",
		"crosscast_disconnects_total{node=n1,reason=application} 1", "crosscast_delivered_total{node=n1} 2",
		"crosscast_gaps_total{node=n1,reason=link lost} 0", "crosscast_connections{binding=ws,node=n1} 0",
		"crosscast_client_queue_count_total{node=n1} 0", "crosscast_client_queue_seconds_total{node=n1} 0",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no sample %s among\n%s", want, strings.Join(lines, "\n"))
		}
	}
	for _, line := range lines {
		if strings.Contains(line, "hidden") {
			t.Errorf("a name is in %s", line)
		}
	}
	known := make(map[string]bool)
	for i := range metrics.All {
		m := &metrics.All[i]
		if known[m.Name] = true; m.Kind == metrics.Histogram {
			known[m.Name+"_total"], known[strings.TrimSuffix(m.Name, "seconds")+"count_total"] = true, true
		}
	}
	for name := range names {
		if !known[name] {
			t.Errorf("module prometheus has no %s", name)
		}
	}
	if len(names) < 40 {
		t.Errorf("only %d metrics", len(names))
	}

	ok(t, r.Unregister())
	if lines, _ := collect(t, c); len(lines) != 0 {
		t.Errorf("after Unregister: %v", lines)
	}
}

// TestHistograms: a histogram is the number and the sum of its times.
func TestHistograms(t *testing.T) {
	c := newCollector()
	n := start(t, crosscast.Options{Name: "n1", Histograms: true})
	_, err := otelcrosscast.RegisterMetrics(n, otelcrosscast.MetricsOptions{
		MeterProvider: c.o.MeterProvider, Attributes: []attribute.KeyValue{attribute.String("instance", "i")},
	})
	ok(t, err)
	wrote := make(chan struct{}, 1000)
	q := crosscast.NewQueue(func([]byte) error { wrote <- struct{}{}; return nil }, crosscast.QueueOptions{})
	_, err = n.Connect(context.Background(), q, crosscast.ConnectOptions{Rooms: []string{"r"}})
	ok(t, err)
	for range 128 {
		ok(t, n.To("r").Emit(t.Context(), "e", nil))
	}
	for range 128 {
		<-wrote
	}
	lines, _ := collect(t, c)
	count, sum := 0, 0.0
	for _, line := range lines {
		_, _ = fmt.Sscanf(line, "crosscast_client_queue_count_total{instance=i} %d", &count)
		_, _ = fmt.Sscanf(line, "crosscast_client_queue_seconds_total{instance=i} %g", &sum)
	}
	if h := n.Stats().Times.Queue; count < 1 || count > 3 || sum <= 0 || sum > h.Sum.Seconds() {
		t.Errorf("%d in %v s, Stats %v", count, sum, h)
	}
}

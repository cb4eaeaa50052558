package prometheus

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/metrics"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/wire"
	"github.com/crosscast/crosscast/ws"
)

func start(t *testing.T, o crosscast.Options) *crosscast.Node {
	t.Helper()
	n, err := crosscast.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(context.Background()) })
	return n
}

// gather returns the samples, as the text of one line each.
func gather(t *testing.T, c client.Collector) (names map[string]bool, lines []string) {
	t.Helper()
	r := client.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names = make(map[string]bool)
	for _, f := range families {
		names[f.GetName()] = true
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			lines = append(lines, fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, ","), v))
		}
	}
	return names, lines
}

func want(t *testing.T, lines []string, wanted ...string) {
	t.Helper()
	for _, line := range wanted {
		if !slices.Contains(lines, line) {
			t.Errorf("no sample %s among\n%s", line, strings.Join(lines, "\n"))
		}
	}
}

// TestCollector: a registry takes the metrics of a node, and they have the values of its Stats.
func TestCollector(t *testing.T) {
	cluster := crosscast.NewCluster()
	n := start(t, crosscast.Options{Name: "n1", Adapter: cluster.Adapter(), Histograms: true})
	start(t, crosscast.Options{Name: "n2", Adapter: cluster.Adapter()})
	w, err := ws.New(n.Namespace, ws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := socketio.New(n, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {}}})
	if err != nil {
		t.Fatal(err)
	}
	streams, err := sse.New(n, w, sse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	streams.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
	wrote := make(chan struct{}, 10)
	q := crosscast.NewQueue(func([]byte) error { wrote <- struct{}{}; return nil }, crosscast.QueueOptions{})
	socket, err := n.Connect(t.Context(), q, crosscast.ConnectOptions{User: "hostile\x00\"user", Rooms: []string{"room"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.To("room").Emit(t.Context(), "e", nil); err != nil {
		t.Fatal(err)
	}
	<-wrote
	socket.Close("a reason of the application's")
	<-q.Done()
	if _, err := n.Everyone().Count(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, lines := gather(t, New(n, Options{WS: []*ws.Server{w}, SocketIO: []*socketio.Server{s}, SSE: []*sse.Server{streams}}))
	want(t, lines,
		"crosscast_ready{node=n1} 1",
		"crosscast_sockets{node=n1} 0",
		"crosscast_connects_total{node=n1} 1",
		"crosscast_disconnects_total{node=n1,reason=application} 1",
		"crosscast_disconnects_total{node=n1,reason=too slow} 0",
		"crosscast_peers{node=n1} 1",
		"crosscast_peers_lost{node=n1} 0",
		"crosscast_queries_total{node=n1,outcome=complete} 1",
		"crosscast_client_messages_total{node=n1} 1",
		"crosscast_client_bytes_total{node=n1} 13",
		"crosscast_gaps_total{node=n1,reason=link lost} 0",
		"crosscast_losses_total{node=n1,reason=expired} 0",
		"crosscast_connections{binding=ws,node=n1} 0",
		"crosscast_connections{binding=socketio,node=n1} 0",
		"crosscast_connections{binding=sse,node=n1} 0",
		"crosscast_refused_total{binding=sse,cause=token,node=n1} 1",
		"crosscast_sse_posts_total{node=n1,stream=here} 0",
		"crosscast_link_state{half=publishing,node=n1,state=down} 0",
		"crosscast_client_queue_seconds{node=n1} 0",
	)
	for _, line := range lines {
		if strings.Contains(line, "room") && !strings.HasPrefix(line, "crosscast_rooms") || strings.Contains(line, "hostile") {
			t.Errorf("a name is in %s", line)
		}
	}
}

// TestLostPeers: a node that was cut off is no peer, and is lost.
func TestLostPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crosscasttest.NewCluster(t, 2, crosscast.Options{Name: "n1"}, crosscast.Options{Name: "n2"})
		time.Sleep(5 * time.Second)
		c.Cut(1)
		time.Sleep(10 * time.Second)
		_, lines := gather(t, New(c.Nodes[0], Options{}))
		want(t, lines, "crosscast_peers{node=n1} 0", "crosscast_peers_lost{node=n1} 1", "crosscast_peers_suspected{node=n1} 0")
	})
}

// TestMisroutedPeers: a node with other Topics is counted while it is there.
func TestMisroutedPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		n := start(t, crosscast.Options{Name: "n1", Adapter: wire.New(bus.Port("1"), wire.Options{})})
		odd := start(t, crosscast.Options{Adapter: wire.New(bus.Port("2"), wire.Options{Topics: 8})})
		for _, number := range []string{"1", "0"} {
			time.Sleep(5 * time.Second)
			_, lines := gather(t, New(n, Options{}))
			want(t, lines, "crosscast_peers_misrouted{node=n1} "+number)
			_ = odd.Close(t.Context())
		}
	})
}

func TestLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(New(start(t, crosscast.Options{}), Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestTwoNodes: the metrics of two nodes of a process are in one registry.
func TestTwoNodes(t *testing.T) {
	r := client.NewPedanticRegistry()
	for _, name := range []string{"a", "b"} {
		if err := r.Register(New(start(t, crosscast.Options{Name: name}), Options{})); err != nil {
			t.Error(err)
		}
	}
	if err := r.Register(New(start(t, crosscast.Options{Name: "a"}), Options{})); err == nil {
		t.Error("two nodes with the same labels")
	}
}

var (
	metricName = regexp.MustCompile(`\bcrosscast_[a-z_]+`)
	matchers   = regexp.MustCompile(`(crosscast_[a-z_]+)\{([^}]*)\}`)
	grouping   = regexp.MustCompile(`by \(([^)]*)\)`)
)

// problem says what is wrong with an expression.
func problem(expr string) string {
	known := make(map[string]*metrics.Metric)
	for i := range metrics.All {
		m := &metrics.All[i]
		if known[m.Name] = m; m.Kind == metrics.Histogram {
			known[m.Name+"_bucket"] = m
		}
	}
	names := metricName.FindAllString(expr, -1)
	labels := []string{"node", "instance", "job", "le"}
	for _, name := range names {
		m := known[name]
		if m == nil {
			return "there is no metric " + name
		}
		labels = append(labels, m.Labels...)
	}
	var used []string
	for _, m := range matchers.FindAllStringSubmatch(expr, -1) {
		for _, matcher := range strings.Split(m[2], ",") {
			used = append(used, regexp.MustCompile(`[=!~]`).Split(matcher, 2)[0])
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		used = append(used, strings.Split(m[1], ", ")...)
	}
	for _, label := range used {
		if !slices.Contains(labels, label) {
			return fmt.Sprintf("%v have no label %q", names, label)
		}
	}
	if len(names) == 0 {
		return "no metric"
	}
	return ""
}

func TestProblem(t *testing.T) {
	for expr, wrong := range map[string]bool{
		`rate(crosscast_gaps_total{reason="hole"}[5m])`: false,
		`rate(crosscast_gap_total[5m])`:                 true,
		`rate(crosscast_gaps_total{cause="hole"}[5m])`:  true,
		`sum by (room) (crosscast_sockets)`:             true,
		`1`:                                             true,
	} {
		if got := problem(expr); (got != "") != wrong {
			t.Errorf("%s: %q", expr, got)
		}
	}
}

// TestDashboard: every expression of the board has metrics and labels that exist, and Prometheus can parse it. What an alert is
// about is on the board.
func TestDashboard(t *testing.T) {
	var board struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(Dashboard(), &board); err != nil {
		t.Fatal(err)
	}
	n, rules := 0, "groups:\n  - name: board\n    rules:\n"
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			n++
			expr := strings.NewReplacer("$__rate_interval", "1m", "$node", "a|b").Replace(target.Expr)
			rules += fmt.Sprintf("      - {record: expression_%d, expr: %q}\n", n, expr)
			if text := problem(target.Expr); text != "" {
				t.Errorf("panel %q: %s: %s", p.Title, target.Expr, text)
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q is empty", p.Title)
		}
	}
	if n < 20 {
		t.Errorf("only %d expressions", n)
	}
	for _, metric := range regexp.MustCompile(`crosscast_\w+`).FindAllString(string(Alerts()), -1) {
		if !regexp.MustCompile(metric+`\b`).MatchString(rules) && !strings.Contains(rules, metric+"_bucket") {
			t.Errorf("no panel has %s, of an alert", metric)
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

// promtool runs a program of Prometheus, which must succeed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestAlertsFire: each alert fires with a series of alerts_test.yaml, and not with one just below.
func TestAlertsFire(t *testing.T) {
	cases, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range strings.Split(string(Alerts()), "- alert: ")[1:] {
		name, _, _ := strings.Cut(rule, "\n")
		if !strings.Contains(string(cases), fmt.Sprintf("alertname=%q", name)) {
			t.Errorf("%s has no test", name)
		}
	}
	promtool(t, "check", "rules", "alerts.yaml")
	promtool(t, "test", "rules", "alerts_test.yaml")
}

// TestAlerts: the same for the rules, and each says what it is about and what to do.
func TestAlerts(t *testing.T) {
	rules := strings.Split(string(Alerts()), "- alert: ")[1:]
	if len(rules) < 10 {
		t.Errorf("only %d rules", len(rules))
	}
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		fields := make(map[string]string)
		for _, line := range strings.Split(rule, "\n")[1:] {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			fields[key] = value
		}
		if text := problem(fields["expr"]); text != "" {
			t.Errorf("%s: %s: %s", name, fields["expr"], text)
		}
		for _, key := range []string{"labels", "summary", "description"} {
			if fields[key] == "" {
				t.Errorf("%s has no %s", name, key)
			}
		}
	}
}

var update = flag.Bool("update", false, "write the table of docs/metrics.md")

// TestDocumented: the table of docs/metrics.md has all metrics. go test -update writes it.
func TestDocumented(t *testing.T) {
	const file, begin, end = "../docs/metrics.md", "<!-- table -->\n", "<!-- end of table -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("there is no table")
	}
	var table strings.Builder
	table.WriteString("\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range metrics.All {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, strings.Join(m.Labels, ", "), m.Help)
	}
	made := before + begin + table.String() + "\n" + end + after
	if made == string(b) {
		return
	}
	if !*update {
		t.Fatal("the table is old; to update it: go test -run TestDocumented -update")
	}
	if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
		t.Fatal(err)
	}
}

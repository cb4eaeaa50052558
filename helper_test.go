package crosscast_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// start starts a node that is closed at the end of the test.
func start(tb testing.TB, o crosscast.Options) *crosscast.Node {
	tb.Helper()
	n, err := crosscast.Start(ctx, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { n.Close(ctx) })
	return n
}

// withCrowds runs test twice, the second time with groups that are crowds from two sockets on.
func withCrowds(t *testing.T, test func(t *testing.T)) {
	t.Run("small groups", test)
	t.Run("crowds", func(t *testing.T) {
		crosscast.SmallCrowds(t)
		test(t)
	})
}

// checkGroups checks that the lists of each group of ns agree.
func checkGroups(tb testing.TB, ns *crosscast.Namespace) (crowds int) {
	tb.Helper()
	crowds, err := ns.CheckGroups()
	if err != nil {
		tb.Error(err)
	}
	return crowds
}

// three starts three nodes of one cluster.
func three(tb testing.TB) (a, b, c *crosscast.Node) {
	tb.Helper()
	cluster := crosscast.NewCluster()
	return start(tb, crosscast.Options{Name: "a", Adapter: cluster.Adapter()}),
		start(tb, crosscast.Options{Name: "b", Adapter: cluster.Adapter()}),
		start(tb, crosscast.Options{Name: "c", Adapter: cluster.Adapter()})
}

// connect connects conn to rooms.
func connect(tb testing.TB, ns *crosscast.Namespace, conn crosscast.Conn, rooms ...string) *crosscast.Socket {
	tb.Helper()
	return connectUser(tb, ns, conn, "", rooms...)
}

func connectUser(
	tb testing.TB, ns *crosscast.Namespace, conn crosscast.Conn, user string, rooms ...string,
) *crosscast.Socket {
	tb.Helper()
	s, err := ns.Connect(ctx, conn, crosscast.ConnectOptions{User: user, Rooms: rooms})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// recorder is a conn that keeps the events it is sent and the reason it is closed for.
type recorder struct {
	mu     sync.Mutex
	events []string
	closed []crosscast.Reason
	err    error // what Send returns
}

func (r *recorder) Send(m *crosscast.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.events = append(r.events, m.Event)
	}
	return r.err
}

func (r *recorder) Close(reason crosscast.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, reason)
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// take returns the events since the last take, separated by spaces.
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.events, " ")
	r.events = nil
	return s
}

func (r *recorder) reasons() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Trim(fmt.Sprint(r.closed), "[]")
}

// want fails unless what each recorder got since the last take is events, once everything that is under way has
// arrived. It needs a synctest bubble, in which "everything has arrived" is when all goroutines wait.
func want(tb testing.TB, events string, rs ...*recorder) {
	tb.Helper()
	synctest.Wait()
	for i, r := range rs {
		if got := r.take(); got != events {
			tb.Errorf("recorder %d got %q, want %q", i, got, events)
		}
	}
}

// ok fails the test on an error.
func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func equal[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func sorted(s []string) string {
	s = slices.Clone(s)
	slices.Sort(s)
	return strings.Join(s, " ")
}

// log is a list of what happened, in order.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last take, separated by "; ".
func (l *log) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.Join(l.lines, "; ")
	l.lines = nil
	return s
}

// driver is an adapter whose every answer a test decides. It notes its calls, and fails the test when calls about
// interest overlap.
type driver struct {
	tb     testing.TB
	log    log
	self   crosscast.NodeInfo
	h      crosscast.AdapterHandler
	logger *slog.Logger

	emitOnly bool // as Start got it

	mu         sync.Mutex
	publishErr error
	receipt    crosscast.Receipt
	subscribe  func(ctx context.Context, names []string) error // nil: confirmed at once
	busy       map[string]bool                                 // a call about interest in the name is being made
	heard      map[string]bool
	onPublish  func(inst *crosscast.Instruction)
}

// newDriver returns a driver that surely reaches nobody.
func newDriver(tb testing.TB) *driver {
	return &driver{tb: tb, heard: make(map[string]bool), busy: make(map[string]bool), receipt: crosscast.Receipt{Known: true}}
}

func (d *driver) Start(_ context.Context, s crosscast.AdapterStart) error {
	d.self, d.h, d.logger, d.emitOnly = s.Self, s.Handler, s.Logger, s.EmitOnly
	return nil
}

func (d *driver) Publish(_ context.Context, inst *crosscast.Instruction) error {
	name := map[kind.Kind]string{
		kind.Emit: inst.Event, kind.Hello: "hello",
		kind.Heartbeat: "heartbeat", kind.Goodbye: "goodbye",
	}[inst.Kind]
	if inst.To != "" {
		name += " to " + string(inst.To)
	}
	d.log.add("%s", name)
	d.mu.Lock()
	err, f := d.publishErr, d.onPublish
	d.mu.Unlock()
	if f != nil {
		f(inst)
	}
	return err
}

func (d *driver) Deliver(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	return d.receipt, d.Publish(ctx, inst)
}

func (d *driver) Flush(context.Context) error { d.log.add("flush"); return nil }

func (d *driver) Close(context.Context) error { d.log.add("close"); return nil }

// begin fails if a call about one of the names has not ended.
func (d *driver) begin(names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		if d.busy[name] {
			d.tb.Errorf("calls about interest in %s overlap", name)
		}
		d.busy[name] = true
	}
}

func (d *driver) end(hear bool, names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		delete(d.busy, name)
		if hear {
			d.heard[name] = true
		} else {
			delete(d.heard, name)
		}
	}
}

func (d *driver) Subscribe(ctx context.Context, names ...crosscast.Address) error {
	texts := addressTexts(names)
	d.begin(texts)
	d.log.add("+ %s", sorted(texts))
	d.mu.Lock()
	f := d.subscribe
	d.mu.Unlock()
	var err error
	if f != nil {
		err = f(ctx, texts)
	}
	d.end(true, texts)
	return err
}

func (d *driver) Unsubscribe(_ context.Context, names ...crosscast.Address) error {
	texts := addressTexts(names)
	d.begin(texts)
	d.log.add("- %s", sorted(texts))
	d.end(false, texts)
	return nil
}

func (d *driver) Listen(context.Context) error { return nil }

// foreignDriver is one of a wire that others have defined, but for CountPeers.
type foreignDriver struct {
	*driver
	text bool
}

func (foreignDriver) CheckRoom(crosscast.SocketID, string, string) error { return nil }
func (d foreignDriver) TextOnly() bool                                   { return d.text }

func (d *driver) hears() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.heard {
		names = append(names, name)
	}
	return sorted(names)
}

func (d *driver) isHeard(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.heard[name]
}

// answer sets what Subscribe does.
func (d *driver) answer(f func(ctx context.Context, names []string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.subscribe = f
}

func addressTexts(names []crosscast.Address) []string {
	var s []string
	for _, a := range names {
		name := a.Name
		switch a.Space {
		case crosscast.SpaceUser:
			name = "@" + name
		case crosscast.SpaceSocket:
			name = "#" + name
		case crosscast.SpaceNamespace:
			name = "*" + name
		}
		if a.Namespace != "/" {
			name = a.Namespace + ":" + name
		}
		s = append(s, name)
	}
	return s
}

// ignore is an OnMessage that does nothing.
func ignore(*crosscast.Subscription, *crosscast.Message) {}

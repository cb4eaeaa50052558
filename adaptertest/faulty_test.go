package adaptertest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// A fault is one mistake in a driver, and the rules that must notice: each by a piece of what it reports.
type fault struct {
	name string
	on   func(testing.TB) Cluster // nil: inProcess
	red  map[string]string

	// What is done instead of a method of the adapter, or of its handler. nil: nothing special.
	online      bool // Start waits for the bus, whatever the node wants
	start       func(f *faulty, ctx context.Context, next func() error) error
	publish     func(f *faulty, ctx context.Context, inst *instruction, next func(*instruction) error) error
	deliver     func(f *faulty, next func() (crosscast.Receipt, error)) (crosscast.Receipt, error)
	flush       func(f *faulty, next func() error) error
	subscribe   func(f *faulty, ctx context.Context, names []address, next func(...address) error) error
	unsubscribe func(f *faulty, names []crosscast.Address, next func(...crosscast.Address) error) error
	close       func(f *faulty, ctx context.Context, next func() error) error
	stats       func(s *crosscast.AdapterStats)
	count       func(peers int) int // of a foreign
	heard       func(peer crosscast.NodeID, next func(crosscast.NodeID) time.Time) time.Time
	expire      func(peer crosscast.NodeID, next func(crosscast.NodeID))
	handle      func(f *faulty, inst *crosscast.Instruction, next func(*crosscast.Instruction))
	gap         func(f *faulty, g crosscast.Gap, next func(crosscast.Gap))
	outage      func(since time.Time, why crosscast.GapReason, next func(time.Time, crosscast.GapReason))
	link        func(f *faulty, s crosscast.LinkStatus, next func(crosscast.LinkStatus))
	inject      func(all []*faulty)
}

// A whole adapter implements every optional interface.
type whole interface {
	crosscast.Adapter
	crosscast.AdapterSubscriber
	crosscast.AdapterDeliverer
	crosscast.AdapterMeter
}

// faultyObserver is a faulty adapter that is told of silent peers.
type faultyObserver struct {
	*faulty
	inner crosscast.AdapterObserver
}

func (f faultyObserver) Proven() bool { return f.inner.Proven() }

func (f faultyObserver) Heard(peer crosscast.NodeID) time.Time {
	if f.fault.heard != nil {
		return f.fault.heard(peer, f.inner.Heard)
	}
	return f.inner.Heard(peer)
}

func (f faultyObserver) Suspect(peer crosscast.NodeID, heard time.Time) { f.inner.Suspect(peer, heard) }

func (f faultyObserver) Expire(peer crosscast.NodeID) {
	if f.fault.expire != nil {
		f.fault.expire(peer, f.inner.Expire)
		return
	}
	f.inner.Expire(peer)
}

// faulty is an adapter with a fault.
type faulty struct {
	whole
	fault *fault
	h     crosscast.AdapterHandler
	all   func() []*faulty // of the cluster

	mu    sync.Mutex // guards what follows; a fault may use it as it likes
	n     int
	since time.Time
	held  []*crosscast.Instruction
	late  []crosscast.Address

	emitOnly bool
	started  bool
}

// cluster makes a cluster whose adapters all have the fault.
func (x *fault) cluster(tb testing.TB) Cluster {
	base := inProcess
	if x.on != nil {
		base = x.on
	}
	c := base(tb)
	make := c.Adapter
	var mu sync.Mutex // guards all
	var all []*faulty
	snapshot := func() []*faulty {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
	c.Adapter = func() crosscast.Adapter {
		f := &faulty{whole: make().(whole), fault: x, all: snapshot}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, f)
		if inner, ok := f.whole.(*foreign); ok {
			return faultyForeign{f, inner}
		}
		if inner, ok := f.whole.(crosscast.AdapterObserver); ok && (x.heard != nil || x.expire != nil) {
			return faultyObserver{f, inner}
		}
		return f
	}
	if x.inject != nil {
		c.Inject = func(Packet) { x.inject(snapshot()) }
	}
	return c
}

func (f *faulty) Start(ctx context.Context, s crosscast.AdapterStart) error {
	f.mu.Lock()
	if !f.started {
		f.h, f.since, f.emitOnly = s.Handler, time.Now(), s.EmitOnly
	}
	f.mu.Unlock()
	s.Handler = faultyHandler{f, s.Handler}
	s.Offline = s.Offline && !f.fault.online
	next := func() error {
		err := f.whole.Start(ctx, s)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.started = f.started || err == nil
		return err
	}
	if f.fault.start != nil {
		return f.fault.start(f, ctx, next)
	}
	return next()
}

// handleAsEmitter handles inst, if f is an emitter's.
func (f *faulty) handleAsEmitter(inst *crosscast.Instruction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.emitOnly && f.started {
		f.h.Handle(inst)
	}
}

func (f *faulty) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	next := func(inst *crosscast.Instruction) error { return f.whole.Publish(ctx, inst) }
	if f.fault.publish != nil {
		return f.fault.publish(f, ctx, inst, next)
	}
	return next(inst)
}

func (f *faulty) Deliver(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	next := func() (crosscast.Receipt, error) { return f.whole.Deliver(ctx, inst) }
	if f.fault.deliver != nil {
		return f.fault.deliver(f, next)
	}
	return next()
}

func (f *faulty) Flush(ctx context.Context) error {
	next := func() error { return f.whole.Flush(ctx) }
	if f.fault.flush != nil {
		return f.fault.flush(f, next)
	}
	return next()
}

func (f *faulty) Subscribe(ctx context.Context, names ...crosscast.Address) error {
	next := func(names ...crosscast.Address) error { return f.whole.Subscribe(ctx, names...) }
	if f.fault.subscribe != nil {
		return f.fault.subscribe(f, ctx, names, next)
	}
	return next(names...)
}

func (f *faulty) Unsubscribe(ctx context.Context, names ...crosscast.Address) error {
	next := func(names ...crosscast.Address) error { return f.whole.Unsubscribe(ctx, names...) }
	if f.fault.unsubscribe != nil {
		return f.fault.unsubscribe(f, names, next)
	}
	return next(names...)
}

func (f *faulty) Close(ctx context.Context) error {
	next := func() error { return f.whole.Close(ctx) }
	if f.fault.close != nil {
		return f.fault.close(f, ctx, next)
	}
	return next()
}

func (f *faulty) AdapterStats() crosscast.AdapterStats {
	s := f.whole.AdapterStats()
	if f.fault.stats != nil {
		f.fault.stats(&s)
	}
	return s
}

// faultyForeign is a foreign with a fault.
type faultyForeign struct {
	*faulty
	inner *foreign
}

func (f faultyForeign) TextOnly() bool { return f.inner.TextOnly() }

func (f faultyForeign) CheckRoom(id crosscast.SocketID, user, room string) error {
	return f.inner.CheckRoom(id, user, room)
}

func (f faultyForeign) CountPeers(ctx context.Context, inst *instruction, again bool) (int, error) {
	n, err := f.inner.CountPeers(ctx, inst, again)
	if f.fault.count != nil {
		n = f.fault.count(n)
	}
	return n, err
}

// down reports whether the link is down.
func (f *faulty) down() bool { return !f.whole.AdapterStats().Connected }

// every reports true each k-th time.
func (f *faulty) every(k int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	return f.n%k == 0
}

// faultyHandler is the node as the whole adapter sees it.
type faultyHandler struct {
	f *faulty
	h crosscast.AdapterHandler
}

func (h faultyHandler) Handle(inst *crosscast.Instruction) {
	if h.f.fault.handle != nil && inst.Kind == kind.Emit && !isFence(inst) {
		h.f.fault.handle(h.f, cloneInstruction(inst), h.h.Handle)
	} else {
		h.h.Handle(inst)
	}
}

func (h faultyHandler) Gap(g crosscast.Gap) {
	if h.f.fault.gap != nil {
		h.f.fault.gap(h.f, g, h.h.Gap)
	} else {
		h.h.Gap(g)
	}
}

func (h faultyHandler) Outage(since time.Time, why crosscast.GapReason) {
	if h.f.fault.outage != nil {
		h.f.fault.outage(since, why, h.h.Outage)
	} else {
		h.h.Outage(since, why)
	}
}

func (h faultyHandler) Loss(l crosscast.Loss) { h.h.Loss(l) }

func (h faultyHandler) Awaits(ref string) bool { return h.h.Awaits(ref) }

func (h faultyHandler) Link(s crosscast.LinkStatus) {
	if h.f.fault.link != nil {
		h.f.fault.link(h.f, s, h.h.Link)
	} else {
		h.h.Link(s)
	}
}

func isFence(inst *crosscast.Instruction) bool { return strings.HasPrefix(inst.Event, fencePrefix) }

// A recorder is a testing.TB whose failures are kept and fail nothing.
type recorder struct {
	testing.TB
	mu       sync.Mutex // guards what follows
	failed   bool
	said     []string
	cleanups []func()
}

func (r *recorder) say(failed bool, s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.failed || failed
	r.said = append(r.said, s)
}

func (r *recorder) Helper()                      {}
func (r *recorder) Log(args ...any)              { r.say(false, fmt.Sprint(args...)) }
func (r *recorder) Logf(f string, args ...any)   { r.say(false, fmt.Sprintf(f, args...)) }
func (r *recorder) Error(args ...any)            { r.say(true, fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.say(true, fmt.Sprintf(f, args...)) }
func (r *recorder) Fail()                        { r.say(true, "Fail") }
func (r *recorder) FailNow()                     { r.say(true, "FailNow"); runtime.Goexit() }
func (r *recorder) Fatal(args ...any)            { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(f string, args ...any) { r.Errorf(f, args...); runtime.Goexit() }
func (r *recorder) Skip(args ...any)             { r.Log(args...); runtime.Goexit() }
func (r *recorder) Skipf(f string, args ...any)  { r.Logf(f, args...); runtime.Goexit() }
func (r *recorder) SkipNow()                     { runtime.Goexit() }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// record checks one rule, and returns whether it is red and what was said.
func record(t *testing.T, h Harness, r rule) (red bool, said string) {
	rec := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for len(rec.cleanups) > 0 {
				last := rec.cleanups[len(rec.cleanups)-1]
				rec.cleanups = rec.cleanups[:len(rec.cleanups)-1]
				last()
			}
		}()
		if missing := check(rec, h, r); missing != "" {
			rec.Errorf("not offered: %s", missing)
		}
	}()
	<-done
	return rec.failed, strings.Join(rec.said, "\n")
}

// allRulesByName is allRules as a map.
func allRulesByName() map[string]rule {
	m := make(map[string]rule)
	for _, r := range allRules() {
		m[r.name] = r
	}
	return m
}

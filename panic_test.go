package crosscast_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// panics are what a node logs of functions that have panicked.
type panics struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *panics) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *panics) logger() *slog.Logger { return slog.New(slog.NewTextHandler(p, nil)) }

// count is how often what was logged, with the stack of this file.
func (p *panics) count(what string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.Lines(p.b.String()) {
		if strings.Contains(line, `level=ERROR msg="crosscast: `+what+` panicked"`) && strings.Contains(line, "panic_test.go") {
			n++
		}
	}
	return n
}

// failures count calls of functions that fail each time.
type failures struct {
	fail func()

	mu    sync.Mutex
	calls map[string]int
}

func (f *failures) do(what string) {
	f.mu.Lock()
	f.calls[what]++
	f.mu.Unlock()
	f.fail()
}

func (f *failures) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[what]
}

// failingConn fails in one of its methods.
type failingConn struct {
	recorder
	f  *failures
	in string
}

func (c *failingConn) do(method string) {
	if c.in == method {
		c.f.do(method)
	}
}

func (c *failingConn) Send(m *crosscast.Message) error {
	c.do("Conn.Send")
	return c.recorder.Send(m)
}

func (c *failingConn) Close(r crosscast.Reason) {
	c.recorder.Close(r)
	c.do("Conn.Close")
}

func (c *failingConn) Done() <-chan struct{} {
	c.do("Conn.Done")
	if c.in == "Conn.Close" {
		return make(chan struct{}) // for ever: it is not closed, after all
	}
	done := make(chan struct{})
	close(done)
	return done
}

// failing calls test twice: with a function that panics, and one that ends its goroutine.
func failing(t *testing.T, test func(t *testing.T, f *failures, p *panics)) {
	for name, fail := range map[string]func(){"panic": func() { panic("no luck") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, &failures{fail: fail, calls: make(map[string]int)}, new(panics)) })
		})
	}
}

// elsewhere runs f, which might end its goroutine, on one.
func elsewhere(f func()) {
	go f()
	synctest.Wait()
}

// TestHooksThatFail: a hook that panics, or ends its goroutine, is called the next time, and each panic is logged once.
func TestHooksThatFail(t *testing.T) {
	failing(t, func(t *testing.T, f *failures, p *panics) {
		d := newDriver(t)
		n := start(t, crosscast.Options{
			Adapter: d, Logger: p.logger(),
			OnGap:  func(*crosscast.Node, crosscast.Gap) { f.do("OnGap") },
			OnLoss: func(*crosscast.Node, crosscast.Loss) { f.do("OnLoss") },
			OnNode: func(*crosscast.Node, crosscast.NodeEvent) { f.do("OnNode") },
			OnRoom: func(*crosscast.Node, crosscast.RoomEvent) { f.do("OnRoom") },
			OnLink: func(*crosscast.Node, crosscast.LinkStatus) { f.do("OnLink") },
		})
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(*crosscast.Subscription, *crosscast.Message) { f.do("OnMessage") },
			OnGap:     func(*crosscast.Subscription, crosscast.Gap) { f.do("a subscription's OnGap") },
		}, "r")
		ok(t, err)
		w, err := n.Watch(ctx, "r", crosscast.WatchOptions{
			OnChange: func(*crosscast.Watch, crosscast.PresenceEvent) { f.do("OnChange") },
		})
		ok(t, err)
		defer w.Close()
		ok(t, n.OnClose(func() { f.do("Node.OnClose") }))
		synctest.Wait() // OnChange was called
		s, err := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{
			Rooms: []string{"r"}, OnClose: func(*crosscast.Socket, crosscast.Reason) { f.do("ConnectOptions.OnClose") },
		})
		ok(t, err)
		for i := range 2 {
			elsewhere(func() { d.h.Gap(crosscast.Gap{Since: time.Now(), Until: time.Now()}) })
			d.h.Loss(crosscast.Loss{Reason: crosscast.LossReason(string(rune('a' + i))), Err: crosscast.ErrRefused})
			peer := crosscast.NodeID(strings.Repeat(string(rune('a'+i)), 8))
			d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer})
			d.h.Link(crosscast.LinkStatus{Busy: i == 0})
			ok(t, n.To("r").Emit(ctx, "x", nil))
		}
		synctest.Wait()
		ok(t, n.Close(timeout(t, time.Second)))
		synctest.Wait()
		all := 0
		for what, least := range map[string]int{
			"OnGap": 2, "OnLoss": 2, "OnNode": 2, "OnRoom": 4, "OnLink": 2, "OnMessage": 2, "a subscription's OnGap": 2,
			"OnChange": 2, "Node.OnClose": 1, "ConnectOptions.OnClose": 1,
		} {
			calls := f.count(what)
			if calls < least {
				t.Errorf("%s was called %d times, not %d", what, calls, least)
			}
			all += calls
		}
		logged := 0
		for _, what := range []string{
			"Options.OnGap", "Options.OnLoss", "Options.OnNode", "Options.OnRoom", "Options.OnLink", "Receiver.OnMessage",
			"Receiver.OnGap", "WatchOptions.OnChange", "Node.OnClose", "ConnectOptions.OnClose",
		} {
			logged += p.count(what)
		}
		if logged != int(n.Stats().Panics) || logged != all && !strings.HasSuffix(t.Name(), "exit") {
			t.Errorf("%d of %d panics were logged, and %d counted", logged, all, n.Stats().Panics)
		}
		equal(t, "rooms of the socket", len(s.Rooms()), 1)
	})
}

// TestConnsThatFail: one that fails to send is closed, and everybody else gets the message; one that fails to close is
// closed all the same, and not waited for.
func TestConnsThatFail(t *testing.T) {
	failing(t, func(t *testing.T, f *failures, p *panics) {
		cluster := crosscast.NewCluster()
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		b := start(t, crosscast.Options{Adapter: cluster.Adapter(), Logger: p.logger()})
		var good [3]recorder
		var bad [3]failingConn
		var reasons log
		for i, in := range []string{"Conn.Send", "Conn.Close", "Conn.Done"} {
			connect(t, b.Namespace, &good[i], "r")
			bad[i].f, bad[i].in = f, in
			_, err := b.Connect(ctx, &bad[i], crosscast.ConnectOptions{
				Rooms: []string{"r"}, OnClose: func(_ *crosscast.Socket, r crosscast.Reason) { reasons.add("%s", r) },
			})
			ok(t, err)
		}
		_, heard := listen(t, b, "r")
		ok(t, a.To("r").Emit(ctx, "1", nil))
		ok(t, cluster.Settle(ctx))
		equal(t, "closed", reasons.take(), "internal error")
		equal(t, "a subscription heard", heard.take(), "1")
		ok(t, a.To("r").Emit(ctx, "2", nil))
		ok(t, cluster.Settle(ctx))
		elsewhere(func() { b.To("r").Emit(ctx, "3", nil) }) // on the goroutine of who emits
		want(t, "1 2 3", &good[0], &good[1], &good[2])
		equal(t, "failed", bad[0].take(), "")
		equal(t, "sockets", b.Stats().Sockets, 5)
		ok(t, a.To("r").Disconnect(ctx, "enough"))
		synctest.Wait()
		equal(t, "closed", reasons.take(), "enough; enough")
		for i := range good {
			equal(t, "closed", good[i].reasons(), "enough")
		}
		ok(t, b.Close(timeout(t, time.Second)))
		for i := range bad {
			equal(t, "reasons of "+bad[i].in, len(bad[i].closed), 1)
		}
		for _, what := range []string{"Conn.Send", "Conn.Close", "Conn.Done"} {
			equal(t, "calls of "+what, f.count(what), 1)
			if !strings.HasSuffix(t.Name(), "exit") {
				equal(t, "lines of "+what, p.count(what), 1)
			}
		}
	})
}

// TestEmitToAConnThatFails: who emits gets the error, and is not told by a panic of its own.
func TestEmitToAConnThatFails(t *testing.T) {
	failing(t, func(t *testing.T, f *failures, p *panics) {
		n := start(t, crosscast.Options{Logger: p.logger()})
		s := connect(t, n.Namespace, &failingConn{f: f, in: "Conn.Send"}, "r")
		elsewhere(func() {
			n.To("r").Emit(ctx, "x", nil)
			n.To("r").Emit(ctx, "x", nil) // which it may get, too, before it is closed
		})
		if !s.Closed() {
			t.Error("the socket is open")
		}
		if got := p.count("Conn.Send"); got > 1 {
			t.Errorf("logged %d times", got)
		}
		s = connect(t, n.Namespace, &failingConn{f: f, in: "Conn.Send"}, "r")
		elsewhere(func() {
			err := s.Emit(ctx, "x", nil)
			var e *crosscast.PanicError
			if !errors.As(err, &e) || e.Value != "no luck" {
				t.Error(err)
			}
		})
		if !s.Closed() {
			t.Error("the socket is open")
		}
		ok(t, n.Close(timeout(t, time.Second)))
		equal(t, "panics", int(n.Stats().Panics), p.count("Conn.Send"))

		a := start(t, crosscast.Options{Logger: p.logger()})
		connect(t, a.Namespace, &failingConn{f: f, in: "Conn.Send"}, "r")
		var incomplete *crosscast.IncompleteError
		elsewhere(func() {
			answers := a.To("r").EmitAck(ctx, "x", nil)
			for range answers.All() {
				t.Error("a reply")
			}
			if err := answers.Err(); !errors.As(err, &incomplete) || len(incomplete.Silent) != 1 {
				t.Error(err)
			}
		})
	})
}

// badFramer fails each time.
type badFramer struct{ f *failures }

func (b *badFramer) Frame(*crosscast.Message) ([]byte, error) {
	b.f.do("Framer.Frame")
	return nil, nil
}

// TestFramersThatFail: the message is dropped for all whose frame it would have been, and the framer is called once.
func TestFramersThatFail(t *testing.T) {
	failing(t, func(t *testing.T, f *failures, p *panics) {
		cluster := crosscast.NewCluster()
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		b := start(t, crosscast.Options{Adapter: cluster.Adapter(), Logger: p.logger()})
		framer := &badFramer{f}
		var sockets []*crosscast.Socket
		for range 3 {
			q := crosscast.NewQueue(func([]byte) error { t.Error("written"); return nil }, crosscast.QueueOptions{Framer: framer})
			sockets = append(sockets, connect(t, b.Namespace, q, "r"))
		}
		good := &recorder{}
		connect(t, b.Namespace, good, "r")
		ok(t, a.To("r").Emit(ctx, "1", nil))
		synctest.Wait()
		equal(t, "calls", f.count("Framer.Frame"), 1)
		elsewhere(func() { b.To("r").Emit(ctx, "2", nil) })
		equal(t, "calls", f.count("Framer.Frame"), 2)
		want(t, "1 2", good)
		if strings.HasSuffix(t.Name(), "exit") {
			return // who is first is closed, as of a conn that does it
		}
		equal(t, "dropped", b.Stats().Dropped["conn"], 6)
		equal(t, "lines", p.count("Framer.Frame"), 2)
		for _, s := range sockets {
			if s.Closed() {
				t.Error("a socket was closed")
			}
		}
		kept := make(chan *crosscast.Message, 1)
		_, err := b.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { kept <- m },
		}, "s")
		ok(t, err)
		ok(t, a.To("s").Emit(ctx, "x", nil))
		m := <-kept
		for range 2 {
			var e *crosscast.PanicError
			if _, err := m.Frame(framer); !errors.As(err, &e) {
				t.Error(err)
			}
		}
		equal(t, "lines", p.count("Framer.Frame"), 3)
	})
}

// TestFramersThatFailUnderConcurrency: those who wait for a frame get the error, too.
func TestFramersThatFailUnderConcurrency(t *testing.T) {
	failing(t, func(t *testing.T, f *failures, p *panics) {
		n := start(t, crosscast.Options{Logger: p.logger()})
		kept := make(chan *crosscast.Message, 1)
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { kept <- m },
		}, "r")
		ok(t, err)
		ok(t, n.To("r").Emit(ctx, "x", nil))
		m := <-kept
		framer := &badFramer{f}
		var begun atomic.Int32
		fail := f.fail
		f.fail = func() {
			for i := 0; i < 1000 || begun.Load() < 10; i++ { // they wait for a mutex, which is nothing to synctest
				runtime.Gosched()
			}
			fail()
		}
		failed := make(chan error, 10)
		for range 10 {
			go func() {
				begun.Add(1)
				_, err := m.Frame(framer)
				failed <- err
			}()
		}
		synctest.Wait()
		equal(t, "calls", f.count("Framer.Frame"), 1)
		if got := p.count("Framer.Frame"); got > 1 {
			t.Errorf("logged %d times", got)
		}
		if got := len(failed); got != 10 && (got != 9 || !strings.HasSuffix(t.Name(), "exit")) {
			t.Errorf("%d returned", got)
		}
		for range len(failed) {
			if <-failed == nil {
				t.Error("no error")
			}
		}
	})
}

// badJSON is a value that cannot be marshalled.
type badJSON struct{ f *failures }

func (b badJSON) MarshalJSON() ([]byte, error) { b.f.do("MarshalJSON"); return nil, nil }

// TestMarshallingThatFails: of what a handler of requests returns, the node's; of what is emitted, the caller's.
func TestMarshallingThatFails(t *testing.T) {
	failing(t, func(t *testing.T, f *failures, p *panics) {
		cluster := crosscast.NewCluster()
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		b := start(t, crosscast.Options{Adapter: cluster.Adapter(), Logger: p.logger()})
		var embedded struct{ *time.Time } // nil: its MarshalJSON panics
		ok(t, b.OnRequest("q", func(context.Context, *crosscast.Request) (any, error) { return badJSON{f}, nil }))
		ok(t, b.OnRequest("embedded", func(context.Context, *crosscast.Request) (any, error) { return embedded, nil }))
		began := time.Now()
		for _, name := range []string{"q", "q", "embedded"} {
			_, err := asks(nil, a.Servers().Ask(ctx, name, nil))
			text := "the handler panicked"
			if name == "q" && strings.HasSuffix(t.Name(), "exit") {
				text = "the handler did not return"
			}
			failedThere(t, err, b, text)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("answered after %v", d)
		}
		if strings.HasSuffix(t.Name(), "exit") {
			return
		}
		equal(t, "counted", b.Stats().Panics, 3)
		defer func() {
			if recover() == nil {
				t.Error("Emit has not panicked")
			}
			equal(t, "counted", b.Stats().Panics, 3)
		}()
		b.Emit(ctx, "x", struct{ json.Marshaler }{badJSON{f}})
	})
}

// TestPanicsWithoutALogger: they go to slog.Default, because nobody else would hear of them.
func TestPanicsWithoutALogger(t *testing.T) {
	var p panics
	before := slog.Default()
	slog.SetDefault(p.logger())
	defer slog.SetDefault(before)
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{OnRoom: func(*crosscast.Node, crosscast.RoomEvent) { panic("no luck") }})
		connect(t, n.Namespace, &recorder{}, "r")
		synctest.Wait()
		equal(t, "lines", p.count("Options.OnRoom"), 2)
	})
}

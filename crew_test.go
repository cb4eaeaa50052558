package crosscast_test

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// manyCores lets deliveries to 512 sockets or more be served in small parts by several goroutines.
func manyCores(t *testing.T) {
	large, part, cheap := crosscast.LargeDelivery(512, 16, 0)
	t.Cleanup(func() { crosscast.LargeDelivery(large, part, cheap) })
	cores := runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	t.Cleanup(func() { runtime.GOMAXPROCS(cores) })
}

// orderConn keeps the events it is sent, and calls a function for each.
type orderConn struct {
	recorder
	send func(event string) error
}

func (c *orderConn) Send(m *crosscast.Message) error {
	if err := c.recorder.Send(m); err != nil || c.send == nil {
		return err
	}
	return c.send(m.Event)
}

// goroutineID tells goroutines apart.
func goroutineID() string {
	b := make([]byte, 64)
	return strings.Fields(string(b[:runtime.Stack(b, false)]))[1]
}

// A large delivery is served by several goroutines. Each socket gets each message once, and those of one goroutine in
// order, also with other deliveries at the same time and while sockets come and go.
func TestLargeDeliveriesKeepTheirOrder(t *testing.T) {
	manyCores(t)
	n := start(t, crosscast.Options{})
	const members, emitters, rounds = 600, 4, 20
	conns := make([]*orderConn, members)
	var served sync.Map
	for i := range conns {
		conns[i] = &orderConn{send: func(string) error { served.Store(goroutineID(), true); runtime.Gosched(); return nil }}
		connect(t, n.Namespace, conns[i], "r")
	}
	var wg sync.WaitGroup
	for g := range emitters {
		wg.Go(func() {
			served.Store(goroutineID(), false)
			for i := range rounds {
				ok(t, n.To("r").Emit(ctx, string(rune('a'+g))+string(rune('A'+i)), nil))
				s := connect(t, n.Namespace, &recorder{}, "r")
				s.Close(crosscast.ReasonLeft)
			}
		})
	}
	wg.Wait()
	for i, c := range conns {
		var next [emitters]rune
		for _, event := range strings.Fields(c.take()) {
			if g := event[0] - 'a'; rune(event[1]) != 'A'+next[g] {
				t.Fatalf("socket %d: %s, after %d messages of that emitter", i, event, next[g])
			} else {
				next[g]++
			}
		}
		if next != [emitters]rune{rounds, rounds, rounds, rounds} {
			t.Fatalf("socket %d: %v messages", i, next)
		}
	}
	goroutines := 0
	served.Range(func(any, any) bool { goroutines++; return true })
	if goroutines <= emitters {
		t.Errorf("%d goroutines have served: no helper", goroutines)
	}
	if got := int(n.Stats().Delivered); got < members*emitters*rounds || got > (members+emitters)*emitters*rounds {
		t.Errorf("%d delivered", got)
	}
}

// Conns that panic, end the goroutine, refuse, or emit: the others get the message, and the counts are right.
func TestLargeDeliveryToConnsThatFail(t *testing.T) {
	manyCores(t)
	var p panics
	var got crosscast.Delivered
	n := start(t, crosscast.Options{Logger: p.logger(), Observer: deliveries(func(d crosscast.Delivered) {
		if d.Event == "e" {
			got = d
		}
	})})
	conns := make([]*orderConn, 800)
	for i := range conns {
		conns[i] = &orderConn{}
		switch i % 100 {
		case 10:
			conns[i].send = func(string) error { panic("no luck") }
		case 20:
			conns[i].send = func(string) error { runtime.Goexit(); return nil }
		case 30:
			conns[i].send = func(string) error { return crosscast.ErrDropped }
		case 40:
			conns[i].send = func(string) error { return errors.New("broken") }
		case 50:
			conns[i].send = func(event string) error { // an emission within one, large as well
				if event == "e" {
					return n.To("r").Emit(ctx, "nested", nil)
				}
				return nil
			}
		}
		connect(t, n.Namespace, conns[i], "r")
	}
	var emitter sync.WaitGroup
	emitter.Go(func() { n.To("r").Emit(ctx, "e", nil) })
	emitter.Wait()
	for i, c := range conns {
		if got := count(strings.Fields(c.take()), "e"); got != 1 {
			t.Errorf("socket %d: %d messages", i, got)
		}
	}
	// An emission within Send that meets a conn that ends the goroutine ends that Send, too.
	if got.Sockets+got.Refused != 800 || got.Refused < 8*4 || got.Refused > 8*5 {
		t.Errorf("%d sockets, %d refused", got.Sockets, got.Refused)
	}
	ok(t, n.Close(ctx)) // no goroutine is left: see TestMain
	equal(t, "panics", int(n.Stats().Panics), 8)
}

// A node that closes during a large delivery waits for its helpers, and all sockets are served.
func TestCloseDuringALargeDelivery(t *testing.T) {
	manyCores(t)
	n := start(t, crosscast.Options{})
	var sent atomic.Int64
	reached, goOn := make(chan struct{}), make(chan struct{})
	for i := range 1000 {
		c := &orderConn{send: func(string) error { sent.Add(1); return nil }}
		if i == 300 {
			c.send = func(string) error { sent.Add(1); close(reached); <-goOn; return nil }
		}
		connect(t, n.Namespace, c, "r")
	}
	emitted := make(chan error)
	go func() { emitted <- n.To("r").Emit(ctx, "e", nil) }()
	<-reached
	closed := make(chan error)
	go func() { closed <- n.Close(ctx) }()
	close(goOn)
	ok(t, <-emitted)
	ok(t, <-closed)
	equal(t, "sent", int(sent.Load()), 1000)
}

// A large delivery is served by several goroutines only if the sockets of its first part take time.
func TestLargeDeliveriesToCheapSockets(t *testing.T) {
	manyCores(t)
	crosscast.LargeDelivery(512, 16, 100*time.Microsecond)
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var served sync.Map
		var takes time.Duration
		for range 600 {
			connect(t, n.Namespace, &orderConn{send: func(string) error {
				served.Store(goroutineID(), true)
				time.Sleep(takes)
				return nil
			}}, "r")
		}
		for _, takes = range []time.Duration{0, 99 * time.Microsecond, 100 * time.Microsecond} {
			served.Clear()
			ok(t, n.To("r").Emit(ctx, "e", nil))
			goroutines := 0
			served.Range(func(any, any) bool { goroutines++; return true })
			if several := goroutines > 1; several != (takes >= 100*time.Microsecond) {
				t.Errorf("sockets that take %v were served by %d goroutines", takes, goroutines)
			}
		}
	})
}

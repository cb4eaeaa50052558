package wire_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// A node that stood still does not do what nobody waits for any more. What nobody waits for anyway, and what came lately,
// it does. On a link that works, a patience shorter than a heartbeat is no reason.
func TestExpiredWorkIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		hub := membus.New()
		hold := make(chan time.Duration, 1)
		startNode := func(name string, onGap func(crosscast.Gap)) *crosscast.Node {
			n, err := crosscast.Start(ctx, crosscast.Options{
				Name: name, Adapter: wire.New(hub.Port(name), wire.Options{}), OnGap: onGap,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close(context.Background()) })
			return n
		}
		asker := startNode("asker", nil)
		slow := startNode("slow", nil)
		conn := &standing{hold: hold}
		if _, err := slow.Connect(ctx, conn, crosscast.ConnectOptions{Rooms: []string{"r"}}); err != nil {
			t.Fatal(err)
		}
		var asked, told atomic.Int32
		for name, n := range map[string]*atomic.Int32{"ask": &asked, "tell": &told} {
			if err := slow.OnRequest(name, func(context.Context, *crosscast.Request) (any, error) {
				n.Add(1)
				return nil, nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		ask := func(patience time.Duration) error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			answers := asker.Servers().Ask(ctx, "ask", nil)
			for range answers.All() {
			}
			return answers.Err()
		}
		for range 20 {
			time.Sleep(490 * time.Millisecond)
			if err := ask(100 * time.Millisecond); err != nil {
				t.Fatal("a short patience on a link that works:", err)
			}
		}
		asked.Store(0)

		hold <- 6 * time.Second
		if err := asker.To("r").Emit(ctx, "stand", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		patient := make(chan error, 1)
		go func() { patient <- ask(30 * time.Second) }()
		if err := ask(2 * time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("while it stands:", err)
		}
		if err := asker.Servers().Tell(ctx, "tell", nil); err != nil {
			t.Error(err)
		}
		if err := asker.To("r").Emit(ctx, "emission", nil); err != nil {
			t.Error(err)
		}
		do, cancel := context.WithTimeout(ctx, time.Second)
		_, err := asker.To("r").Do(do, crosscast.Command{Join: []string{"done"}})
		cancel()
		if err == nil {
			t.Error("Do while it stands: no error")
		}
		if err := asker.To("r").Join(ctx, "ordered"); err != nil {
			t.Error(err)
		}
		if err := <-patient; err != nil {
			t.Error("who waits long gets an answer:", err)
		}
		time.Sleep(2 * time.Second)
		if n, m := asked.Load(), told.Load(); n != 1 || m != 1 {
			t.Errorf("ran %d requests that were asked, %d that were told; want 1, 1", n, m)
		}
		if len(slow.Members("done")) != 0 || len(slow.Members("ordered")) != 1 {
			t.Errorf("joined %v, %v", slow.Members("done"), slow.Members("ordered"))
		}
		if n := slow.Stats().Dropped["expired"]; n != 2 {
			t.Errorf("counted %d", n)
		}
		if n := conn.n.Load(); n != 2 {
			t.Errorf("%d messages", n)
		}
		if err := ask(100 * time.Millisecond); err != nil {
			t.Error("afterwards:", err)
		}
	})
}

// standing is a conn whose Send takes as long as it is told to: it keeps the link from being read.
type standing struct {
	hold chan time.Duration
	n    atomic.Int32
}

func (s *standing) Send(*crosscast.Message) error {
	s.n.Add(1)
	select {
	case d := <-s.hold:
		time.Sleep(d)
	default:
	}
	return nil
}

func (s *standing) Close(crosscast.Reason) {}

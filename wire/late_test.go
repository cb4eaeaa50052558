package wire_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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
		startNode := func(name string, onGap func(*crosscast.Node, crosscast.Gap)) *crosscast.Node {
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

// A node that cannot publish, for whatever reason, has no echoes. It hears all the same, and does what it is asked in time,
// and only that.
func TestWhoCannotPublishIsNotLate(t *testing.T) {
	denied := fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrDenied)
	for name, fate := range map[string]func(f wire.Frame) membus.Fate{
		"denied to everyone": func(f wire.Frame) membus.Fate {
			if f.Topic == "cc:all" {
				return membus.Fate{Err: denied, Lost: true}
			}
			return membus.Fate{}
		},
		"denied":           func(wire.Frame) membus.Fate { return membus.Fate{Err: denied, Lost: true} },
		"refused":          func(wire.Frame) membus.Fate { return membus.Fate{Err: crosscast.ErrRefused, Lost: true} },
		"the half is down": func(wire.Frame) membus.Fate { return membus.Fate{Err: io.EOF, Down: true, Lost: true} },
		"no answer": func(wire.Frame) membus.Fate {
			time.Sleep(4900 * time.Millisecond)
			return membus.Fate{Err: context.DeadlineExceeded, Down: true, Lost: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := membus.New()
				ports := []*membus.Port{hub.Port("asker"), hub.Port("asked")}
				var nodes []*crosscast.Node
				for _, p := range ports {
					n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.New(p, wire.Options{})})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { n.Close(context.Background()) })
					nodes = append(nodes, n)
				}
				var done atomic.Int32
				if err := nodes[1].OnRequest("ask", func(context.Context, *crosscast.Request) (any, error) {
					done.Add(1)
					return nil, nil
				}); err != nil {
					t.Fatal(err)
				}
				hold := make(chan time.Duration, 1)
				if _, err := nodes[1].Connect(t.Context(), &standing{hold: hold}, crosscast.ConnectOptions{Rooms: []string{"r"}}); err != nil {
					t.Fatal(err)
				}
				ask := func() {
					ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
					defer cancel()
					for range nodes[0].Servers().Ask(ctx, "ask", nil).All() {
					}
				}
				ports[1].SetFate(fate)
				for i := range 120 {
					time.Sleep(490 * time.Millisecond)
					ask()
					synctest.Wait()
					if n := done.Load(); n != int32(i+1) {
						t.Fatalf("did %d requests of %d; %v", n, i+1, nodes[1].Stats().Dropped)
					}
				}
				hold <- 6 * time.Second
				if err := nodes[0].To("r").Emit(t.Context(), "stand", nil); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				ask()
				time.Sleep(10 * time.Second)
				if n := done.Load(); n != 120 || nodes[1].Stats().Dropped["expired"] != 1 {
					t.Errorf("did %d requests, the last of which was late; %v", n, nodes[1].Stats().Dropped)
				}
				if n := nodes[1].Stats().Adapter.Reconnects; n != 0 {
					t.Errorf("the link was replaced %d times", n)
				}
			})
		})
	}
}

package crosscast_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// selective is a driver that hears nothing by itself, with one peer.
type selective struct {
	foreignDriver
}

func (selective) CountPeers(context.Context, *crosscast.Instruction, bool) (int, error) {
	return 1, nil
}

func selectiveNode(t *testing.T) (*crosscast.Node, *driver) {
	t.Helper()
	d := newDriver(t)
	n := start(t, crosscast.Options{Adapter: selective{foreignDriver{driver: d}}, Heartbeat: time.Minute, Linger: 5 * time.Second})
	d.log.take()
	return n, d
}

func TestSelectiveIsAskedForNamespacesAndSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := selectiveNode(t)
		s := connect(t, n.Namespace, &recorder{}, "r")
		equal(t, `in "/", which needs no asking`, d.log.take(), "+ #"+string(s.ID())+" r")

		confirm := make(chan error)
		d.answer(func(context.Context, []string) error { return <-confirm })
		ns, err := n.Of("/chat")
		ok(t, err)
		synctest.Wait()
		equal(t, "a namespace that is not in use", d.log.take(), "")
		sockets := make(chan *crosscast.Socket, 1)
		subscribed := make(chan error, 1)
		go func() { sockets <- connectUser(t, ns, &recorder{}, "u") }()
		synctest.Wait()
		go func() {
			_, err := ns.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r")
			subscribed <- err
		}()
		synctest.Wait()
		equal(t, "waiting", len(sockets)+len(subscribed), 0)
		confirm <- nil
		s2 := <-sockets
		confirm <- nil
		ok(t, <-subscribed)
		first := sorted([]string{"/chat:#" + string(s2.ID()), "/chat:*", "/chat:@u"})
		equal(t, "called", d.log.take(), "+ "+first+"; + /chat:r")
		d.answer(nil)
		_, err = n.Of("/chat")
		ok(t, err)
		s3 := connect(t, ns, &recorder{})
		equal(t, "for a socket alone", d.log.take(), "+ /chat:#"+string(s3.ID()))

		for _, s := range []*crosscast.Socket{s, s2, s3} {
			s.Close(crosscast.ReasonLeft)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		equal(t, "before the lingering is over", d.log.take(), "")
		time.Sleep(time.Hour)
		equal(t, "what is heard without sockets", d.hears(), "/chat:* /chat:r")
		equal(t, "counted", n.Stats().Memberships+n.Stats().Rooms+n.Stats().Users, 0)
	})
}

// A namespace that could not be asked for when it began is asked for again by whoever needs it.
func TestSelectiveIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := selectiveNode(t)
		d.answer(func(context.Context, []string) error { return crosscast.ErrNotConnected })
		ns, err := n.Of("/chat")
		ok(t, err)
		s, err := ns.Connect(ctx, &recorder{}, crosscast.ConnectOptions{})
		ok(t, err)
		equal(t, "asked for", d.log.take(), "+ /chat:#"+string(s.ID())+" /chat:*")
		sub, err := ns.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r")
		ok(t, err)
		equal(t, "asked for", d.log.take(), "+ /chat:* /chat:r")
		ok(t, sub.Close())
	})
}

// Whoever asks in a namespace must hear the answers.
func TestQuestionsWaitForTheirNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := selectiveNode(t)
		peer := crosscast.NodeInfo{ID: "aaaaaaaa", Heartbeat: time.Minute}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Ref == "" {
				return
			}
			a := &crosscast.Answer{Count: 2, Last: true, Handled: true}
			if inst.Kind == kind.Emit {
				a.Count = 0 // clients, of whom replies are awaited
			}
			d.h.Handle(&crosscast.Instruction{Kind: kind.Answer, From: peer.ID, Ref: inst.Ref, Answer: a})
		}
		for name, ask := range map[string]func(ns *crosscast.Namespace) error{
			"count": func(ns *crosscast.Namespace) error { _, err := ns.Everyone().Count(ctx); return err },
			"command": func(ns *crosscast.Namespace) error {
				_, err := ns.Everyone().Do(ctx, crosscast.Command{Leave: []string{"r"}})
				return err
			},
			"request": func(ns *crosscast.Namespace) error { return drained(ns.Servers().Ask(ctx, "x", nil)) },
			"emission": func(ns *crosscast.Namespace) error {
				return drained(ns.Everyone().EmitAck(ctx, "x", nil))
			},
		} {
			confirm := make(chan error)
			d.answer(func(context.Context, []string) error { return <-confirm })
			ns, err := n.Of(name)
			ok(t, err)
			asked := make(chan error, 1)
			go func() { asked <- ask(ns) }()
			synctest.Wait()
			equal(t, name+" before the confirmation", d.log.take(), "+ "+name+":*")
			confirm <- crosscast.ErrNotConnected
			err = <-asked
			var incomplete *crosscast.IncompleteError
			if !errors.Is(err, crosscast.ErrNotConnected) || !errors.As(err, &incomplete) ||
				len(incomplete.Missing) != 1 || incomplete.Missing[0].ID != "" && incomplete.Missing[0].ID != peer.ID {
				t.Errorf("%s that cannot be answered: %v", name, err)
			}
			equal(t, name+" that cannot be answered", d.log.take(), "")
			d.answer(nil)
			ok(t, ask(ns))
			published := map[string]string{"emission": "x"}[name] // the driver has no names for other kinds
			equal(t, name+" after the confirmation", d.log.take(), "+ "+name+":*; "+published)
		}
	})
}

// An acknowledged emission that peers cannot be told of has the replies of this node all the same.
func TestOwnRepliesWithoutPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		peer := crosscast.NodeInfo{ID: "aaaaaaaa", Heartbeat: time.Minute}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		a := connectClient(t, n, func(s *crosscast.Socket, ack uint64) {
			time.AfterFunc(time.Second, func() { s.Reply(ack, "later") })
		}, "r")
		d.publishErr = crosscast.ErrNotConnected
		got, err := replies(n.To("r").EmitAck(ctx, "e", nil), map[crosscast.SocketID]string{a.id(): "a"})
		equal(t, "replies", got, "a:later")
		var incomplete *crosscast.IncompleteError
		if !errors.As(err, &incomplete) || len(incomplete.Missing) != 1 || incomplete.Missing[0].ID != "" && incomplete.Missing[0].ID != peer.ID {
			t.Error(err)
		}
	})
}

// drained reads an answer to its end and returns its error.
func drained[T any](a *crosscast.Answers[T]) error {
	for range a.All() {
	}
	return a.Err()
}

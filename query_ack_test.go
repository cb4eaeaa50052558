package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// ackClient is a conn whose client replies as the test decides.
type ackClient struct {
	recorder
	socket atomic.Pointer[crosscast.Socket]
	reply  func(s *crosscast.Socket, ack uint64) // called from within Send
}

func (c *ackClient) Send(m *crosscast.Message) error {
	err := c.recorder.Send(m)
	if err == nil && m.Ack != 0 && c.reply != nil {
		c.reply(c.socket.Load(), m.Ack)
	}
	return err
}

func connectClient(t *testing.T, n *crosscast.Node, reply func(*crosscast.Socket, uint64), rooms ...string) *ackClient {
	t.Helper()
	c := &ackClient{reply: reply}
	c.socket.Store(connect(t, n.Namespace, c, rooms...))
	return c
}

func (c *ackClient) id() crosscast.SocketID { return c.socket.Load().ID() }

// says replies at once, from within Send.
func says(text string) func(*crosscast.Socket, uint64) {
	return func(s *crosscast.Socket, ack uint64) { s.Reply(ack, text) }
}

// replies reads an emission's replies, each as the client's name and text.
func replies(a *crosscast.Answers[crosscast.Reply], names map[crosscast.SocketID]string) (string, error) {
	var texts []string
	for r := range a.All() {
		texts = append(texts, names[r.Socket]+":"+strings.Trim(string(r.Payload.Data), `"`))
	}
	return sorted(texts), a.Err()
}

// silent fails unless err names exactly those clients, and no node.
func silent(t *testing.T, err error, clients ...*ackClient) {
	t.Helper()
	var e *crosscast.IncompleteError
	if !errors.As(err, &e) || len(e.Missing) > 0 {
		t.Fatal(err)
	}
	var got, want []string
	for _, id := range e.Silent {
		got = append(got, string(id))
	}
	for _, c := range clients {
		want = append(want, string(c.id()))
	}
	equal(t, "silent", sorted(got), sorted(want))
}

func TestEmitAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		later := func(s *crosscast.Socket, ack uint64) {
			time.AfterFunc(time.Second, func() { s.Reply(ack, "later") })
		}
		a := connectClient(t, nodes[0], says("at once"), "r")
		b := connectClient(t, nodes[1], later, "r")
		c := connectClient(t, nodes[2], says("at once"), "r")
		names := map[crosscast.SocketID]string{a.id(): "a", b.id(): "b", c.id(): "c"}
		n := nodes[0]

		began := time.Now()
		got, err := replies(n.To("r").EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "replies", got, "a:at once b:later c:at once")
		equal(t, "took", time.Since(began), time.Second)
		got, err = replies(n.To("r").Local().EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "local", got, "a:at once")
		asked := taps[0].count(kind.Emit)
		got, err = replies(n.ToSocket(a.id()).EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "a socket of this node", got, "a:at once")
		equal(t, "published", taps[0].count(kind.Emit)-asked, 0)
		got, err = replies(n.ToSocket(b.id()).EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "a socket of a peer", got, "b:later")
		got, err = replies(n.To("r").Volatile().EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "volatile", got, "a:at once b:later c:at once")
		got, err = replies(n.To("nothing").EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "unknown room", got, "")
		ns, err := n.Of("only here")
		ok(t, err)
		got, err = replies(ns.Everyone().EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "a namespace that peers do not have", got, "")
	})
}

func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		a := connectClient(t, nodes[0], nil, "r")
		b := connectClient(t, nodes[1], nil, "r")
		connectClient(t, nodes[2], says("ok"), "r")
		slow := connectClient(t, nodes[1], nil, "r")
		slow.fail(crosscast.ErrDropped) // it does not take the message
		n := nodes[0]
		began := time.Now()
		got, err := replies(n.To("r").EmitAck(timeout(t, 2*time.Second), "e", nil), nil)
		equal(t, "replies", got, ":ok")
		silent(t, err, a, b, slow)
		if d := time.Since(began); d > 2*time.Second || d < 1500*time.Millisecond {
			t.Error("took", d)
		}
		// Who closes is given up at once.
		time.AfterFunc(time.Second, func() { a.socket.Load().Close("x"); b.socket.Load().Close("x") })
		began = time.Now()
		_, err = replies(n.To("r").EmitAck(ctx, "e", nil), nil)
		silent(t, err, a, b, slow)
		equal(t, "took", time.Since(began), time.Second)
		// Where a whole node says nothing, it is named, not its sockets.
		taps[1].loseAnswers()
		_, err = replies(n.To("r").EmitAck(timeout(t, time.Second), "e", nil), nil)
		incomplete(t, err, context.DeadlineExceeded, nodes[1])
	})
}

func TestStrangeReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		var dropped int
		reply := func(s *crosscast.Socket, ack uint64, payload any, want error) {
			t.Helper()
			err := s.Reply(ack, payload)
			if !errors.Is(err, want) || err == nil != (want == nil) {
				t.Errorf("got %v, want %v", err, want)
			}
			if want == crosscast.ErrDropped {
				dropped++
			}
		}
		outsider := connect(t, nodes[1].Namespace, new(recorder))
		var number uint64
		c := connectClient(t, nodes[1], func(s *crosscast.Socket, ack uint64) {
			number = ack
			reply(outsider, ack, "not asked", crosscast.ErrDropped)
			reply(s, ack+1, "wrong number", crosscast.ErrDropped)
			reply(s, ack, strings.Repeat("x", 2<<20), crosscast.ErrTooLarge)
			if err := s.Reply(ack, make(chan int)); err == nil {
				t.Error("a channel was marshalled")
			}
			reply(s, ack, crosscast.Bytes{1, 2}, nil)
			reply(s, ack, "twice", crosscast.ErrDropped)
		}, "r")
		for range 3 {
			a := nodes[0].To("r").EmitAck(ctx, "e", nil)
			for r := range a.All() {
				equal(t, "reply", fmt.Sprint(r), fmt.Sprint(crosscast.Reply{
					Socket: c.id(), Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{1, 2}},
				}))
			}
			ok(t, a.Err())
			reply(c.socket.Load(), number, "late", crosscast.ErrDropped)
		}
		equal(t, "dropped", nodes[1].Stats().Dropped["reply"], uint64(dropped))
	})
}

func TestAckOfALargeRoom(t *testing.T) {
	nodes, _ := threeTaps(t)
	const many = 3000
	for i := range many {
		connectClient(t, nodes[i%3], says(strings.Repeat("x", 200)), "r")
	}
	seen := map[crosscast.SocketID]bool{}
	a := nodes[0].To("r").EmitAck(ctx, "e", nil)
	for r := range a.All() {
		if seen[r.Socket] {
			t.Fatal("twice")
		}
		seen[r.Socket] = true
	}
	ok(t, a.Err())
	equal(t, "replies", len(seen), many)
}

func TestTooManyAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		c := connectClient(t, nodes[1], nil, "r")
		for i := range 4096 {
			nodes[2*(i%2)].To("r").EmitAck(ctx, "e", nil)
		}
		synctest.Wait()
		c.take()
		a := nodes[0].To("r").EmitAck(timeout(t, time.Second), "last", nil)
		for range a.All() {
		}
		failedThere(t, a.Err(), nodes[1], "too busy")
		equal(t, "delivered all the same", c.take(), "last")
		time.Sleep(10 * time.Second)
		c.reply = says("ok")
		got, err := replies(nodes[0].To("r").EmitAck(ctx, "e", nil), nil)
		ok(t, err)
		equal(t, "afterwards", got, ":ok")
	})
}

// Peers that wait for an hour leave room for those that wait for seconds, and all peers some for the node itself.
func TestLongAcksLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		c := connectClient(t, nodes[1], nil, "r")
		long, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		for i := range 4096 {
			nodes[2*(i%2)].To("r").EmitAck(long, "e", nil)
			if i%2048 == 2047 {
				synctest.Wait()
			}
		}
		c.take()
		c.reply = says("ok")
		got, err := replies(nodes[0].To("r").EmitAck(timeout(t, 2*time.Second), "e", nil), nil)
		ok(t, err)
		equal(t, "beside those of an hour", got, ":ok")
		c.reply = nil
		for i := range 4096 {
			nodes[2*(i%2)].To("r").EmitAck(timeout(t, 10*time.Second), "e", nil)
		}
		synctest.Wait()
		c.take()
		c.reply = says("ok")
		got, err = replies(nodes[1].To("r").EmitAck(timeout(t, time.Second), "e", nil), nil)
		ok(t, err)
		equal(t, "its own, beside those of peers", got, ":ok")
	})
}

// A socket that closes has to do with the emissions that wait for it, and with no others.
func TestClosingCostsItsOwnAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		life := func() { connect(t, n.Namespace, silentConn{}, "other").Close(crosscast.ReasonLeft) }
		alone := testing.AllocsPerRun(100, life)
		connect(t, n.Namespace, silentConn{}, "r")
		for range 4000 {
			n.To("r").EmitAck(ctx, "e", nil)
		}
		synctest.Wait()
		if beside := testing.AllocsPerRun(100, life); beside > alone+3 { // a little may differ by chance
			t.Errorf("a socket's life has %v allocations, and %v beside 4,000 acknowledged emissions", alone, beside)
		}
	})
}

// silentConn takes everything.
type silentConn struct{}

func (silentConn) Send(*crosscast.Message) error { return nil }
func (silentConn) Close(crosscast.Reason)        {}

// BenchmarkCloseBesideAcks is a socket's life beside acknowledged emissions to another one.
func BenchmarkCloseBesideAcks(b *testing.B) {
	for _, open := range []int{0, 4000} {
		b.Run(fmt.Sprint(open), func(b *testing.B) {
			n := start(b, crosscast.Options{})
			connect(b, n.Namespace, silentConn{}, "r")
			c, cancel := context.WithCancel(ctx)
			for range open {
				n.To("r").EmitAck(c, "e", nil)
			}
			b.ReportAllocs()
			for b.Loop() {
				connect(b, n.Namespace, silentConn{}).Close(crosscast.ReasonLeft)
			}
			cancel()
			n.Close(ctx)
		})
	}
}

// BenchmarkEmitAck is an acknowledged emission to many, who reply at once.
func BenchmarkEmitAck(b *testing.B) {
	n := start(b, crosscast.Options{})
	for range 1000 {
		c := &ackClient{reply: says("ok")}
		c.socket.Store(connect(b, n.Namespace, c, "r"))
	}
	b.ReportAllocs()
	for b.Loop() {
		a := n.To("r").EmitAck(ctx, "e", nil)
		for range a.All() {
		}
	}
}

// Whether the asker or the one who was asked closes: the question ends at once.
func TestCloseDuringAnAck(t *testing.T) {
	for closing := range 2 {
		synctest.Test(t, func(t *testing.T) {
			nodes, _ := threeTaps(t)
			connectClient(t, nodes[0], nil, "r")
			connectClient(t, nodes[1], nil, "r")
			time.AfterFunc(time.Second, func() { ok(t, nodes[closing].Close(ctx)) })
			began := time.Now()
			_, err := replies(nodes[0].To("r").EmitAck(timeout(t, 10*time.Second), "e", nil), nil)
			if err == nil {
				t.Error("complete without a reply")
			}
			if closing == 0 {
				equal(t, "took", time.Since(began), time.Second)
			}
		})
	}
}

// Whoever collects the replies on a foreign wire is told first how many there may be.
func TestAnswerToEmissionBeginsWithCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		var answers log
		d.onPublish = func(inst *crosscast.Instruction) {
			if a := inst.Answer; inst.Kind == kind.Answer {
				answers.add("%d: count %d, %d replies, last: %v", a.Part, a.Count, len(a.Replies), a.Last)
			}
		}
		later := func(s *crosscast.Socket, ack uint64) {
			time.AfterFunc(time.Second, func() { s.Reply(ack, strings.Repeat("x", limit.Answer)) })
		}
		connectClient(t, n, says("at once"), "both", "one")
		connectClient(t, n, later, "both")
		deaf := connectClient(t, n, nil, "both")
		deaf.fail(crosscast.ErrDropped)
		for _, try := range []struct{ room, want string }{
			{"both", "0: count 2, 2 replies, last: false; 1: count 0, 1 replies, last: true"},
			{"one", "0: count 1, 1 replies, last: true"},
			{"none", "0: count 0, 0 replies, last: true"},
		} {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Emit, Namespace: "/", From: "aaaaaaaa", Ref: "1", Event: "e", TTL: 3 * time.Second,
				Target: crosscast.Target{Rooms: []string{try.room}},
			})
			time.Sleep(3 * time.Second)
			equal(t, try.room, answers.take(), try.want)
		}
	})
}

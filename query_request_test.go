package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// asks reads the responses to a request, each as the node's number and text.
func asks(nodes []*crosscast.Node, a *crosscast.Answers[crosscast.Response]) (string, error) {
	var texts []string
	for r := range a.All() {
		for i, n := range nodes {
			if n.ID() == r.Node {
				texts = append(texts, fmt.Sprint(i, ":", string(r.Payload.Data)))
			}
		}
	}
	return sorted(texts), a.Err()
}

func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		var l log
		for i, n := range nodes {
			ok(t, n.OnRequest("echo", func(_ context.Context, r *crosscast.Request) (any, error) {
				equal(t, "from", r.From, nodes[0].ID())
				l.add("%d %s%s %s", i, r.Namespace, r.Name, r.Payload.Data)
				return r.Payload, nil
			}))
		}
		connect(t, nodes[2].Namespace, new(recorder), "r")
		s := nodes[0].Servers()
		b, c := nodes[1].ID(), nodes[2].ID()
		for _, q := range []struct {
			name    string
			servers crosscast.Servers
			want    string
		}{
			{"all", s, "1:7 2:7"},
			{"one", s.Only(b), "1:7"},
			{"several", s.Only(b, c, b), "1:7 2:7"},
			{"narrowed twice", s.Only(b, c).Only(c), "2:7"},
			{"nobody", s.Only(), ""},
			{"with a room", s.With("r", "s"), "2:7"},
			{"with a room that nobody is in", s.With("s"), ""},
			{"with no room", s.With(), ""},
			{"one, with a room it has not", s.Only(b).With("r"), ""},
		} {
			got, err := asks(nodes, q.servers.Ask(ctx, "echo", 7))
			ok(t, err)
			equal(t, q.name, got, q.want)
		}
		l.take()
		ok(t, s.Only(c).Tell(ctx, "echo", "told"))
		synctest.Wait()
		equal(t, "told", l.take(), `2 /echo "told"`)
		other, err := nodes[0].Of("/other/")
		ok(t, err)
		ok(t, other.Servers().Only(c).Tell(ctx, "echo", "told"))
		synctest.Wait()
		equal(t, "told in a namespace", l.take(), `2 /other/echo "told"`)
		ok(t, s.Tell(ctx, "nothing", nil))
		ok(t, s.Only().Tell(ctx, "echo", nil))
		synctest.Wait()
		equal(t, "told", l.take(), "")
		equal(t, "answers", taps[1].count(kind.Answer), 6) // a told request has none

		got, err := asks(nodes, s.Only(b, "strange1", nodes[0].ID()).Ask(ctx, "echo", 1))
		equal(t, "known ones", got, "1:1")
		var e *crosscast.IncompleteError
		if !errors.As(err, &e) || len(e.Missing) != 2 || !strings.Contains(err.Error(), "node strange1: not known") {
			t.Error(err)
		}
		ok(t, nodes[1].OnRequest("echo", nil))
		got, err = asks(nodes, s.Ask(ctx, "echo", 1))
		equal(t, "with the handler", got, "2:1")
		failedThere(t, err, nodes[1], `no handler for "echo"`)
		if err := nodes[0].OnRequest("", nil); !errors.Is(err, crosscast.ErrInvalidName) {
			t.Error(err)
		}
		for _, a := range []*crosscast.Answers[crosscast.Response]{
			s.Ask(ctx, "", nil), s.With("").Ask(ctx, "echo", nil), s.Ask(ctx, "echo", make(chan int)),
		} {
			if got, err := asks(nodes, a); err == nil || got != "" {
				t.Error(got, err)
			}
		}
	})
}

func TestHandlersThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		never := make(chan struct{})
		for name, h := range map[string]func(context.Context, *crosscast.Request) (any, error){
			"error":  func(context.Context, *crosscast.Request) (any, error) { return nil, errors.New("no luck") },
			"panic":  func(context.Context, *crosscast.Request) (any, error) { panic("no luck") },
			"exit":   func(context.Context, *crosscast.Request) (any, error) { runtime.Goexit(); return nil, nil },
			"value":  func(context.Context, *crosscast.Request) (any, error) { return make(chan int), nil },
			"large":  func(context.Context, *crosscast.Request) (any, error) { return make(crosscast.Bytes, 2<<20), nil },
			"silent": func(context.Context, *crosscast.Request) (any, error) { return nil, errors.New("") },
			"never":  func(context.Context, *crosscast.Request) (any, error) { <-never; return 1, nil },
			"patient": func(ctx context.Context, _ *crosscast.Request) (any, error) {
				<-ctx.Done()
				return nil, errors.New("the handler did not return in time")
			},
		} {
			ok(t, nodes[1].OnRequest(name, h))
		}
		b := nodes[0].Servers().Only(nodes[1].ID())
		for name, want := range map[string]string{
			"error": "no luck", "panic": "the handler panicked", "exit": "the handler did not return",
			"value": "crosscast: payload: json: unsupported type: chan int",
			"large": "crosscast: payload of 2097152 bytes (at most 1048576)", "silent": "failed",
			"never": "the handler did not return in time", "patient": "the handler did not return in time",
		} {
			began := time.Now()
			got, err := asks(nodes, b.Ask(timeout(t, 2*time.Second), name, nil))
			equal(t, name, got, "")
			failedThere(t, err, nodes[1], want)
			if d := time.Since(began); d >= 2*time.Second {
				t.Errorf("%s: only at the deadline", name)
			}
		}
		synctest.Wait() // the handlers that were answered for have given up their places
		// A handler that never returns keeps a place of requests. Questions have their own.
		synctest.Wait() // an answer may come before its place is free
		for range 255 {
			ok(t, b.Tell(ctx, "never", nil))
		}
		synctest.Wait()
		_, err := asks(nodes, b.Ask(ctx, "error", nil))
		failedThere(t, err, nodes[1], "too busy")
		_, err = nodes[0].Everyone().Count(ctx)
		ok(t, err)
		// It does not keep Close either, beyond its context.
		if err := nodes[1].Close(timeout(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(never)
	})
}

// What a handler is given is its own, and what it returned may be changed afterwards.
func TestRequestPayloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		buf := []byte("answer")
		ok(t, nodes[1].OnRequest("x", func(_ context.Context, r *crosscast.Request) (any, error) {
			clear(r.Payload.Data)
			return crosscast.Bytes(buf), nil
		}))
		ok(t, nodes[2].OnRequest("x", func(_ context.Context, r *crosscast.Request) (any, error) {
			time.Sleep(time.Second) // until the other has spoiled its own
			return r.Payload, nil
		}))
		given := []byte("question")
		a := nodes[0].Servers().Ask(ctx, "x", crosscast.Bytes(given))
		time.Sleep(2 * time.Second)
		clear(buf)
		equal(t, "question", string(given), "question")
		got, err := asks(nodes, a)
		ok(t, err)
		equal(t, "answers", got, "1:answer 2:question")
	})
}

// The context of a handler ends with its node.
func TestCloseDuringARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		ok(t, nodes[1].OnRequest("x", func(ctx context.Context, _ *crosscast.Request) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		a := nodes[0].Servers().Only(nodes[1].ID()).Ask(timeout(t, time.Minute), "x", nil)
		synctest.Wait()
		began := time.Now()
		ok(t, nodes[1].Close(ctx))
		for range a.All() {
		}
		ok(t, a.Err()) // who has left is not missed
		equal(t, "took", time.Since(began), 0)
	})
}

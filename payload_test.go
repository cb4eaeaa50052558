package crosscast_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// marshals is a value whose MarshalJSON returns what it says.
type marshals string

func (m marshals) MarshalJSON() ([]byte, error) { return []byte(m), nil }

// What is no JSON in UTF-8 goes nowhere: a websocket client that gets it ends its connection.
func TestPayloadsThatAreNotUTF8AreRefused(t *testing.T) {
	raw := json.RawMessage("{\"text\":\"\xff\"}")
	payloads := map[string]any{
		"raw":        raw,
		"payload":    crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: raw},
		"in struct":  struct{ Text json.RawMessage }{raw},
		"in map":     map[string]any{"a": []any{raw}},
		"marshaller": []marshals{"\"\xc3\""},
		"surrogate":  json.RawMessage("\"\xed\xa0\x80\""),
		"no bytes":   crosscast.Payload{Encoding: crosscast.EncodingJSON},
	}
	cluster := crosscast.NewCluster()
	n := start(t, crosscast.Options{Adapter: cluster.Adapter()})
	peer := start(t, crosscast.Options{Adapter: cluster.Adapter()})
	var r recorder
	s := connect(t, n.Namespace, &r, "room")
	for name, p := range payloads {
		refused := func(what string, err error) {
			t.Helper()
			if err == nil || errors.Is(err, crosscast.ErrClosed) {
				t.Errorf("%s, %s: got %v", name, what, err)
			}
		}
		refused("Emit", n.To("room").Emit(ctx, "e", p))
		_, err := n.To("room").Deliver(ctx, "e", p)
		refused("Deliver", err)
		refused("Socket.Emit", s.Emit(ctx, "e", p))
		refused("EmitAck", readOut(n.To("room").EmitAck(ctx, "e", p)))
		refused("Tell", n.Servers().Tell(ctx, "e", p))
		refused("Ask", readOut(n.Servers().Ask(ctx, "e", p)))
		refused("Reply", s.Reply(1, p))
		_, err = n.Encode(p)
		refused("Encode", err)
		_, isPayload := p.(crosscast.Payload)
		if isPayload { // as Data it is a struct like any other
			continue
		}
		_, err = n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{Data: p})
		refused("Data", err)
		_, err = n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{Handshake: p})
		refused("Handshake", err)

		ok(t, peer.OnRequest("answer", func(context.Context, *crosscast.Request) (any, error) { return p, nil }))
		var remote *crosscast.RemoteError
		if err := readOut(n.Servers().Ask(ctx, "answer", nil)); !errors.As(err, &remote) {
			t.Errorf("%s, answer: got %v", name, err)
		}
	}
	equal(t, "got", r.take(), "")
	ok(t, n.To("room").Emit(ctx, "e", map[string]string{"text": "\xff"})) // which encoding/json makes UTF-8 of
	equal(t, "got", r.take(), "e")
}

// A bare []byte might be JSON or binary, so it goes nowhere, and the error names both ways out.
func TestBareBytesAreRefused(t *testing.T) {
	cluster := crosscast.NewCluster()
	n := start(t, crosscast.Options{Adapter: cluster.Adapter()})
	peer := start(t, crosscast.Options{Adapter: cluster.Adapter()})
	var r recorder
	s := connect(t, n.Namespace, &r, "room")
	for _, p := range [][]byte{[]byte(`{"a":1}`), {}, nil} {
		refused := func(what string, err error) {
			t.Helper()
			if text := fmt.Sprint(err); !strings.Contains(text, "crosscast.Bytes(b)") || !strings.Contains(text, "json.RawMessage(b)") {
				t.Errorf("%q, %s: got %v", p, what, err)
			}
		}
		refused("Emit", n.To("room").Emit(ctx, "e", p))
		_, err := n.To("room").Deliver(ctx, "e", p)
		refused("Deliver", err)
		refused("Socket.Emit", s.Emit(ctx, "e", p))
		refused("EmitAck", readOut(n.To("room").EmitAck(ctx, "e", p)))
		refused("Tell", n.Servers().Tell(ctx, "e", p))
		refused("Ask", readOut(n.Servers().Ask(ctx, "e", p)))
		refused("Reply", s.Reply(1, p))
		_, err = n.Encode(p)
		refused("Encode", err)
		ok(t, peer.OnRequest("answer", func(context.Context, *crosscast.Request) (any, error) { return p, nil }))
		refused("answer", readOut(n.Servers().Ask(ctx, "answer", nil)))
	}
	equal(t, "got", r.take(), "")
	ok(t, n.To("room").Emit(ctx, "e", crosscast.Bytes{0, 1}))
	equal(t, "got", r.take(), "e")
}

// readOut reads answers to their end.
func readOut[T any](a *crosscast.Answers[T]) error {
	for range a.All() {
	}
	return a.Err()
}

// framesCounted counts what it frames.
type framesCounted struct{ n *atomic.Int32 }

func (f framesCounted) Frame(m *crosscast.Message) ([]byte, error) {
	f.n.Add(1)
	return crosscast.JSONEnvelope{}.Frame(m)
}

// What a peer publishes is checked before anybody gets it, where there is anybody. That message alone is dropped, and is
// a gap.
func TestPayloadsOfPeersThatAreNotJSONAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var l log
		var lines strings.Builder
		n := start(t, crosscast.Options{
			Adapter: d, Logger: slog.New(slog.NewTextHandler(&lines, nil)),
			OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
				l.add("%s of %s: %s", g.Reason, g.Origin, sorted(addressTexts(g.Names)))
			},
		})
		var framed atomic.Int32
		for range 3 {
			var taken atomic.Int32
			q := crosscast.NewQueue(func([]byte) error { taken.Add(1); return nil },
				crosscast.QueueOptions{Framer: framesCounted{&framed}})
			connectUser(t, n.Namespace, q, "u", "room")
		}
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("message %s", m.Payload.Data) },
			OnGap:     func(_ *crosscast.Subscription, g crosscast.Gap) { l.add("gap") },
		}, "room")
		ok(t, err)
		emit := func(target crosscast.Target, payload string) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Emit, Namespace: "/", From: "aaaaaaaa", Event: "e", Target: target,
				Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(payload)},
			})
			synctest.Wait()
		}
		room := crosscast.Target{Rooms: []string{"room"}}
		d.log.take()
		for _, payload := range []string{"\"\xff\"", `{"a":}`, "", "1]"} {
			emit(room, payload)
			equal(t, fmt.Sprintf("of %q", payload), l.take(), "invalid of aaaaaaaa: room; gap")
		}
		emit(crosscast.Target{Users: []string{"u"}}, "nope")
		equal(t, "of a user", l.take(), "invalid of aaaaaaaa: @u")
		emit(crosscast.Target{Everyone: true}, "nope")
		equal(t, "of everyone", l.take(), "invalid of aaaaaaaa: *; gap")
		equal(t, "asked who is there", d.log.take(), "")
		emit(crosscast.Target{Rooms: []string{"other"}}, "nope")
		equal(t, "of nobody", l.take(), "")
		equal(t, "framed", framed.Load(), 0)
		emit(room, `"fine"`)
		equal(t, "after it", l.take(), `message "fine"`)
		equal(t, "framed", framed.Load(), 1)
		s := n.Stats()
		equal(t, "dropped", s.Dropped["invalid"], 6)
		equal(t, "gaps", s.GapReasons[reasons.GapInvalid], 6)
		equal(t, "a flood makes one line", strings.Count(lines.String(), "no JSON"), 1)

		answers := make(map[string]string)
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Answer {
				answers[inst.Ref] = inst.Answer.Err
			}
		}
		called := false
		ok(t, n.OnRequest("e", func(context.Context, *crosscast.Request) (any, error) { called = true; return nil, nil }))
		for k, ref := range map[kind.Kind]string{kind.Emit: "emission", kind.Request: "request"} {
			d.h.Handle(&crosscast.Instruction{
				Kind: k, Namespace: "/", From: "aaaaaaaa", Event: "e", Target: crosscast.Target{Everyone: true}, Ref: ref,
				Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("nope")},
			})
		}
		synctest.Wait()
		const why = "the payload is not valid JSON in UTF-8"
		equal(t, "acknowledged emission", answers["emission"], why)
		equal(t, "request", answers["request"], why)
		equal(t, "the handler was called", called, false)
		equal(t, "framed", framed.Load(), 1)
	})
}

// An answer with JSON that is none does not reach who asked: it is as if its node had failed.
func TestAnswersThatAreNotJSONAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := []byte("\"\xff\"")
		payload := crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: bad}
		for name, a := range map[string]crosscast.Answer{
			"payload":   {Last: true, Handled: true, Payload: payload},
			"reply":     {Last: true, Replies: []crosscast.Reply{{Socket: "s", Payload: payload}}},
			"data":      {Last: true, Sockets: []crosscast.SocketInfo{{ID: "s", Data: bad}}},
			"handshake": {Last: true, Sockets: []crosscast.SocketInfo{{ID: "s", Handshake: bad}}},
		} {
			d := newDriver(t)
			n := start(t, crosscast.Options{Adapter: d})
			d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: "aaaaaaaa", Namespace: "/"})
			d.onPublish = func(inst *crosscast.Instruction) {
				if inst.Ref != "" && inst.Kind != kind.Answer {
					d.h.Handle(&crosscast.Instruction{
						Kind: kind.Answer, Namespace: "/", From: "aaaaaaaa", To: n.ID(), Ref: inst.Ref, Answer: &a,
					})
				}
			}
			got := 0
			answers := n.Servers().Ask(ctx, "e", nil)
			for range answers.All() {
				got++
			}
			var remote *crosscast.RemoteError
			if err := answers.Err(); !errors.As(err, &remote) || got != 0 {
				t.Errorf("%s: got %d answers, %v", name, got, err)
			}
			equal(t, name+": dropped", n.Stats().Dropped["invalid"], 1)
			ok(t, n.Close(ctx))
		}
	})
}

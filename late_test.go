package crosscast_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// Who asks, and still waits, is told that its question came too late. Emissions are delivered all the same.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		var r recorder
		s := connect(t, n.Namespace, &r, "r")
		ok(t, n.OnRequest("e", func(context.Context, *crosscast.Request) (any, error) {
			r.Send(&crosscast.Message{Event: "request"})
			return nil, nil
		}))
		answers := make(map[string]string)
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Answer && inst.Answer.Last {
				answers[inst.Ref] = inst.Answer.Err
			}
		}
		everyone := crosscast.Target{Everyone: true}
		handle := func(inst crosscast.Instruction) {
			inst.Namespace, inst.From, inst.Target, inst.Event = "/", "aaaaaaaa", everyone, "e"
			d.h.Handle(&inst)
			synctest.Wait()
		}
		for _, inst := range []crosscast.Instruction{
			{Kind: kind.Request, Ref: "request"},
			{Kind: kind.Join, Rooms: []string{"x"}, Ref: "join"},
			{Kind: kind.Disconnect, Ref: "disconnect"},
			{Kind: kind.Ask, Question: &crosscast.Question{Kind: kind.AskCount}, Ref: "ask"},
		} {
			inst.TTL, inst.Late = 2*time.Second, 2*time.Second
			handle(inst)
			equal(t, inst.Ref+" too late", answers[inst.Ref], "expired")
			equal(t, "did", r.take()+strings.Join(s.Rooms(), " "), "r")
			if inst.Kind == kind.Disconnect {
				continue
			}
			inst.Late = time.Second
			handle(inst)
			equal(t, inst.Ref+" in time", answers[inst.Ref], "")
			s.Leave("x")
			r.take()
		}
		handle(crosscast.Instruction{Kind: kind.Emit, Ref: "emission", TTL: time.Second, Late: time.Hour})
		equal(t, "got", r.take(), "e")
		handle(crosscast.Instruction{Kind: kind.Request, Late: time.Hour})
		equal(t, "told", r.take(), "request")
		handle(crosscast.Instruction{Kind: kind.Disconnect, Late: time.Hour})
		equal(t, "closed", r.reasons(), "closed by the server")
		equal(t, "expired", n.Stats().Dropped["expired"], 4)

		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: "aaaaaaaa", Namespace: "/"})
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Request {
				d.h.Handle(&crosscast.Instruction{
					Kind: kind.Answer, Namespace: "/", From: "aaaaaaaa", To: n.ID(), Ref: inst.Ref,
					Answer: &crosscast.Answer{Last: true, Err: answers["request"]},
				})
			}
		}
		answers["request"] = "expired"
		if err := readOut(n.Servers().Ask(ctx, "e", nil)); !errors.Is(err, crosscast.ErrExpired) {
			t.Errorf("who asked too late: %v", err)
		}
		if answers["request"] = "failed"; errors.Is(readOut(n.Servers().Ask(ctx, "e", nil)), crosscast.ErrExpired) {
			t.Error("another error is taken for it")
		}
	})
}

// Whoever may publish on the bus can command: what peers command shows, and a flood of it does not fill the log.
func TestCommandsOfPeersShow(t *testing.T) {
	d := newDriver(t)
	var lines strings.Builder
	n := start(t, crosscast.Options{Adapter: d, Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	for k, times := range map[kind.Kind]int{
		kind.Join: 2, kind.Leave: 3, kind.Disconnect: 100,
	} {
		for range times {
			d.h.Handle(&crosscast.Instruction{
				Kind: k, Namespace: "/x", From: "stranger", Reason: "because",
				Target: crosscast.Target{Rooms: []string{"a", "b", "c", "d"}},
			})
		}
	}
	commands := n.Stats().Commands
	equal(t, "joins", commands.Joins, 2)
	equal(t, "leaves", commands.Leaves, 3)
	equal(t, "disconnects", commands.Disconnects, 100)
	log := lines.String()
	equal(t, "lines", strings.Count(log, "\n"), 3)
	for _, text := range []string{"command=disconnect", "from=stranger", "namespace=/x", "and 1 more", "reason=because"} {
		if !strings.Contains(log, text) {
			t.Errorf("no %s in %s", text, log)
		}
	}
}

// A name that the adapter cannot carry is refused before this node's sockets get anything.
func TestNamesThatTheAdapterCannotCarry(t *testing.T) {
	n := start(t, crosscast.Options{Adapter: selective{foreignDriver{newDriver(t), true}}})
	var r recorder
	s := connect(t, n.Namespace, &r, "r")
	for what, err := range map[string]error{
		"room":   n.To("r", "\xff").Emit(ctx, "e", nil),
		"user":   n.To("r").ToUser("\xff").Emit(ctx, "e", nil),
		"except": n.To("r").Except("\xff").Emit(ctx, "e", nil),
		"event":  n.To("r").Emit(ctx, "\xff", nil),
		"ack":    readOut(n.To("r").EmitAck(ctx, "\xff", nil)),
		"join":   n.To("r").Join(ctx, "\xff"),
		"target": n.To("r", "\xff").Disconnect(ctx, crosscast.ReasonServer),
	} {
		if !errors.Is(err, crosscast.ErrInvalidName) {
			t.Errorf("%s: %v", what, err)
		}
	}
	equal(t, "got", r.take(), "")
	equal(t, "rooms", strings.Join(s.Rooms(), " "), "r")
	ok(t, n.To("r", "é").Emit(ctx, "e", nil))
	equal(t, "got", r.take(), "e")
}

package socketioadapter_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

// gapped keeps the reported gaps.
type gapped struct {
	*tally
	gaps chan crosscast.Gap
}

func (g gapped) Gap(gap crosscast.Gap) { g.gaps <- gap }

// TestRevokedChannels: those of a room and of a namespace are denied while they are subscribed, and allowed again. Of the
// namespace one channel of several is enough.
func TestRevokedChannels(t *testing.T) {
	for name, tt := range map[string]struct {
		o       socketioadapter.Options
		allowed []any
	}{
		"classic": {classic, []any{"&socket.io#/#", "&socket.io#/#[^.]*", "&socket.io-re*", "&socket.io#/n#[^.]*"}},
		"sharded": {socketioadapter.Options{Mode: socketioadapter.Sharded}, []any{"&socket.io#/#", "&socket.io#/#[^.]*", "&socket.io#/n#[^.]*"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw &* +@all"}})
			admin := s.Client()
			acl := func(channels ...any) {
				t.Helper()
				must(t, admin.Do(t.Context(), append([]any{"acl", "setuser", "alice", "resetchannels"}, channels...)...).Err())
			}
			o := s.Options()
			o.Username, o.Password = "alice", "pw"
			b := socketioadapter.New(redistest.Client(t, o), tt.o)
			h := gapped{&tally{got: make(map[string]int)}, make(chan crosscast.Gap, 100)}
			ctx := redistest.Within(t, 2*redistest.Patience)
			must(t, b.Start(ctx, starting(crosscast.NodeInfo{ID: crosscast.NodeID(rand.Text()[:8]), Heartbeat: time.Second}, h)))
			t.Cleanup(func() { must(t, b.Close(redistest.Within(t, redistest.Patience))) })
			room := func(name string) crosscast.Address {
				return crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name}
			}
			ns := crosscast.Address{Namespace: "/n", Space: crosscast.SpaceNamespace}
			must(t, b.Subscribe(ctx, room("A"), room(".R"), ns))
			next := func() crosscast.Gap {
				t.Helper()
				select {
				case g := <-h.gaps:
					return g
				case <-ctx.Done():
					t.Fatal("no gap")
				}
				panic("unreachable")
			}

			acl(tt.allowed...)
			lost, denied := next(), next()
			if lost.Reason != reasons.GapLinkLost || denied.Reason != reasons.GapDenied || !denied.Until.IsZero() ||
				len(denied.Names) != 2 || !denied.Covers(room(".R")) || !denied.Covers(ns) {
				t.Fatalf("gaps %+v and %+v", lost, denied)
			}
			var e *crosscast.NamesError
			if err := b.Subscribe(ctx, ns, room("A"), room(".R")); !errors.As(err, &e) || len(e.Failed) != 2 ||
				!errors.Is(e.Failed[ns], crosscast.ErrDenied) || !errors.Is(e.Failed[room(".R")], crosscast.ErrDenied) {
				t.Errorf("Subscribe: %v", err)
			}
			acl("&*")
			if g := next(); g.Reason != reasons.GapDenied || g.Until.IsZero() || !g.Since.Equal(denied.Since) || len(g.Names) != 2 {
				t.Errorf("gap %+v, want the end of %+v", g, denied)
			}
			must(t, b.Subscribe(ctx, ns, room(".R")))
			a := bare(t, s.Client(), tt.o, false)
			eventually(t, "the room is heard", func() bool {
				target := crosscast.Target{Rooms: []string{".R"}}
				must(t, a.Publish(ctx, &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", Target: target, Event: "e"}))
				return h.count("e") > 0
			})
		})
	}
}

// TestWhatMayNotBePublished: if a server does not let a node publish, that is an error of Start or of the call, or a
// loss. A query that cannot be answered is incomplete. Nothing is silent.
func TestWhatMayNotBePublished(t *testing.T) {
	ctx := redistest.Within(t, 2*redistest.Patience)
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw &socket.io* +@all"}})
	o := s.Options()
	o.Username, o.Password = "alice", "pw"
	allow := func(channels ...string) {
		t.Helper()
		rules := []any{"acl", "setuser", "alice", "clearselectors", "-publish"}
		if len(channels) > 0 {
			rules = append(rules, "(+publish &"+strings.Join(channels, " &")+")")
		}
		must(t, s.Client().Do(ctx, rules...).Err())
	}
	losses := make(chan crosscast.Loss, 100)
	start := func(change ...func(o *crosscast.Options)) (*crosscast.Node, error) {
		no := crosscast.Options{
			Adapter: socketioadapter.New(redistest.Client(t, o), classic),
			OnLoss:  func(_ *crosscast.Node, l crosscast.Loss) { losses <- l },
		}
		for _, c := range change {
			c(&no)
		}
		n, err := crosscast.Start(ctx, no)
		if err == nil {
			t.Cleanup(func() { n.Close(redistest.Within(t, redistest.Patience)) })
		}
		return n, err
	}
	wantLoss := func(what string) {
		t.Helper()
		select {
		case l := <-losses:
			if !errors.Is(l.Err, crosscast.ErrDenied) || !errors.Is(l.Err, crosscast.ErrRefused) {
				t.Errorf("%s: %+v", what, l)
			}
		case <-ctx.Done():
			t.Fatalf("%s: no loss", what)
		}
	}
	emitter := func(o *crosscast.Options) { o.EmitOnly = true }

	for name, channels := range map[string][]string{
		"nothing": nil, "all but its own answers": {"socket.io#*", "socket.io-request#*"},
	} {
		allow(channels...)
		for _, change := range []func(*crosscast.Options){func(*crosscast.Options) {}, emitter} {
			if _, err := start(change); !errors.Is(err, crosscast.ErrDenied) {
				t.Errorf("%s: Start: %v", name, err)
			}
		}
	}

	allow("socket.io-response#*")
	n, err := start()
	must(t, err)
	own := s.Client().PubSubChannels(ctx, "socket.io-response#/#?*").Val()
	if len(own) != 1 {
		t.Fatalf("the channels of answers: %q", own)
	}
	must(t, n.Emit(ctx, "e", nil))
	wantLoss("an emission to everyone")
	must(t, n.To("r").Emit(ctx, "e", nil))
	wantLoss("an emission to a room")
	if _, err := n.To("r").Deliver(ctx, "e", nil); !errors.Is(err, crosscast.ErrDenied) {
		t.Errorf("Deliver: %v", err)
	}
	wantLoss("Deliver")
	must(t, n.To("r").Join(ctx, "s"))
	wantLoss("a command")
	other := func(o *crosscast.Options) { o.Adapter = socketioadapter.New(s.Client(), classic) }
	m, err := start(other)
	must(t, err)
	brief := func() context.Context { // the peer does not get the query
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	if _, err := n.To("r").Count(brief()); err == nil {
		t.Error("a question that nobody heard: no error")
	}

	allow("socket.io-request#*", own[0])
	if _, err := m.To("r").Count(brief()); err == nil {
		t.Error("a question that was not answered: no error")
	}
	if len(losses) > 0 {
		t.Errorf("a question or an answer is a loss: %+v", <-losses)
	}
}

package socketioadapter_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// gapped keeps the gaps that it is told of.
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
			must(t, b.Start(ctx, crosscast.NodeInfo{ID: crosscast.NewNodeID(), Heartbeat: time.Second}, h))
			t.Cleanup(func() { must(t, b.Close(redistest.Within(t, redistest.Patience))) })
			room := func(name string) crosscast.Address {
				return crosscast.Address{Namespace: "/", Space: crosscast.RoomSpace, Name: name}
			}
			ns := crosscast.Address{Namespace: "/n", Space: crosscast.NamespaceSpace}
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
			if lost.Reason != crosscast.GapLinkLost || denied.Reason != crosscast.GapDenied || !denied.Until.IsZero() ||
				len(denied.Names) != 2 || !denied.Covers(room(".R")) || !denied.Covers(ns) {
				t.Fatalf("gaps %+v and %+v", lost, denied)
			}
			var e *crosscast.NamesError
			if err := b.Subscribe(ctx, ns, room("A"), room(".R")); !errors.As(err, &e) || len(e.Names) != 2 ||
				e.Names[0] != ns || e.Names[1] != room(".R") || !errors.Is(err, crosscast.ErrDenied) {
				t.Errorf("Subscribe: %v", err)
			}
			acl("&*")
			if g := next(); g.Reason != crosscast.GapDenied || g.Until.IsZero() || !g.Since.Equal(denied.Since) || len(g.Names) != 2 {
				t.Errorf("gap %+v, want the end of %+v", g, denied)
			}
			must(t, b.Subscribe(ctx, ns, room(".R")))
			a := bare(t, s.Client(), tt.o, false)
			eventually(t, "the room is heard", func() bool {
				target := crosscast.Target{Rooms: []string{".R"}}
				must(t, a.Publish(ctx, &crosscast.Instruction{Kind: crosscast.KindEmit, Namespace: "/", Target: target, Event: "e"}))
				return h.count("e") > 0
			})
		})
	}
}

package presence_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/presence"
	"github.com/crosscast/crosscast/kind"
)

// mute is an adapter with a peer that never says who is in its rooms. It notes which rooms are not watched any more.
type mute struct {
	h     crosscast.AdapterHandler
	ended chan string
}

func (m *mute) Start(_ context.Context, s crosscast.AdapterStart) error { m.h = s.Handler; return nil }
func (m *mute) Close(context.Context) error                             { return nil }
func (m *mute) Publish(_ context.Context, inst *crosscast.Instruction) error {
	if inst.Kind == kind.Watch && inst.TTL == 0 && len(inst.Rooms) > 0 {
		m.ended <- inst.Rooms[0]
	}
	return nil
}

// TestJoinWhileTheWatchBegins: clients that wait for the same watch do not depend on each other. If the first one leaves,
// the next one begins anew, and who has left does not keep the watch.
func TestJoinWhileTheWatchBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mute{ended: make(chan string, 10)}
		n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: m})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(context.Background())
		peer := crosscast.NodeInfo{ID: "peer0000", Heartbeat: time.Minute}
		m.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		r := roomsOf(n, usual)
		join := func(ctx context.Context, user string) (*client, chan error) {
			c, done := connect(t, n, user, nil, "r"), make(chan error, 1)
			go func() { done <- r.Join(ctx, c.socket, c, "r") }()
			synctest.Wait()
			return c, done
		}
		first, leaves := context.WithCancel(t.Context())
		_, ann := join(first, "ann")
		second, leavesToo := context.WithCancel(t.Context())
		_, bob := join(second, "bob")
		cat, done := join(t.Context(), "cat")
		leavesToo()
		if err := <-bob; !errors.Is(err, context.Canceled) {
			t.Error("the second:", err)
		}
		leaves()
		if err := <-ann; !errors.Is(err, context.Canceled) {
			t.Error("the first:", err)
		}
		_, dan := join(t.Context(), "dan")
		late, leavesLate := context.WithCancel(t.Context())
		_, eve := join(late, "eve")
		leavesLate()
		if err := errors.Join(<-done, <-dan); err != nil {
			t.Error("those who stay:", err)
		}
		if err := <-eve; !errors.Is(err, context.Canceled) {
			t.Error("the last:", err)
		}
		cat.expect(t, "map[ann: bob: cat: dan: eve:]", 1)
		cat.join(t, r, "r") // again, which is no second one
		for len(m.ended) > 0 {
			<-m.ended
		}
		for _, s := range n.Namespace.Members("r") {
			r.Leave(s, "r")
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if len(m.ended) != 1 {
			t.Errorf("%d watches have ended without clients, want 1", len(m.ended))
		}
	})
}

// TestBytesOfThoseWhoHaveLeft: only those who are there count.
func TestBytesOfThoseWhoHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.NewCluster())
		r := roomsOf(n, presence.Config{Gather: time.Millisecond, Most: 1000})
		ann := connect(t, n, "ann", nil, "r")
		ann.join(t, r, "r")
		for i := range 400 { // with 400 KB in all
			c := connect(t, n, fmt.Sprint("u", i), strings.Repeat("x", 1000), "r")
			time.Sleep(2 * time.Millisecond)
			if got, _ := ann.knows(t); !strings.HasPrefix(got, "map[") {
				t.Fatalf("with the %d. user, the client knows only the number", i+1)
			}
			c.socket.Close(crosscast.ReasonServer)
			time.Sleep(2 * time.Millisecond)
		}
		ann.expect(t, "map[ann:]", 1)
	})
}

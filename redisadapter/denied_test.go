package redisadapter_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// TestRevokedChannels: the channels of a room and of a user are denied while they are subscribed, and allowed again. The
// application hears of it at once, and again when it is over; its sockets stay, and other rooms are heard all the time.
func TestRevokedChannels(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw &cc:* +@all"}})
	admin := s.Client()
	acl := func(channels ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), append([]any{"acl", "setuser", "alice", "resetchannels"}, channels...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	a := join(t, "a", s.Client())
	o := s.Options()
	o.Username, o.Password = "alice", "pw"
	var log lines
	b := &member{conn: make(conn, 1<<16), gaps: make(chan crosscast.Gap, 1<<10)}
	var err error
	b.Node, err = crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
		Name: "b", Heartbeat: 250 * time.Millisecond, OnGap: func(_ *crosscast.Node, g crosscast.Gap) { b.gaps <- g },
		Adapter: redisadapter.New(redistest.Client(t, o), redisadapter.Options{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(redistest.Within(t, redistest.Patience)) })
	ctx := redistest.Within(t, 3*redistest.Patience)
	b.socket, err = b.Connect(ctx, b.conn, crosscast.ConnectOptions{User: "bob", Rooms: []string{"room", "R"}})
	if err != nil {
		t.Fatal(err)
	}
	room := crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "R"}
	user := crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "bob"}
	expectGap := func() crosscast.Gap {
		t.Helper()
		select {
		case g := <-b.gaps:
			return g
		case <-time.After(redistest.Patience):
			t.Fatal("no gap")
		}
		panic("unreachable")
	}
	expectDenied := func(g crosscast.Gap) {
		t.Helper()
		if g.Reason != reasons.GapDenied || len(g.Names) != 2 || !g.Covers(room) || !g.Covers(user) {
			t.Fatalf("gap %+v, want one of the room and the user that are denied", g)
		}
	}

	acl("&cc:all", "&cc:n:*", "&cc:r:/:room")
	lost, denied := expectGap(), expectGap()
	expectDenied(denied)
	if lost.Reason != reasons.GapLinkLost || !denied.Until.IsZero() || !denied.Since.Equal(lost.Since) {
		t.Errorf("gaps %+v and %+v", lost, denied)
	}
	if n := b.Stats().Adapter.Denied; n != 2 {
		t.Errorf("%d channels are denied, want 2", n)
	}
	for !strings.Contains(log.String(), "denies") { // what arrives does not wait for the log
		if ctx.Err() != nil {
			t.Fatalf("the log says nothing of a denial:\n%s", log.String())
		}
		time.Sleep(time.Millisecond) // poll
	}
	if s := log.String(); strings.Count(s, "denies") != 1 || !strings.Contains(s, "NOPERM") || !strings.Contains(s, "&cc:*") {
		t.Errorf("the log does not say what the user needs:\n%s", s)
	}
	for range 20 {
		if err := errors.Join(a.To("R").Emit(ctx, "missed", nil), a.ToUser("bob").Emit(ctx, "missed", nil)); err != nil {
			t.Fatal(err)
		}
	}
	hear(t, a, b) // all the others are lost
	if err := b.socket.Join(ctx, "S"); !errors.Is(err, crosscast.ErrDenied) {
		t.Errorf("joining another denied room: %v", err)
	}

	// What is published on such a channel is refused, and says nothing of the others.
	if err := b.To("R").Emit(ctx, "refused", nil); err != nil {
		t.Fatal(err)
	}
	var missing *crosscast.LossError
	if err := b.Flush(ctx); !errors.As(err, &missing) || !slices.ContainsFunc(missing.Losses, func(l crosscast.Loss) bool {
		return slices.Equal(l.Names, []crosscast.Address{room}) && errors.Is(l.Err, crosscast.ErrDenied) &&
			errors.Is(l.Err, crosscast.ErrRefused)
	}) {
		t.Errorf("flush: %v, want that a frame was denied", err)
	}
	if !b.Stats().Connected {
		t.Error("a frame that was denied, and the link counts as down")
	}
	for len(b.conn) > 0 {
		<-b.conn // its own sockets were served
	}

	acl("&cc:*")
	restored := expectGap()
	for restored.Reason != reasons.GapDenied { // losses of its peers
		restored = expectGap()
	}
	expectDenied(restored)
	if !restored.Since.Equal(denied.Since) || restored.Until.IsZero() {
		t.Errorf("gap %+v, want the end of %+v", restored, denied)
	}
	if err := errors.Join(a.To("R").Emit(ctx, "to the room", nil), a.ToUser("bob").Emit(ctx, "to the user", nil)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"to the room ", "to the user "} {
		b.expect(t, want)
	}
	if n := b.Stats().Adapter.Denied; n > 1 { // the room S, at most
		t.Errorf("%d channels are denied", n)
	}
}

package socketioadapter_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// inbox is a crosscast.Conn that keeps the events.
type inbox struct {
	mu  sync.Mutex
	got []string // guarded by mu
}

func (b *inbox) Send(m *crosscast.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, m.Event)
	return nil
}

func (b *inbox) Close(crosscast.Reason) {}

func (b *inbox) has(event string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.got, event)
}

// TestRoomsOfOthers: a client that chooses its rooms receives no emissions for another user or socket.
func TestRoomsOfOthers(t *testing.T) {
	ctx := redistest.Within(t, redistest.Patience)
	rdb := redistest.Client(t, redistest.Mini(t)())
	open := func(o socketioadapter.Options) *crosscast.Node {
		n, err := crosscast.Start(ctx, crosscast.Options{Adapter: socketioadapter.New(rdb, o)})
		must(t, err)
		t.Cleanup(func() { must(t, n.Close(context.WithoutCancel(ctx))) })
		return n
	}
	n, other := open(socketioadapter.Options{}), open(socketioadapter.Options{})
	got := new(inbox)
	s, err := n.Connect(ctx, got, crosscast.ConnectOptions{User: "u1", Rooms: []string{"user:u1"}})
	must(t, err)
	victim, err := other.Connect(ctx, new(inbox), crosscast.ConnectOptions{User: "u9"})
	must(t, err)

	for _, room := range []string{
		"user:u9", "user:nobody", "user:u1 ", string(victim.ID()), "aaaaaaaaaaaaaaaaaaaa", "AZaz09-_AZaz09-_AZ09",
	} {
		if err := s.Join(ctx, "fine", room); !errors.Is(err, crosscast.ErrInvalidName) || !strings.Contains(err.Error(), room) {
			t.Errorf("%q: %v", room, err)
		}
		_, err := n.Connect(ctx, new(inbox), crosscast.ConnectOptions{Rooms: []string{"fine", room}})
		if !errors.Is(err, crosscast.ErrInvalidName) {
			t.Errorf("connecting in %q: %v", room, err)
		}
	}
	if rooms := s.Rooms(); !slices.Equal(rooms, []string{"user:u1"}) {
		t.Errorf("rooms %q", rooms)
	}
	must(t, other.ToUser("u9").Emit(ctx, "u9's", nil))
	must(t, other.ToSocket(victim.ID()).Emit(ctx, "the socket's", nil))
	must(t, other.ToUser("u1").Emit(ctx, "fence", nil))
	eventually(t, "hearing what is for it", func() bool { return got.has("fence") })
	if got.has("u9's") || got.has("the socket's") {
		t.Errorf("heard %q", got.got)
	}

	// Names that no user or socket can have, the socket's own names, and commands of the application.
	must(t, s.Join(ctx, "user:", "user", "users:u9", "aaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaa:aaaaaaaaa",
		"user:u1", string(s.ID())))
	must(t, n.ToSocket(s.ID()).Join(ctx, "user:u9"))
	_, err = other.ToSocket(s.ID()).Do(ctx, crosscast.Command{Join: []string{string(victim.ID())}})
	must(t, err)
	for _, room := range []string{"user:u9", string(victim.ID())} {
		if !slices.Contains(s.Rooms(), room) {
			t.Errorf("a command to join %s did nothing", room)
		}
	}

	// Another prefix, and permitted rooms.
	own := open(socketioadapter.Options{UserRooms: "u/", AllowNames: func(room string) bool {
		return room == "u/2" || strings.HasPrefix(room, "doc")
	}})
	s, err = own.Connect(ctx, new(inbox), crosscast.ConnectOptions{Rooms: []string{"u/2", "user:u9"}})
	must(t, err)
	must(t, s.Join(ctx, "docaaaaaaaaaaaaaaaaa"))
	for _, room := range []string{"u/3", "aaaaaaaaaaaaaaaaaaaa"} {
		if err := s.Join(ctx, room); !errors.Is(err, crosscast.ErrInvalidName) {
			t.Errorf("%s: %v", room, err)
		}
	}
}

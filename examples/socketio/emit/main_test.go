package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestEmit(t *testing.T) {
	emits := func(t *testing.T, options func() *redis.Options) {
		ctx := redistest.Within(t, redistest.Patience)
		connect := func(user string, rooms ...string) *crosscasttest.Conn {
			node, err := crosscast.Start(ctx, crosscast.Options{
				Adapter: socketioadapter.New(redistest.Client(t, options()), socketioadapter.Options{}),
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := node.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			return crosscasttest.Connect(ctx, t, node.Namespace, crosscast.ConnectOptions{User: user, Rooms: rooms})
		}
		// Three servers, with a client each.
		clients := []*crosscasttest.Conn{connect("u9", "room1"), connect("u10", "room1", "muted"), connect("u11", "room2")}
		url := "redis://" + options().Addr
		emit := func(args ...string) string {
			var out bytes.Buffer
			if err := run(ctx, args, url, &out); err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			return out.String()
		}
		const all, room1, u9, nobody = "u9 u10 u11", "u9 u10", "u9", ""
		for i, tt := range []struct {
			args string
			gets string // the users who do
			what string // the event
			out  string
		}{
			{`-room room1 -event roomMessage {"text":"hi"}`, room1, `roomMessage {"text":"hi"}`, `emitted roomMessage; Redis .* \d`},
			{`-room room1 -room room2 -event a`, all, `a`, ``},
			{`-user u9 -event several 1 "two" [3] null`, u9, `several [1,"two",[3],null]`, `emitted several`},
			{`-user u9 -room muted -event b 0`, room1, `b 0`, ``},
			{`-all -event c true`, all, `c true`, ``},
			{`-all -except muted -except room2 -event d "x"`, u9, `d "x"`, ``},
			{`-room nobody -event e`, nobody, ``, `emitted e; Redis passed it on to 0 subscribers`},
			{`-all -ask`, nobody, ``, `^3 sockets\n$`},
			{`-room room1 -except muted -ask -event f`, u9, `f`, `^1 sockets\nemitted f`},
		} {
			if out := emit(strings.Fields(tt.args)...); !regexp.MustCompile(tt.out).MatchString(out) {
				t.Errorf("%s printed %q, want %s", tt.args, out, tt.out)
			}
			// What comes last shows that nothing else comes: the servers hear everything on one connection.
			fence := fmt.Sprintf("fence%d", i)
			emit("-all", "-event", fence)
			for _, c := range clients {
				c.Event(ctx, fence)
				want := []string{fence}
				if slices.Contains(strings.Fields(tt.gets), c.Socket().User()) {
					want = []string{tt.what, fence}
				}
				c.Want(want...)
			}
		}
	}
	t.Run("miniredis", func(t *testing.T) { emits(t, redistest.Mini(t)) })
	t.Run("redis", func(t *testing.T) { emits(t, redistest.Start(t, redistest.Config{}).Options) })
}

// TestErrors: what cannot be done is said, and nothing is emitted.
func TestErrors(t *testing.T) {
	for args, want := range map[string]string{
		`-event x`:               `to whom?`,
		`-all -room r -event x`:  `to whom?`,
		`-room r`:                `-event is missing`,
		`-room r -ask 1`:         `-event is missing`,
		`-room r -event x hi`:    `hi is not JSON; the text x is '"x"'`,
		`-room r -event x 1 {`:   `{ is not JSON`,
		`-room r -event x -here`: `-here`,
	} {
		err := run(t.Context(), strings.Fields(args), "redis://localhost", io.Discard)
		if err == nil || errors.Is(err, flag.ErrHelp) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	server := redistest.Start(t, redistest.Config{})
	if err := run(t.Context(), []string{"-all", "-event", "connect"}, "redis://"+server.Addr(), io.Discard); err == nil ||
		!strings.Contains(err.Error(), "Socket.IO's own") {
		t.Errorf("a reserved event: %v", err)
	}
	closed := redistest.ClosedPort()
	err := run(t.Context(), []string{"-all", "-ask"}, "redis://:secret@"+closed, io.Discard)
	if err == nil || !strings.Contains(err.Error(), closed) || strings.Contains(err.Error(), "secret") {
		t.Errorf("without Redis: %v", err)
	}
	if err := run(t.Context(), []string{"-all", "-ask"}, "localhost", io.Discard); err == nil ||
		!strings.Contains(err.Error(), "the Redis URL") {
		t.Errorf("with a bad URL: %v", err)
	}
}

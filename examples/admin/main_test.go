package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

func TestEmbedded(t *testing.T) { runAndCheck(t, "") }

func TestRealRedis(t *testing.T) {
	runAndCheck(t, "redis://"+redistest.Start(t, redistest.Config{}).Addr())
}

func runAndCheck(t *testing.T, url string) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-once"}, url, &out); err != nil {
		t.Fatalf("%v\nprinted:\n%s", err, &out)
	}
	for _, want := range []string{
		`3 nodes, 5 sockets of 4 users; rooms: lobby 5\n`, `2 sockets on 2 nodes\n`,
		`(  ann got: how can we help\?\n){2}`, `replies: "bob is", "cid is"\n`, `silent: \S{20}, on node-3\n`,
		`3 sockets, and no answer from node-3\n`, `2 nodes, 3 sockets of 2 users; rooms: lobby 1, support 2\n`,
		`(  (cid|mute) is in the lobby again\n){2}  who is in the lobby, without asking: bob, cid, mute\n  3 nodes, 5 sockets of 4 users; rooms: lobby 3, support 2\n`,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("no %s in:\n%s", want, &out)
		}
	}
}

// TestWrongClaims has the program notice what it is there to notice.
func TestWrongClaims(t *testing.T) {
	redis := miniredis.RunT(t)
	d := newDemo("redis://"+redis.Addr(), io.Discard)
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails := func(step func(context.Context) error, want string) {
		t.Helper()
		if err := step(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if err := d.look(t.Context()); err != nil {
		t.Error(err)
	}
	fails(d.ask, `replies "ann is" "ann is" "bob is" "cid is"`)
	if err := d.connect(t.Context(), "ann", 2); err != nil {
		t.Fatal(err)
	}
	fails(d.look, "the admin sees 3 nodes, 6 sockets of 4 users")
	fails(d.move, "want 2 sockets on 2 nodes")
	if err := d.admin.ToUser("mute").Disconnect(t.Context(), crosscast.ReasonServer); err != nil {
		t.Fatal(err)
	}
	d.servers[1].kill()
	fails(d.lose, "") // two are missing
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.comeBack(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestWatchesUntilInterrupted: without -once the program goes on until its context ends, which is no error.
func TestWatchesUntilInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out := &watched{want: "Ctrl-C ends", seen: interrupt}
	if err := run(ctx, nil, "", out); err != nil {
		t.Errorf("%v\n%s", err, &out.b)
	}
	flag.CommandLine.SetOutput(io.Discard)
	if err := run(t.Context(), []string{"-twice"}, "", io.Discard); err == nil {
		t.Error("a flag that there is not")
	}
	if err := run(t.Context(), nil, "redis://%", io.Discard); err == nil || !strings.Contains(err.Error(), "REDIS_URL") {
		t.Errorf("error %v", err)
	}
}

// watched calls seen when want was written.
type watched struct {
	mu   sync.Mutex
	b    bytes.Buffer
	want string
	seen func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(p), w.want) {
		w.seen()
	}
	return w.b.Write(p)
}

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestUsage also makes the result of the scripts, which run another binary, depend on all of the command.
func TestUsage(t *testing.T) {
	var log strings.Builder
	if code := run([]string{"nothing"}, &log, &log); code != exitUsage || !strings.Contains(log.String(), "nothing") {
		t.Errorf("exit code %d: %s", code, log.String())
	}
}

// TestScripts runs testdata/*.txtar, each with a Redis of its own. Except for nobody.txtar it has these clusters:
//
//   - prefix cc: server-1 with ann, in the rooms lobby and red, and server-2 with ann and bob, in the lobby
//   - prefix other: server-3, with nobody
//   - Socket.IO's wire, with the default key: server-4, with cid in the lobby
//
// "limited" may do what nodes may, in the prefix cc; "blind" the same in all prefixes; "mute" can log in, and nothing else.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(programtest.Build(t, "."), filepath.Join(bin, "crosscast")); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{Users: []string{
				"limited on >secret resetchannels &cc:* +publish +subscribe +unsubscribe",
				"blind on >secret allchannels +publish +subscribe +unsubscribe",
				"mute on >secret resetchannels +ping",
			}})
			w := &world{redis: s}
			if !strings.Contains(file, "nobody") {
				w.fill(t)
			}
			testscript.Run(t, testscript.Params{
				Files: []string{file}, RequireExplicitExec: true,
				Setup: func(env *testscript.Env) error {
					env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
					env.Setenv("REDIS_URL", "redis://"+s.Addr())
					env.Setenv("REDIS", s.Addr())
					env.Setenv("CLOSED", redistest.ClosedPort())
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"code": code, "heard": w.heard, "closed": w.closed, "pause": w.pause, "deaf": w.deaf, "demote": w.demote,
					"config": w.config, "listens": w.listens,
				},
			})
		})
	}
}

// A world is what a script looks into.
type world struct {
	redis   *redistest.Server
	clients []*crosscasttest.Conn
}

func (w *world) fill(t *testing.T) {
	one, two := start(t, w.redis, "server-1", "cc"), start(t, w.redis, "server-2", "cc")
	start(t, w.redis, "server-3", "other")
	four := startAdapter(t, "server-4", socketioadapter.Dial("redis://"+w.redis.Addr(), socketioadapter.Options{}))
	connect := func(n *crosscast.Node, user string, rooms ...string) {
		o := crosscast.ConnectOptions{User: user, Rooms: rooms}
		w.clients = append(w.clients, crosscasttest.Connect(t.Context(), t, n.Namespace, o))
	}
	connect(one, "ann", "lobby", "red")
	connect(two, "ann", "lobby")
	connect(two, "bob", "lobby")
	connect(four, "cid", "lobby")
}

func start(tb testing.TB, s *redistest.Server, name, prefix string) *crosscast.Node {
	return startAdapter(tb, name, redisadapter.Dial("redis://"+s.Addr(), redisadapter.Options{Prefix: prefix}))
}

func startAdapter(tb testing.TB, name string, a crosscast.Adapter) *crosscast.Node {
	n, err := crosscast.Start(tb.Context(), crosscast.Options{Name: name, Adapter: a})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = n.Close(context.Background()) })
	return n
}

// client is the client with a number, from 1.
func (w *world) client(ts *testscript.TestScript, number string) *crosscasttest.Conn {
	i, err := strconv.Atoi(number)
	ts.Check(err)
	return w.clients[i-1]
}

// code N ARGS… runs crosscast, which must exit with the code N.
func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("crosscast", args[1:]...)
	got := "0"
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = strconv.Itoa(exit.ExitCode())
	} else {
		ts.Check(err)
	}
	if got != args[0] {
		ts.Fatalf("exit code %s", got)
	}
}

// heard N EVENT DATA waits until the client N has the event.
func (w *world) heard(ts *testscript.TestScript, _ bool, args []string) {
	m := w.client(ts, args[0]).Event(context.Background(), args[1])
	if got := string(m.Payload.Data); got != args[2] {
		ts.Fatalf("client %s got %s", args[0], got)
	}
}

// closed N REASON waits until the client N is disconnected.
func (w *world) closed(ts *testscript.TestScript, _ bool, args []string) {
	if got := w.client(ts, args[0]).WaitClosed(context.Background()); string(got) != args[1] {
		ts.Fatalf("client %s was closed: %s", args[0], got)
	}
}

// pause stops Redis, until the end of the script.
func (w *world) pause(ts *testscript.TestScript, _ bool, _ []string) {
	w.redis.Pause()
	ts.Defer(w.redis.Resume)
}

// demote makes Redis a replica of nothing that there is.
func (w *world) demote(ts *testscript.TestScript, _ bool, _ []string) {
	w.redis.DemoteTo(redistest.ClosedPort())
}

// config NAME VALUE configures Redis.
func (w *world) config(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(w.redis.Client().ConfigSet(context.Background(), args[0], args[1]).Err())
}

// listens waits until somebody has subscribed to a pattern.
func (w *world) listens(ts *testscript.TestScript, _ bool, _ []string) {
	rdb := w.redis.Client()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // poll
		n, err := rdb.PubSubNumPat(context.Background()).Result()
		ts.Check(err)
		if n > 0 {
			return
		}
		if time.Since(begin) > redistest.Patience {
			ts.Fatalf("nobody has subscribed to a pattern")
		}
	}
}

// deaf CHANNEL has somebody who is no node subscribe.
func (w *world) deaf(ts *testscript.TestScript, _ bool, args []string) {
	ps := w.redis.Client().Subscribe(context.Background(), args[0])
	ts.Defer(func() { _ = ps.Close() })
	_, err := ps.Receive(context.Background())
	ts.Check(err)
}

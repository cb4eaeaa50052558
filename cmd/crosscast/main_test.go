package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/socketioadapter"
	"github.com/crosscast/crosscast/wire"
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
	bin := build(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{Users: []string{
				"limited on >secret resetchannels &cc:* +publish +subscribe +unsubscribe",
				"blind on >secret allchannels +publish +subscribe +unsubscribe",
				"mute on >secret resetchannels +ping",
			}})
			w := &world{url: "redis://" + s.Addr(), redis: s, rdb: s.Client()}
			if !strings.Contains(file, "nobody") {
				w.fill(t)
			}
			w.run(t, bin, file)
		})
	}
}

// TestTopologies runs the script topologies on a Redis Cluster, and on a master that Sentinels name, with the same
// clusters of nodes. On a Redis Cluster server-5 also speaks Socket.IO's sharded wire, with the key sharded, and has dan;
// server-6 has Options.Sharded, with the prefix spread, and has eve. server-7 has Options.Sharded and a seal with the key
// SEAL_KEY, with the prefix sealed.
// The conditions cluster and sentinel say where the script runs.
func TestTopologies(t *testing.T) {
	bin := build(t)
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, 3)
		var addrs []string
		for _, s := range c.Servers {
			addrs = append(addrs, s.Addr())
		}
		w := &world{kind: "cluster", url: "redis+cluster://" + strings.Join(addrs, ","), rdb: c.Client()}
		w.fill(t)
		five := startAdapter(t, "server-5", socketioadapter.Dial(w.url, socketioadapter.Options{Key: "sharded", Mode: socketioadapter.Sharded}))
		six := startAdapter(t, "server-6", redisadapter.Dial(w.url, redisadapter.Options{Prefix: "spread", Sharded: true}))
		startAdapter(t, "server-7", redisadapter.Dial(w.url, redisadapter.Options{
			Prefix: "sealed", Sharded: true, Seal: wire.Seal{Keys: [][]byte{sealKey}, Require: true},
		}))
		w.connect(t, five, "dan", "lobby")
		w.connect(t, six, "eve", "lobby")
		w.run(t, bin, topologies)
	})
	t.Run("sentinel", func(t *testing.T) {
		p := redistest.StartPair(t)
		w := &world{kind: "sentinel", url: "redis+sentinel://" + strings.Join(p.Sentinels, ",") + "/" + p.Options().MasterName, rdb: p.Client()}
		w.fill(t)
		w.run(t, bin, topologies)
	})
}

// build returns a directory with the command.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	if err := os.Symlink(programtest.Build(t, "."), filepath.Join(bin, "crosscast")); err != nil {
		t.Fatal(err)
	}
	return bin
}

// A world is what a script looks into.
type world struct {
	kind    string
	url     string
	redis   *redistest.Server // nil: there are several
	rdb     redis.UniversalClient
	clients []*crosscasttest.Conn
	nodes   []*crosscast.Node // server-1 and server-2
}

var sealKey = bytes.Repeat([]byte{1}, 32)

const topologies = "testdata/topologies/topologies.txtar"

// run runs a script.
func (w *world) run(t *testing.T, bin, file string) {
	testscript.Run(t, testscript.Params{
		Files: []string{file}, RequireExplicitExec: true,
		Condition: func(kind string) (bool, error) { return kind == w.kind, nil },
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("REDIS_URL", w.url)
			if w.redis != nil {
				env.Setenv("REDIS", w.redis.Addr())
			}
			env.Setenv("CLOSED", redistest.ClosedPort())
			env.Setenv("SEAL_KEY", base64.StdEncoding.EncodeToString(sealKey))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": code, "heard": w.heard, "closed": w.closed, "pause": w.pause, "deaf": w.deaf, "demote": w.demote,
			"config": w.config, "listens": w.listens, "dies": w.dies(t), "joins": w.joins(t), "slow": w.slow(t), "acl": w.acl,
		},
	})
}

func (w *world) fill(t *testing.T) {
	one, two := start(t, w.url, "server-1", "cc"), start(t, w.url, "server-2", "cc")
	start(t, w.url, "server-3", "other")
	four := startAdapter(t, "server-4", socketioadapter.Dial(w.url, socketioadapter.Options{}))
	w.nodes = []*crosscast.Node{one, two}
	w.connect(t, one, "ann", "lobby", "red")
	w.connect(t, two, "ann", "lobby")
	w.connect(t, two, "bob", "lobby")
	w.connect(t, four, "cid", "lobby")
}

func (w *world) connect(t *testing.T, n *crosscast.Node, user string, rooms ...string) {
	o := crosscast.ConnectOptions{User: user, Rooms: rooms}
	w.clients = append(w.clients, crosscasttest.Connect(t.Context(), t, n.Namespace, o))
}

func start(tb testing.TB, url, name, prefix string) *crosscast.Node {
	return startAdapter(tb, name, redisadapter.Dial(url, redisadapter.Options{Prefix: prefix}))
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
	ts.Check(w.rdb.ConfigSet(context.Background(), args[0], args[1]).Err())
}

// listens waits until somebody has subscribed to a pattern.
func (w *world) listens(ts *testscript.TestScript, _ bool, _ []string) {
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // poll
		n, err := w.patterns()
		ts.Check(err)
		if n > 0 {
			return
		}
		if time.Since(begin) > redistest.Patience {
			ts.Fatalf("nobody has subscribed to a pattern")
		}
	}
}

// patterns counts the patterns that somebody has subscribed to.
func (w *world) patterns() (int64, error) {
	cluster, ok := w.rdb.(*redis.ClusterClient)
	if !ok {
		return w.rdb.PubSubNumPat(context.Background()).Result()
	}
	var n atomic.Int64
	err := cluster.ForEachMaster(context.Background(), func(ctx context.Context, rdb *redis.Client) error {
		one, err := rdb.PubSubNumPat(ctx).Result()
		n.Add(one)
		return err
	})
	return n.Load(), err
}

// deaf CHANNEL has somebody who is no node subscribe.
func (w *world) deaf(ts *testscript.TestScript, _ bool, args []string) {
	ps := w.rdb.Subscribe(context.Background(), args[0])
	ts.Defer(func() { _ = ps.Close() })
	_, err := ps.Receive(context.Background())
	ts.Check(err)
}

package main

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// dies returns the command dies NAME: a node of the prefix cc is cut off, and the others have lost it.
func (w *world) dies(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		proxy, err := faultproxy.Listen(w.redis.Addr())
		ts.Check(err)
		t.Cleanup(proxy.Close)
		n, err := crosscast.Start(t.Context(), crosscast.Options{
			Name: args[0], Heartbeat: 500 * time.Millisecond,
			Adapter: redisadapter.Dial("redis://"+proxy.Addr(), redisadapter.Options{}),
		})
		ts.Check(err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = n.Close(ctx)
		})
		knows := func(in func(*crosscast.Node) []crosscast.Peer, heard time.Duration) func(*crosscast.Node) bool {
			return func(of *crosscast.Node) bool {
				return slices.ContainsFunc(in(of), func(p crosscast.Peer) bool {
					return p.Name == args[0] && p.Heard.Sub(p.Since) >= heard
				})
			}
		}
		w.await(ts, knows((*crosscast.Node).Nodes, 1)) // it has a heartbeat
		proxy.Refuse()
		proxy.Reset()
		w.await(ts, knows(func(of *crosscast.Node) []crosscast.Peer { return of.Stats().Lost }, 0))
	}
}

// joins returns the command joins NAME PREFIX TOPICS: a node with these Topics, and a client in its room lobby.
func (w *world) joins(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		topics, err := strconv.Atoi(args[2])
		ts.Check(err)
		n := startAdapter(t, args[0], redisadapter.Dial(w.url, redisadapter.Options{Prefix: args[1], Topics: topics}))
		crosscasttest.Connect(t.Context(), t, n.Namespace, crosscast.ConnectOptions{Rooms: []string{"lobby"}})
	}
}

// await waits until server-1 and server-2 are in some state.
func (w *world) await(ts *testscript.TestScript, reached func(*crosscast.Node) bool) {
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // poll
		if !slices.ContainsFunc(w.nodes, func(n *crosscast.Node) bool { return !reached(n) }) {
			return
		}
		if time.Since(begin) > redistest.Patience {
			ts.Fatalf("server-1 and server-2 have not noticed")
		}
	}
}

// slow returns the command slow NAME: a node of the prefix cc has a slow network.
func (w *world) slow(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		proxy := faultproxy.Start(t, w.redis.Addr())
		n := startAdapter(t, args[0], redisadapter.Dial("redis://"+proxy.Addr(), redisadapter.Options{}))
		for _, d := range []faultproxy.Direction{faultproxy.Up, faultproxy.Down} {
			proxy.Set(d, faultproxy.Faults{Delay: 200 * time.Millisecond})
		}
		for begin := time.Now(); n.Stats().Adapter.EchoRoundTrip < slowEcho; time.Sleep(10 * time.Millisecond) { // poll
			if time.Since(begin) > redistest.Patience {
				ts.Fatalf("the node has not noticed")
			}
		}
	}
}

// acl ARGS… changes the access control list, until the end of the script.
func (w *world) acl(ts *testscript.TestScript, _ bool, args []string) {
	command := []any{"acl"}
	for _, a := range args {
		command = append(command, a)
	}
	rdb := w.redis.Client()
	ts.Check(rdb.Do(context.Background(), command...).Err())
	ts.Defer(func() { _ = rdb.Do(context.Background(), "acl", "setuser", "default", "+@all").Err() })
}

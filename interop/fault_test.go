package interop

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
)

// wires are the columns in which faults are tried.
var wires = []column{columns[0], columns[4]}

// TestFaults are clusters under faults, and of other kinds than those of the table. They share their processes.
func TestFaults(t *testing.T) {
	p := startProcesses(t)
	for _, f := range []struct {
		name string
		run  func(*testing.T, *processes)
	}{
		{"Redis dies", redisDies},
		{"a foreign subscriber", foreignSubscriber},
		{"hostile bytes", hostileBytes},
		{"old clients", oldClients},
		{"a Redis Cluster", onRedisCluster},
		{"a server hangs", serverHangs}, // which ends one of the processes
	} {
		t.Run(f.name, func(t *testing.T) { f.run(t, p) })
	}
}

// onWires runs a test on each wire, in a cluster with a Redis of its own.
func onWires(t *testing.T, p *processes, servers [3]string, f func(t *testing.T, c *cell, r *redistest.Server)) {
	for _, col := range wires {
		t.Run(col.name, func(t *testing.T) {
			r := redistest.Start(t, redistest.Config{})
			c := openCell(t, col, makeup{servers, ""}, p, oneServer(r))
			f(t, c, r)
			if !t.Failed() {
				c.leave(t)
			}
		})
	}
}

// hearEachOther checks that everybody hears everybody: an emission of each server reaches all clients.
func (c *cell) hearEachOther(t *testing.T) {
	t.Helper()
	for i, s := range c.servers {
		c.by = s
		c.emit(t, all(), "from", i)
		c.hears(t, ev("from", i), c.opened...)
		c.emit(t, room("r1"), "to r1 from", i)
		c.hears(t, ev("to r1 from", i), c.opened...)
	}
	c.by = c.servers[0]
}

// redisDies: without Redis, clients of the own server hear at once and nothing spins; once it is back, everybody hears
// everybody.
func redisDies(t *testing.T, p *processes) {
	onWires(t, p, [3]string{"Go", "Go", "Node"}, func(t *testing.T, c *cell, r *redistest.Server) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		c.hearEachOther(t)

		r.Kill()
		eventually(t, func() string {
			if c.servers[0].(*goServer).node.Stats().Connected {
				return "the end of Redis goes unnoticed"
			}
			return ""
		})
		began := time.Now()
		if err := c.by.emit(target{volatile: true}, "down", 1); err != nil {
			t.Errorf("emitting without Redis: %v", err)
		}
		cl[0].log.await(t, "down")
		if took := time.Since(began); took > time.Second {
			t.Errorf("a client of the own server heard it after %v", took)
		} else {
			t.Logf("a client of the own server heard it after %v", took)
		}
		before := cpuTime(t)
		time.Sleep(2 * time.Second) // lasts
		used := cpuTime(t) - before
		t.Logf("two Go servers used %v of CPU in 2 s without Redis", used)
		if used > 300*time.Millisecond {
			t.Error("they spin")
		}
		_, err := c.server().fetch(all().within(time.Second))
		if err == nil {
			t.Error("nobody is missed without Redis")
		}

		c.emit(t, all(), "queued", 1)
		r.Restart()
		for _, s := range c.servers {
			eventually(t, func() string {
				n, err := s.count("/")
				if err == nil && n == 3 {
					return ""
				}
				return fmt.Sprintf("%s counts %d, %v", s.name(), n, err)
			})
		}
		c.settle(t)
		c.hears(t, ev("queued", 1), cl[:]...)
		c.hearEachOther(t)
		c.found(t, all(), cl[:]...)
		for _, one := range cl {
			one.replies(t, "test", "reply")
		}
		c.emitAck(t, room("r1").within(long), "test", nil, nil, "reply", "reply", "reply")
		c.hears(t, ev("test"), cl[:]...)
	})
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// serverHangs: a question has the answers of the others when a server does not answer, and is complete without it
// when it is dead.
func serverHangs(t *testing.T, p *processes) {
	test := t
	onWires(t, p, [3]string{"Go", "Node", "Node"}, func(t *testing.T, c *cell, _ *redistest.Server) {
		cl := c.threeIn(t, "/")
		asked := func(name string) any { return map[string]any{"name": name, "args": []any{"q"}} }

		programtest.Pause(t, p.servers[2].cmd.Process.Pid)
		found, err := c.server().fetch(all().within(short))
		if len(found) != 2 || err == nil {
			t.Errorf("found %d and %v", len(found), err)
		}
		replies, err := c.server().serverSideEmitAck(all().within(short), "asked", "q")
		sameReplies(t, replies, asked("server 1"))
		if err == nil {
			t.Error("nobody is missed")
		}

		p.servers[2].signal(t, syscall.SIGCONT)
		c.found(t, all(), cl[:]...)

		p.servers[2].signal(t, syscall.SIGKILL)
		eventually(t, func() string {
			if n, err := c.server().count("/"); n != 2 || err != nil {
				return fmt.Sprintf("%d servers, %v", n, err)
			}
			return ""
		})
		c.found(t, all(), cl[0], cl[1])
		replies, err = c.server().serverSideEmitAck(all(), "asked", "q")
		sameReplies(t, replies, asked("server 1"))
		if err != nil {
			t.Error(err)
		}
		cl[2].log.await(t, "disconnect")
		p.servers[2] = startProcess(test, "server 2", "server.mjs")
	})
}

// foreignSubscriber: who subscribes to the servers' channel and is none is not waited for.
func foreignSubscriber(t *testing.T, p *processes) {
	onWires(t, p, [3]string{"Go", "Node", "Go"}, func(t *testing.T, c *cell, r *redistest.Server) {
		cl := c.threeIn(t, "/")
		for _, one := range cl {
			one.replies(t, "test", "reply")
		}
		rdb := r.Client()
		for _, channel := range channelsOf(t, rdb, c) {
			var spy *redis.PubSub
			if c.sharded {
				spy = rdb.SSubscribe(t.Context(), channel)
			} else {
				spy = rdb.Subscribe(t.Context(), channel)
			}
			defer spy.Close()
			_, err := spy.Receive(t.Context())
			must(t, err)
		}
		c.found(t, all(), cl[:]...)
		c.emitAck(t, all().within(long), "test", nil, nil, "reply", "reply", "reply")
		c.hears(t, ev("test"), cl[:]...)
		replies, err := c.server().serverSideEmitAck(all(), "asked", "q")
		if len(replies) != 2 || err != nil {
			t.Errorf("%v, %v", replies, err)
		}
	})
}

// channelsOf returns the channels that all servers of a cluster hear in "/".
func channelsOf(t *testing.T, rdb *redis.Client, c *cell) (common []string) {
	t.Helper()
	channels, err := rdb.PubSubChannels(t.Context(), "*").Result()
	counts := rdb.PubSubNumSub
	if c.sharded {
		channels, err = rdb.PubSubShardChannels(t.Context(), "*").Result()
		counts = rdb.PubSubShardNumSub
	}
	must(t, err)
	for _, channel := range channels {
		n, err := counts(t.Context(), channel).Result()
		must(t, err)
		if n[channel] == int64(len(c.servers)) && strings.HasSuffix(channel, "#/#") {
			common = append(common, channel)
		}
	}
	if len(common) == 0 {
		t.Fatalf("no channel has all servers: %q", channels)
	}
	return common
}

// hostileBytes: whatever comes on whichever channel, Go servers count it and go on. Node.js servers would not.
func hostileBytes(t *testing.T, p *processes) {
	onWires(t, p, [3]string{"Go", "Go", "Go"}, func(t *testing.T, c *cell, r *redistest.Server) {
		c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		rdb := r.Client()
		publish := rdb.Publish
		channels, err := rdb.PubSubChannels(t.Context(), "*").Result()
		if c.sharded {
			channels, err = rdb.PubSubShardChannels(t.Context(), "*").Result()
			publish = rdb.SPublish
		}
		must(t, err)
		if len(channels) < 3 {
			t.Fatalf("channels %q", channels)
		}
		used := 0
		for _, channel := range channels {
			before := dropped(c)
			var heard int64 // by a server: the name of a namespace that is not in use any more has lingered
			for _, garbage := range hostile() {
				n, err := publish(t.Context(), channel, garbage).Result()
				must(t, err)
				heard += n
			}
			c.settle(t)
			if heard > 0 {
				used++
			}
			if counted := dropped(c) - before; int64(counted) < min(heard, 10) {
				t.Errorf("%s: %d of %d were counted", channel, counted, heard)
			}
		}
		if used < 3 {
			t.Errorf("%d channels are heard", used)
		}
		c.hearEachOther(t)
		c.found(t, all(), c.opened...)
	})
}

// dropped is how many messages the servers of a cluster did not take.
func dropped(c *cell) (n uint64) {
	for _, s := range c.servers {
		stats := s.(*goServer).node.Stats()
		for _, d := range stats.Dropped {
			n += d
		}
		for _, d := range stats.Adapter.Dropped {
			n += d
		}
	}
	return n
}

// hostile are messages that no server sends.
func hostile() []string {
	deep := strings.Repeat("\x91", 100000)
	all := []string{
		"", " ", "{", "{}", "[]", "null", "\xc0", "\x90", "\x93", "\x93\xa1x\x80", "\x93\xa1x\xc0\xc0",
		"\x93\xa1x\x80\x80\x80", "\x93\xa1x\x81\xa4type\x02\x80", "\x93\x01\x82\xa4type\x02\xa4data\x80\x80",
		"\xdf\xff\xff\xff\xff", "\xdd\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff\x01",
		"\x84\xa4type\x03\xa4data\xc0\xa3uid\xa1x\xa3nsp\xa1/", deep, `{"type":5}`,
		`{"type":5,"requestId":"x","opts":null}`, `{"type":5,"requestId":7,"opts":[]}`, `{"type":"5"}`,
		`{"type":-1}`, `{"type":1e99}`, `{"type":6,"uid":"x"}`, `{"type":6,"uid":"x","data":[]}`,
		`{"type":6,"uid":"x","data":[{}]}`, `{"type":2}`, `{"type":2,"uid":"x","opts":{"rooms":[]},"rooms":"r"}`,
		`{"type":4,"opts":{"rooms":7}}`, `{"type":7}`, `{"type":8}`, `{"type":3,"data":{},"uid":"x","nsp":"/"}`,
		`{"type":3,"data":{"opts":{},"packet":{"type":2,"data":[]}},"uid":"x","nsp":"/"}`,
		`{"type":3,"data":{"opts":{"rooms":[{}]},"packet":{"type":2,"data":["e"]}},"uid":"x","nsp":"/"}`,
		`{"type":9,"data":{"packet":[]},"uid":"x","nsp":"/"}`, `{"type":8,"data":null,"uid":"x","nsp":"/"}`,
		`{"type":11,"data":{"requestId":"x","clientCount":1e12},"uid":"x","nsp":"/"}`,
		strings.Repeat(`{"a":`, 50000), `{"requestId":"x","sockets":7}`, `{"requestId":"x","rooms":7}`,
	}
	r := rand.New(rand.NewPCG(8, 9))
	for range 200 {
		b := make([]byte, r.IntN(60))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		all = append(all, string(b))
	}
	return all
}

// oldClients: sockets of old clients, whose IDs in a namespace are longer than others'. Between servers on Node.js such
// a socket cannot be reached by its ID in the mode "dynamic", and a node cannot either.
func oldClients(t *testing.T, p *processes) {
	onWires(t, p, [3]string{"Go", "Node", "Go"}, func(t *testing.T, c *cell, r *redistest.Server) {
		const nsp = "/custom"
		cl := c.threeIn(t, nsp)
		old := c.connect(t, 1, nsp, hello{old: true})
		if len(old.id) <= 20 {
			t.Fatalf("ID %q", old.id)
		}
		must(t, c.servers[1].socketJoin(nsp, old.id, "r1"))
		found, err := c.server().fetch(all().in(nsp))
		if len(found) != 4 || err != nil {
			t.Errorf("found %v, %v", found, err)
		}
		for i, s := range c.servers {
			c.by = s
			c.emit(t, room("r1").in(nsp), "from", i)
			c.hears(t, ev("from", i), old)
		}
		must(t, c.servers[1].broadcast(old.id, all().in(nsp), "test", 1))
		c.by = c.servers[1]
		c.hears(t, ev("test", 1), cl[:]...)
		c.by = c.server()
		if !c.sharded {
			c.emit(t, room(old.id).in(nsp), "test", 2)
			c.hears(t, ev("test", 2), old)
		}
		c.command(t, c.by.join(room(old.id).in(nsp), "j1"))
		c.fence(t)
		c.settle(t)
		c.emit(t, room("j1").in(nsp), "test", 3)
		c.hears(t, ev("test", 3), old)
	})
}

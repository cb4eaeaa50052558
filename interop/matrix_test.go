package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redistest"
)

// row is one thing that a cluster of Socket.IO servers does.
type row struct {
	name string
	// applies reports whether the row can be tried in a cell; nil: in every one.
	applies func(c *cell) bool
	// begin is called before the first row of the cell, for what takes long, and returns what is still to be checked.
	begin func(t *testing.T, c *cell) func(t *testing.T)
	run   func(t *testing.T, c *cell)
}

var rows = slices.Concat(broadcastRows, nameRows, ackRows, controlRows, queryRows)

// byServer: the row needs what only servers can do.
func byServer(c *cell) bool { return !c.outside }

// byNode: who emits runs on Node.js, and can emit what only JavaScript has.
func byNode(c *cell) bool {
	if c.outside {
		_, node := c.by.(nodeSpeaker)
		return node
	}
	return c.isNode(0)
}

// byNodeServer: the row needs what only servers on Node.js can do.
func byNodeServer(c *cell) bool { return byServer(c) && c.isNode(0) }

// processes are the Node.js processes of a run of the matrix.
type processes struct {
	servers [3]*process
	emitter *process
	clients *clients
}

func startProcesses(t *testing.T) *processes {
	p := &processes{clients: startClients(t)}
	for i := range p.servers {
		p.servers[i] = startProcess(t, fmt.Sprintf("server %d", i), "server.mjs")
	}
	return p
}

// TestMatrix tries every row in every cell: in clusters of one make-up after the other.
func TestMatrix(t *testing.T) {
	r := oneServer(redistest.Start(t, redistest.Config{}))
	p := startProcesses(t)
	p.emitter = startProcess(t, "emitter", "emitter.mjs")

	tried := results{failed: map[result]bool{}}
	for _, col := range columns {
		for _, m := range makeups(col) {
			ran := false
			t.Run(col.name+"/"+m.String(), func(t *testing.T) {
				ran = true
				c := openCell(t, col, m, p, r)
				runRows(t, c, p, &tried)
			})
			if !ran {
				tried.planned++ // and not run
			}
		}
	}
	tried.compare(t)
}

// makeup says what the servers of a cluster run on, "Node" or "Go", and who emits from outside, if somebody does.
type makeup struct {
	servers [3]string
	outside string
}

func (m makeup) String() string {
	s := strings.Join(m.servers[:], ", ")
	if m.outside != "" {
		s = m.outside + " to " + s
	}
	return s
}

// makeups are the clusters of a column. Where nothing but Node.js takes part, the rows are seen to expect what it does.
func makeups(c column) (all []makeup) {
	const n, g = "Node", "Go"
	if c.reference {
		all = append(all, makeup{[3]string{n, n, n}, ""})
		if c.outside {
			all[0].outside = n
		}
	}
	switch {
	case c.outside:
		for _, by := range []string{n, g} {
			all = append(all, makeup{[3]string{n, n, g}, by}, makeup{[3]string{g, g, n}, by})
		}
	default:
		all = append(all, makeup{[3]string{n, n, g}, ""}, makeup{[3]string{g, g, n}, ""})
		if c.reference {
			all = append(all, makeup{[3]string{n, g, g}, ""}, makeup{[3]string{g, n, n}, ""})
		}
	}
	return all
}

// openCell starts the servers of a cell, which end with the test.
func openCell(t *testing.T, col column, m makeup, p *processes, r backend) *cell {
	key := "interop " + strings.ReplaceAll(t.Name(), "/", " ")
	c := &cell{column: col, key: key, clients: p.clients}
	t.Cleanup(func() { nothingSubscribed(t, r) })
	for i := range c.servers {
		s, err := openServer(m.servers[i] == "Node", i, col, key, p, r)
		must(t, err)
		c.servers[i] = s
		t.Cleanup(func() { must(t, s.close()) })
	}
	c.by = c.servers[0]
	switch m.outside {
	case "Node":
		p.emitter.must(t, "open", map[string]any{"url": r.urls[0], "key": key}, nil)
		t.Cleanup(func() { p.emitter.must(t, "close", nil, nil) })
		c.by = nodeSpeaker{p.emitter}
	case "Go":
		c.by = openGoEmitter(t, col, key, r.client())
	}
	for _, s := range c.servers {
		eventually(t, func() string {
			n, err := s.count("/")
			if n != len(c.servers) || err != nil {
				return fmt.Sprintf("%s counts %d servers, %v", s.name(), n, err)
			}
			return ""
		})
	}
	return c
}

// backend is the Redis of a cell: a server, or a cluster of several.
type backend struct {
	urls   []string
	client func() redis.UniversalClient
}

func oneServer(s *redistest.Server) backend {
	return backend{[]string{"redis://" + s.Addr()}, func() redis.UniversalClient { return s.Client() }}
}

func redisCluster(c *redistest.Cluster) backend {
	b := backend{client: func() redis.UniversalClient { return c.Client() }}
	for _, s := range c.Servers {
		b.urls = append(b.urls, "redis://"+s.Addr())
	}
	return b
}

// nothingSubscribed checks that servers that were closed have unsubscribed from everything.
func nothingSubscribed(t *testing.T, r backend) {
	for _, url := range r.urls {
		rdb, ctx := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(url, "redis://")}), context.Background()
		defer rdb.Close()
		eventually(t, func() string {
			channels, err1 := rdb.PubSubChannels(ctx, "*").Result()
			shard, err2 := rdb.PubSubShardChannels(ctx, "*").Result()
			patterns, err3 := rdb.PubSubNumPat(ctx).Result()
			if err := errors.Join(err1, err2, err3); err != nil {
				return err.Error()
			}
			if len(channels)+len(shard) > 0 || patterns > 0 {
				return fmt.Sprintf("still subscribed: %q, %q and %d patterns", channels, shard, patterns)
			}
			return ""
		})
	}
}

func openServer(node bool, i int, col column, key string, p *processes, r backend) (server, error) {
	name, namespaces := fmt.Sprintf("server %d", i), namespacesOf(i)
	if !node {
		return openGo(name, col, key, r.client(), namespaces)
	}
	options := map[string]any{
		"name": name, "sharded": col.sharded, "client": col.client, "url": r.urls[0], "key": key,
		"subscriptionMode": col.mode, "specific": col.specific, "namespaces": namespaces,
		"requestsTimeout": questionTimeout.Milliseconds(),
	}
	if len(r.urls) > 1 {
		options["cluster"] = r.urls
	}
	return openNode(p.servers[i], options)
}

func runRows(t *testing.T, c *cell, p *processes, tried *results) {
	late := map[string]func(*testing.T){}
	for _, r := range rows {
		if r.begin != nil && (r.applies == nil || r.applies(c)) {
			late[r.name] = r.begin(t, c)
		}
	}
	for _, r := range rows {
		if r.applies != nil && !r.applies(c) {
			continue
		}
		ran := false
		passed := t.Run(r.name, func(t *testing.T) {
			ran = true
			if check := late[r.name]; check != nil {
				check(t)
				return
			}
			defer func() {
				c.leave(t)
				for _, process := range p.servers {
					for _, crash := range process.takeCrashes() {
						t.Errorf("%s: %s", process.name, crash)
					}
				}
			}()
			r.run(t, c)
			if !t.Failed() {
				c.fence(t) // every server still hears
			}
		})
		tried.add(c, r.name, ran, passed)
	}
}

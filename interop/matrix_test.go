package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"

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

// processes are the Node.js processes of a run of the matrix.
type processes struct {
	servers [3]*process
	emitter *process
	clients *clients
}

// TestMatrix tries every row in every cell: in clusters of one make-up after the other.
func TestMatrix(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	var p processes
	for i := range p.servers {
		p.servers[i] = startProcess(t, fmt.Sprintf("server %d", i), "server.mjs")
	}
	p.emitter = startProcess(t, "emitter", "emitter.mjs")
	p.clients = startClients(t)

	for _, col := range columns {
		for _, makeup := range makeups(col) {
			t.Run(col.name+"/"+makeup, func(t *testing.T) {
				c := openCell(t, col, makeup, p, redis)
				runRows(t, c, p)
			})
		}
	}
}

// makeups are the clusters of a column.
func makeups(column) []string { return []string{"Node, Node, Node"} }

// openCell starts the servers of a cell, which end with the test.
func openCell(t *testing.T, col column, makeup string, p processes, redis *redistest.Server) *cell {
	c := &cell{column: col, makeup: makeup, clients: p.clients}
	key := fmt.Sprintf("interop %s", strings.ReplaceAll(t.Name(), "/", " "))
	for i := range c.servers {
		name := fmt.Sprintf("server %d", i)
		s, err := openNode(p.servers[i], map[string]any{
			"name": name, "sharded": col.sharded, "client": col.client, "url": "redis://" + redis.Addr(), "key": key,
			"subscriptionMode": col.mode, "specific": col.specific, "namespaces": namespacesOf(i),
			"requestsTimeout": questionTimeout.Milliseconds(),
		})
		must(t, err)
		c.servers[i] = s
	}
	t.Cleanup(func() { c.onServers(t, server.close) })
	c.by = c.servers[0]
	if col.outside {
		p.emitter.must(t, "open", map[string]any{"url": "redis://" + redis.Addr(), "key": key}, nil)
		t.Cleanup(func() { p.emitter.must(t, "close", nil, nil) })
		c.by = nodeSpeaker{p.emitter}
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

func runRows(t *testing.T, c *cell, p processes) {
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
		t.Run(r.name, func(t *testing.T) {
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
	}
}

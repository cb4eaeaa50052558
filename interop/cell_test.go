package interop

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// column is a way in which the servers of a cluster are set up. All of them are set up alike.
type column struct {
	name      string
	sharded   bool
	client    string // of Node.js servers: "redis" or "ioredis"
	mode      string // of sharded: how servers subscribe
	specific  bool   // of classic: answers go to who asked only
	outside   bool   // who emits is no server
	reference bool   // tried in more clusters, and without Go
}

var columns = []column{
	{name: "classic", client: "redis", reference: true},
	{name: "classic, ioredis", client: "ioredis"},
	{name: "classic, specific", client: "redis", specific: true},
	{name: "classic, emitter", client: "redis", outside: true, reference: true},
	{name: "dynamic", sharded: true, client: "redis", mode: "dynamic", reference: true},
	{name: "dynamic, ioredis", sharded: true, client: "ioredis", mode: "dynamic"},
	{name: "static", sharded: true, client: "redis", mode: "static"},
	{name: "dynamic-private", sharded: true, client: "redis", mode: "dynamic-private"},
}

// questionTimeout is how long a classic Node.js server waits for the others' answers, where a row does not say. Sharded
// ones wait for five seconds.
const questionTimeout = 500 * time.Millisecond

// namespacesOf are those of a server.
func namespacesOf(i int) []string {
	namespaces := []string{"/", "/custom", "/a", "/a[b]", "/a*b", "/a#b"}
	if i < 2 {
		namespaces = append(namespaces, "/some")
	}
	return namespaces
}

// cell is a cluster of three servers of which the first emits, or a process outside of it. Rows use it one after
// the other.
type cell struct {
	column
	key     string // of the adapters
	by      speaker
	servers [3]server
	clients *clients

	fences int
	opened []*client // of this row
}

// onServers runs f for all servers at once.
func (c *cell) onServers(t *testing.T, f func(server) error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(c.servers))
	for i, s := range c.servers {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("server %d: %v", i, err)
		}
	}
}

// server is the emitting server; there is one, where the column has nobody outside.
func (c *cell) server() server { return c.servers[0] }

// isNode reports whether a server runs on Node.js.
func (c *cell) isNode(i int) bool {
	_, node := c.servers[i].(*nodeServer)
	return node
}

// mixed reports whether both Node.js and Go take part.
func (c *cell) mixed() bool {
	for i := range c.servers {
		if c.isNode(i) != byNode(c) {
			return true
		}
	}
	return false
}

// connect returns a client of a server, which leaves with the row.
func (c *cell) connect(t *testing.T, i int, nsp string, h hello) *client {
	t.Helper()
	cl := c.connectSoon(t, i, nsp, h)
	if len(h.rooms) > 0 {
		c.settle(t)
	}
	return cl
}

// threeIn returns a client of each server in a namespace, with the rooms of each.
func (c *cell) threeIn(t *testing.T, nsp string, rooms ...[]string) [3]*client {
	t.Helper()
	var out [3]*client
	for i := range out {
		h := hello{}
		if i < len(rooms) {
			h.rooms = rooms[i]
		}
		out[i] = c.connectSoon(t, i, nsp, h)
	}
	c.settle(t)
	return out
}

// connectSoon is connect for who settles then.
func (c *cell) connectSoon(t *testing.T, i int, nsp string, h hello) *client {
	t.Helper()
	cl, err := c.clients.connect(c.servers[i].port(), nsp, h)
	must(t, err)
	cl.fences = c.fences
	c.opened = append(c.opened, cl)
	return cl
}

// settle returns when every server hears what it should.
func (c *cell) settle(t *testing.T) {
	t.Helper()
	c.onServers(t, server.settle)
}

// leave ends what the row left behind: nothing may have been heard that it did not ask for.
func (c *cell) leave(t *testing.T) {
	t.Helper()
	for _, cl := range c.opened {
		cl.heard(t)
	}
	drained := make(chan error, len(c.servers))
	for _, s := range c.servers {
		go func() { drained <- s.drained() }()
	}
	for _, cl := range c.opened {
		cl.leave(t)
	}
	c.opened = nil
	for range c.servers {
		if err := <-drained; err != nil {
			t.Error(err)
		}
	}
}

// fence returns when everything that c.by emitted to clients so far has arrived.
func (c *cell) fence(t *testing.T) {
	t.Helper()
	c.fences++
	var nsps []string
	for _, cl := range c.opened {
		if !slices.Contains(nsps, cl.nsp) {
			nsps = append(nsps, cl.nsp)
			if err := c.by.emit(all().in(cl.nsp), "fence", c.fences); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, cl := range c.opened {
		if err := cl.reach(c.fences); err != nil {
			t.Fatalf("fence %d: %v", c.fences, err)
		}
	}
}

// told checks which server side events of a namespace each server heard, when everything that c.by emitted to
// servers so far has arrived. A Go server handles them concurrently, so that the fence may overtake them, but then
// something is still missing. Handlers of the emitting server are not called.
func (c *cell) told(t *testing.T, nsp string, want ...event) {
	t.Helper()
	c.fences++
	must(t, c.by.serverSideEmit(nsp, "fence", c.fences))
	want = append(want, serverEvent(nsp, "fence", c.fences))
	for i, s := range c.servers {
		if i == 0 && !c.outside {
			must(t, s.settle())
			if heard := s.heard().rest(); len(heard) > 0 {
				t.Errorf("server %d heard %s of its own", i, list(heard))
			}
			continue
		}
		heard, err := s.heard().next(len(want))
		if err != nil {
			t.Fatalf("server %d: %v", i, err)
		}
		slices.SortStableFunc(heard, func(a, b event) int { return order(want, a) - order(want, b) })
		if !sameEvents(heard, want) {
			t.Errorf("server %d heard %s, want %s", i, list(heard), list(want))
		}
	}
}

// order is where an event of that name is in a list.
func order(events []event, e event) int {
	return slices.IndexFunc(events, func(w event) bool { return w.name == e.name })
}

// emit is an emission of c.by.
func (c *cell) emit(t *testing.T, to target, event string, args ...any) {
	t.Helper()
	must(t, c.by.emit(to, event, args...))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until what says that nothing is missing any more.
func eventually(t *testing.T, what func() string) {
	t.Helper()
	missing := ""
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(2 * time.Millisecond) { // poll
		if missing = what(); missing == "" {
			return
		}
	}
	t.Fatal(missing)
}

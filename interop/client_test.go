package interop

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// clients is the process that holds real Socket.IO clients.
type clients struct {
	*process

	mu     sync.Mutex
	byName map[string]*client // guarded by mu
	last   int                // guarded by mu
}

// client is one client, connected to one namespace of a server.
type client struct {
	clients *clients
	name    string
	id      string // the socket's
	nsp     string
	log     *log
	got     []event // what came up to the latest fence, and no test has asked for yet
	gone    bool    // disconnected
	fences  int     // those up to this one were for others, and may still be on their way
}

func startClients(t testing.TB) *clients {
	cs := &clients{process: startProcess(t, "clients", "clients.mjs"), byName: map[string]*client{}}
	cs.listen(func(p pushed) {
		cs.mu.Lock()
		c := cs.byName[p.Client]
		cs.mu.Unlock()
		if c == nil {
			return
		}
		switch p.Push {
		case "event":
			args, err := decodeValues(p.Args)
			if err != nil {
				c.log.add(ev("unreadable", err.Error()))
				return
			}
			c.log.add(event{p.Event, args})
		case "disconnect":
			c.log.add(disconnected(p.Reason))
		}
	})
	return cs
}

// hello is what a client brings along; the servers of the tests take it from there.
type hello struct {
	data   any      // of the socket
	rooms  []string // to be joined from the start
	query  map[string]any
	refuse string  // the server refuses the client with this message
	beside *client // whose connection it shares, in another namespace
	old    bool    // it is a client of version 2, which brings nothing along
}

// connect returns when the client is connected, or why it is not.
func (cs *clients) connect(port int, nsp string, h hello) (*client, error) {
	auth := map[string]any{"token": "secret"}
	if h.data != nil {
		auth["data"] = h.data
	}
	if h.rooms != nil {
		auth["rooms"] = h.rooms
	}
	if h.refuse != "" {
		auth["refuse"] = h.refuse
	}
	cs.mu.Lock()
	cs.last++
	c := &client{clients: cs, name: fmt.Sprintf("client %d", cs.last), nsp: nsp}
	c.log = newLog(fmt.Sprintf("%s (port %d, %s)", c.name, port, nsp))
	cs.byName[c.name] = c
	cs.mu.Unlock()
	args := map[string]any{"name": c.name, "port": port, "nsp": nsp, "auth": auth}
	if h.query != nil {
		args["query"] = h.query
	}
	if h.beside != nil {
		args["beside"] = h.beside.name
	}
	op := "connect"
	if h.old {
		op = "connectOld"
	}
	return c, cs.call(op, args, &c.id)
}

// replies makes c acknowledge an event; without it, c is silent.
func (c *client) replies(t *testing.T, event string, args ...any) {
	t.Helper()
	c.clients.must(t, "reply", map[string]any{"name": c.name, "event": event, "args": args}, nil)
}

// emit sends an event to the client's server.
func (c *client) emit(t *testing.T, event string, args ...any) {
	t.Helper()
	c.clients.must(t, "emit", map[string]any{"name": c.name, "event": event, "args": args}, nil)
}

// request sends an event to the client's server and returns what it acknowledged.
func (c *client) request(t *testing.T, event string, args ...any) []any {
	t.Helper()
	var reply []any
	c.clients.must(t, "emitAck", map[string]any{"name": c.name, "event": event, "args": args}, &reply)
	decodeValue(reply)
	return reply
}

// leave ends the client.
func (c *client) leave(t *testing.T) {
	t.Helper()
	c.clients.must(t, "disconnect", map[string]any{"name": c.name}, nil)
	c.clients.mu.Lock()
	delete(c.clients.byName, c.name)
	c.clients.mu.Unlock()
}

// reach waits for a fence, or for the end of the connection: what came before is then complete.
func (c *client) reach(fence int) error {
	if c.gone {
		return nil
	}
	events, err := c.log.take(func(e event) bool {
		return e.name == "disconnect" || e.name == "fence" && equal(e.args, []any{fence})
	})
	if err != nil {
		return err
	}
	last := len(events) - 1
	c.gone = events[last].name == "disconnect"
	if !c.gone {
		events = events[:last]
	}
	c.got = append(c.got, slices.DeleteFunc(events, func(e event) bool {
		if e.name != "fence" || len(e.args) != 1 {
			return false
		}
		number, ok := e.args[0].(float64)
		return ok && int(number) <= c.fences
	})...)
	return nil
}

// heard checks that exactly these events came up to the latest fence and since the check before.
func (c *client) heard(t *testing.T, want ...event) {
	t.Helper()
	if !sameEvents(c.got, want) {
		t.Errorf("%s heard %s, want %s", c.log.who, list(c.got), list(want))
	}
	c.got = nil
}

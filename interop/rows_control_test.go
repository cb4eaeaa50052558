package interop

import (
	"slices"
	"testing"
)

// byServerReason is why a client is disconnected that a server disconnects.
const byServerReason = "io server disconnect"

// command checks that a command of c.by was given. A classic Node.js server obeys its own when Redis brings it
// back, which may be after later emissions of its own.
func (c *cell) command(t *testing.T, err error) {
	t.Helper()
	must(t, err)
	if !c.outside {
		must(t, c.server().settle())
	}
}

// members checks who is in a room, by a later emission.
func (c *cell) members(t *testing.T, name string, who ...*client) {
	t.Helper()
	c.fence(t)  // the command has arrived
	c.settle(t) // and what servers subscribed to because of it is confirmed
	c.emit(t, room(name), "member of "+name)
	c.hears(t, ev("member of "+name), who...)
}

var controlRows = []row{
	{name: "socketsJoin: everyone", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		c.connect(t, 1, "/custom", hello{})
		c.command(t, c.by.join(all(), "j1", "j2"))
		c.members(t, "j1", cl[:]...)
		c.members(t, "j2", cl[:]...)
	}},
	{name: "socketsJoin: those in a room", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, nil, []string{"r1"})
		c.command(t, c.by.join(room("r1"), "j1"))
		c.members(t, "j1", cl[0], cl[2])
	}},
	{name: "socketsJoin: all but a room", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, nil, nil)
		c.command(t, c.by.join(all().but("r1").butID(cl[2].id), "j1"))
		c.members(t, "j1", cl[1])
	}},
	{name: "socketsJoin: one socket", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for i, one := range cl {
			name := []string{"j0", "j1", "j2"}[i]
			c.command(t, c.by.join(socketID(one.id), name))
			c.members(t, name, one)
		}
	}},
	{name: "socketsLeave: everyone", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1", "r2", "r3"}, []string{"r1", "r3"}, []string{"r1", "r3"})
		c.command(t, c.by.leave(all(), "r1", "r2"))
		c.members(t, "r1")
		c.members(t, "r2")
		c.members(t, "r3", cl[:]...)
	}},
	{name: "socketsLeave: those in a room", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1", "r2"}, []string{"r1"}, []string{"r1", "r2"})
		c.command(t, c.by.leave(room("r2"), "r1"))
		c.members(t, "r1", cl[1])
	}},
	{name: "socketsLeave: one socket", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		c.command(t, c.by.leave(socketID(cl[1].id), "r1"))
		c.members(t, "r1", cl[0], cl[2])
	}},
	{name: "disconnectSockets: everyone", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		other := c.connect(t, 1, "/custom", hello{})
		c.command(t, c.by.disconnect(all(), false))
		c.fence(t)
		for _, one := range cl {
			one.heard(t, disconnected(byServerReason))
		}
		other.heard(t)
	}},
	{name: "disconnectSockets: those in a room", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"})
		c.command(t, c.by.disconnect(room("r1"), false))
		c.fence(t)
		cl[0].heard(t, disconnected(byServerReason))
		cl[1].heard(t, disconnected(byServerReason))
		cl[2].heard(t)
	}},
	{name: "disconnectSockets: one socket", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for i, one := range cl {
			c.command(t, c.by.disconnect(socketID(one.id), i == 1))
			c.fence(t)
			one.heard(t, disconnected(byServerReason))
		}
	}},
	{name: "disconnectSockets: the connection, or only the namespace", run: func(t *testing.T, c *cell) {
		for i := range c.servers {
			for _, whole := range []bool{false, true} {
				one := c.connect(t, i, "/", hello{})
				other := c.connect(t, i, "/custom", hello{beside: one})
				c.command(t, c.by.disconnect(socketID(one.id), whole))
				c.fence(t)
				one.heard(t, disconnected(byServerReason))
				if whole {
					other.heard(t, disconnected(byServerReason))
				} else {
					other.heard(t)
				}
			}
		}
	}},
	{name: "disconnectSockets: what was emitted before arrives", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		c.emit(t, all(), "bye", 1)
		c.command(t, c.by.disconnect(all(), true))
		c.fence(t)
		for _, one := range cl {
			one.heard(t, ev("bye", 1), disconnected(byServerReason))
		}
	}},
	{name: "RemoteSocket: emit, join, leave, disconnect", applies: byNodeServer, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", nil, []string{"r1"})
		s := c.server().(*nodeServer)
		for i, one := range cl[1:] {
			must(t, s.remote("remoteEmit", one.id, map[string]any{"event": "test", "args": []any{i, []byte{1}}}))
			c.hears(t, ev("test", i, []byte{1}), one)
			must(t, s.remote("remoteJoin", one.id, map[string]any{"rooms": []string{"j1"}}))
		}
		c.members(t, "j1", cl[1], cl[2])
		must(t, s.remote("remoteLeave", cl[1].id, map[string]any{"rooms": []string{"j1"}}))
		c.members(t, "j1", cl[2])
		for _, one := range cl[1:] {
			must(t, s.remote("remoteDisconnect", one.id, map[string]any{"close": true}))
			c.fence(t)
			one.heard(t, disconnected(byServerReason))
		}
	}},
}

var queryRows = []row{
	{name: "serverCount", applies: byServer, run: func(t *testing.T, c *cell) {
		for i, s := range c.servers {
			for _, nsp := range []string{"/", "/custom"} {
				if n, err := s.count(nsp); n != 3 || err != nil {
					t.Errorf("server %d counts %d, %v", i, n, err)
				}
			}
		}
	}},
	{name: "fetchSockets: all", applies: byServer, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		c.connect(t, 2, "/custom", hello{})
		c.found(t, all(), cl[:]...)
		c.nothingPending(t)
	}},
	{name: "fetchSockets: rooms, IDs, exceptions", applies: byServer, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1", "r2"}, []string{"r1"}, []string{"r2", "r3"})
		c.found(t, room("r1"), cl[0], cl[1])
		c.found(t, room("r1", "r2").but("r3"), cl[0], cl[1])
		c.found(t, all().but("r1"), cl[2])
		c.found(t, socketID(cl[1].id), cl[1])
		c.found(t, all().butID(cl[1].id), cl[0], cl[2])
		c.found(t, room("r9"))
		c.found(t, room("r1").in("/custom"))
	}},
	{name: "fetchSockets: local", applies: byServer, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		c.found(t, target{local: true}, cl[0])
	}},
	{name: "fetchSockets: handshake, rooms and data", applies: byServer, run: func(t *testing.T, c *cell) {
		data := map[string]any{"name": "ü😀", "n": 1.5, "list": []any{1, nil, "x"}}
		for i := range c.servers {
			one := c.connect(t, i, "/", hello{data: data, rooms: []string{"r1"}, query: map[string]any{"q": "a b&c"}})
			found, err := c.server().fetch(socketID(one.id))
			if err != nil || len(found) != 1 {
				t.Fatalf("server %d's: %v, %v", i, found, err)
			}
			checkFound(t, found[0], one, data)
		}
	}},
	{name: "fetchSockets: a namespace", applies: byServer, run: func(t *testing.T, c *cell) {
		c.threeIn(t, "/")
		cl := c.threeIn(t, "/custom")
		c.found(t, all().in("/custom"), cl[:]...)
	}},
	{name: "allRooms", applies: func(c *cell) bool { return byServer(c) && !(c.sharded && c.isNode(0)) },
		run: func(t *testing.T, c *cell) {
			cl := c.threeIn(t, "/", []string{"r0"}, []string{"r1", "ü 😀"}, []string{"r0", "r2"})
			got, err := c.server().allRooms("/")
			want := []string{"r0", "r1", "r2", "ü 😀"}
			if c.isNode(0) {
				want = append(want, cl[0].id, cl[1].id, cl[2].id)
			}
			slices.Sort(got)
			slices.Sort(want)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}},
	{name: "serverSideEmit: the other servers", run: func(t *testing.T, c *cell) {
		args := []any{1, "2", map[string]any{"a": []any{nil}}}
		must(t, c.by.serverSideEmit("/", "told", args...))
		c.told(t, "/", serverEvent("/", "told", args...))
		must(t, c.by.serverSideEmit("/", "told"))
		c.told(t, "/", serverEvent("/", "told"))
	}},
	{name: "serverSideEmit: a namespace", run: func(t *testing.T, c *cell) {
		must(t, c.by.serverSideEmit("/custom", "told", "x"))
		c.told(t, "/custom", serverEvent("/custom", "told", "x"))
	}},
	{name: "serverSideEmit: bytes", run: func(t *testing.T, c *cell) {
		must(t, c.by.serverSideEmit("/", "told", []byte{1, 2}, "x"))
		var bytes any = []byte{1, 2}
		if !c.sharded { // whose servers speak JSON to each other
			bytes = map[string]any{"type": "Buffer", "data": []any{1, 2}}
		}
		c.told(t, "/", serverEvent("/", "told", bytes, "x"))
	}},
	{name: "serverSideEmit: replies", applies: byServer, run: func(t *testing.T, c *cell) {
		replies, err := c.server().serverSideEmitAck(all(), "asked", "q", 1)
		if err != nil {
			t.Error(err)
		}
		var want []any
		for _, s := range c.servers[1:] {
			want = append(want, map[string]any{"name": s.name(), "args": []any{"q", 1}})
		}
		sameReplies(t, replies, want...)
		c.told(t, "/", serverEvent("/", "asked", "q", 1))
		c.nothingPending(t)
	}},
	{name: "serverSideEmit: one server is silent", applies: func(c *cell) bool {
		if byNode(c) && c.sharded { // it takes five seconds
			return c.reference && c.isNode(1) && !c.isNode(2)
		}
		return byServer(c)
	}, begin: func(t *testing.T, c *cell) func(t *testing.T) {
		type outcome struct {
			replies []any
			err     error
		}
		done := make(chan outcome, 1)
		go func() {
			replies, err := c.server().serverSideEmitAck(all().within(questionTimeout), "silent", c.servers[2].name())
			done <- outcome{replies, err}
		}()
		return func(t *testing.T) {
			o := <-done
			if o.err == nil || c.isNode(0) && o.err.Error() != "timeout reached: only 1 responses received out of 2" {
				t.Errorf("error %v", o.err)
			}
			sameReplies(t, o.replies, c.servers[1].name())
		}
	}},
}

// found checks what fetchSockets finds.
func (c *cell) found(t *testing.T, who target, want ...*client) {
	t.Helper()
	found, err := c.server().fetch(who)
	var got, ids []string
	for _, s := range found {
		got = append(got, s.id)
	}
	for _, cl := range want {
		ids = append(ids, cl.id)
	}
	slices.Sort(got)
	slices.Sort(ids)
	if err != nil || !slices.Equal(got, ids) {
		t.Errorf("%+v: found %v, %v, want %v", who, got, err, ids)
	}
}

// checkFound checks what is known of a client that connected with data, the room r1 and the query q.
func checkFound(t *testing.T, got remoteSocket, cl *client, data any) {
	t.Helper()
	slices.Sort(got.rooms)
	rooms := []string{cl.id, "r1"}
	slices.Sort(rooms)
	if got.id != cl.id || !slices.Equal(got.rooms, rooms) || !equal(got.data, data) {
		t.Errorf("found %+v of %s", got, cl.id)
	}
	h := got.handshake
	auth, _ := h["auth"].(map[string]any)
	query, _ := h["query"].(map[string]any)
	headers, _ := h["headers"].(map[string]any)
	if auth["token"] != "secret" || query["q"] != "a b&c" || query["EIO"] != "4" || query["transport"] != "websocket" {
		t.Errorf("auth %v, query %v", auth, query)
	}
	if upgrade, _ := headers["upgrade"].(string); upgrade != "websocket" {
		t.Errorf("headers %v", headers)
	}
	for key, kind := range map[string]any{
		"time": "", "address": "", "xdomain": false, "secure": false, "issued": 0.0, "url": "",
	} {
		if typeOf(h[key]) != typeOf(kind) {
			t.Errorf("handshake: %s is %v", key, h[key])
		}
	}
}

func typeOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	case float64:
		return "number"
	}
	return "other"
}

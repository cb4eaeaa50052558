package interop

import (
	"slices"
	"strings"
	"testing"
)

var nameRows = []row{
	{name: "names: patterns, separators, spaces", run: func(t *testing.T, c *cell) {
		names := []string{
			"a#b", "#", "##", "*", "a*", "[ab]", "a?b", `a\b`, " ", "a b\r\n", "user:", "/", "room#/custom#r1", "0", "-",
			"'", `"`, "\u0001", "constructor", "{r1}", strings.Repeat("long ", 51),
		}
		cl := c.threeIn(t, "/", []string{"a", "b", "ab", "a#b#", "axb", "r1"}, names, names)
		c.connect(t, 1, "/custom", hello{rooms: []string{"r1"}})
		for i, name := range names {
			c.emit(t, room(name), "test", i)
			c.hears(t, ev("test", i), cl[1], cl[2])
		}
	}},
	{name: "names: beyond ASCII and beyond 16 bits", run: func(t *testing.T, c *cell) {
		names := []string{
			"ü", "日本語", "😀", strings.Repeat("😀", 10), strings.Repeat("😀", 20), strings.Repeat("ü", 20), strings.Repeat("日", 20),
			strings.Repeat("ü", 10), strings.Repeat("😀", 5), // 20 bytes each
		}
		cl := c.threeIn(t, "/", nil, names, names)
		for i, name := range names {
			c.emit(t, room(name), "test", i)
			c.hears(t, ev("test", i), cl[1], cl[2])
		}
	}},
	{name: "names: a room as long as a socket ID", run: func(t *testing.T, c *cell) {
		name := "12345678901234567890"
		cl := c.threeIn(t, "/", nil, []string{name}, []string{name})
		c.emit(t, room(name), "test", 1)
		c.hears(t, ev("test", 1), cl[1], cl[2])
		c.emit(t, all().but(name), "test", 2)
		c.hears(t, ev("test", 2), cl[0])
		c.command(t, c.by.join(room(name), "j1"))
		c.members(t, "j1", cl[1], cl[2])
	}},
	{name: "names: many rooms", run: func(t *testing.T, c *cell) {
		var names []string
		for i := range 30 {
			names = append(names, "room "+strings.Repeat("x", i))
		}
		cl := c.threeIn(t, "/", names[20:], names, nil)
		c.emit(t, room(names...), "test", "x")
		c.hears(t, ev("test", "x"), cl[0], cl[1])
		c.emit(t, all().but(names[:20]...), "test", "y")
		c.hears(t, ev("test", "y"), cl[0], cl[2])
	}},
	{name: "names: a number", applies: byNode, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for i, s := range c.servers {
			must(t, s.socketJoin("/", cl[i].id, 123)) // a Node.js server keeps the number
		}
		c.emit(t, target{rooms: []any{123}}, "test", "x")
		c.hears(t, ev("test", "x"), cl[:]...)
		c.emit(t, target{rooms: []any{123, 4.5}}, "test", "y")
		c.hears(t, ev("test", "y"), cl[:]...)
	}},
	{name: "names: an empty room is nobody's", applies: byNode, run: func(t *testing.T, c *cell) {
		c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		c.emit(t, room(""), "test", "x")
		c.hears(t, ev("test", "x"))
	}},
	// Over ioredis the adapter confuses the channels of such names: it delivers several times, or goes deaf.
	{name: "names: namespaces like patterns", applies: byNodeRedis, run: func(t *testing.T, c *cell) {
		var there []*client
		for _, nsp := range []string{"/a", "/a*b", "/a#b", "/a[b]"} {
			for i := range c.servers {
				if nsp == "/a[b]" && !c.sharded && c.isNode(i) && (i > 0 || c.outside) {
					continue // a known fault: it subscribes to the name as a pattern, and hears nothing from others
				}
				there = append(there, c.connect(t, i, nsp, hello{rooms: []string{"b", "b#b"}}))
			}
		}
		if len(there) == 0 {
			t.Fatal("no clients")
		}
		for i, nsp := range []string{"/a", "/a*b", "/a#b", "/a[b]"} {
			in := slices.DeleteFunc(slices.Clone(there), func(cl *client) bool { return cl.nsp != nsp })
			c.emit(t, all().in(nsp), "everyone", i)
			c.hears(t, ev("everyone", i), in...)
			c.emit(t, room("b").in(nsp), "room", i)
			c.hears(t, ev("room", i), in...)
		}
	}},
	{name: "names: a namespace that one server lacks", run: func(t *testing.T, c *cell) {
		h := hello{rooms: []string{"r1"}}
		cl := []*client{c.connect(t, 0, "/some", h), c.connect(t, 1, "/some", h)}
		c.emit(t, room("r1").in("/some"), "test", "x")
		c.hears(t, ev("test", "x"), cl...)
		if c.outside {
			return
		}
		found, err := c.server().fetch(all().in("/some"))
		if len(found) != 2 || err != nil {
			t.Errorf("found %v, %v", found, err)
		}
		replies, err := c.server().serverSideEmitAck(all().in("/some"), "asked", "q")
		if err != nil {
			t.Error(err)
		}
		sameReplies(t, replies, map[string]any{"name": c.servers[1].name(), "args": []any{"q"}})
		c.servers[1].heard().await(t, "/some asked")
		cl[1].replies(t, "test", "y")
		c.emitAck(t, room("r1").butID(cl[0].id).in("/some").within(long), "test", nil, nil, "y")
		c.hears(t, ev("test"), cl[1])
	}},
}

// byNodeRedis: servers on Node.js do not use ioredis.
func byNodeRedis(c *cell) bool { return c.client != "ioredis" }

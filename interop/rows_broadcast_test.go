package interop

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// hears checks, after a fence, that exactly these clients of the row heard an event, once.
func (c *cell) hears(t *testing.T, e event, who ...*client) {
	t.Helper()
	c.fence(t)
	for _, cl := range c.opened {
		if slices.Contains(who, cl) {
			cl.heard(t, e)
		} else {
			cl.heard(t)
		}
	}
}

// boolean is for a flag that may be unset.
func boolean(b bool) *bool { return &b }

var broadcastRows = []row{
	{name: "emit: everyone, types kept", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		c.connect(t, 1, "/custom", hello{})
		c.emit(t, all(), "test", 1, "2", []byte{3, 4})
		c.hears(t, ev("test", 1, "2", []byte{3, 4}), cl[:]...)
	}},
	{name: "emit: no arguments", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		c.emit(t, all(), "test")
		c.hears(t, ev("test"), cl[:]...)
	}},
	{name: "emit: one value, bytes, null", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for _, v := range []any{map[string]any{"a": 1}, []byte{1, 2, 3}, nil, "text", []any{1, []byte{2}}, []byte{}} {
			c.emit(t, all(), "test", v)
			c.hears(t, ev("test", v), cl[:]...)
		}
	}},
	{name: "emit: any JSON", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		args := []any{
			nil, true, false, 0, -1, 127, 128, 255, 256, 65536, -32, -33, -129, -40000, 4294967296, -4294967297,
			9007199254740991, 1.5, -0.1, 5e-324, 1.7e-300, "", "ü", "日本語", "😀", "\u0000\u2028", "__proto__",
			[]any{}, map[string]any{}, []any{[]any{[]any{nil}}}, map[string]any{"": 1, "ü": map[string]any{"x y": []any{}}},
			"[\"not\", {json", "$undef", strings.Repeat("x", 70), strings.Repeat("y", 300),
		}
		c.emit(t, all(), "any thing ü 😀", args...)
		c.hears(t, ev("any thing ü 😀", args...), cl[:]...)
	}},
	{name: "emit: bytes inside of values", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		args := []any{
			map[string]any{"name": "f", "data": []byte("abc")}, []any{[]byte{}, []any{[]byte{0, 255}}}, "x",
			bytes.Repeat([]byte{7}, 300),
		}
		c.emit(t, all(), "file", args...)
		c.hears(t, ev("file", args...), cl[:]...)
	}},
	{name: "emit: what looks like a placeholder for bytes", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		v := map[string]any{"_placeholder": "no", "num": 0}
		c.emit(t, all(), "test", v)
		c.hears(t, ev("test", v), cl[:]...)
	}},
	{name: "emit: Date and undefined", applies: byNode, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		at := time.UnixMilli(1700000000123).UTC()
		object := map[string]any{"u": undefined{}, "at": time.UnixMilli(0).UTC()}
		c.emit(t, all(), "test", at, undefined{}, object, math.Inf(1))
		const text = "2023-11-14T22:13:20.123Z"
		c.hears(t, ev("test", text, nil, map[string]any{"at": "1970-01-01T00:00:00.000Z"}, nil), cl[:]...)
	}},
	{name: "emit: 300 kB of text and of bytes", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for _, v := range []any{strings.Repeat("ab😀", 50000), bytes.Repeat([]byte{1, 2, 3}, 100000)} {
			c.emit(t, all(), "large", v)
			c.hears(t, ev("large", v), cl[:]...)
		}
	}},
	{name: "emit: in order", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		var want []event
		for i := range 50 {
			c.emit(t, []target{all(), room("r1"), room("r1", "r2")}[i%3], "n", i)
			want = append(want, ev("n", i))
		}
		c.fence(t)
		for _, cl := range cl {
			cl.heard(t, want...)
		}
	}},
	{name: "emit: a namespace", run: func(t *testing.T, c *cell) {
		c.threeIn(t, "/")
		custom := c.threeIn(t, "/custom")
		c.emit(t, all().in("/custom"), "test", "x")
		c.hears(t, ev("test", "x"), custom[:]...)
	}},
	{name: "to: a room of one remote client", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", nil, []string{"r1"})
		c.emit(t, room("r1"), "test", 1, []byte{2})
		c.hears(t, ev("test", 1, []byte{2}), cl[1])
	}},
	{name: "to: a room on all servers", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1", "r2"}, []string{"r1"})
		c.connect(t, 2, "/custom", hello{rooms: []string{"r1"}})
		c.emit(t, room("r1"), "test", "x")
		c.hears(t, ev("test", "x"), cl[:]...)
	}},
	{name: "to: a room of nobody", run: func(t *testing.T, c *cell) {
		c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		c.emit(t, room("r2"), "test", "x")
		c.hears(t, ev("test", "x"))
	}},
	{name: "to: a room that was left", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", nil, []string{"r1"}, []string{"r1"})
		must(t, c.servers[1].socketLeave("/", cl[1].id, "r1"))
		c.settle(t)
		c.emit(t, room("r1"), "test", "x")
		c.hears(t, ev("test", "x"), cl[2])
	}},
	{name: "to: several rooms, each client once", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1", "r2"}, []string{"r2", "r3"})
		c.emit(t, room("r1", "r2").but("r3"), "test", "x")
		c.hears(t, ev("test", "x"), cl[0], cl[1])
	}},
	{name: "to: a room twice", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", nil, []string{"r1"}, []string{"r1"})
		c.emit(t, room("r1", "r1"), "test", "x")
		c.hears(t, ev("test", "x"), cl[1:]...)
	}},
	{name: "except: rooms", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", nil, []string{"r1"}, []string{"r2"})
		c.emit(t, all().but("r1", "r9"), "test", "x")
		c.hears(t, ev("test", "x"), cl[0], cl[2])
	}},
	{name: "except: one room of a room", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1", "r2"}, []string{"r1"})
		c.emit(t, room("r1").but("r2"), "test", "x")
		c.hears(t, ev("test", "x"), cl[0], cl[2])
	}},
	{name: "to: a socket ID on another server", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for _, one := range cl[1:] {
			c.emit(t, socketID(one.id), "test", "x", []byte{1})
			c.hears(t, ev("test", "x", []byte{1}), one)
		}
	}},
	{name: "to: a socket ID and a room", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"})
		c.emit(t, socketID(cl[1].id, cl[2].id).and("r1"), "test", "x")
		c.hears(t, ev("test", "x"), cl[:]...)
	}},
	{name: "except: a socket ID", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		c.emit(t, all().butID(cl[1].id), "test", 1)
		c.hears(t, ev("test", 1), cl[0], cl[2])
		c.emit(t, room("r1").butID(cl[2].id), "test", 2)
		c.hears(t, ev("test", 2), cl[0], cl[1])
	}},
	{name: "to: a user, which is a room", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"user:u1"}, []string{"user:u1"}, []string{"u1"})
		c.emit(t, target{users: []string{"u1"}}, "test", "x")
		c.hears(t, ev("test", "x"), cl[0], cl[1])
	}},
	{name: "flags: local", applies: byServer, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"}, []string{"r1"})
		c.emit(t, target{local: true}, "test", 1)
		c.hears(t, ev("test", 1), cl[0])
		c.emit(t, target{local: true, rooms: []any{"r1"}}, "test", 2)
		c.hears(t, ev("test", 2), cl[0])
	}},
	{name: "flags: volatile", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", nil, []string{"r1"}, []string{"r1"})
		c.emit(t, target{volatile: true, rooms: []any{"r1"}}, "test", "x", []byte{1})
		c.hears(t, ev("test", "x", []byte{1}), cl[1], cl[2])
	}},
	{name: "flags: compress", run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for _, on := range []bool{true, false} {
			c.emit(t, target{compress: boolean(on)}, "test", "x")
			c.hears(t, ev("test", "x"), cl[:]...)
		}
	}},
	{name: "socket: to others", applies: byServer, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/", []string{"r1"}, []string{"r1"})
		must(t, c.server().broadcast(cl[0].id, all(), "test", 1))
		c.hears(t, ev("test", 1), cl[1], cl[2])
		must(t, c.server().broadcast(cl[0].id, room("r1"), "test", 2))
		c.hears(t, ev("test", 2), cl[1])
	}},
	{name: "join: heard at once", applies: byServer, run: func(t *testing.T, c *cell) {
		cl := c.threeIn(t, "/")
		for i, s := range c.servers {
			must(t, s.socketJoin("/", cl[i].id, "r1", "r2"))
		}
		c.emit(t, room("r1"), "test", "x")
		c.hears(t, ev("test", "x"), cl[:]...)
	}},
}

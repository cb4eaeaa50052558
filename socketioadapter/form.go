package socketioadapter

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
)

// form is a message being written, as msgpack. Callers of object and array give the number of members in advance.
type form struct {
	buf    []byte
	prefix string // of users' rooms
	err    error  // the first error
	json   []byte // memory for the message as JSON
}

func (f *form) array(n int)  { f.buf = mpack.AppendArrayLen(f.buf, n) }
func (f *form) object(n int) { f.buf = mpack.AppendMapLen(f.buf, n) }
func (f *form) key(k string) { f.buf = mpack.AppendStr(f.buf, k) }
func (f *form) str(s string) { f.buf = mpack.AppendStr(f.buf, s) }

func (f *form) text(k, s string) {
	f.key(k)
	f.str(s)
}

// optional writes a member unless it is empty.
func (f *form) optional(k, s string) {
	if s != "" {
		f.text(k, s)
	}
}

func (f *form) uint(k string, v uint64) {
	f.key(k)
	f.buf = mpack.AppendUint(f.buf, v)
}

func (f *form) bool(k string, v bool) {
	f.key(k)
	f.buf = mpack.AppendBool(f.buf, v)
}

// flag writes a member unless it is false.
func (f *form) flag(k string, v bool) {
	if v {
		f.bool(k, true)
	}
}

func (f *form) list(k string, names []string) {
	f.key(k)
	f.array(len(names))
	for _, s := range names {
		f.str(s)
	}
}

// hasLimit returns the number of members that limit writes.
func hasLimit(m *message) int { return set(m.command || m.fields != kind.AllFields) }

// limit writes which parts nodes may leave out of their answers to a fetch.
func (f *form) limit(m *message) {
	switch {
	case m.command:
		f.bool("command", true)
	case m.fields != kind.AllFields:
		f.uint("fields", uint64(m.fields))
	}
}

// one returns the number of members for s: 0 if s is empty.
func one(s string) int { return set(s != "") }

// set returns the number of members for v: 0 if v is false.
func set(v bool) int {
	if v {
		return 1
	}
	return 0
}

// opts writes the target of m and, with flags, its flags. Flags that are not set are left out.
func (f *form) opts(m *message, flags bool) {
	f.object(2 + set(flags))
	f.key("rooms")
	f.names(targetNames(&m.target))
	f.key("except")
	f.names(exceptNames(&m.target))
	if !flags {
		return
	}
	f.key("flags")
	f.object(set(m.volatile) + set(m.timeout > 0))
	f.flag("volatile", m.volatile)
	if m.timeout > 0 {
		f.uint("timeout", uint64((m.timeout+time.Millisecond-1)/time.Millisecond))
	}
}

// names writes a list of rooms.
func (f *form) names(n names) { f.buf = n.append(f.buf, f.prefix) }

// emitted writes an event and its arguments as an array.
func (f *form) emitted(k string, m *message) {
	f.key(k)
	buf, err := args.AppendMsgpack(f.buf, m.event, m.payload)
	if err != nil {
		f.fail(err)
		return
	}
	f.buf = buf
}

// hasValue returns the number of members that value writes.
func hasValue(m *message) int { return set(m.payload.Encoding != crosscast.EncodingNone) }

// value writes the first argument of m's payload, because answers in Socket.IO have only one value. Without a payload
// it writes nothing, which means undefined.
func (f *form) value(k string, m *message) {
	if hasValue(m) == 0 {
		return
	}
	f.key(k)
	from := len(f.buf)
	buf, n, err := args.AppendMsgpackValues(f.buf, m.payload)
	switch {
	case err != nil:
		f.fail(err)
		return
	case n == 0:
		buf = append(buf, mpack.Nil)
	case n > 1:
		first, _, err := mpack.Scan(buf[from:])
		if err != nil {
			f.fail(err)
			return
		}
		buf = buf[:from+first]
	}
	f.buf = buf
}

func (f *form) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

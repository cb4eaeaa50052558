package socketioadapter

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/mpack"
)

// dialect translates between instructions and messages of Socket.IO for package wire. The requestId of a query consists
// of the uid and the Ref, so this node's own queries need no memory here.
type dialect struct {
	channels channels
	prefix   string // of users' rooms
	maxFrame int    // bytes
	counter  *counter
	log      *slog.Logger

	self      crosscast.NodeID
	emitter   bool
	handler   crosscast.AdapterHandler
	refs      string // the beginning of this node's requestIds
	reader    reader
	in        crosscast.Instruction // the instruction passed to handler
	question  crosscast.Question    // of in
	questions questions
	dropped   [dropReasons]atomic.Uint64

	warnedBare, warnedAnswer sync.Once
}

func newDialect(o Options, c *counter) *dialect {
	return &dialect{
		channels: channels{key: o.Key, sharded: o.Mode == Sharded, rooms: o.Subscription}, prefix: o.UserRooms,
		maxFrame: o.MaxFrame, counter: c,
	}
}

// forceClose is the reason of a disconnect that ends the whole connection, not only one namespace.
const forceClose crosscast.Reason = "forced server close"

// Begin implements wire.Dialect.
func (d *dialect) Begin(s crosscast.AdapterStart) {
	d.self, d.emitter, d.handler, d.log = s.Self.ID, s.EmitOnly, s.Handler, cmp.Or(s.Logger, slog.Default())
	d.channels.self, d.channels.emitter = uidOf(s.Self.ID, s.EmitOnly, d.channels.sharded), s.EmitOnly
	d.refs = d.channels.self + "~"
	d.counter.watch("/")
	d.questions = questions{}
	d.reader = reader{channels: &d.channels, prefix: d.prefix, uid: []byte(d.channels.self), awaits: d.awaits}
}

// Home implements wire.Dialect.
func (d *dialect) Home() []string { return d.channels.home("/") }

// Topics implements wire.Dialect.
func (d *dialect) Topics(name crosscast.Address) []string {
	if name.Space == crosscast.SpaceNamespace {
		d.counter.watch(name.Namespace)
	}
	return d.channels.of(name, d.prefix)
}

// Gather implements wire.Gatherer.
func (d *dialect) Gather(ctx context.Context) { d.counter.gather(ctx) }

// Echo implements wire.Dialect.
func (d *dialect) Echo(number uint64) (topic string, data []byte) {
	m := d.message(echo, "/")
	m.number = number
	var f form
	data, _ = d.encode(&f, &m) // an echo has no error
	return d.channels.response("/", d.channels.self), data
}

func (d *dialect) message(k messageKind, ns string) message {
	return message{kind: k, uid: d.channels.self, namespace: ns}
}

// namespaceOf returns the namespace of an instruction, with "/" for empty.
func namespaceOf(in *crosscast.Instruction) string { return cmp.Or(in.Namespace, "/") }

// encode writes m into the memory of f.
func (d *dialect) encode(f *form, m *message) ([]byte, error) {
	f.buf, f.prefix, f.err = f.buf[:0], d.prefix, nil
	asJSON := true
	if d.channels.sharded {
		f.sharded(m)
		_, hasBytes, err := mpack.Scan(f.buf)
		asJSON = !hasBytes
		if err != nil {
			f.fail(err)
		}
	} else {
		asJSON = f.classic(m)
	}
	if f.err != nil || !asJSON || !m.isText() {
		return f.buf, f.err
	}
	var err error
	f.json, _, err = mpack.AppendJSON(f.json[:0], f.buf, args.BufferJSON)
	return f.json, err
}

var forms = sync.Pool{New: func() any { return new(form) }}

// release puts f back for reuse, unless it holds much memory.
func (f *form) release() {
	if cap(f.buf) <= maxScratch && cap(f.json) <= maxScratch {
		forms.Put(f)
	}
}

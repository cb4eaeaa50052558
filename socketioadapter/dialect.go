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

// dialect is Socket.IO's as package wire wants it: instructions to messages, and messages to instructions. What is
// asked gets as its requestId the uid and the Ref, so that nothing has to be remembered of own questions.
type dialect struct {
	channels channels
	prefix   string // of users' rooms
	maxFrame int    // bytes
	counter  *counter
	log      *slog.Logger

	self      crosscast.NodeID
	emitter   bool
	handler   crosscast.AdapterHandler
	refs      string // what begins the requestIds of this node
	reader    reader
	in        crosscast.Instruction // the one that handler is told of
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

// forceClose is the reason of a disconnect that ends the whole connection, not only a namespace of it.
const forceClose crosscast.Reason = "forced server close"

// Begin implements wire.Dialect.
func (d *dialect) Begin(s crosscast.AdapterStart) {
	self := s.Self
	d.self, d.emitter, d.handler, d.log = self.ID, self.EmitOnly, s.Handler, cmp.Or(s.Logger, slog.Default())
	d.channels.self, d.channels.emitter = uidOf(self, d.channels.sharded), self.EmitOnly
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
	data, _ = d.encode(&f, &m) // nothing in it can be wrong
	return d.channels.response("/", d.channels.self), data
}

func (d *dialect) message(k kind, ns string) message {
	return message{kind: k, uid: d.channels.self, namespace: ns}
}

// namespaceOf is the namespace of an instruction, whose zero value is the default.
func namespaceOf(in *crosscast.Instruction) string { return cmp.Or(in.Namespace, "/") }

// encode writes m, into memory of f.
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

// release lets f be used again, unless it keeps much memory.
func (f *form) release() {
	if cap(f.buf) <= maxScratch && cap(f.json) <= maxScratch {
		forms.Put(f)
	}
}

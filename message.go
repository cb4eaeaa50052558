package crosscast

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/histogram"
)

// A Message is passed to a conn or a subscription. A conn may use it only during the call, because the node reuses it;
// Clone makes a copy to keep. Its fields must not be changed.
type Message struct {
	Namespace string
	From      NodeID // the emitting node; empty: an external program, through an ingress (see package wire)
	Target    *Target
	Event     string
	Payload   Payload
	Volatile  bool
	Meta      []KeyValue
	// Ack is not 0 if the client is to reply. The binding sends it along, and passes the client's reply to
	// Socket.Reply.
	Ack uint64

	// The first frame is read without the lock. There is nearly always one framer, and a lock for each socket would
	// cost as much as its queue.
	ready atomic.Bool // first is set and does not change any more
	first framed
	made  atomic.Int32 // how many of more are set and do not change any more
	more  *[3]framed   // of further framers; nil: none
	mu    sync.Mutex
	rest  []framed // of still more framers; mu guards it, and the writes of first and more

	text atomic.Pointer[[]byte] // the JSON of a payload of EncodingMsgPack, for all framers

	node *Node // reports a framer that panics; nil: no report

	timed *histogram.Histogram // gets the time from at until a queue has written it; nil: none
	at    time.Time
}

// A Framer turns a message into the bytes that a binding writes to its connections, for example a JSON envelope. It
// must be comparable (a pointer or an empty struct), and the same value for all sockets that share the framing. The
// result may be a part of m.Payload.Data; then the node copies it. If Frame panics, the message cannot be framed: the
// error is a [*PanicError].
type Framer interface {
	Frame(m *Message) ([]byte, error)
}

type framed struct {
	by   Framer
	data []byte
	err  error
}

// Frame returns f's frame of the message. It is made at the first call for each framer and shared by all sockets of the
// node, so a broadcast is framed once. The bytes may be kept and must not be changed. Frame may be called concurrently.
func (m *Message) Frame(f Framer) ([]byte, error) {
	if m.ready.Load() && m.first.by == f {
		return m.first.data, m.first.err
	}
	return m.frame(f)
}

func (m *Message) frame(f Framer) ([]byte, error) {
	for i := range m.made.Load() {
		if made := &m.more[i]; made.by == f {
			return made.data, made.err
		}
	}
	made, isNew := m.framed(f)
	if isNew && m.node != nil {
		m.node.report("Framer.Frame", made.err)
	}
	return made.data, made.err
}

// framed returns f's frame, and whether this call made it.
func (m *Message) framed(f Framer) (made framed, isNew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first.by == f {
		return m.first, false
	}
	n := m.made.Load()
	for i := range n {
		if m.more[i].by == f {
			return m.more[i], false
		}
	}
	for i := range m.rest {
		if m.rest[i].by == f {
			return m.rest[i], false
		}
	}
	made = framed{by: f, err: guard.ErrExit}
	defer func() { // also if f ends the goroutine: waiting calls must not try again
		if !m.ready.Load() {
			m.first = made
			m.ready.Store(true)
			return
		}
		if m.more == nil {
			m.more = new([len(m.more)]framed)
		}
		if int(n) < len(m.more) {
			m.more[n] = made
			m.made.Store(n + 1)
		} else {
			m.rest = append(m.rest, made)
		}
	}()
	made.err = guard.Call(func() (err error) {
		made.data, err = f.Frame(m)
		if isPart(made.data, m.Payload.Data) {
			made.data = slices.Clone(made.data)
		}
		return err
	})
	return made, true
}

// isPart reports whether part is in the memory of whole. The node and the adapter reuse the memory of a payload.
func isPart(part, whole []byte) bool {
	at, from := uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return len(part) > 0 && at >= from && at-from < uintptr(len(whole))
}

// json returns the payload for clients that take only JSON: one of EncodingMsgPack is converted once for all framers.
func (m *Message) json() (Payload, error) {
	if m.Payload.Encoding != EncodingMsgPack {
		return m.Payload, nil
	}
	if text := m.text.Load(); text != nil {
		return Payload{EncodingJSON, *text}, nil
	}
	text, err := m.Payload.AppendJSON(nil)
	if err != nil {
		return Payload{}, err
	}
	m.text.Store(&text)
	return Payload{EncodingJSON, text}, nil
}

// resetFrames forgets the frames, so that the message can be reused. No other goroutine may use it meanwhile.
func (m *Message) resetFrames() {
	if !m.ready.Load() { // as with a conn that frames nothing: each write costs while garbage is collected
		return
	}
	m.ready.Store(false)
	m.first = framed{}
	if n := m.made.Load(); n > 0 {
		m.made.Store(0)
		clear(m.more[:n])
	}
	clear(m.rest)
	m.rest = m.rest[:0]
}

// Clone returns a copy that may be kept.
func (m *Message) Clone() *Message {
	c := &Message{
		Namespace: strings.Clone(m.Namespace),
		From:      m.From,
		Event:     strings.Clone(m.Event),
		Payload:   Payload{m.Payload.Encoding, slices.Clone(m.Payload.Data)},
		Volatile:  m.Volatile,
		Meta:      slices.Clone(m.Meta),
		Ack:       m.Ack,
		node:      m.node,
	}
	if m.Target != nil {
		c.Target = m.Target.clone()
	}
	return c
}

func (t *Target) clone() *Target {
	return &Target{
		Everyone: t.Everyone, Rooms: slices.Clone(t.Rooms), Users: slices.Clone(t.Users),
		Sockets: slices.Clone(t.Sockets), ExceptRooms: slices.Clone(t.ExceptRooms),
		ExceptUsers: slices.Clone(t.ExceptUsers), ExceptSockets: slices.Clone(t.ExceptSockets),
	}
}

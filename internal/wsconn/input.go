package wsconn

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// An input reads the client's frames (RFC 6455, section 5, and RFC 7692). Only one goroutine uses it at a time. It has
// a small buffer, so that an idle connection costs little. While more bytes are likely to come at once, it borrows a
// large one. A long frame is read into the message that it belongs to.
type input struct {
	from     io.Reader
	limit    int           // of a message, in bytes
	inflates bool          // messages may be compressed
	heard    atomic.Uint32 // counts signs of life: reads that returned bytes
	ended    bool          // the client's closing frame was read
	full     bool          // the last read has filled its buffer, so more bytes might wait
	left     uint64        // bytes of the frame that were not read yet
	unread   []byte        // in buffer or large, or what the client has sent before the answer to its request
	large    *[largeBuffer]byte
	buffer   [inputBuffer]byte
}

// inputBuffer is at least the payload of a control frame. Most messages of clients fit, with the 6 bytes of their header.
const inputBuffer = 128

// largeBuffer is the size of the buffers in largeBuffers.
const largeBuffer = 4 << 10

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// A header is the header of a frame.
type header struct {
	first  byte
	masked bool
	key    [4]byte
	size   uint64 // of the payload
}

func (h header) op() byte { return h.first & 0x0f }

// A controller handles control frames. payload is valid during the call.
type controller interface {
	handleControl(op byte, payload []byte)
}

// A closeFrame is the error of reading when the client's closing frame has come.
type closeFrame struct{ code websocket.StatusCode } // StatusNoStatusRcvd: it has none

func (closeFrame) Error() string { return "the client has sent a closing frame" }

// violation returns the error of a frame that breaks the protocol.
func violation(text string) error {
	return Unacceptable{crosscast.ReasonProtocol, websocket.StatusProtocolError, text}
}

const tooLarge = "message too large"

// errTooLarge is the error of a message above the limit.
var errTooLarge error = Unacceptable{crosscast.ReasonProtocol, websocket.StatusMessageTooBig, tooLarge}

// next reads the next message, which the caller releases, or the next control frame: then the message is nil. Control
// frames go to control.
func (in *input) next(control controller) (websocket.MessageType, *bytes.Buffer, error) {
	h, err := in.frame(control, false)
	if err != nil || h.op() >= opClose {
		return 0, nil, err
	}
	m, err := in.message(h, control)
	return websocket.MessageType(h.op()), m, err
}

// message reads the message that begins with a frame.
func (in *input) message(h header, control controller) (*bytes.Buffer, error) {
	deflated := h.first&compressed != 0
	m := buffers.Get().(*bytes.Buffer)
	err := in.payload(m, h, deflated)
	for err == nil && h.first&final == 0 {
		var more header
		if more, err = in.frame(control, true); err == nil && more.op() < opClose {
			h, err = more, in.payload(m, more, deflated)
		}
	}
	if err == nil && !deflated {
		return m, nil
	}
	defer release(m)
	if err != nil {
		return nil, err
	}
	return inflate(m, in.limit)
}

// frame reads the header of the next frame, and the rest of a control frame. within means that the frame before was not
// the last one of its message.
func (in *input) frame(control controller, within bool) (header, error) {
	h, err := in.header()
	if err == nil {
		err = in.check(h, within)
	}
	if err == nil && h.op() >= opClose {
		err = in.control(h, control)
	}
	return h, err
}

// check checks the header of a frame. within means that the frame before was not the last one of its message.
func (in *input) check(h header, within bool) error {
	op := h.op()
	switch {
	case h.first&0x30 != 0, h.first&compressed != 0 && (!in.inflates || op != opText && op != opBinary):
		return violation("reserved bits")
	case !h.masked:
		return violation("unmasked frame")
	case op > opPong || op > opBinary && op < opClose:
		return violation("unknown opcode")
	case op >= opClose && h.first&final == 0:
		return violation("fragmented control frame")
	case op >= opClose && h.size > 125:
		return violation("large control frame")
	case op == opContinuation && !within:
		return violation("continuation of no message")
	case op != opContinuation && op < opClose && within:
		return violation("message within a message")
	case h.size > 1<<63-1:
		return violation("length above 63 bits")
	}
	return nil
}

// header reads the header of the next frame.
func (in *input) header() (h header, err error) {
	if err := in.need(2); err != nil {
		return h, err
	}
	h.first, h.masked, h.size = in.unread[0], in.unread[1]&0x80 != 0, uint64(in.unread[1]&0x7f)
	size := 2
	switch h.size {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	key := size
	if h.masked {
		size += len(h.key)
	}
	if err := in.need(size); err != nil {
		return h, err
	}
	switch h.size {
	case 126:
		h.size = uint64(binary.BigEndian.Uint16(in.unread[2:]))
	case 127:
		h.size = binary.BigEndian.Uint64(in.unread[2:])
	}
	copy(h.key[:], in.unread[key:size])
	in.unread, in.left = in.unread[size:], h.size
	return h, nil
}

// need makes at least n bytes unread, which fit the small buffer.
func (in *input) need(n int) error {
	for len(in.unread) < n {
		if err := in.fill(in.full); err != nil {
			return err
		}
	}
	return nil
}

// listen waits for the next frame. Nothing is kept but the small buffer.
func (in *input) listen() {
	if len(in.unread) == 0 {
		_ = in.fill(false) // the next read returns the error again
	}
}

// empty reports whether everything is used that was read, and more is not likely to come at once.
func (in *input) empty() bool { return len(in.unread) == 0 && !in.full }

// fill reads more bytes behind the unread ones, of which there are fewer than the small buffer holds. The large buffer
// goes back before an idle connection waits here.
func (in *input) fill(large bool) error {
	b := in.buffer[:]
	if large {
		if in.large == nil {
			in.large = largeBuffers.Get().(*[largeBuffer]byte)
		}
		b = in.large[:]
	}
	kept := copy(b, in.unread)
	in.unread = b[:kept]
	if !large && in.large != nil {
		largeBuffers.Put(in.large)
		in.large = nil
	}
	n, err := in.read(b[kept:])
	in.unread, in.full = b[:kept+n], kept+n == len(b)
	return err
}

// read reads at least one byte, unless it returns an error.
func (in *input) read(p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := in.from.Read(p)
		if n > 0 {
			in.heard.Add(1)
			return n, nil // the next read returns the error again
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// maxEmptyReads is how often a connection may return neither bytes nor an error.
const maxEmptyReads = 100

// control reads the rest of a control frame, and handles it.
func (in *input) control(h header, control controller) error {
	size := int(h.size)
	if err := in.need(size); err != nil {
		return err
	}
	payload := in.unread[:size]
	in.unread, in.left = in.unread[size:], 0
	unmask(payload, h.key)
	if h.op() != opClose {
		control.handleControl(h.op(), payload)
		return nil
	}
	in.ended = true
	if size == 0 {
		return closeFrame{websocket.StatusNoStatusRcvd}
	}
	if size == 1 {
		return violation("closing frame with half a code")
	}
	code := websocket.StatusCode(binary.BigEndian.Uint16(payload))
	switch {
	case !mayClose(code):
		return violation("closing frame with a bad code")
	case !utf8.Valid(payload[2:]):
		return violation("closing frame with a text that is not UTF-8")
	}
	return closeFrame{code}
}

// mayClose reports whether a closing frame may have a code (RFC 6455, section 7.4, and IANA's registry).
func mayClose(code websocket.StatusCode) bool {
	switch code {
	case 1004, websocket.StatusNoStatusRcvd, websocket.StatusAbnormalClosure:
		return false
	}
	return code >= 1000 && code <= websocket.StatusBadGateway || code >= 3000 && code <= 4999
}

// payload appends the payload of a frame to a message. The message grows with the bytes that come, not with their
// announcement.
func (in *input) payload(m *bytes.Buffer, h header, deflated bool) error {
	limit := in.limit
	if deflated {
		limit += limit/4 + 64 // more than zlib adds to a message, whatever its options
	}
	if h.size > uint64(limit-m.Len()) {
		return errTooLarge
	}
	begin := m.Len()
	for in.left > 0 {
		if len(in.unread) == 0 && in.left < largeBuffer {
			if err := in.fill(true); err != nil { // also reads the frames behind this one
				return err
			}
		}
		if len(in.unread) > 0 {
			n := int(min(uint64(len(in.unread)), in.left))
			m.Write(in.unread[:n])
			in.unread, in.left = in.unread[n:], in.left-uint64(n)
			continue
		}
		m.Grow(int(min(in.left, uint64(max(m.Len(), bytes.MinRead)))))
		free := m.AvailableBuffer()
		n, err := in.read(free[:min(uint64(cap(free)), in.left)])
		if err != nil {
			return err
		}
		m.Write(free[:n])
		in.left, in.full = in.left-uint64(n), false
	}
	unmask(m.Bytes()[begin:], h.key)
	return nil
}

// discard reads frames, however bad, up to the client's closing frame.
func (in *input) discard() {
	for !in.ended {
		for in.left > 0 {
			if in.need(1) != nil {
				return
			}
			n := min(uint64(len(in.unread)), in.left)
			in.unread, in.left = in.unread[n:], in.left-n
		}
		h, err := in.header()
		if err != nil {
			return
		}
		in.ended = h.op() == opClose
	}
}

// unmask applies the key of a frame to its payload.
func unmask(b []byte, key [4]byte) {
	four := uint64(binary.LittleEndian.Uint32(key[:]))
	eight := four | four<<32
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^eight)
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled is the capacity of the largest buffer that is reused.
const maxPooled = 64 << 10

// release makes the buffer of a message available again. m may be nil.
func release(m *bytes.Buffer) {
	if m != nil && m.Cap() <= maxPooled {
		m.Reset()
		buffers.Put(m)
	}
}

package wsconn

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"sync"
	"unique"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// A Format says how messages become websocket frames of the server. The zero value compresses nothing. Connections with
// equal formats share the frames of a broadcast.
type Format struct {
	compressFrom int32 // size from which messages are compressed; 0: none is
	Form         uint8 // the owner's number of what messages look like; see Config.Form
}

const (
	opContinuation, opText, opBinary = 0, 1, 2
	opClose, opPing, opPong          = 8, 9, 10

	final      = 0x80 // in the first byte of a frame that is the last one of its message
	compressed = 0x40 // in the first byte of the first frame of a compressed message
)

// maxHeader is the size of the largest header that Append makes.
const maxHeader = 10

// Append appends a message to dst, as one frame.
func (f Format) Append(dst []byte, typ websocket.MessageType, payload []byte) []byte {
	first := final | byte(typ) // a MessageType is an opcode
	if f.compressFrom > 0 && len(payload) >= int(f.compressFrom) {
		d := deflaters.Get().(*deflater)
		defer d.release()
		first |= compressed
		payload = d.deflate(payload)
	}
	if dst == nil {
		dst = make([]byte, 0, maxHeader+len(payload))
	}
	return append(appendHeader(dst, first, len(payload)), payload...)
}

func appendHeader(dst []byte, first byte, size int) []byte {
	switch {
	case size < 126:
		return append(dst, first, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, first, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, first, 127), uint64(size))
}

// A deflater compresses messages without regard to others.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer // to out
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(&d.out, flate.BestSpeed) // the level is valid
	return d
}}

// deflate compresses a message. The result is valid until release. RFC 7692 (7.2.1) leaves out the last four bytes.
func (d *deflater) deflate(payload []byte) []byte {
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(payload) // a bytes.Buffer has no errors
	_ = d.w.Flush()
	return d.out.Bytes()[:d.out.Len()-4]
}

// release makes d available again, without a large buffer.
func (d *deflater) release() {
	if d.out.Cap() > maxPooled {
		d.out = bytes.Buffer{}
	}
	deflaters.Put(d)
}

// shared is a framer that is compared by one pointer, because a broadcast compares framers for each of its sockets.
// Those of equal framers are equal.
type shared struct {
	framer unique.Handle[crosscast.Framer]
}

func share(f crosscast.Framer) crosscast.Framer { return shared{unique.Make(f)} }

// Frame implements crosscast.Framer.
func (s shared) Frame(m *crosscast.Message) ([]byte, error) { return s.framer.Value().Frame(m) }

package wsconn

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// An inflater decompresses messages without regard to others.
type inflater struct {
	message bytes.Reader  // read byte by byte, so that nothing behind the end of a stream is taken
	r       io.ReadCloser // of message
}

// inflateTail is the end of a message that RFC 7692 (7.2.2) leaves out, and an empty last block, so that there is an end.
const inflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.r = flate.NewReader(nil)
	return i
}}

// inflate decompresses a message of at most limit bytes. The caller releases the result. The client may end a stream
// within the message, and begin another (RFC 7692, section 7.2.3.4).
func inflate(message *bytes.Buffer, limit int) (*bytes.Buffer, error) {
	message.WriteString(inflateTail)
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	i.message.Reset(message.Bytes())
	defer i.message.Reset(nil)
	plain := buffers.Get().(*bytes.Buffer)
	var err error
	more := true
	for streams := 0; more && err == nil; streams++ {
		if streams == maxStreams {
			err = errInflate
			break
		}
		_ = i.r.(flate.Resetter).Reset(&i.message, nil) // returns no error
		_, err = io.Copy(plain, io.LimitReader(i.r, int64(limit-plain.Len())+1))
		if plain.Len() > limit {
			err = errTooLarge
		} else if err != nil {
			err = errInflate
		}
		more = i.message.Len() > len(inflateTail)
	}
	if err == nil {
		return plain, nil
	}
	release(plain)
	return nil, err
}

// maxStreams is the most streams in a message. Two bytes of the client begin another one, which costs a microsecond.
const maxStreams = 1000

// errInflate is the error of a message that cannot be decompressed.
var errInflate error = Unacceptable{
	crosscast.ReasonProtocol, websocket.StatusInvalidFramePayloadData, "compressed badly",
}

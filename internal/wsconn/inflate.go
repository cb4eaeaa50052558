package wsconn

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// An inflater decompresses messages without regard to others.
type inflater struct {
	message bytes.Reader
	tail    strings.Reader
	r       io.ReadCloser // of message and tail
}

// inflateTail is the end of a message that RFC 7692 (7.2.2) leaves out, and an empty last block, so that there is an end.
const inflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.r = flate.NewReader(nil)
	return i
}}

// inflate decompresses a message of at most limit bytes. The caller releases the result.
func inflate(message []byte, limit int) (*bytes.Buffer, error) {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	i.message.Reset(message)
	i.tail.Reset(inflateTail)
	_ = i.r.(flate.Resetter).Reset(io.MultiReader(&i.message, &i.tail), nil) // returns no error
	plain := buffers.Get().(*bytes.Buffer)
	n, err := io.Copy(plain, io.LimitReader(i.r, int64(limit)+1))
	i.message.Reset(nil)
	switch {
	case n > int64(limit):
		err = errTooLarge
	case err != nil:
		err = Unacceptable{crosscast.ReasonProtocol, websocket.StatusInvalidFramePayloadData, "compressed badly"}
	default:
		return plain, nil
	}
	release(plain)
	return nil, err
}

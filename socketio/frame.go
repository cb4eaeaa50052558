package socketio

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// A framer makes packets: as one or more websocket frames, one after the other. Connections with equal framers share
// the frames of a broadcast.
type framer struct {
	maxAttachments int
	base64         bool // the client accepts no binary messages
	format         wsconn.Format
}

// Frame implements crosscast.Framer.
func (f framer) Frame(m *crosscast.Message) ([]byte, error) {
	if isReserved(m.Event) {
		return nil, fmt.Errorf("crosscast/socketio: event %q is reserved", m.Event)
	}
	size := len(m.Event) + len(`["",]`) + len(m.Payload.Data)
	return f.packet(emission, m.Namespace, m.Ack, m.Ack != 0, m.Payload.Encoding, size,
		func(dst []byte, bytes mpack.Bytes) ([]byte, error) {
			return args.AppendJSON(dst, m.Event, m.Payload, bytes)
		})
}

// ack makes the acknowledgement of an event.
func (f framer) ack(namespace string, id uint64, p crosscast.Payload) ([]byte, error) {
	appendJSON := func(dst []byte, bytes mpack.Bytes) ([]byte, error) {
		dst, err := args.AppendJSONValues(append(dst, '['), p, bytes)
		return append(dst, ']'), err
	}
	size := len("[]") + len(p.Data)
	return f.packet(ack, namespace, id, true, p.Encoding, size, appendJSON)
}

// packet makes a packet. appendJSON appends its JSON, about size bytes, with placeholders for bytes if the encoding
// allows bytes.
func (f framer) packet(
	typ byte, namespace string, id uint64, hasID bool, encoding crosscast.Encoding, size int,
	appendJSON func(dst []byte, bytes mpack.Bytes) ([]byte, error),
) ([]byte, error) {
	var attachments [][]byte
	placeholder := func(dst, b []byte) []byte {
		dst = append(dst, `{"_placeholder":true,"num":`...)
		dst = append(strconv.AppendInt(dst, int64(len(attachments)), 10), '}')
		attachments = append(attachments, b)
		return dst
	}
	if encoding == crosscast.EncodingNone || encoding == crosscast.EncodingJSON {
		dst := make([]byte, 0, headerSize(namespace)+size)
		dst, err := appendJSON(appendHeader(dst, typ, namespace, 0, id, hasID), placeholder)
		if err != nil {
			return nil, err
		}
		return f.text(dst), nil
	}
	text, err := appendJSON(make([]byte, 0, size), placeholder)
	if err != nil {
		return nil, err
	}
	if len(attachments) > f.maxAttachments {
		return nil, fmt.Errorf("crosscast/socketio: %d attachments, at most %d", len(attachments), f.maxAttachments)
	}
	header := appendHeader(make([]byte, 0, headerSize(namespace)+len(text)), typ, namespace, len(attachments), id, hasID)
	return f.join(append(header, text...), attachments), nil
}

// text makes the frame of a packet without attachments.
func (f framer) text(packet []byte) []byte {
	return f.format.Append(nil, websocket.MessageText, packet)
}

// join makes the frames of a packet and its attachments. They are one frame of the queue, so nothing comes between them.
func (f framer) join(packet []byte, attachments [][]byte) []byte {
	frames := f.text(packet)
	for _, a := range attachments {
		if f.base64 {
			a = base64.StdEncoding.AppendEncode([]byte{engineBase64}, a)
			frames = f.format.Append(frames, websocket.MessageText, a)
		} else {
			frames = f.format.Append(frames, websocket.MessageBinary, a)
		}
	}
	return frames
}

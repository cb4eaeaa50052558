package socketio

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// A framer makes the packets of messages. Servers with the same limit share it, so that a broadcast is framed once.
type framer struct{ maxAttachments int }

// Frame implements crosscast.Framer.
func (f framer) Frame(m *crosscast.Message) ([]byte, error) {
	if isReserved(m.Event) {
		return nil, fmt.Errorf("crosscast/socketio: event %q is reserved", m.Event)
	}
	size := len(m.Event) + len(`["",]`) + len(m.Payload.Data)
	return frame(emission, m.Namespace, m.Ack, m.Ack != 0, m.Payload.Encoding, size, f.maxAttachments,
		func(dst []byte, bytes mpack.Bytes) ([]byte, error) {
			return args.AppendJSON(dst, m.Event, m.Payload, bytes)
		})
}

// ackFrame makes the acknowledgement of an event.
func ackFrame(namespace string, id uint64, p crosscast.Payload, maxAttachments int) ([]byte, error) {
	appendJSON := func(dst []byte, bytes mpack.Bytes) ([]byte, error) {
		dst, err := args.AppendJSONValues(append(dst, '['), p, bytes)
		return append(dst, ']'), err
	}
	size := len("[]") + len(p.Data)
	return frame(ack, namespace, id, true, p.Encoding, size, maxAttachments, appendJSON)
}

// frame makes a packet. appendJSON appends its JSON, about size bytes, with placeholders for bytes if the encoding
// allows bytes.
func frame(
	typ byte, namespace string, id uint64, hasID bool, encoding crosscast.Encoding, size, maxAttachments int,
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
		return appendJSON(appendHeader(dst, typ, namespace, 0, id, hasID), placeholder)
	}
	text, err := appendJSON(make([]byte, 0, size), placeholder)
	if err != nil {
		return nil, err
	}
	if len(attachments) > maxAttachments {
		return nil, fmt.Errorf("crosscast/socketio: %d attachments, at most %d", len(attachments), maxAttachments)
	}
	header := appendHeader(make([]byte, 0, headerSize(namespace)+len(text)), typ, namespace, len(attachments), id, hasID)
	text = append(header, text...)
	if len(attachments) == 0 {
		return text, nil
	}
	return joinFrame(text, attachments), nil
}

// write writes a frame of a client's queue.
func (s *Server) write(c *wsconn.Conn, frame []byte) error {
	return s.writeFrame(c, frame, func(attachment []byte) error {
		return c.WS.Write(context.Background(), websocket.MessageBinary, attachment)
	})
}

// writeBase64 is write for a client that accepts no binary messages.
func (s *Server) writeBase64(c *wsconn.Conn, frame []byte) error {
	return s.writeFrame(c, frame, func(attachment []byte) error {
		text := base64.StdEncoding.AppendEncode([]byte{engineBase64}, attachment)
		return c.WS.Write(context.Background(), websocket.MessageText, text)
	})
}

func (s *Server) writeFrame(c *wsconn.Conn, frame []byte, attachment func([]byte) error) error {
	s.stats.out.Add(1)
	if len(frame) == 0 || frame[0] != 0 {
		return c.WS.Write(context.Background(), websocket.MessageText, frame)
	}
	return splitFrame(frame, func(message []byte, text bool) error {
		if !text {
			return attachment(message)
		}
		return c.WS.Write(context.Background(), websocket.MessageText, message)
	})
}

package sse

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/wsconn"
)

// Frames of websockets (RFC 6455, section 5) that package ws writes, and those that it reads: whole messages, without
// compression.

const (
	final                   = 0x80
	opText, opBinary        = 1, 2
	opClose, opPing, opPong = 8, 9, 10
	masked                  = 0x80
)

var errFrame = errors.New("crosscast/sse: not a frame of a whole message")

// translate appends to b the events that frames become, and to answers what the client would send if it had got frames.
func (s *stream) translate(b, frames []byte) (events, answers []byte, err error) {
	for len(frames) > 0 {
		op, payload, rest, err := next(frames)
		if err != nil {
			return nil, nil, err
		}
		frames = rest
		switch op {
		case opText:
			b = appendData(s.stampLocked(b), payload)
		case opBinary:
			b = append(s.stampLocked(b), "event: bytes\ndata: "...)
			b = append(base64.StdEncoding.AppendEncode(b, payload), "\n\n"...)
		case opPing:
			b = append(s.stampLocked(b), ":\n\n"...)
			answers = appendFrame(answers, opPong, payload)
		case opPong: // of a ping that nobody can send
		case opClose:
			b = appendClose(b, payload)
			answers = appendFrame(answers, opClose, payload)
		default:
			return nil, nil, errFrame
		}
	}
	return b, answers, nil
}

// next cuts the first frame off.
func next(b []byte) (op byte, payload, rest []byte, err error) {
	if len(b) < 2 || b[0]&0xf0 != final || b[1]&masked != 0 {
		return 0, nil, nil, errFrame
	}
	header, size := 2, uint64(b[1])
	switch {
	case size == 126 && len(b) >= 4:
		header, size = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case size == 127 && len(b) >= 10:
		header, size = 10, binary.BigEndian.Uint64(b[2:])
	}
	if size > uint64(len(b)-header) {
		return 0, nil, nil, errFrame
	}
	end := header + int(size)
	return b[0] & 0x0f, b[header:end], b[end:], nil
}

// appendData appends an event whose data is text. Each line needs a field of its own; a JSON text has line breaks only
// between its tokens.
func appendData(b, text []byte) []byte {
	for {
		end := bytes.IndexByte(text, '\n')
		if before := bytes.IndexByte(text[:cmp.Or(end+1, len(text))], '\r'); before >= 0 {
			end = before
		}
		b = append(b, "data: "...)
		if end < 0 {
			return append(append(b, text...), "\n\n"...)
		}
		b = append(append(b, text[:end]...), '\n')
		if text[end] == '\r' && end+1 < len(text) && text[end+1] == '\n' {
			end++
		}
		text = text[end+1:]
	}
}

// appendClose appends the event that a closing frame becomes. It tells an EventSource, which always comes back, when.
func appendClose(b, payload []byte) []byte {
	end := struct {
		Code   int    `json:"code"`
		Reason string `json:"reason"`
	}{Code: 1005}
	if len(payload) >= 2 {
		end.Code, end.Reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
	}
	data, _ := json.Marshal(end) // has no errors
	wait := time.Second + rand.N(2*time.Second)
	return appendData(fmt.Appendf(b, "event: close\nretry: %d\n", wait.Milliseconds()), data)
}

// stamp is how often an event has an ID: the time, from which an absence of the client counts.
const stamp = time.Second

// stampLocked begins an event, with an ID if the last one is old.
func (s *stream) stampLocked(b []byte) []byte {
	now := time.Now()
	if now.Sub(s.stamped) < stamp {
		return b
	}
	s.stamped = now
	return appendID(b, now)
}

func appendID(b []byte, now time.Time) []byte {
	return append(strconv.AppendInt(append(b, "id: "...), now.UnixMilli(), 10), '\n')
}

// appendFrame appends a client's frame, whose key is zero: that masks nothing.
func appendFrame(b []byte, op byte, payload []byte) []byte {
	b = append(b, final|op)
	switch size := len(payload); {
	case size < 126:
		b = append(b, masked|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(size))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// framesOf makes frames of the lines of a POST, which are messages. Behind a "=" a binary message is in base64.
func framesOf(body []byte) (frames []byte) {
	for line := range bytes.Lines(body) {
		op, message := byte(opText), bytes.TrimSpace(line)
		if coded, ok := bytes.CutPrefix(message, []byte("=")); ok {
			if b, err := base64.StdEncoding.AppendDecode(nil, coded); err == nil { // otherwise it is malformed, as a text
				op, message = opBinary, b
			}
		}
		if len(message) > 0 {
			frames = appendFrame(frames, op, message)
		}
	}
	return frames
}

// hello makes the first event.
func (s *Server) hello(st *stream, secret, protocol string) []byte {
	data, _ := json.Marshal(struct { // has no errors
		Token    string `json:"token"`
		Limit    int    `json:"limit"`
		Alive    int64  `json:"alive,omitempty"`
		Protocol string `json:"protocol,omitempty"`
	}{token(st, secret), min(s.o.PostLimit, s.inside.Config.ReadLimit), max(s.inside.Config.PingInterval.Milliseconds(), 0), protocol})
	st.stamped = time.Now()
	return appendData(appendID([]byte("event: hello\n"), st.stamped), data)
}

// absence makes the second event of a client that was here before: the gap of its absence. An ID that is not ours, or
// from the future, means everything.
func (s *Server) absence(r *http.Request) []byte {
	id := r.Header.Get("Last-Event-Id")
	if id == "" {
		return nil
	}
	now, since := time.Now(), time.Unix(0, 0)
	if ms, err := strconv.ParseInt(id, 10, 64); err == nil && ms > 0 && ms <= now.UnixMilli() {
		since = time.UnixMilli(ms).Add(-s.o.GapMargin)
	}
	message := s.inside.Gap(wsconn.GapNotice{Since: since, Until: now, Wait: s.inside.GapSpread})
	if len(message) == 0 {
		return nil
	}
	return appendData(nil, message)
}

const (
	idBytes     = 9
	secretBytes = 16 // 128 bits
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// buffers are for the events of one write.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled is the capacity of the largest buffer that is reused.
const maxPooled = 64 << 10

func release(b *[]byte) {
	if cap(*b) <= maxPooled {
		buffers.Put(b)
	}
}

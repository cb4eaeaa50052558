package ws

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// The subprotocols of this package: see "Subprotocols" in the package documentation.
const (
	subprotocolJSON    = "crosscast.json.1"
	subprotocolMsgPack = "crosscast.msgpack.1"
)

// The forms of a connection's messages, in its wsconn.Format.
const (
	formPlain   uint8 = iota // of the Envelope
	formJSON                 // of the Envelope, with bytes as binary messages
	formMsgPack              // those of JSON, as msgpack
)

// offered returns the subprotocols that come after the application's: those that the Envelope allows, and that the
// application does not speak itself.
func (o *Options) offered() (own []string) {
	switch {
	case o.Envelope.Binary():
	case o.Envelope == (JSON{}):
		own = []string{subprotocolMsgPack, subprotocolJSON}
	default:
		own = []string{subprotocolJSON}
	}
	return slices.DeleteFunc(own, func(name string) bool { return containsFold(o.Subprotocols, name) })
}

func containsFold(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// formOf returns the form of connections with a subprotocol.
func (s *Server) formOf(subprotocol string) uint8 {
	switch {
	case !containsFold(s.forms, subprotocol):
		return formPlain
	case strings.EqualFold(subprotocol, subprotocolMsgPack):
		return formMsgPack
	}
	return formJSON
}

const (
	maxOffers     = 16
	maxOfferBytes = 1024
)

// checkOffers returns an error about the subprotocols that a client offers: too many, not names, or only versions of
// crosscast's that this server does not know. A client that offers none gets plain JSON.
func (s *Server) checkOffers(h http.Header) error {
	size, count, unknown := 0, 0, ""
	known := false
	for _, line := range h.Values("Sec-Websocket-Protocol") {
		if size += len(line); size > maxOfferBytes {
			return fmt.Errorf("more than %d bytes of subprotocols", maxOfferBytes)
		}
		for name := range strings.SplitSeq(line, ",") {
			name = strings.Trim(name, " \t")
			switch count++; {
			case count > maxOffers:
				return fmt.Errorf("more than %d subprotocols", maxOffers)
			case name == "" || strings.ContainsFunc(name, notInToken):
				return errors.New("malformed list of subprotocols")
			case containsFold(s.config.Subprotocols, name):
				known = true
			case len(name) >= len("crosscast.") && strings.EqualFold(name[:len("crosscast.")], "crosscast."):
				unknown = name
			}
		}
	}
	if unknown != "" && !known {
		return fmt.Errorf("unknown subprotocol %.64q, want one of %q, or none", unknown, s.config.Subprotocols)
	}
	return nil
}

// notInToken reports whether a token of RFC 9110 may not have r.
func notInToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
}

// typeOf returns the type of a form's messages, other than those of bytes.
func (s *Server) typeOf(form uint8) websocket.MessageType {
	if form == formMsgPack {
		return websocket.MessageBinary
	}
	return s.typ
}

// control makes the websocket message of a Control. It returns no bytes if there is none.
func (s *Server) control(form uint8, c Control) (typ websocket.MessageType, payload []byte, err error) {
	typ = s.typeOf(form)
	isReply := c.Kind == ControlReply && c.Failure == ""
	switch {
	case form == formMsgPack && isReply:
		payload, err = appendPack(nil, "", c.ID, c.Data)
	case form == formMsgPack:
		if payload, err = s.o.Envelope.Control(c); err == nil && len(payload) > 0 {
			payload, err = mpack.AppendExactFromJSON(nil, payload)
		}
	case form == formJSON && isReply:
		if b, ok := bytesOf(&c.Data); ok {
			return websocket.MessageBinary, append(strconv.AppendUint([]byte(`{"id":`), c.ID, 10), "}\x00"+string(b)...), nil
		}
		fallthrough
	default:
		payload, err = s.o.Envelope.Control(c)
	}
	return typ, payload, err
}

// framer makes the framer of connections with a format.
func (s *Server) framer(format wsconn.Format) crosscast.Framer {
	f := framer{s.o.Envelope, s.typeOf(format.Form), format}
	if s.o.Envelope == (JSON{}) {
		f.envelope = crosscast.JSONEnvelope{} // one frame for the clients of all servers
	}
	return f
}

// A framer makes websocket frames of the frames of an envelope.
type framer struct {
	envelope crosscast.Framer
	typ      websocket.MessageType
	format   wsconn.Format
}

// Frame implements crosscast.Framer.
func (f framer) Frame(m *crosscast.Message) ([]byte, error) {
	var payload []byte
	var err error
	switch f.format.Form {
	case formMsgPack:
		payload, err = appendPack(nil, m.Event, m.Ack, m.Payload)
	case formJSON:
		if b, ok := bytesOf(&m.Payload); ok {
			head := crosscast.Message{Event: m.Event, Ack: m.Ack}
			if payload, err = (crosscast.JSONEnvelope{}).Frame(&head); err != nil {
				return nil, err
			}
			return f.format.Append(nil, websocket.MessageBinary, append(append(payload, 0), b...)), nil
		}
		fallthrough
	default:
		payload, err = f.envelope.Frame(m)
	}
	if err != nil {
		return nil, err
	}
	return f.format.Append(nil, f.typ, payload), nil
}

// bytesOf returns the bytes of a payload that is nothing else.
func bytesOf(p *crosscast.Payload) ([]byte, bool) {
	switch p.Encoding {
	case crosscast.EncodingBinary:
		return p.Data, true
	case crosscast.EncodingMsgPack:
		if c := mpack.NewCursor(p.Data); c.AtBin() {
			return c.Bin(), true
		}
	}
	return nil, false
}

// errNotPacked is the error of a payload that msgpack cannot say. Its message is a gap of the clients of msgpack.
var errNotPacked = errors.New("crosscast/ws: payload without a counterpart in msgpack")

// appendPack appends a message of msgpack: an event, or a reply if event is empty. An id of 0 is none.
func appendPack(dst []byte, event string, id uint64, p crosscast.Payload) ([]byte, error) {
	dst = slices.Grow(dst, 32+len(event)+len(p.Data)+len(p.Data)/4)
	n := 0
	for _, has := range [...]bool{event != "", p.Encoding != crosscast.EncodingNone, id != 0} {
		if has {
			n++
		}
	}
	dst = mpack.AppendMapLen(dst, n)
	if event != "" {
		dst = mpack.AppendStr(mpack.AppendStr(dst, "event"), strings.ToValidUTF8(event, "\ufffd"))
	}
	if id != 0 {
		dst = mpack.AppendUint(mpack.AppendStr(dst, "id"), id)
	}
	if p.Encoding == crosscast.EncodingNone {
		return dst, nil
	}
	dst = mpack.AppendStr(dst, "data")
	switch p.Encoding {
	case crosscast.EncodingBinary:
		return mpack.AppendBin(dst, p.Data), nil
	case crosscast.EncodingArgs:
		data := p.Data
		if c := mpack.NewCursor(data); c.Array() == 1 {
			data = data[c.Pos():]
		}
		if mpack.Exact(data) == nil {
			return append(dst, data...), nil
		}
	case crosscast.EncodingMsgPack:
		return append(dst, p.Data...), nil
	}
	text, err := p.Data, error(nil)
	if p.Encoding != crosscast.EncodingJSON { // arguments of Socket.IO that JSON cannot say, as clients of JSON get them
		text, err = p.AppendJSON(nil)
	}
	if err == nil {
		dst, err = mpack.AppendExactFromJSON(dst, text)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotPacked, err)
	}
	return dst, nil
}

// A received message is an Incoming. If it is a reply, reply is what the client replies; nil: Data.
type received struct {
	Incoming
	reply any
}

// isReply reports whether a message is a reply.
func (m *received) isReply() bool {
	_, _, kinds := m.kind()
	return m.ID != 0 && kinds == 0
}

// parseForm parses a message in the form of a connection.
func (s *Server) parseForm(form uint8, typ websocket.MessageType, b []byte) (m received, err error) {
	switch {
	case form == formMsgPack:
		return parsePack(b)
	case form == formJSON && typ == websocket.MessageBinary:
		return s.parseBytes(b)
	}
	m.Incoming, err = s.o.Envelope.Parse(b)
	return m, err
}

// maxHead is the most that comes before the bytes of a message: a name, all of it escaped, and an id.
const maxHead = 2048

var errNoBytes = errors.New(`malformed message: want {"event":"…"} or {"id":…}, a zero byte, and bytes`)

// parseBytes parses a message of bytes. Handlers get them as every other data.
func (s *Server) parseBytes(b []byte) (m received, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxHead)], 0)
	if end < 0 || !utf8.Valid(b[:end]) {
		return m, errNoBytes
	}
	if m.Incoming, err = s.o.Envelope.Parse(b[:end]); err != nil {
		return m, err
	}
	if _, name, kinds := m.kind(); kinds > 1 || name != m.Event || m.Failure != "" || m.Data != nil {
		return m, errNoBytes
	}
	data := crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: b[end+1:]}
	if m.isReply() {
		m.reply = crosscast.Bytes(bytes.Clone(data.Data))
		return m, nil
	}
	m.Data, err = data.AppendJSON(nil)
	return m, err
}

// parsePack parses a message of msgpack. The walk comes first: behind it nothing is malformed, deep, or promises more
// than it has.
func parsePack(b []byte) (m received, err error) {
	if err := mpack.Exact(b); err != nil {
		return m, fmt.Errorf("malformed message: %w", err)
	}
	c := mpack.NewCursor(b)
	if !c.AtMap() {
		return m, errNoEvent
	}
	var p parts
	for n := c.Map(); n > 0; n-- {
		key := c.Str()
		v := mpack.NewCursor(c.Value())
		if string(key) == "data" {
			p.Data = v.Value()
			continue
		}
		if v.IsNil() {
			continue
		}
		switch string(key) {
		case "event":
			p.Event = string(v.Str())
		case "join":
			p.Join = stringOf(&v)
		case "leave":
			p.Leave = stringOf(&v)
		case "watch":
			p.Watch = stringOf(&v)
		case "unwatch":
			p.Unwatch = stringOf(&v)
		case "error":
			p.Error = stringOf(&v)
		case "id":
			id := v.Uint()
			p.ID = &id
		}
		if v.Bad() {
			return m, fmt.Errorf("malformed message: %q has a value of the wrong type", key)
		}
	}
	m.Incoming, err = incomingOf(&p)
	if err != nil || p.Data == nil {
		return m, err
	}
	data := crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: p.Data}
	if m.isReply() {
		data.Data = bytes.Clone(data.Data)
		m.reply, m.Data = data, nil
		if b, ok := bytesOf(&data); ok {
			m.reply = crosscast.Bytes(b)
		}
		return m, nil
	}
	m.Data, err = data.AppendJSON(nil)
	return m, err
}

func stringOf(v *mpack.Cursor) *string {
	s := string(v.Str())
	return &s
}

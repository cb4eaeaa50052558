package redisbus_test

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/wire"
)

// FuzzReplies compares what is read from bytes in parts with what a plain parser of all the bytes finds.
func FuzzReplies(f *testing.F) {
	const replies = ">3\r\n$7\r\nmessage\r\n$4\r\ncc:a\r\n$3\r\n123\r\n*3\r\n$9\r\nsubscribe\r\n$4\r\ncc:a\r\n:1\r\n+PONG\r\n-ERR x\r\n"
	const foreign = ">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n|1\r\n+k\r\n,1.5\r\n*2\r\n+pong\r\n_\r\n" +
		">4\r\n+x\r\n|1\r\n+k\r\n:1\r\n%1\r\n#t\r\n~1\r\n(1\r\n=3\r\ntxt\r\n*-1\r\n!2\r\nEE\r\n$-1\r\n*0\r\n"
	f.Add([]byte(replies+foreign+replies), uint8(1))
	f.Add([]byte(foreign), uint8(100))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		if len(text) > 4000 { // a line could be too long
			return
		}
		next, plain := redisbus.RepliesInParts(text, int(size)), &plainParser{text}
		for {
			got, err := next()
			want, wantErr := plain.next()
			var answer redis.Error
			if errors.As(err, &answer) != errors.As(wantErr, &answer) || (err == nil) != (wantErr == nil) {
				t.Fatalf("got %+v, %v; want %+v, %v", got, err, want, wantErr)
			}
			if err != nil && !errors.As(err, &answer) {
				return
			}
			if got.Kind != want.Kind || got.Topic != want.Topic || !bytes.Equal(got.Data, want.Data) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		}
	})
}

// plainParser reads RESP by recursion.
type plainParser struct{ left []byte }

type value struct {
	kind byte
	text string
	list []value
}

var errPlain = errors.New("no reply")

// plainError is an error of the server.
type plainError string

func (e plainError) Error() string { return string(e) }
func (plainError) RedisError()     {}

func (p *plainParser) next() (wire.Event, error) {
	for {
		v, ok := p.value()
		if !ok {
			return wire.Event{}, errPlain
		}
		switch v.kind {
		case '-', '!':
			return wire.Event{}, plainError(v.text)
		case '+', '$':
			return wire.Event{Kind: wire.Pong, Topic: v.text}, nil
		case '|':
			continue
		case '*', '>':
		default:
			return wire.Event{}, errPlain
		}
		if len(v.list) == 0 || !v.list[0].isString() {
			return wire.Event{}, errPlain
		}
		kinds := map[string]wire.EventKind{
			"message": wire.Message, "smessage": wire.Message, "subscribe": wire.Subscribed, "ssubscribe": wire.Subscribed,
			"unsubscribe": wire.Unsubscribed, "sunsubscribe": wire.Unsubscribed, "pong": wire.Pong,
		}
		kind, rest := kinds[v.list[0].text], v.list[1:]
		switch {
		case kind == 0 && v.kind == '>':
			continue
		case kind == wire.Pong && len(rest) == 1 && rest[0].isString():
			return wire.Event{Kind: kind, Topic: rest[0].text}, nil
		case kind == 0 || kind == wire.Pong || len(rest) != 2 || !rest[0].isString():
		case kind == wire.Message && rest[1].isString():
			return wire.Event{Kind: kind, Topic: rest[0].text, Data: []byte(rest[1].text)}, nil
		case kind != wire.Message && rest[1].kind == ':':
			return wire.Event{Kind: kind, Topic: rest[0].text}, nil
		}
		return wire.Event{}, errPlain
	}
}

func (v value) isString() bool { return v.kind == '$' || v.kind == '+' || v.kind == '_' }

func (p *plainParser) value() (v value, ok bool) {
	line, rest, ok := bytes.Cut(p.left, []byte("\n"))
	if !ok || len(line) < 2 || line[len(line)-1] != '\r' {
		return v, false
	}
	p.left = rest
	v.kind, v.text = line[0], string(line[1:len(line)-1])
	size, err := strconv.Atoi(v.text)
	switch v.kind {
	case '_':
		return value{kind: '_'}, true
	case '+', '-', ':', '#', ',', '(':
		return v, true
	case '$', '!', '=', '*', '~', '>', '%', '|':
		if err != nil || size < -1 || v.text[0] == '+' || v.text[0] == '-' && v.text != "-1" {
			return v, false
		}
	default:
		return v, false
	}
	switch v.kind {
	case '$', '!', '=':
		v.text = ""
		if size == -1 {
			return v, true
		}
		if len(p.left) < size+2 || string(p.left[size:size+2]) != "\r\n" {
			return v, false
		}
		v.text, p.left = string(p.left[:size]), p.left[size+2:]
		return v, true
	case '%', '|':
		size *= 2
	}
	for n := 0; n < size; {
		element, ok := p.value()
		if !ok {
			return v, false
		}
		v.list = append(v.list, element)
		if element.kind != '|' { // that belongs to the next one
			n++
		}
	}
	return v, true
}

package redisbus

import (
	"bufio"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// respConn speaks Pub/Sub on a connection that go-redis has dialled and logged in. go-redis itself allocates six objects
// for a confirmation, keeps every topic, and dials again by itself. A node might have 100,000 topics, and a link must
// not repair itself.
type respConn struct {
	conn    net.Conn
	br      *bufio.Reader
	timeout time.Duration // of one command's writing; 0 or less: none
	own     bool          // payloads have memory of their own; else they are valid until the next reply

	once  sync.Once
	cause error // why the connection is closed; set before it is closed

	out   []byte // the bytes of a command
	word  []byte // the first element of the latest reply
	name  []byte // the name in it
	seed  maphash.Seed
	known [64]string // topics of messages, by hash, so that a busy topic has one string

	large []byte // the memory of payloads that br has no room for
	small int    // payloads since one that needed a quarter of large
}

// A reply is something that a server sends to a subscriber.
type reply struct {
	kind wire.EventKind // Message, Subscribed, Unsubscribed or Pong
	name []byte         // the topic, or the name of a ping; valid until the next reply
	data []byte         // of a message; valid until the next reply, unless respConn.own is set
}

// largestBulk is the largest string that a Redis can be configured to send. smallBulk is the size from which memory is
// allocated as the bytes arrive.
const largestBulk, smallBulk = 1 << 32, 4 << 20

// readSize is the least size of the reader's buffer. Packed frames fit in, so they are used where they were read.
const readSize = 128 << 10

// largeAge is how many payloads in a row must need little of a connection's large memory before it is released.
const largeAge = 1000

var errProtocol = errors.New("the server does not speak the protocol of Redis")

func newRespConn(conn net.Conn, size int, timeout time.Duration) *respConn {
	return &respConn{conn: conn, br: bufio.NewReaderSize(conn, max(size, readSize)), timeout: timeout, seed: maphash.MakeSeed()}
}

// write implements channelConn. It closes a connection that failed to take a whole command, because the server would
// read the next command as the rest of it.
func (c *respConn) write(commands ...command) error {
	out := c.out[:0]
	for _, cmd := range commands {
		out = appendHeader(out, '*', 1+len(cmd.args))
		out = appendBulk(out, cmd.name, "")
		for _, arg := range cmd.args {
			out = appendBulk(out, arg, cmd.suffix)
		}
	}
	if c.out = out; cap(out) > 64<<10 {
		c.out = nil
	}
	var deadline time.Time
	if c.timeout > 0 {
		deadline = time.Now().Add(c.timeout)
	}
	err := c.conn.SetWriteDeadline(deadline)
	if err == nil {
		_, err = c.conn.Write(out)
	}
	if err != nil {
		return c.close(err)
	}
	return nil
}

// close closes the connection because of err, and returns why it is closed. A reader and a writer might fail one after
// the other: the second one sees only that the connection is closed, so it gets the error of the first one.
func (c *respConn) close(err error) error {
	c.once.Do(func() {
		c.cause = err
		_ = c.conn.Close()
	})
	return c.cause
}

func appendHeader(dst []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, kind), int64(n), 10), '\r', '\n')
}

func appendBulk(dst []byte, s, suffix string) []byte {
	return append(append(append(appendHeader(dst, '$', len(s)+len(suffix)), s...), suffix...), '\r', '\n')
}

// replyError returns the error of a reply, of the type that go-redis gives it and does not export.
func replyError[T ~string](_ T, text []byte) T { return T(text) }

// receive implements channelConn. It closes a connection that is broken, so that no later command seems to be written.
func (c *respConn) receive() (reply, error) {
	r, err := c.read()
	if err != nil && !isReply(err) {
		err = c.close(err)
	}
	return r, err
}

func (c *respConn) read() (reply, error) {
	for {
		r, err := c.next()
		if err != nil || r.kind != 0 {
			return r, err
		}
	}
}

// next reads a reply, or something else that RESP3 allows between replies. Then the kind is 0.
func (c *respConn) next() (reply, error) {
	kind, line, err := c.line()
	if err != nil {
		return reply{}, err
	}
	switch kind {
	case '-':
		return reply{}, replyError(redis.Nil, line)
	case '!':
		text, err := c.bulk(nil, line)
		if err != nil {
			return reply{}, err
		}
		return reply{}, replyError(redis.Nil, text)
	case '+':
		c.name = append(c.name[:0], line...)
		return reply{kind: wire.Pong, name: c.name}, nil
	case '$':
		c.name, err = c.bulk(c.name[:0], line)
		return reply{kind: wire.Pong, name: c.name}, err
	case '*', '>':
		n, err := count(line)
		if err != nil || n == 0 {
			return reply{}, errProtocol
		}
		return c.list(n, kind == '>')
	case '|':
		n, err := count(line)
		if err != nil {
			return reply{}, err
		}
		return reply{}, c.skip(2 * n)
	}
	return reply{}, errProtocol
}

// list reads the n elements of a list: a message, a confirmation, or a pong. A push of any other kind is skipped: the
// user's OnConnect might have switched on invalidations, for instance.
func (c *respConn) list(n int64, push bool) (r reply, err error) {
	if c.word, err = c.str(c.word[:0]); err != nil {
		return r, err
	}
	want := int64(3)
	switch string(c.word) {
	case "message", "smessage":
		r.kind = wire.Message
	case "subscribe", "ssubscribe":
		r.kind = wire.Subscribed
	case "unsubscribe", "sunsubscribe":
		r.kind = wire.Unsubscribed
	case "pong":
		r.kind, want = wire.Pong, 2
	default:
		if push {
			return r, c.skip(n - 1)
		}
	}
	if r.kind == 0 || n != want {
		return r, fmt.Errorf("%w: %d elements of %.40q", errProtocol, n, c.word)
	}
	if c.name, err = c.str(c.name[:0]); err != nil {
		return r, err
	}
	r.name = c.name
	switch r.kind {
	case wire.Message:
		r.data, err = c.payload()
	case wire.Subscribed, wire.Unsubscribed:
		var kind byte
		if kind, _, err = c.line(); err == nil && kind != ':' {
			err = errProtocol
		}
	}
	return r, err
}

// line reads a line, and returns its first byte and the others. They are valid until the next read.
func (c *respConn) line() (kind byte, rest []byte, err error) {
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			err = errProtocol
		}
		return 0, nil, err
	}
	n := len(line)
	if n < 3 || line[n-2] != '\r' {
		return 0, nil, errProtocol
	}
	return line[0], line[1 : n-2], nil
}

// str reads a string, or nil, and appends it to dst.
func (c *respConn) str(dst []byte) ([]byte, error) {
	kind, line, err := c.line()
	switch {
	case err != nil:
		return dst, err
	case kind == '$':
		return c.bulk(dst, line)
	case kind == '+':
		return append(dst, line...), nil
	case kind == '_':
		return dst, nil
	}
	return dst, errProtocol
}

// payload reads the payload of a message.
func (c *respConn) payload() ([]byte, error) {
	if next, err := c.br.Peek(1); err != nil || next[0] != '$' || c.own {
		return c.str(nil)
	}
	_, line, err := c.line()
	if err != nil {
		return nil, err
	}
	n, err := bulkLength(line)
	if err != nil || n < 0 {
		return nil, err
	}
	c.age(n)
	switch {
	case n+2 <= c.br.Size():
		return c.peekBody(n)
	case n > smallBulk:
		return c.body(nil, n)
	case n > cap(c.large):
		c.large = make([]byte, 0, n+n/4)
	}
	return c.body(c.large[:0], n)
}

// age releases the large memory if the payloads have become small. The next one has n bytes.
func (c *respConn) age(n int) {
	if n >= cap(c.large)/4 {
		c.small = 0
	} else if c.small++; c.small == largeAge {
		c.large, c.small = nil, 0
	}
}

// peekBody returns the n bytes of a string, as a part of the reader's buffer, and reads what ends it.
func (c *respConn) peekBody(n int) ([]byte, error) {
	data, err := c.br.Peek(n + 2)
	if err != nil {
		return nil, err
	}
	if string(data[n:]) != "\r\n" {
		return nil, errProtocol
	}
	_, err = c.br.Discard(n + 2)
	return data[:n:n], err
}

// skip reads n elements of any kind, with all that they contain.
func (c *respConn) skip(n int64) error {
	for ; n > 0; n-- {
		kind, line, err := c.line()
		if err != nil {
			return err
		}
		switch kind {
		case '+', '-', ':', '_', '#', ',', '(':
		case '$', '!', '=':
			err = c.skipBulk(line)
		case '*', '~', '>', '%', '|':
			var more int64
			more, err = count(line)
			if kind == '%' || kind == '|' {
				more *= 2
			}
			if kind == '|' { // what it belongs to comes after it
				more++
			}
			n += more
		default:
			err = errProtocol
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count reads the number of a list's elements. The number -1 means nil.
func count(line []byte) (int64, error) {
	if string(line) == "-1" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(line), 10, 31)
	if err != nil {
		return 0, errProtocol
	}
	return int64(n), nil
}

// bulk appends to dst a string of the given length, and reads what ends it. The length -1 means nil.
func (c *respConn) bulk(dst, length []byte) ([]byte, error) {
	n, err := bulkLength(length)
	if err != nil || n < 0 {
		return dst, err
	}
	return c.body(dst, n)
}

// body appends to dst the bytes of a string, of which so many are left, and reads what ends it.
func (c *respConn) body(dst []byte, left int) ([]byte, error) {
	for left > 0 {
		have := len(dst)
		part := min(left, max(smallBulk, have))
		if cap(dst)-have < part {
			dst = append(make([]byte, 0, have+part), dst...)
		}
		dst = dst[:have+part]
		if _, err := io.ReadFull(c.br, dst[have:]); err != nil {
			return dst, err
		}
		left -= part
	}
	return dst, c.bulkEnd()
}

func (c *respConn) skipBulk(length []byte) error {
	n, err := bulkLength(length)
	if err != nil || n < 0 {
		return err
	}
	if _, err := c.br.Discard(n); err != nil {
		return err
	}
	return c.bulkEnd()
}

// bulkLength reads the length of a string; -1 means nil.
func bulkLength(line []byte) (int, error) {
	if string(line) == "-1" {
		return -1, nil
	}
	n, err := strconv.ParseUint(string(line), 10, strconv.IntSize-1)
	if err != nil || n > largestBulk {
		return 0, errProtocol
	}
	return int(n), nil
}

func (c *respConn) bulkEnd() error {
	end, err := c.br.Peek(2)
	if err != nil {
		return err
	}
	if string(end) != "\r\n" {
		return errProtocol
	}
	_, err = c.br.Discard(2)
	return err
}

// topic implements channelConn.
func (c *respConn) topic(name []byte) string {
	known := &c.known[maphash.Bytes(c.seed, name)%uint64(len(c.known))]
	if *known != string(name) {
		*known = string(name)
	}
	return *known
}

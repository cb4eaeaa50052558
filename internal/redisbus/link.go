package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// Dial implements wire.Bus. It returns when the connection has answered a PING.
//
// It returns by the end of ctx. A dial of go-redis might go on after that, until its own time limits end it.
func (b *bus) Dial(ctx context.Context) (wire.Link, error) {
	type outcome struct {
		link *link
		err  error
	}
	dialled := make(chan outcome, 1)
	go func() {
		l, err := b.dial(ctx)
		dialled <- outcome{l, err}
	}()
	var err error
	select {
	case d := <-dialled:
		if d.err == nil {
			b.dialled(d.link)
			return d.link, nil
		}
		err = d.err
	case <-ctx.Done():
		err = errtext.Errorf("no answer: %w", ctx.Err())
		go func() {
			if d := <-dialled; d.err == nil {
				_ = d.link.Close()
			}
		}()
	}
	b.reload(context.WithoutCancel(ctx))
	return nil, errtext.Errorf("cannot connect to %w%s", b.explain(err), b.hintTLS(err))
}

func (b *bus) dial(ctx context.Context) (*link, error) {
	l := &link{bus: b, line: &line{began: time.Now()}}
	own, err := b.subscriber(ctx, l.line)
	switch {
	case err != nil:
		return nil, err
	case own != nil:
		l.own, l.ps = own, own.Subscribe(ctx) // without channels: does not connect yet
	default:
		l.ps = b.rdb.Subscribe(ctx)
	}
	// Closing ends a wait for an answer. Close itself waits for the lock under which go-redis connects.
	keep := context.AfterFunc(ctx, func() { _ = l.Close() })
	if err = l.greet(ctx); err == nil {
		err = l.take()
	}
	if !keep() {
		return nil, errtext.Errorf("no answer: %w", ctx.Err())
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// greet connects, and waits for the answer to a PING. An error as the answer is good enough: the user might lack the
// permission to ping, or the server might report to everyone that it cannot save. Two such errors mean that the
// connection is useless: the server serves nobody, or not this user.
func (l *link) greet(ctx context.Context) error {
	if err := l.ps.Ping(ctx, "crosscast"); err != nil {
		return err
	}
	_, err := l.ps.Receive(ctx) // nothing else can arrive
	if isReply(err) && !isDown(err) {
		return nil
	}
	return err
}

// take takes the connection over from go-redis, if the line has it. go-redis holds no byte of it that it has not used:
// see [lineConn.Read].
func (l *link) take() error {
	c := l.line.conn.Load()
	if c == nil {
		l.conn = &goRedisConn{l.ps, l.line}
		return nil
	}
	o := l.own.Options()
	conn := newRespConn(takenConn{c}, o.ReadBufferSize, o.WriteTimeout)
	conn.own = l.bus.shard // a shardedLink passes a message on while the next one is read
	l.conn = conn
	return c.SetDeadline(time.Time{}) // greet has set one
}

// hintTLS returns a hint for the error text if one side seems to speak TLS and the other does not. The error itself
// shows only a closed connection, or silence.
func (b *bus) hintTLS(err error) string {
	var slow net.Error
	switch {
	case isReply(err):
	case b.tls && (isBroken(err) || errors.As(err, new(tls.RecordHeaderError)) || errors.As(err, &slow) && slow.Timeout()):
		return " (the client speaks TLS: does the server, on this port?)"
	case !b.tls && isBroken(err):
		return " (the server closed the connection without an answer: does it want TLS?)"
	}
	return ""
}

// link is one subscribing connection. A redis.PubSub has dialled it and closes it, and never replaces it.
type link struct {
	bus  *bus
	own  *redis.Client // the client of ps; nil: ps belongs to the user's client
	ps   *redis.PubSub
	line *line
	conn channelConn

	mu        sync.Mutex // guards the fields below
	asked     []asked    // requests that lack an answer, in the order of writing
	confirmed bool       // a subscription was
}

// asked is a request. Redis answers requests in order. An error does not name its request: it belongs to the oldest
// one.
type asked struct {
	kind   wire.EventKind // the kind of its answers: Subscribed, Unsubscribed or Pong
	topics []string       // the topics without an answer, if it is no ping
	name   string         // the name of a ping
}

// Subscribe implements wire.Link.
func (l *link) Subscribe(topics []string) error {
	l.enterRequest(asked{kind: wire.Subscribed, topics: topics})
	return l.write(l.bus.command("subscribe"), topics)
}

// Unsubscribe implements wire.Link.
func (l *link) Unsubscribe(topics []string) error {
	l.enterRequest(asked{kind: wire.Unsubscribed, topics: topics})
	return l.write(l.bus.command("unsubscribe"), topics)
}

// Ping implements wire.Link.
func (l *link) Ping(name string) error {
	l.enterRequest(asked{kind: wire.Pong, name: name})
	return l.write("ping", []string{name})
}

// write writes a command. An error ends the link.
func (l *link) write(name string, args []string) error {
	err := l.conn.write(command{name: name, args: args})
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrapLocked(err)
}

// enterRequest enters a request before it is written, because its answer might arrive before the writing call returns.
func (l *link) enterRequest(r asked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, r)
}

// Heard implements wire.Link.
func (l *link) Heard() time.Time { return l.line.heard() }

// remote returns the address of the server; empty: not known.
func (l *link) remote() string {
	if far := l.line.far.Load(); far != nil {
		return *far
	}
	return ""
}

// Receive implements wire.Link. It has no deadline. [link.Heard] shows whether the connection works.
func (l *link) Receive() (wire.Event, error) {
	for {
		r, err := l.conn.receive()
		if err != nil {
			return l.handleError(err)
		}
		if r.kind == wire.Message {
			return wire.Event{Kind: wire.Message, Topic: l.conn.topic(r.name), Data: r.data}, nil
		}
		name, mine := l.handleAnswer(r.kind, r.name)
		if mine || r.kind != wire.Pong {
			return wire.Event{Kind: r.kind, Topic: name}, nil
		}
	}
}

// handleAnswer enters an answer. It returns the name, and whether the answer belongs to a request. Earlier requests get
// no answer any more, so they are dropped. This happens if replies are switched off: then confirmations still come, but
// answers to pings do not.
func (l *link) handleAnswer(kind wire.EventKind, bytes []byte) (name string, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed = l.confirmed || kind == wire.Subscribed
	for i := range l.asked {
		r := &l.asked[i]
		if r.kind != kind {
			continue
		}
		if kind != wire.Pong {
			if name = r.topics[0]; name != string(bytes) {
				break
			}
			r.topics = r.topics[1:]
		} else if name = r.name; name != string(bytes) {
			continue
		}
		if len(r.topics) == 0 {
			i++
		}
		l.dropLocked(i)
		return name, true
	}
	return string(bytes), false
}

// dropLocked drops the n oldest requests.
func (l *link) dropLocked(n int) {
	clear(l.asked[:n])
	l.asked = l.asked[n:]
}

// handleError returns the meaning of an error. An error that is a reply belongs to the oldest request, if that is a
// ping, or if that is a subscription and permission is missing. Any other error ends the link.
func (l *link) handleError(err error) (wire.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isReply(err) && len(l.asked) > 0 {
		oldest := l.asked[0]
		switch {
		case oldest.kind == wire.Pong:
			l.dropLocked(1)
			return wire.Event{Kind: wire.Pong, Topic: oldest.name, Err: l.bus.explain(err)}, nil
		case oldest.kind == wire.Subscribed && redis.IsPermissionError(err): // Redis refuses a SUBSCRIBE whole
			l.dropLocked(1)
			return wire.Event{Kind: wire.Denied, Err: l.bus.explain(err)}, nil
		}
	}
	return wire.Event{}, l.wrapLocked(err)
}

// Close implements wire.Link. It blocks while go-redis tries to replace the connection.
func (l *link) Close() error {
	err := l.ps.Close()
	if l.own != nil {
		err = errors.Join(err, l.own.Close())
	}
	return err
}

// wrapLocked returns the error that ends the link.
func (l *link) wrapLocked(err error) error {
	if isBroken(err) && !l.confirmed && len(l.asked) > 0 && l.asked[0].kind == wire.Subscribed {
		err = fmt.Errorf("%w%s", err, l.bus.hintClosed())
	}
	return errtext.Errorf("the link to %w", l.bus.explain(err))
}

var _ wire.Bus = (*bus)(nil)
var _ wire.Link = (*link)(nil)

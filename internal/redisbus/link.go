package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// Dial implements wire.Bus. It returns when the connection has answered a PING.
//
// It returns by the end of ctx. A dial of go-redis might go on after that, until its own time limits end it.
func (b *bus) Dial(ctx context.Context) (wire.Link, error) {
	if b.err != nil {
		return nil, b.err
	}
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
		err = fmt.Errorf("no answer: %w", ctx.Err())
		go func() {
			if d := <-dialled; d.err == nil {
				_ = d.link.Close()
			}
		}()
	}
	b.reload(context.WithoutCancel(ctx))
	return nil, fmt.Errorf("cannot connect to %w%s", b.explain(err), b.hintTLS(err))
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
	err = l.greet(ctx)
	if !keep() {
		return nil, fmt.Errorf("no answer: %w", ctx.Err())
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

// link is one subscribing connection: a redis.PubSub that cannot reconnect.
type link struct {
	bus  *bus
	own  *redis.Client // the client of ps; nil: ps belongs to the user's client
	ps   *redis.PubSub
	line *line

	mu    sync.Mutex
	asked []asked // requests that lack an answer, in the order of writing; guarded by mu
}

// asked is a request. Redis answers requests in order. An error does not name its request: it belongs to the oldest
// one.
type asked struct {
	kind   wire.EventKind // the kind of its answers: Subscribed, Unsubscribed or Pong
	topics []string       // the topics without an answer, if it is no ping
	name   string         // the name of a ping
}

// ended is a cancelled context for all calls on a standing connection. It has no deadline, so it does not affect reads
// and writes. But go-redis cannot dial with it: any call that meets a broken connection would otherwise replace the
// connection. Some dialers ignore their context, such as go-redis's own with TLS. Then the new connection is made, and
// closed at once, because the call returns the error nevertheless.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Subscribe implements wire.Link.
func (l *link) Subscribe(topics []string) error {
	l.enterRequest(asked{kind: wire.Subscribed, topics: slices.Clone(topics)})
	if l.bus.Sharded {
		return l.wrap(l.ps.SSubscribe(ended, topics...))
	}
	return l.wrap(l.ps.Subscribe(ended, topics...))
}

// Unsubscribe implements wire.Link.
func (l *link) Unsubscribe(topics []string) error {
	l.enterRequest(asked{kind: wire.Unsubscribed, topics: slices.Clone(topics)})
	if l.bus.Sharded {
		return l.wrap(l.ps.SUnsubscribe(ended, topics...))
	}
	return l.wrap(l.ps.Unsubscribe(ended, topics...))
}

// Ping implements wire.Link.
func (l *link) Ping(name string) error {
	l.enterRequest(asked{kind: wire.Pong, name: name})
	return l.wrap(l.ps.Ping(ended, name))
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

// Receive implements wire.Link. It has no deadline: after a time-out in the middle of a message, go-redis would read
// the rest of the payload as protocol.
func (l *link) Receive() (wire.Event, error) {
	for {
		got, err := l.ps.Receive(ended)
		if l.own == nil {
			l.line.hear()
		}
		if err != nil {
			return l.handleError(err)
		}
		switch m := got.(type) {
		case *redis.Message:
			return wire.Event{Kind: wire.Message, Topic: m.Channel, Data: bytesOf(m.Payload)}, nil
		case *redis.Pong:
			if l.handleAnswer(wire.Pong, m.Payload) {
				return wire.Event{Kind: wire.Pong, Topic: m.Payload}, nil
			}
		case *redis.Subscription:
			switch m.Kind {
			case l.bus.command("subscribe"):
				l.handleAnswer(wire.Subscribed, m.Channel)
				return wire.Event{Kind: wire.Subscribed, Topic: m.Channel}, nil
			case l.bus.command("unsubscribe"):
				l.handleAnswer(wire.Unsubscribed, m.Channel)
				return wire.Event{Kind: wire.Unsubscribed, Topic: m.Channel}, nil
			}
		}
	}
}

// handleAnswer enters an answer, and reports whether it belongs to a request. Earlier requests get no answer any more,
// so they are dropped. This happens if replies are switched off: then confirmations still come, but answers to pings do
// not.
func (l *link) handleAnswer(kind wire.EventKind, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.asked {
		r := &l.asked[i]
		if r.kind != kind {
			continue
		}
		if kind != wire.Pong {
			if r.topics[0] != name {
				return false
			}
			r.topics = r.topics[1:]
		} else if r.name != name {
			continue
		}
		if len(r.topics) == 0 {
			i++
		}
		l.asked = append(l.asked[:0], l.asked[i:]...)
		return true
	}
	return false
}

// handleError returns the meaning of an error. An error that is a reply belongs to the oldest request, if that is a
// ping, or if that is a subscription and permission is missing. Any other error ends the link.
func (l *link) handleError(err error) (wire.Event, error) {
	if !isReply(err) {
		return wire.Event{}, l.wrap(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) > 0 {
		oldest := l.asked[0]
		switch {
		case oldest.kind == wire.Pong:
			l.asked = append(l.asked[:0], l.asked[1:]...)
			return wire.Event{Kind: wire.Pong, Topic: oldest.name, Err: l.bus.explain(err)}, nil
		case oldest.kind == wire.Subscribed && redis.IsPermissionError(err): // Redis refuses a SUBSCRIBE whole
			l.asked = append(l.asked[:0], l.asked[1:]...)
			return wire.Event{Kind: wire.Denied, Err: l.bus.explain(err)}, nil
		}
	}
	return wire.Event{}, l.wrap(err)
}

// Close implements wire.Link. It blocks while go-redis tries to replace the connection.
func (l *link) Close() error {
	err := l.ps.Close()
	if l.own != nil {
		err = errors.Join(err, l.own.Close())
	}
	return err
}

func (l *link) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the link to %w", l.bus.explain(err))
}

// bytesOf returns the bytes of a payload without a copy. That is safe for two reasons: go-redis makes a new string for
// each message and keeps no reference to it, and nobody writes to the Data of a wire.Event.
func bytesOf(payload string) []byte {
	return unsafe.Slice(unsafe.StringData(payload), len(payload))
}

var _ wire.Bus = (*bus)(nil)
var _ wire.Link = (*link)(nil)

package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// Dial implements wire.Bus. A connection stands when it has answered a PING.
//
// It returns by the end of ctx; what go-redis is doing then may go on for as long as its own time limits allow, and
// ends by itself.
func (b *bus) Dial(ctx context.Context) (wire.Link, error) {
	if b.err != nil {
		return nil, b.err
	}
	ps := b.rdb.Subscribe(ctx) // without channels: does not connect yet
	answered := make(chan error, 1)
	go func() { answered <- greet(ctx, ps) }()
	var err error
	select {
	case err = <-answered:
		if err == nil {
			return &link{bus: b, ps: ps}, nil
		}
		_ = ps.Close()
	case <-ctx.Done():
		err = fmt.Errorf("no answer: %w", ctx.Err())
		go ps.Close() // waits for the lock under which go-redis connects
	}
	b.reload(context.WithoutCancel(ctx))
	return nil, fmt.Errorf("cannot connect to %w%s", b.explain(err), b.hintTLS(err))
}

// greet connects, and waits for the answer to a PING.
func greet(ctx context.Context, ps *redis.PubSub) error {
	if err := ps.Ping(ctx); err != nil {
		return err
	}
	_, err := ps.Receive(ctx) // nothing else can arrive
	return err
}

// hintTLS says what to look at when one side seems to speak TLS and the other does not. The errors themselves are a
// closed connection, or silence.
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

// link is one subscribing connection: a redis.PubSub that may not reconnect.
type link struct {
	bus *bus
	ps  *redis.PubSub
}

// ended is the context of everything that is done on a standing connection. It has no deadline, so reads and writes
// are as without it; but go-redis, which replaces a broken connection inside of whatever call meets it, cannot
// dial with it. Where a dialer pays no attention to its context (go-redis's own, with TLS) the new connection is made,
// and closed at once, because the call returns the error all the same.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Subscribe implements wire.Link.
func (l *link) Subscribe(topics []string) error {
	if l.bus.Sharded {
		return l.wrap(l.ps.SSubscribe(ended, topics...))
	}
	return l.wrap(l.ps.Subscribe(ended, topics...))
}

// Unsubscribe implements wire.Link.
func (l *link) Unsubscribe(topics []string) error {
	if l.bus.Sharded {
		return l.wrap(l.ps.SUnsubscribe(ended, topics...))
	}
	return l.wrap(l.ps.Unsubscribe(ended, topics...))
}

// Ping implements wire.Link.
func (l *link) Ping(name string) error { return l.wrap(l.ps.Ping(ended, name)) }

// Heard implements wire.Link.
func (l *link) Heard() time.Time { return time.Now() }

// Receive implements wire.Link. It has no deadline: a time-out in the middle of a message would leave go-redis to read
// the rest of the payload as protocol.
func (l *link) Receive() (wire.Event, error) {
	for {
		got, err := l.ps.Receive(ended)
		if err != nil {
			// Redis refuses a SUBSCRIBE whole, and does not say for which channel.
			if redis.IsPermissionError(err) && !strings.Contains(err.Error(), "'"+l.bus.command("unsubscribe")+"'") {
				return wire.Event{Kind: wire.Denied, Err: l.bus.explain(err)}, nil
			}
			return wire.Event{}, l.wrap(err)
		}
		switch m := got.(type) {
		case *redis.Message:
			return wire.Event{Kind: wire.Message, Topic: m.Channel, Data: bytesOf(m.Payload)}, nil
		case *redis.Pong:
			return wire.Event{Kind: wire.Pong, Topic: m.Payload}, nil
		case *redis.Subscription:
			switch m.Kind {
			case l.bus.command("subscribe"):
				return wire.Event{Kind: wire.Subscribed, Topic: m.Channel}, nil
			case l.bus.command("unsubscribe"):
				return wire.Event{Kind: wire.Unsubscribed, Topic: m.Channel}, nil
			}
		}
	}
}

// Close implements wire.Link. It blocks while go-redis tries to replace the connection.
func (l *link) Close() error { return l.ps.Close() }

func (l *link) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the link to %w", l.bus.explain(err))
}

// bytesOf returns the bytes of a payload without a copy. go-redis makes one fresh string for every message and hands
// over its only reference; and a wire.Event's Data is never written to.
func bytesOf(payload string) []byte {
	return unsafe.Slice(unsafe.StringData(payload), len(payload))
}

var _ wire.Bus = (*bus)(nil)
var _ wire.Link = (*link)(nil)

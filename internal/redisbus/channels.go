package redisbus

import (
	"context"
	"slices"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// A channelConn is a connection that subscribes to channels. write and receive may run concurrently.
type channelConn interface {
	// write writes commands.
	write(commands ...command) error

	// receive waits for the next reply, without a deadline. An error that is a redis.Error was a reply, too. After any
	// other error the connection is broken.
	receive() (reply, error)

	// topic returns the name of a reply.
	topic(name []byte) string
}

// A command is the name of one, and its arguments, each of which ends with the suffix.
type command struct {
	name   string
	args   []string
	suffix string
}

// goRedisConn is the connection of a client that does not show its options, so that only go-redis can use it.
type goRedisConn struct {
	ps   *redis.PubSub
	line *line
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

func (c *goRedisConn) write(commands ...command) error {
	for _, cmd := range commands {
		args := slices.Clone(cmd.args)
		for i := range args {
			args[i] += cmd.suffix
		}
		if err := c.writeOne(cmd.name, args); err != nil {
			return err
		}
	}
	return nil
}

// writeOne writes a command without a suffix.
func (c *goRedisConn) writeOne(command string, args []string) error {
	switch command {
	case "subscribe":
		return c.ps.Subscribe(ended, args...)
	case "ssubscribe":
		return c.ps.SSubscribe(ended, args...)
	case "unsubscribe":
		return c.ps.Unsubscribe(ended, args...)
	case "sunsubscribe":
		return c.ps.SUnsubscribe(ended, args...)
	default:
		return c.ps.Ping(ended, args...)
	}
}

// receive has no deadline: after a time-out in the middle of a message, go-redis would read the rest of the payload as
// protocol.
func (c *goRedisConn) receive() (reply, error) {
	got, err := c.ps.Receive(ended)
	c.line.hear()
	if err != nil {
		return reply{}, err
	}
	switch m := got.(type) {
	case *redis.Message:
		return reply{wire.Message, bytesOf(m.Channel), bytesOf(m.Payload)}, nil
	case *redis.Pong:
		return reply{wire.Pong, bytesOf(m.Payload), nil}, nil
	case *redis.Subscription:
		switch m.Kind {
		case "subscribe", "ssubscribe":
			return reply{wire.Subscribed, bytesOf(m.Channel), nil}, nil
		case "unsubscribe", "sunsubscribe":
			return reply{wire.Unsubscribed, bytesOf(m.Channel), nil}, nil
		}
	}
	return reply{}, errProtocol
}

func (c *goRedisConn) topic(name []byte) string { return string(name) }

// bytesOf returns the bytes of a string without a copy. That is safe for two reasons: go-redis makes new strings for
// each message and keeps no reference to them, and nobody writes to the Data of a wire.Event.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

var _ channelConn = (*respConn)(nil)

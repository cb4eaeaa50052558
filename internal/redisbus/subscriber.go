package redisbus

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// line is the connection below go-redis, which does not show it; when a byte last arrived, even of an incomplete message;
// and the remote address.
type line struct {
	began time.Time
	last  atomic.Int64 // when a byte arrived, after began
	far   atomic.Pointer[string]
	conn  atomic.Pointer[lineConn] // brought the latest byte; nil: no connection goes through the line
}

func (l *line) heard() time.Time { return l.began.Add(time.Duration(l.last.Load())) }

func (l *line) hear() { l.last.Store(int64(time.Since(l.began))) }

// dialer wraps a dialer of go-redis. Its connections belong to the line.
func (l *line) dialer(
	dial func(ctx context.Context, network, addr string) (net.Conn, error),
) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		far := c.RemoteAddr().String()
		l.far.Store(&far)
		return &lineConn{c, l}, nil
	}
}

// lineConn is a connection of a line.
type lineConn struct {
	net.Conn
	l *line
}

// Read reads for go-redis, which logs in. It reads one byte at a time, so that go-redis never holds a byte behind the
// last reply that it has read.
func (c *lineConn) Read(p []byte) (int, error) { return c.read(p[:min(1, len(p))]) }

func (c *lineConn) read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.l.hear()
		if c.l.conn.Load() != c {
			c.l.conn.Store(c)
		}
	}
	return n, err
}

// takenConn is the connection of a line after the login.
type takenConn struct{ *lineConn }

func (c takenConn) Read(p []byte) (int, error) { return c.read(p) }

// subscriber returns a client for one link. It has the options of the user's client, for the server where that client
// would subscribe. Its connection belongs to the line. It is nil if the user's client does not show its options. Then
// only that client can subscribe, and the line sees complete messages only.
//
// The user's hooks do not see the link, which carries no commands but those of Pub/Sub.
func (b *bus) subscriber(ctx context.Context, l *line) (*redis.Client, error) {
	var options *redis.Options
	switch c := b.rdb.(type) {
	case *redis.ClusterClient:
		key := strconv.Itoa(rand.Int()) // any master: messages are on all of them
		if b.Near {
			key = b.Anchor
		}
		master, err := c.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		options = master.Options()
	case interface{ Options() *redis.Options }:
		options = c.Options()
	default:
		return nil, nil
	}
	o := OptionsOf(options)
	o.Dialer = l.dialer(o.Dialer)
	// A link is one connection, and carries nothing else.
	o.MinIdleConns, o.PipelinePoolSize = 0, -1
	o.ClientSideCache, o.ClientSideCacheConfig, o.PushNotificationProcessor = nil, nil, nil
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(&o), nil
}

// OptionsOf returns options that make another client like the one with the given options.
func OptionsOf(options *redis.Options) redis.Options {
	o := *options
	// A client has changed them: it writes 0 where the user wrote -1 (none), and -1 for -2.
	for _, d := range []*time.Duration{&o.ReadTimeout, &o.WriteTimeout} {
		if *d <= 0 {
			*d--
		}
	}
	for _, d := range []*time.Duration{&o.MinRetryBackoff, &o.MaxRetryBackoff} {
		if *d == 0 {
			*d = -1
		}
	}
	if o.MaxRetries == 0 {
		o.MaxRetries = -1
	}
	return o
}

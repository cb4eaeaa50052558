package socketioadapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/wire"
)

// Mode selects one of Socket.IO's wires over Redis. All servers of a cluster need the same one.
type Mode uint8

const (
	Classic Mode = iota // createAdapter, and @socket.io/redis-emitter
	Sharded             // createShardedAdapter: sharded Pub/Sub, of Redis 7
)

// SubscriptionMode selects the rooms that have a channel of their own in [Sharded]. All servers of a cluster need the
// same one.
type SubscriptionMode uint8

const (
	Dynamic        SubscriptionMode = iota // all rooms except those that look like the ID of a socket: "dynamic"
	Static                                 // none: "static"
	DynamicPrivate                         // all: "dynamic-private"
)

// Options of [Dial] and [New]. The zero value works if the servers use their defaults.
type Options struct {
	// Key begins the name of every channel, like "key" or "channelPrefix" of the servers. Default "socket.io". It has
	// at most 100 bytes, has no #, and does not end in -request or -response. With such a key a server would hear
	// messages for servers with a shorter key.
	Key string
	// Mode is the wire. Default Classic.
	Mode Mode
	// Subscription is the "subscriptionMode" of the servers, in Sharded. Default Dynamic.
	Subscription SubscriptionMode
	// UserRooms begins the names of users' rooms. Default "user:". It has at most 100 bytes. It should contain a byte
	// that is not a letter, digit, - or _. Otherwise a user's room might have the name of a socket.
	UserRooms string
	// AllowNames permits rooms that a socket may otherwise not join (see "Names"), such as the application's own IDs of
	// 20 characters. Join and Connect call it, perhaps concurrently. Default: permits none.
	AllowNames func(room string) bool

	// QueueBytes limits the memory of messages that wait to be published, in bytes. Default 48 MiB; 4 KiB to 1 GiB. The
	// default holds 80,000 small emissions through an outage. Each takes about 420 bytes, in Sharded 480, if no other
	// emission to its room or user waits. In addition, as much may be under way, and a quarter is kept for reuse.
	QueueBytes int
	// MaxFrame is the largest size of a message that is published or accepted, in bytes. Default 8 MiB; 1 KiB to 1 GiB.
	// A server or node lists all its sockets in one message, with about 1 KiB for each, mostly for its handshake.
	MaxFrame int
	// MaxAge is how long a message of an outage may wait to be published. Default 5 s; above 0, and at most 1 h.
	MaxAge time.Duration
	// PublishTimeout is the time limit of one batch, in addition to the time that its bytes need. It works only if the
	// Redis client has ContextTimeoutEnabled. Default 5 s; above 0, and at most 1 h.
	PublishTimeout time.Duration
	// Credentials returns the user and password of one connection to Redis. It is called for each connection, perhaps
	// concurrently, so the answers may change. It replaces the user and password of the URL. With an error there is no
	// connection, which is tried again like any other. Only for [Dial]: a client given to [New] has such a function of
	// its own (CredentialsProviderContext).
	Credentials func(ctx context.Context) (user, password string, err error)
	// Logger gets each change of the state of each half of the link, with its cause: a Warn if it gets worse, an Info
	// if it gets better. It also gets a Warn about a call of the application that keeps the link from being read.
	// Default: the node's.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	o.Key = cmp.Or(o.Key, "socket.io")
	o.UserRooms = cmp.Or(o.UserRooms, "user:")
	o.QueueBytes = cmp.Or(o.QueueBytes, 48<<20)
	o.MaxFrame = cmp.Or(o.MaxFrame, 8<<20)
	o.PublishTimeout = cmp.Or(o.PublishTimeout, 5*time.Second)
	switch {
	case o.Mode > Sharded:
		return o, fmt.Errorf("crosscast/socketioadapter: unknown Mode %d", o.Mode)
	case o.Subscription > DynamicPrivate:
		return o, fmt.Errorf("crosscast/socketioadapter: unknown Subscription %d", o.Subscription)
	case len(o.Key) > maxOption || len(o.UserRooms) > maxOption:
		return o, fmt.Errorf("crosscast/socketioadapter: Options.Key and UserRooms must have at most %d bytes", maxOption)
	case strings.Contains(o.Key, "#") || strings.HasSuffix(o.Key, "-request") || strings.HasSuffix(o.Key, "-response"):
		return o, fmt.Errorf("crosscast/socketioadapter: Options.Key is %q: it must not have a #, or end in -request or "+
			"-response, or its channels could be those of a shorter key", o.Key)
	}
	return o, nil
}

const maxOption = 100 // bytes

// Adapter makes a node one of Socket.IO's servers. It serves one node. It implements crosscast.ForeignAdapter, and
// AdapterDeliverer, AdapterSizer, AdapterObserver and AdapterMeter.
//
// In addition to the goroutines of wire.Adapter it has one that counts servers, except for emitters. Close ends it.
type Adapter struct {
	*wire.Adapter
	dialect *dialect
	counter counter
	optErr  error
	allow   func(room string) bool // optional

	stop  context.CancelFunc // ends the goroutine
	ended chan struct{}      // closed when it has ended; nil before Start
}

// Dial returns an adapter for one node, over the Redis at a URL: redis://user:password@host:6379, or any other form that
// redisadapter.Dial documents. It does not connect: the start of the node does, with the settings that package
// redisadapter recommends. Mistakes in url and o are errors of that start, which contain no password. Closing the node
// closes the connections. Call the adapter's Close if you give up after a failed start.
func Dial(url string, o Options) *Adapter {
	rdb, err := redisbus.Open(url, o.Credentials)
	return newAdapter(rdb, o, redisbus.Config{Owned: true, Err: err})
}

// New is [Dial] for a client of your own, which it neither changes nor closes: a *redis.Client (also one of Sentinel's)
// or a *redis.ClusterClient. Other parts of the program, and other nodes, may share it. Mistakes in rdb and o are errors
// of the node's start.
func New(rdb redis.UniversalClient, o Options) *Adapter {
	return newAdapter(rdb, o, redisbus.Config{Err: onlyDial(o)})
}

// onlyDial returns an error for an option that New does not have.
func onlyDial(o Options) error {
	if o.Credentials != nil {
		return errors.New("crosscast/socketioadapter: Options.Credentials are for Dial; set CredentialsProviderContext in the options " +
			"of the client")
	}
	return nil
}

func newAdapter(rdb redis.UniversalClient, o Options, c redisbus.Config) *Adapter {
	a := &Adapter{}
	o, a.optErr = o.withDefaults()
	a.allow = o.AllowNames
	a.dialect = newDialect(o, &a.counter)
	c.Anchor, c.Sharded, c.Once, c.Timeout = o.Key, o.Mode == Sharded, true, o.PublishTimeout
	c.Needs = "+publish +subscribe +unsubscribe +ping +pubsub and the channels &" + o.Key + "*"
	if c.Sharded {
		c.Needs = "+spublish +ssubscribe +sunsubscribe +ping +pubsub and the channels &" + o.Key + "#*"
	}
	a.Adapter = wire.Speak(redisbus.New(rdb, c), a.dialect, wire.Options{
		QueueBytes: o.QueueBytes, MaxFrame: o.MaxFrame, MaxAge: o.MaxAge, PublishTimeout: o.PublishTimeout,
		Logger: o.Logger,
	})
	a.counter = counter{
		rdb: rdb, channels: &a.dialect.channels, proven: a.Adapter.Proven, before: make(map[string]int),
	}
	return a
}

// Start implements crosscast.Adapter.
func (a *Adapter) Start(ctx context.Context, s crosscast.AdapterStart) error {
	if a.optErr != nil {
		return a.optErr
	}
	s.Handler = watcher{s.Handler, &a.counter}
	if err := a.Adapter.Start(ctx, s); err != nil {
		return err
	}
	if s.EmitOnly { // an emitter is not affected by outages of others
		return nil
	}
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.ended = make(chan struct{})
	go func() {
		defer close(a.ended)
		a.counter.run(ctx)
	}()
	return nil
}

// Close implements crosscast.Adapter.
func (a *Adapter) Close(ctx context.Context) error {
	if a.stop != nil {
		a.stop() // it might use the client, which ends with the adapter below
	}
	err := a.Adapter.Close(ctx)
	if a.stop == nil {
		a.counter.others.keep(nil)
		return err
	}
	select {
	case <-a.ended:
		a.counter.others.keep(nil)
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// watcher reports the end of outages to the counter.
type watcher struct {
	crosscast.AdapterHandler
	counter *counter
}

// Gap implements crosscast.AdapterHandler.
func (w watcher) Gap(g crosscast.Gap) {
	if g.Origin == "" && g.Names == nil {
		w.counter.recovered()
	}
	w.AdapterHandler.Gap(g)
}

// Unsubscribe implements crosscast.AdapterSubscriber.
func (a *Adapter) Unsubscribe(ctx context.Context, names ...crosscast.Address) error {
	err := a.Adapter.Unsubscribe(ctx, names...)
	for _, name := range names {
		if name.Space == crosscast.SpaceNamespace {
			a.counter.unwatch(name.Namespace)
		}
	}
	return err
}

// TextOnly implements crosscast.ForeignAdapter.
func (a *Adapter) TextOnly() bool { return false }

var (
	_ crosscast.Adapter        = (*Adapter)(nil)
	_ crosscast.ForeignAdapter = (*Adapter)(nil)
	_ wire.Dialect             = (*dialect)(nil)
	_ wire.Gatherer            = (*dialect)(nil)
)

package redisadapter

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/wire"
)

// Options of [Dial] and [New]. The zero value works.
type Options struct {
	// Prefix begins the name of every channel, followed by a colon. Nodes with different prefixes do not hear each
	// other. A Redis database number does not separate clusters, because Pub/Sub ignores it: use a prefix for each
	// cluster. Default "cc". It has at most 100 bytes, and neither white space nor any of *?[]{}. It may contain
	// colons, as in "app:prod", but no part after the first colon may be r, u or n: those parts are for the channels of
	// rooms, users and nodes.
	Prefix string
	// QueueBytes is the most memory that the waiting instructions take, in bytes. Default 32 MiB, from 4 KiB to 1 GiB.
	// A small emission to a room or user with nothing else waiting takes about 350 bytes, so the default holds 80,000
	// of them during an outage. As much memory again may be in flight, and a quarter more is kept for reuse.
	QueueBytes int
	// MaxFrame is the size in bytes of the largest message that is published or accepted. Default 2 MiB, from 1 KiB to
	// 1 GiB. Redis disconnects a subscriber that is more than 8 MiB behind for a minute, or more than 32 MiB at any
	// time (client-output-buffer-limit pubsub).
	MaxFrame int
	// MaxAge is how long an emission waits for an outage to end. Older ones are reported as a loss. Default 5 s; above
	// 0, and at most 1 h.
	MaxAge time.Duration
	// PublishTimeout is how long one batch may take, beyond the time for its bytes, if the client has
	// ContextTimeoutEnabled. Default 5 s; above 0, and at most 1 h.
	PublishTimeout time.Duration
	// Ingress lets programs without crosscast publish JSON to this node's clients, on the channel "in" of the prefix;
	// see "From other languages" in the documentation of this package. Each node serves only its own sockets, so set it
	// on all nodes or on none.
	Ingress bool
	// Topics is how rooms and users are spread over channels: 0 (default), each has a channel of its own; 1, all are on
	// everyone's channel; 2 to 4096, rooms share so many channels, and users share others. See wire.Options.Topics, and
	// docs/scale.md for what to choose when. All nodes and emitters of a prefix must agree.
	Topics int
	// AlsoTopics is for a change of Topics: see wire.Options.AlsoTopics, and docs/scale.md for the steps.
	AlsoTopics []int
	// Sharded makes rooms and users use the sharded Pub/Sub of a Redis Cluster, from Redis 7 on: each is on one master, so
	// more masters carry more. Everyone's channel and those of single servers stay on plain Pub/Sub. It needs a
	// *redis.ClusterClient, or a URL that begins with redis+cluster. All nodes and emitters of a prefix must agree; others
	// are reported as a gap (reason "routing"). Rooms and users are in 16 groups, and each group has a queue of a quarter
	// of QueueBytes. Order between names does not hold: see wire.NewParts, and docs/scale.md for when to use it.
	Sharded bool
	// Seal protects messages from strangers who may use this Redis, and whoever listens on the way: see wire.Seal and
	// docs/security.md. All nodes and emitters of the prefix need its keys. The zero Seal protects nothing.
	Seal wire.Seal
	// Credentials returns the user and password of one connection to Redis. It is called for each connection, perhaps
	// concurrently, so the answers may change. It replaces the user and password of the URL. With an error there is no
	// connection, which is tried again like any other. Only for [Dial]: a client given to [New] has such a function of
	// its own (CredentialsProviderContext).
	Credentials func(ctx context.Context) (user, password string, err error)
	// Logger receives diagnostics: each change of the state of publishing or subscribing, once, with its cause (Warn
	// when it gets worse, Info when it gets better); calls of the application that block the reading of the link; and
	// the first message that the ingress refuses for each reason. Default: the node's logger.
	Logger *slog.Logger
}

// Dial returns an adapter for one node over the Redis Pub/Sub at a URL. It does not connect: the start of the node does,
// with the settings that this package recommends. Invalid values in url or o become errors of that start, which contain
// no password. Closing the node closes the connections. Call the adapter's Close if you give up after a failed start.
//
//	redis://user:password@host:6379
//	unix://user:password@/run/redis.sock
//	redis+cluster://user:password@host1:6379,host2:6379
//	redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/mymaster
//
// With TLS the schemes are rediss, rediss+cluster and rediss+sentinel. User and password may be missing; those of the
// Sentinels themselves are parameters. A host without a port has 6379, a Sentinel 26379. The hosts of a Redis Cluster
// are any of its servers. Escape special characters of a password, such as % (%25), # (%23), / (%2F), ? (%3F) and
// @ (%40). The number of a database is ignored, as Pub/Sub does: redis://host/1, redis+sentinel://host/mymaster/1.
//
// These parameters may follow a question mark, as in ?read_timeout=5s&client_name=chat:
//
//	dial_timeout, read_timeout, write_timeout   2s by default, at most 1h
//	pool_size                                   connections for publishing, to one server
//	client_name                                 shown by CLIENT LIST
//	protocol                                    2 by default; or 3
//	server_name, skip_verify                    of the server's certificate; only with TLS
//	sentinel_username, sentinel_password        only with Sentinel
func Dial(url string, o Options) crosscast.Adapter {
	rdb, err := redisbus.Open(url, o.Credentials)
	return newAdapter(rdb, o, redisbus.Config{Owned: true, Err: err})
}

// New is [Dial] for a client of your own, which it neither changes nor closes. rdb is a *redis.Client (also one for
// Sentinel) or a *redis.ClusterClient. Other parts of the program, and other nodes, may use rdb at the same time.
// Invalid values in rdb or o become errors of the node's start. [ParseURL] returns the recommended settings.
func New(rdb redis.UniversalClient, o Options) crosscast.Adapter {
	return newAdapter(rdb, o, redisbus.Config{Err: onlyDial(o)})
}

// ParseURL parses a URL as [Dial] does, and returns options with the settings that this package recommends, for
// redis.NewUniversalClient. They have the number of the database. Its errors contain no part of the password; those of
// redis.ParseURL do, if a special character of the password is not escaped.
func ParseURL(url string) (*redis.UniversalOptions, error) { return redisbus.ParseURL(url) }

// onlyDial returns an error for an option that New does not have.
func onlyDial(o Options) error {
	if o.Credentials != nil {
		return errors.New("crosscast/redisadapter: Options.Credentials are for Dial; set CredentialsProviderContext in the options " +
			"of the client")
	}
	return nil
}

func newAdapter(rdb redis.UniversalClient, o Options, c redisbus.Config) crosscast.Adapter {
	if o.Sharded {
		return newSharded(rdb, o, c)
	}
	return wire.New(newBus(rdb, &o, c), o.wire())
}

// newBus returns the bus of a client, and sets the defaults of o.
func newBus(rdb redis.UniversalClient, o *Options, c redisbus.Config) wire.Bus {
	return redisbus.New(rdb, o.bus(c, ""))
}

// bus sets the defaults of o, and fills a configuration of the bus.
func (o *Options) bus(c redisbus.Config, more string) redisbus.Config {
	o.Prefix = cmp.Or(o.Prefix, "cc")
	o.PublishTimeout = cmp.Or(o.PublishTimeout, 5*time.Second)
	c.Anchor, c.Timeout = o.Prefix, o.PublishTimeout
	c.Needs = "+publish +subscribe +unsubscribe +ping " + more + "and the channels &" + o.Prefix + ":*"
	return c
}

func (o *Options) wire() wire.Options {
	return wire.Options{
		Prefix: o.Prefix, QueueBytes: o.QueueBytes, MaxFrame: o.MaxFrame,
		MaxAge: o.MaxAge, PublishTimeout: o.PublishTimeout, Ingress: o.Ingress, Topics: o.Topics,
		AlsoTopics: o.AlsoTopics, Seal: o.Seal, Logger: o.Logger,
	}
}

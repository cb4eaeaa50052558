package redisadapter

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/wire"
)

// Options of [New]. The zero value works.
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
	// Logger receives diagnostics: each change of the state of publishing or subscribing, once, with its cause (Warn
	// when it gets worse, Info when it gets better); calls of the application that block the reading of the link; and
	// the first message that the ingress refuses for each reason. Default: the node's logger.
	Logger *slog.Logger
}

// New returns an adapter over Redis Pub/Sub for one node. It neither changes nor closes rdb, which is a *redis.Client
// (also one for Sentinel) or a *redis.ClusterClient. Other parts of the program, and other nodes, may use rdb at the
// same time. Invalid values in rdb or o become errors of the node's start.
func New(rdb redis.UniversalClient, o Options) *wire.Adapter {
	o.Prefix = cmp.Or(o.Prefix, "cc")
	o.PublishTimeout = cmp.Or(o.PublishTimeout, 5*time.Second)
	bus := redisbus.New(rdb, redisbus.Config{
		Anchor: o.Prefix, Needs: "+publish +subscribe +unsubscribe +ping and the channels &" + o.Prefix + ":*",
		Timeout: o.PublishTimeout,
	})
	return wire.New(bus, wire.Options{
		Prefix: o.Prefix, QueueBytes: o.QueueBytes, MaxFrame: o.MaxFrame,
		MaxAge: o.MaxAge, PublishTimeout: o.PublishTimeout, Ingress: o.Ingress, Logger: o.Logger,
	})
}

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
	// Prefix begins the name of every channel, followed by a colon: nodes with different prefixes do not hear each
	// other. Default "cc". It has at most 100 bytes, and neither white space nor any of *?[]{}. It may have colons of
	// its own, as in "app:prod"; after the first one no part between colons may be r, u or n, with which channels go on.
	Prefix string
	// QueueBytes bounds the memory that what waits to be published takes: a small emission to a room or user to which
	// nothing else waits takes about 350 bytes. As much again may be under way, and a quarter is kept for reuse. Default
	// 32 MiB, in which 80,000 of these wait through an outage; 4 KiB to 1 GiB.
	QueueBytes int
	// MaxFrame is the size in bytes of the largest message published or accepted. Default 2 MiB; 1 KiB to 1 GiB. Redis
	// disconnects a subscriber that is more than 8 MiB behind for a minute, or 32 MiB at all (client-output-buffer-limit
	// pubsub).
	MaxFrame int
	// MaxAge is how long what was emitted during an outage is kept to be published after it. Default 5 s; above 0, and
	// at most 1 h.
	MaxAge time.Duration
	// PublishTimeout bounds one batch, beyond the time that its bytes need, if the client has ContextTimeoutEnabled.
	// Default 5 s; above 0, and at most 1 h.
	PublishTimeout time.Duration
	// Ingress makes this node take part in what programs that are no nodes publish, as JSON, on the channel "in" behind
	// the prefix and its colon; see "From other languages" in the documentation of this package. Each node serves its
	// own sockets, so all should have it, or none.
	Ingress bool
	// Logger hears of each change of the state of each half of the link, once and with the cause: a Warn when it gets
	// worse, an Info when it gets better; of a call of the application's that keeps the link from being read; and of the
	// first message for each reason that the ingress refuses. Default: the node's.
	Logger *slog.Logger
}

// New returns an adapter over Redis Pub/Sub for one node. It uses rdb, which it neither changes nor closes: a
// *redis.Client (also one of Sentinel's) or a *redis.ClusterClient, which other parts of the program, and other nodes,
// may share. Mistakes in rdb and o are errors of the node's start.
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

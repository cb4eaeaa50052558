package natsadapter

import (
	"cmp"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast/wire"
)

// Options of [Dial] and [New]. The zero value works.
type Options struct {
	// Prefix is the first part of every subject. Nodes with different prefixes do not hear each other. Default "cc". It
	// has at most 100 bytes and might have several tokens, as in "app.prod". It does not begin with a $, has no empty
	// token, and neither white space nor any of *>?[]{}. Of its parts between colons, no later one may be r, u or n.
	Prefix string
	// MaxMessage is the size in bytes of the largest message that the NATS servers carry (max_payload). Default 1 MiB,
	// as that of a NATS server. A server that carries less is refused. With the default, a payload may have about 890
	// KiB.
	MaxMessage int
	// QueueBytes is the most memory that the waiting instructions take, in bytes. Default 32 MiB, from 4 KiB to 1 GiB.
	// A small emission to a room or user with nothing else waiting takes about 350 bytes, so the default holds 80,000
	// of them during an outage. As much memory again may be in flight, and a quarter more is kept for reuse.
	QueueBytes int
	// MaxFrame is the size in bytes of the largest message that is published or accepted. Default 2 MiB, from 1 KiB to
	// 1 GiB, and in any case 128 KiB less than MaxMessage.
	MaxFrame int
	// MaxAge is how long an emission waits for an outage to end. Older ones are reported as a loss. Default 5 s; above
	// 0, and at most 1 h.
	MaxAge time.Duration
	// PublishTimeout is how long one batch may take, beyond the time for its bytes. Default 5 s; above 0, and at most
	// 1 h.
	PublishTimeout time.Duration
	// Ingress lets programs without crosscast publish JSON to this node's clients, on the subject "in" of the prefix, as
	// in: nats pub cc.in '{"rooms":["room1"],"event":"said","data":"hi"}'. The documentation of package redisadapter has
	// the members. Each node serves only its own sockets, so set it on all nodes or on none.
	Ingress bool
	// Topics is how rooms and users are spread over subjects: 0 (default), each has a subject of its own; 1, all are on
	// everyone's subject; 2 to 4096, rooms share so many subjects, and users share others. See wire.Options.Topics.
	Topics int
	// AlsoTopics is for a change of Topics: see wire.Options.AlsoTopics.
	AlsoTopics []int
	// Seal protects messages from strangers who may use these servers, and whoever listens on the way: see wire.Seal and
	// docs/security.md. All nodes and emitters of the prefix need its keys. The zero Seal protects nothing.
	Seal wire.Seal
	// Logger receives diagnostics: each change of the state of publishing or subscribing, once, with its cause (Warn
	// when it gets worse, Info when it gets better); calls of the application that block the reading of the link; and
	// the first message that the ingress refuses for each reason. Default: the node's logger.
	Logger *slog.Logger
}

// Dial returns an adapter for one node over the NATS servers at a URL, or at several that are separated by commas. The
// URL and the options are those of nats.Connect. Dial does not connect: the start of the node does. Invalid values
// become errors of that start, which contain no password. Closing the node closes the connections.
//
//	natsadapter.Dial("nats://host1:4222,host2:4222", natsadapter.Options{}, nats.UserCredentials("node.creds"))
func Dial(url string, o Options, client ...nats.Option) *wire.Adapter {
	c := nats.GetDefaultOptions()
	c.Servers = strings.Split(url, ",")
	var err error
	for _, set := range client {
		if set != nil {
			err = cmp.Or(err, set(&c))
		}
	}
	return newAdapter(c, o, err)
}

// New is [Dial] with the options of nats.go as a value. The Opts of a connection of yours are such a value: the adapter
// logs in as that connection does. It makes connections of its own, because they must not reconnect by themselves.
func New(client nats.Options, o Options) *wire.Adapter { return newAdapter(client, o, nil) }

func newAdapter(client nats.Options, o Options, err error) *wire.Adapter {
	o.Prefix = cmp.Or(o.Prefix, "cc")
	o.PublishTimeout = cmp.Or(o.PublishTimeout, 5*time.Second)
	o.MaxMessage = cmp.Or(o.MaxMessage, 1<<20)
	return wire.New(newBus(client, o, err), wire.Options{
		Prefix: o.Prefix, QueueBytes: o.QueueBytes, MaxFrame: o.MaxFrame,
		MaxAge: o.MaxAge, PublishTimeout: o.PublishTimeout, Ingress: o.Ingress, Topics: o.Topics,
		AlsoTopics: o.AlsoTopics, Seal: o.Seal, Logger: o.Logger,
	})
}

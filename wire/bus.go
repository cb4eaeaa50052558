// Package wire makes a [crosscast.Adapter] of a bus: anything that carries bytes by topic, such as Redis Pub/Sub or
// NATS. What is hard about a lossy bus is written once, here: packing many instructions into a frame, numbering frames,
// noticing what is missing, doubled or late, proving that a connection still hears, reconnecting, and telling peers
// what was lost. A driver implements [Bus] and [Link] and is done. A bus with several servers might also be a [Mover] or
// a [Patchy].
//
// Where other programs speak already on a bus, in a format of their own, a driver also implements [Dialect].
//
// # How nothing is missed in silence
//
// The guarantee "Never silent" of package crosscast is kept in these ways:
//
//   - Numbers. Each frame has a number, from one counter of its node, and that of the node's previous frame on the topic.
//     A receiver keeps a book for each node and topic. A frame that it has had is a copy, and dropped. One whose
//     predecessor never came shows a hole, which is a gap. One that comes after its successor is late: it is dropped,
//     and a gap. Books are bounded: what is forgotten is not noticed any more, but makes no false alarm. (book.go)
//   - Batches. What is sent at once is no more than the link carries in a quarter of a heartbeat, so that a slow link is not
//     taken for a dead one, at either end. (pace.go)
//   - Losses. A batch that was refused, or whose outcome is not known, is not repeated under the same numbers. It is a
//     Loss here. What goes to everyone carries the count of losses and when the last one was, and ten heartbeats carry
//     the latest of them, so that peers report a gap, also those that were away. (losses.go)
//   - Strangers. Whoever may publish can write any number beside any node's name. What that hides is a gap of all of that
//     node, after two of its heartbeats. A number that the node itself overtakes before them is not noticed, nor are
//     those in the name of an emitter; only sealed frames would show them. (belief.go)
//   - Echoes. A node's heartbeat must come back on its own link. A link on which no byte arrives is dead; one that answers
//     a ping, and not with the heartbeat, is deaf. Both are replaced, and are a gap. Echoes, and answers to pings where
//     there are none, also show how old what arrives may be. (echo.go)
//   - Outages. While the link is down frames wait. When it is back, the gate stays closed until the peers, who might be
//     reconnecting, too, are back. Frames that have become too old meanwhile are a Loss. (gate.go, outbox.go)
//   - Denied topics. One that the bus refuses is a gap at once, which goes on; it is asked for again every few seconds,
//     and when it is allowed there is another gap, which has ended. (denied.go)
//   - Silent peers. A peer that is taken for dead is a gap; it might be alive somewhere else. While a peer is silent the
//     bus is asked for its server, and a node follows its peers to another one. (expired.go, mover.go)
//   - Quiet topics. The last frame of a topic has no successor that would show a hole. On a [Patchy] bus, where it can be
//     lost on a link that stands, heartbeats name the topics that have become quiet. (quiet.go, quiet_heard.go)
package wire

import (
	"context"
	"time"
)

// For drivers: a Bus carries bytes by topic, at most once, to every link that is subscribed to the topic at that moment.
// It has no memory.
//
// A topic is Options.Prefix, and then at most 1,600 bytes: ASCII letters and digits, and the bytes -_/:%@=~!$&'(),;
// Package wire has escaped everything else that users choose, so a room named "a.>" is no wildcard on NATS, and a driver
// takes topics as they are. Topics are case-sensitive, and none is a prefix pattern of others. The prefix belongs to the
// operator: a bus that reserves more than Options.Prefix refuses says so in its documentation. Topics of a [Dialect] are
// the dialect's.
//
// Publish and Dial may run concurrently; neither overlaps itself.
type Bus interface {
	// Publish sends frames, in order, as one batch, and sets the outcome of each: Receivers when the bus accepted
	// it, else Err. It keeps nothing of the frames after it returned. It returns by the end of ctx as far as the
	// client library allows.
	//
	// Publishing the same frame twice (a client library's retry) is allowed: receivers drop copies.
	Publish(ctx context.Context, frames []Frame)

	// Dial opens a subscribing connection and returns when it stands, or an error that names the address and the
	// cause, and matches crosscast.ErrDenied when the credentials were refused.
	Dial(ctx context.Context) (Link, error)
}

// For drivers: a Mover is a [Bus] whose server can be replaced by another one without an error at this node's
// connections: by a failover, or a change of address.
type Mover interface {
	// Moved looks up which server the bus is to use now, bounded by ctx. When that is another one than l, or what was
	// published last, has used, it reports true, and Publish and Dial use the other one from then on: no connection to
	// the old one that was kept for later is used again. l is the link that stands; or it has broken, and the one that
	// was dialled since tells whether the server is another one.
	//
	// It may run concurrently with everything, itself included.
	Moved(ctx context.Context, l Link) (bool, error)
}

// For drivers: a Patchy is a [Bus] of several servers that pass messages on to each other, and may lose some of them
// though every link stands. On others an echo proves that nothing sent before it is missing.
type Patchy interface {
	// Patchy reports whether the bus, as it is configured, is one.
	Patchy() bool
}

// For drivers: a Limited is a [Bus] that refuses large messages.
type Limited interface {
	// MaxMessage returns the size in bytes of the largest message that the bus carries. [New] calls it once. The adapter
	// then has a MaxFrame that is at most 128 KiB less, which is the room for what a frame says of losses. Start fails
	// when less than 1 KiB is left.
	MaxMessage() int
}

// For drivers: a Frame is the bytes for one topic, and what became of them.
type Frame struct {
	Topic string
	Data  []byte

	// Receivers is how many links the bus handed the frame to; -1 where it cannot tell.
	Receivers int
	// Err is nil when the bus accepted the frame. It matches crosscast.ErrRefused when nobody got it (also
	// crosscast.ErrDenied, when that is why); any other error is taken as uncertain: somebody may have.
	Err error
	// Down says, beside Err, that the failure is one of the connection and not of this frame.
	Down bool
}

// For drivers: a Link is one subscribing connection. It never reconnects by itself: when it breaks, Receive returns an
// error, the link is closed, and another is dialled.
type Link interface {
	// Subscribe and Unsubscribe write a request and return. Each topic of a request is answered by an event, in the order
	// of the requests. Neither is ever called with an empty list, or concurrently with the other, Ping or itself; they
	// may run beside Receive and Close. An error means that the link is broken.
	Subscribe(topics []string) error
	Unsubscribe(topics []string) error

	// Ping writes a request that the bus answers on this link, and returns. The answer is a Pong with the same name. It
	// may overtake messages, but none that the bus had accepted a heartbeat (at least 250 ms) earlier: those are then
	// taken as lost, and the link for deaf. An answer that does not come at all proves nothing. Ping is called like Subscribe.
	Ping(name string) error

	// Heard returns when the last byte arrived, of whatever, also of an event that is not complete yet: a link is taken
	// for dead when that is long ago, so a large message must not look like silence. A link of several connections
	// returns that of the one that was silent for the longest. Heard may be called concurrently with everything.
	Heard() time.Time

	// Receive blocks until something arrives. Only one goroutine calls it. After an error it is not called again.
	Receive() (Event, error)

	// Close makes Receive return. It may block, and is called once.
	Close() error
}

// For drivers: EventKind says what a [Link] received.
type EventKind uint8

const (
	Message    EventKind = 1 + iota // Data arrived on Topic
	Subscribed                      // the subscription to Topic is confirmed
	// Unsubscribed: the subscription to Topic has ended. It answers an Unsubscribe; or the bus has ended the
	// subscription by itself, as a Redis Cluster does when a slot moves: then the link is replaced.
	Unsubscribed
	Pong // the answer to the Ping named Topic; an error is an answer, too, and is Err
	// Denied: the bus refuses to subscribe, for Err. There are two ways:
	//
	//   - With a Topic, it refuses that topic. The event stands in the place of the topic's confirmation, and says nothing of
	//     other topics. Most buses do this, such as NATS, whose permissions are those of a subject.
	//   - Without a Topic, it refuses the oldest request that has no confirmation yet, as a whole, and does not say for which
	//     topic. Redis does this. The adapter then subscribes to the request's topics in smaller requests.
	//
	// A bus that ends a subscription later, because a permission was withdrawn, sends Unsubscribed. The adapter replaces
	// the link, and the next request for the topic is denied.
	Denied
)

// For drivers: an Event is what a [Link] received. Data must never be written to again.
type Event struct {
	Kind  EventKind
	Topic string
	Data  []byte
	Err   error
}

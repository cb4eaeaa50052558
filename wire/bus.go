// Package wire makes a [crosscast.Adapter] of a bus: anything that carries bytes by topic, such as Redis Pub/Sub or
// NATS. It contains the hard parts of a lossy bus:
//
//   - packing many instructions into a frame, and numbering frames;
//   - noticing missing, repeated and late frames;
//   - proving that a connection still receives, and reconnecting;
//   - reporting losses to peers.
//
// A driver implements only [Bus] and [Link]. A bus with several servers might also be a [Mover] or a [Patchy]. If other
// programs already use a format of their own on the bus, a driver also implements [Dialect].
//
// # How nothing is missed in silence
//
// Package wire keeps the guarantee "Never silent" of package crosscast in these ways:
//
//   - Numbers. Each frame has a number, from one counter of its node, and the number of the node's previous frame on
//     the topic. A receiver keeps a book for each node and topic. It drops a frame that came before, as a copy. If a
//     frame's predecessor never came, there is a hole, which is a gap. A frame that comes after its successor is late:
//     it is dropped, and is a gap. Books are bounded. A forgotten book detects nothing, but makes no false alarm.
//     (book.go)
//   - Batches. A batch holds no more than the link carries in a quarter of a heartbeat. So neither end takes a slow
//     link for a dead one. (pace.go)
//   - Losses. A batch that was refused or is uncertain is never sent again under the same numbers. It is a Loss at this
//     node. Frames to everyone carry the count of losses and the age of the last one. Ten heartbeats carry each loss.
//     So peers report a gap, even those that were away. (losses.go)
//   - Strangers. A stranger with permission to publish can write any number beside any node's name. If that hides
//     frames of the node, two of its heartbeats reveal it, as a gap of all of that node. Without a
//     seal, two cases are not noticed: a number that the node itself overtakes before these heartbeats, and numbers in
//     the name of an emitter. (belief.go)
//   - Echoes. A node's heartbeat must come back on its own link. A link without any byte is dead. A link that answers a
//     ping, but does not bring the heartbeat, is deaf. Both are replaced, and are a gap. Echoes also show how old a
//     message might be. Answers to pings show it if there are no echoes. (echo.go)
//   - Outages. While the link is down, frames wait. When it is back, the gate stays closed until the peers are back,
//     because they might be reconnecting, too. Frames that have become too old meanwhile are a Loss. (gate.go,
//     outbox.go)
//   - Denied topics. A topic that the bus refuses is a gap at once, without an end. The adapter requests it again every
//     few seconds. When it is allowed, there is another gap, with an end. (denied.go)
//   - Silent peers. A peer that is taken for dead is a gap, because it might be alive elsewhere. While a peer is silent
//     the adapter queries the bus for its server, and a node follows its peers to another one. (expired.go, mover.go)
//   - Quiet topics. The last frame of a topic has no successor that would show a hole. On a [Patchy] bus it can be lost
//     although the link stands. There, heartbeats name the topics that have become quiet. (quiet.go, quiet_heard.go)
//   - Seals. With Options.Seal, frames are encrypted and signed. What a stranger writes, changes, moves or repeats is
//     dropped before it is parsed, so it is no gap. Nodes with another key, or a wrong clock, are in AdapterStats.Unopened.
//     docs/security.md has the threats. (seal.go, seal_frame.go, seal_heard.go, strangers.go,
//     clocks.go)
//   - Nodes that disagree. Nodes with other Options.Topics publish where this node does not listen. Hellos and heartbeats
//     tell how their node spreads names over topics, and an emitter tells it before it emits to names. So that is a gap of
//     all of that node, and AdapterStats.Misrouted names it. (routing.go, misrouted.go)
package wire

import (
	"context"
	"time"
)

// For drivers: a Bus carries bytes by topic, at most once, to every link that is subscribed to the topic at that
// moment. It has no memory.
//
// A topic is Options.Prefix, and then at most 1,600 bytes: ASCII letters and digits, and the bytes -_/:%@=~!$&'(),;
// Package wire escapes all other bytes of names, so a room named "a.>" is no wildcard on NATS, and a driver need not
// escape topics. Topics are case-sensitive, and none is a prefix pattern of others. The operator chooses the prefix. If
// the bus reserves characters that Options.Prefix accepts, the driver's documentation must list them. The topics of a
// [Dialect] are free.
//
// If the bus is an io.Closer, the adapter's Close closes it once, when nothing uses it any more or its context has ended.
//
// Publish and Dial may run concurrently; neither overlaps itself.
type Bus interface {
	// Publish sends frames, in order, as one batch, and sets the outcome of each: Receivers if the bus accepted it,
	// else Err. It keeps nothing of the frames after it has returned. It returns by the end of ctx, as far as the
	// client library allows.
	//
	// A frame may be published twice, such as by a retry of the client library, because receivers drop copies.
	Publish(ctx context.Context, frames []Frame)

	// Dial opens a subscribing connection, and returns when it works. An error names the address and the cause. It
	// matches crosscast.ErrDenied if the bus refused the credentials.
	Dial(ctx context.Context) (Link, error)
}

// For drivers: a Mover is a [Bus] whose server can be replaced by another one without an error at this node's
// connections: by a failover, or a change of address.
type Mover interface {
	// Moved looks up the present server of the bus, bounded by ctx. It reports true if l, or the last batch, has used
	// another one. From then on Publish and Dial use the present server, and never again an idle connection to the old
	// one. l might be broken; then Moved compares its server with the one of the link that was dialled since.
	//
	// It may run concurrently with everything, itself included.
	Moved(ctx context.Context, l Link) (bool, error)
}

// For drivers: a Patchy is a [Bus] of several servers that pass messages on to each other, and might lose some of them
// although every link stands. On any other bus an echo proves that nothing sent before it is missing.
type Patchy interface {
	// Patchy reports whether the bus, with its configuration, can lose messages in that way.
	Patchy() bool
}

// For drivers: a Scattered is a [Bus] with topics on several servers, so that only the messages of one topic keep their
// order. The topics of everyone and of single nodes must be on one server, and keep an order between them.
type Scattered interface {
	// Scattered reports whether the bus, with its configuration, does that.
	Scattered() bool
}

// For drivers: a Limited is a [Bus] that refuses large messages.
type Limited interface {
	// MaxMessage returns the size in bytes of the largest message that the bus carries. [New] calls it. The adapter's
	// MaxFrame is then at least 128 KiB less, because a frame needs room for losses. Start fails if less than 1 KiB is
	// left.
	MaxMessage() int
}

// For drivers: a Checked is a [Bus] that might have been made with a mistake.
type Checked interface {
	// Check returns the mistake, or nil. [New] calls it. Start then fails with the error, even if the node is not to wait
	// for the bus, and nothing else of the bus is called but Close.
	Check() error
}

// For drivers: a Frame is bytes for one topic, and their outcome.
type Frame struct {
	Topic string
	Data  []byte

	// Receivers is the number of links that got the frame; -1: the bus does not know.
	Receivers int
	// Err is nil if the bus accepted the frame. It matches crosscast.ErrRefused if nobody got the frame, and also
	// crosscast.ErrDenied if a missing permission is the reason. After any other error somebody might have got it.
	Err error
	// Down is set beside Err if the connection has failed, and not only this frame.
	Down bool
}

// For drivers: a Link is one subscribing connection. It never reconnects by itself. When it breaks, Receive returns an
// error. The adapter then closes the link and dials another one.
type Link interface {
	// Subscribe and Unsubscribe write a request and return. Each topic of a request is answered by an event, in the
	// order of the requests. The list is never empty. It belongs to the link from then on. Calls of Subscribe,
	// Unsubscribe and Ping never overlap, but may run concurrently with Receive and Close. An error means that the link
	// is broken.
	Subscribe(topics []string) error
	Unsubscribe(topics []string) error

	// Ping writes a request that the bus answers on this link, and returns. The answer is a Pong with the same name. It
	// may overtake messages, but none that the bus had accepted a heartbeat (at least 250 ms) earlier: if it does, the
	// link is taken for deaf. A missing answer proves nothing. Ping is called like Subscribe.
	Ping(name string) error

	// Heard returns when the last byte arrived, even a byte of an incomplete event. The link is taken for dead if that
	// is long ago, so a large message must not look like silence. A link of several connections returns the earliest of
	// their times. Heard may be called concurrently with everything.
	Heard() time.Time

	// Receive blocks until an event arrives. Only one goroutine calls it. After an error it is not called again.
	Receive() (Event, error)

	// Close makes Receive return. It may block, and is called once.
	Close() error
}

// For drivers: a Blamed is a [Link] that shares its connections with other links.
type Blamed interface {
	// Blame is called before Close, if the adapter itself found the link dead or deaf. The connections must not be used
	// for another link.
	Blame(err error)
}

// For drivers: a Dated is an error of a [Link] that was noticed some time after the link had broken.
type Dated interface {
	// Since returns a time from before which nothing is missing.
	Since() time.Time
}

// For drivers: EventKind is the kind of an [Event].
type EventKind uint8

const (
	Message EventKind = 1 + iota // Data arrived on Topic
	// Subscribed: the subscription to Topic is confirmed. On a [Patchy] bus it might have an Err: then some server might
	// not know of the subscription yet, and drop messages of its clients. If such a message might be newer than the
	// confirmation, it is a gap.
	Subscribed
	// Unsubscribed: the subscription to Topic has ended. It answers an Unsubscribe. If the bus has ended the
	// subscription by itself, as a Redis Cluster does when a slot moves, the adapter replaces the link.
	Unsubscribed
	Pong // the answer to the Ping named Topic; an answer that is an error is in Err
	// Denied: the bus refuses to subscribe, because of Err. There are two forms:
	//
	//   - With a Topic, it refuses that topic. The event is in the place of the topic's confirmation, and does not
	//     affect other topics. Most buses do this, such as NATS, which has permissions for each subject.
	//   - Without a Topic, it refuses the oldest request without a confirmation, as a whole, and does not name the
	//     denied topic. Redis does this. The adapter then subscribes to the request's topics in smaller requests.
	//
	// If the bus ends a subscription later, because a permission was withdrawn, the event is Unsubscribed. The adapter
	// replaces the link, and the next request for the topic is denied.
	Denied
)

// For drivers: an Event is one arrival on a [Link]. Data is used until the next call of Receive, so that a link can reuse
// its memory. It must not be written to before that.
type Event struct {
	Kind  EventKind
	Topic string
	Data  []byte
	Err   error
}

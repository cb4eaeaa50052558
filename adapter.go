package crosscast

import (
	"context"
	"log/slog"
	"time"
)

// NodeID names one run of one node: 48 random bits as 8 base64url characters, minted at each start, so that a
// restarted process is a new node.
type NodeID string

// For drivers: NodeInfo describes a node to its peers.
type NodeInfo struct {
	ID   NodeID
	Name string // a label for people; need not be unique
	// Heartbeat is the interval at which the node publishes a heartbeat to everyone.
	Heartbeat time.Duration
	// EmitOnly is for the node's own adapter, and is not published: the node is an emitter (Options.EmitOnly). Nobody
	// but those whom it asks something sends it anything, so it need hear nothing but its inbox, which it need not
	// hear either before Listen, if the adapter is an [AdapterSubscriber].
	EmitOnly bool
}

// For drivers: AdapterStart is what [Adapter.Start] gets.
type AdapterStart struct {
	Self    NodeInfo       // the node that the adapter serves
	Handler AdapterHandler // receives what arrives
	// Logger is the node's; nil: it has none. A driver with a logger of its own, from its options, uses that one instead.
	// A driver that calls Handler.Link logs each change, because the node does not: a node without a logger writes the
	// first of each kind to slog.Default.
	Logger *slog.Logger
}

// For drivers: an Adapter carries instructions between the nodes of a cluster. Everything that thinks (membership,
// filtering, timeouts, who is alive) is the node's; an adapter only carries.
//
// One adapter serves one node. The node calls Start before anything else, and Close once, after everything else; when
// Start fails it does not call Close, and another node may start with the adapter. Publish and the methods of the
// optional interfaces may be called concurrently.
//
// What an adapter must hold, and package adaptertest checks:
//
//   - Ready: when Start returns nil, whatever another ready node publishes to everyone, or to this node, arrives.
//   - Order: what one goroutine publishes for a node arrives there in that order, heartbeats excepted. The one exception
//     are emissions to a single name each: those to two rooms, or to two users, may change places. A heartbeat never
//     arrives after a goodbye that was published later: it would be taken for a sign of life.
//   - Once: an instruction is handled at most once by a node.
//   - Not to itself: a node never handles what it published.
//   - Memory: Publish keeps nothing of the instruction after it returned; Handle may keep nothing either.
//   - Never silent: what a node may have missed reaches its [AdapterHandler] as a Gap, before anything later of that
//     origin is handled. What was accepted by Publish and did not, or may not have, gone out reaches it as a Loss.
//   - Bounded: every queue has a limit in bytes.
//
// What may not be assumed: any order between two nodes; that Publish returning nil means that anybody heard.
//
// These three methods make a driver. The optional interfaces say what more it can do; each may be left out. A driver has
// one when it has all of its methods, which it should assert: var _ crosscast.AdapterSubscriber = (*Adapter)(nil).
//
//	AdapterSubscriber   limit what a node hears to what it has interest in
//	AdapterDeliverer    report what became of one instruction, and of everything before
//	AdapterSizer        refuse what is too large before anybody gets it
//	AdapterObserver     tell whether the link works, and when a peer was last heard
//	AdapterMeter        count
//	ForeignAdapter      speak a wire that others have defined
type Adapter interface {
	// Start connects, and returns nil once the node can hear and be heard. ctx bounds Start only, and Start returns by its
	// end. The error names the address and the cause.
	//
	// After an error Start can be called again, for the same node or another one. What a client library still does then
	// ends by its own time-outs, and must not touch what a later Start has begun: that may wait, bounded by ctx, for its
	// end. While a node has the adapter, Start fails at once with an error that names the node by NodeInfo.Name. After
	// Close it returns [ErrClosed].
	Start(ctx context.Context, s AdapterStart) error

	// Publish queues inst, copies what it needs, and returns. inst goes to:
	//
	//   - the node inst.To, if that is set;
	//   - every peer, if inst.Ref is set (the sender counts on an answer of each), or inst.Kind is not [KindEmit];
	//   - otherwise the peers with interest in inst.Target.
	//
	// When the queue is full, Publish waits for room, bounded by ctx. It fails at once with [ErrNotConnected] instead:
	//
	//   - while the link is down and the queue is full;
	//   - for a volatile instruction, while the link is down or the queue is full. The adapter counts it as dropped.
	//
	// Hello and heartbeat instructions never wait. An instruction that is too large for the driver is refused with an
	// error that matches [ErrTooLarge].
	Publish(ctx context.Context, inst *Instruction) error

	// Close hands over what is queued, within ctx, disconnects and stops. It is idempotent; afterwards every method
	// returns [ErrClosed] and the AdapterHandler is not called again. When ctx ends first, Close returns ctx's error, and
	// what is still running ends by itself.
	Close(ctx context.Context) error
}

// For drivers: an AdapterHandler receives from an [Adapter]. The node implements it.
type AdapterHandler interface {
	// Handle acts on an instruction of a peer or, with an empty From, of somebody outside. It is never called
	// concurrently for one origin; inst is valid during the call only. Handle never waits for the adapter, so an adapter
	// may call it from the goroutine that reads its connection.
	Handle(inst *Instruction)

	// Gap reports that instructions may have been missed. It is never called concurrently with Handle for the
	// same origin (for any origin, when g.Origin is empty).
	Gap(g Gap)

	// Loss reports that instructions which Publish had accepted were refused, or may not have gone out.
	Loss(l Loss)

	// Awaits reports whether an answer with this Ref is still waited for. An adapter that translates answers may query it
	// before it makes one of many bytes. It may be called concurrently with everything.
	Awaits(ref string) bool

	// Link reports that the state of the link has changed. Calls are made one at a time, in the order of the changes. An
	// adapter that cannot tell never calls it.
	Link(s LinkStatus)
}

// For drivers: an AdapterSubscriber is an [Adapter] that can limit what a node hears to what it has interest in. With
// an adapter that is none, every instruction reaches every node, which then filters.
//
// For one name the node's calls never overlap, and come in the order in which they were decided.
type AdapterSubscriber interface {
	// Subscribe adds interest in names, and returns nil when all of them are confirmed: what any node publishes to them
	// later arrives. Names already confirmed are confirmed at once. A [*NamesError] says which names have failed, and
	// why; the others are confirmed. Any other error is that of every name:
	//
	//   - [ErrNotConnected]: the link is down, or was lost meanwhile. It is returned at once; the name is subscribed on
	//     recovery, and the gap of that outage covers it.
	//   - [ErrDenied]: the bus refuses the name at this moment.
	//
	// Whatever the error, the names are remembered until Unsubscribe, and tried again.
	//
	// When the bus begins to refuse a name that was confirmed, or that ErrNotConnected was returned for, that is a Gap
	// with [GapDenied], and without an Until because it goes on; when it allows the name again, there is another with
	// the same Since.
	Subscribe(ctx context.Context, names ...Address) error

	// Unsubscribe drops interest in names. It does not wait for a confirmation.
	Unsubscribe(ctx context.Context, names ...Address) error

	// Listen returns, bounded by ctx, when an emitter (NodeInfo.EmitOnly) surely hears what is for it alone. The node calls
	// it before each question; before the first one the adapter need not hear anything. It returns an error that matches
	// [ErrNotConnected] when the link cannot be made or is down. A driver that always hears returns nil.
	Listen(ctx context.Context) error
}

// For drivers: an AdapterDeliverer is an [Adapter] that can report what became of instructions.
type AdapterDeliverer interface {
	// Deliver publishes inst and waits, bounded by ctx, until the bus has accepted it.
	Deliver(ctx context.Context, inst *Instruction) (Reach, error)

	// Flush waits, bounded by ctx, until everything published before has an outcome. A Loss is no error of Flush: it
	// reaches the AdapterHandler before Flush returns.
	Flush(ctx context.Context) error
}

// Reach is how many peers an instruction was handed to. It is the result of [BoundTarget.Deliver], too.
type Reach struct {
	Nodes int  // an upper bound
	Known bool // false: the bus cannot tell, and Nodes is 0
}

// For drivers: an AdapterSizer is an [Adapter] that refuses what is too large for it. The node queries it before it
// serves its own sockets, so that [ErrTooLarge] means that nobody got anything.
type AdapterSizer interface {
	// MaxPayload returns how large a payload may be, in bytes, that fits beside the names of one room or user, a
	// namespace and an event, of [MaxName] bytes each. The node calls it before Start, which fails if that is less than
	// Options.MaxPayload.
	MaxPayload() int
	// Fits returns the error with which Publish would refuse inst for its size. The node calls it for instructions with a
	// payload larger than an eighth of Options.MaxPayload, several names, or Meta. It keeps nothing of inst.
	Fits(inst *Instruction) error
}

// For drivers: an AdapterObserver is an [Adapter] that knows more of its link and its peers than what arrives. Its
// methods do not wait for anything. One goroutine calls them.
type AdapterObserver interface {
	// Proven reports whether the link surely works at this moment, both ways. While it does not, the node takes no peer's
	// silence for its end, and calls none of the following.
	Proven() bool

	// Heard returns when anything new of a peer arrived last, or a time shortly before; zero: it is not known. The node
	// calls it when heartbeats of the peer are missing: they may be lost or late while the peer is heard.
	Heard(peer NodeID) time.Time

	// Suspect reports that heartbeats of a peer, which was heard last at the given time, are missing: it may be that it has
	// moved to another server of the bus, and this node has not. The node calls it once for each time that it suspects
	// the peer, and always before Expire.
	Suspect(peer NodeID, heard time.Time)

	// Expire reports that the node takes the peer for dead. The adapter reports a Gap of that origin with [GapPeerLost],
	// from the last that it has heard of it, and another when the peer returns, unless it can know that nothing was
	// missed in between.
	Expire(peer NodeID)
}

// For drivers: an AdapterMeter is an [Adapter] with counters of its own.
type AdapterMeter interface {
	AdapterStats() AdapterStats
}

// For drivers: a ForeignAdapter speaks a wire that others have defined, such as Socket.IO's. It differs in these ways:
//
//   - Peers say no hello and have no heartbeats, so the node knows only their number: it has no Nodes and no OnNode, and
//     sends each question to everyone. Package adaptertest has a list of what else such a wire might lack.
//   - The node hears only two things unasked: what is for everyone in the namespace "/", and what is for this node alone.
//     It also subscribes to the address of each other namespace while that is in use, and to that of each socket, from
//     Connect on; see [SpaceNamespace] and [SpaceSocket]. Connect and [Namespace.Subscribe] wait for them. A question is
//     published once its namespace's address is confirmed. All these addresses linger as a room's does.
//   - The wire may have one space of names, in which a room might be what a user or another socket is to other nodes.
//   - What the wire cannot carry, such as an instruction to one node, Publish refuses with an error that matches
//     errors.ErrUnsupported.
//
// A namespace is in use while it has a socket, a subscription, a watch, or an open question of this node, and once it is
// kept ([Namespace.Keep]).
//
// The adapter makes the answers to a question from what its peers say:
//
//   - Each peer's answer is one [Answer] with Last. Its From may be empty; with a From, a second one is ignored.
//   - An answer to [AskCount] or [AskRooms], or to a command, may have Sockets, with the fields that the question is
//     about, instead of Count, Users or Rooms. Each socket counts once over the whole question, and an answer without
//     From that has sockets, but no new ones, is ignored.
//   - An answer to an acknowledged emission has as its Count how many clients got it. Each reply is another Answer,
//     without Last, before or after that; in it Socket may be empty.
type ForeignAdapter interface {
	AdapterSubscriber

	// CountPeers returns how many peers will answer inst. The node calls it, bounded by ctx, before it publishes an
	// instruction that every peer is to answer, and then, with again, each heartbeat while answers are missing. The
	// smallest number counts, so the node waits neither for a peer that has left nor for a stranger until the deadline.
	// inst is as it is published, but without Payload. For an emitter CountPeers also sees to it that answers in
	// inst.Namespace are heard.
	CountPeers(ctx context.Context, inst *Instruction, again bool) (int, error)

	// CheckRoom returns an error that matches [ErrInvalidName] for a room in which a socket would hear what is for somebody
	// else. The node calls it for each room of [Socket.Join] and [Namespace.Connect], not for those of commands; user is
	// the socket's. It may be called concurrently.
	CheckRoom(id SocketID, user, room string) error

	// TextOnly reports whether the wire carries only names that are UTF-8. The node then refuses others with
	// [ErrInvalidName]. It is called once, before Start.
	TextOnly() bool
}

// Space says which of the separate spaces of names an [Address] is in.
type Space uint8

const (
	SpaceRoom Space = 1 + iota
	SpaceUser
	SpaceSocket    // the name is a SocketID; only a [ForeignAdapter] is asked for it
	SpaceNamespace // no name: everyone in the namespace, and what is for all nodes that have it; the same
)

// Address is a name that a node can have interest in.
type Address struct {
	Namespace string
	Space     Space
	Name      string
}

// For drivers: Kind says what an instruction tells the others. A node ignores the kinds that it does not know, so that versions
// can be mixed during a rollout.
type Kind uint8

const (
	KindEmit       Kind = 1 + iota // emit Event and Payload to Target
	KindHello                      // a node introduces itself, or asks who is there: every peer answers with a heartbeat
	KindHeartbeat                  // a node is alive
	KindGoodbye                    // a node leaves
	KindJoin                       // the sockets in Target join Rooms
	KindLeave                      // the sockets in Target leave Rooms
	KindDisconnect                 // the sockets in Target are closed, for Reason
	KindAsk                        // Question, about the sockets in Target
	KindAnswer                     // Answer, to the instruction with the same Ref; To is who asked
	KindRequest                    // the handler named Event is called with Payload, where Target has a socket, or on To
	KindWatch                      // From wants to be told for TTL who is in Rooms, or a digest; without a TTL: no more
	KindPresence                   // Presence: who is in Rooms on From, to a watcher in To
)

// Control reports whether instructions of this kind are between nodes only and carry nothing for clients: a missed
// one is no gap, and they never wait in a queue.
func (k Kind) Control() bool { return k == KindHello || k == KindHeartbeat }

// For drivers: Instruction is what one node tells the others. It is immutable from the moment it is passed on.
type Instruction struct {
	Kind      Kind
	Namespace string
	From      NodeID
	To        NodeID // one node's inbox; empty: every peer with interest
	Target    Target
	Volatile  bool // it waits for nothing: neither for the link, nor for room in a queue; see Adapter.Publish
	Event     string
	Payload   Payload
	Meta      []KeyValue // a few bounded pairs that travel along, such as a trace context
	Node      NodeInfo   // of a hello or heartbeat: who it is (the ID is From)

	Rooms  []string // of a join or leave
	Reason Reason   // of a disconnect
	// Ref is set when every peer is to answer, with instructions of [KindAnswer] to From that carry the same Ref. It is
	// unique among those of From, and at most MaxName bytes.
	Ref string
	TTL time.Duration // with Ref: how long From waits; of a watch: how long it lasts unless it is renewed
	// Late is, with Ref, for how long the instruction may have been under way, at most, where the adapter has noticed
	// that this process or the bus stood still; else 0. It is not published.
	Late     time.Duration
	Question *Question // of an ask
	Answer   *Answer   // of an answer; unlike the rest it may be kept, and is not changed any more
	// Presence is about the members of Rooms on From or, in a watch, what From has of them. It may be kept, and is not
	// changed any more.
	Presence *Presence
}

// KeyValue is one pair of an instruction's Meta.
type KeyValue struct{ Key, Value string }

// Target is whom an instruction is for: everyone in the namespace, or the union of rooms, users and sockets, minus
// the exceptions. Rooms, users and sockets are separate spaces. The zero Target is nobody.
type Target struct {
	Everyone bool
	Rooms    []string
	Users    []string
	Sockets  []SocketID

	ExceptRooms   []string
	ExceptUsers   []string
	ExceptSockets []SocketID
}

// IsNobody reports whether the target can have no recipient.
func (t *Target) IsNobody() bool {
	return !t.Everyone && len(t.Rooms) == 0 && len(t.Users) == 0 && len(t.Sockets) == 0
}

// onlySockets reports whether the target is made of single sockets.
func (t *Target) onlySockets() bool {
	return len(t.Sockets) > 0 && !t.Everyone && len(t.Rooms) == 0 && len(t.Users) == 0
}

// HasExceptions reports whether anyone is excluded from the target.
func (t *Target) HasExceptions() bool {
	return len(t.ExceptRooms) > 0 || len(t.ExceptUsers) > 0 || len(t.ExceptSockets) > 0
}

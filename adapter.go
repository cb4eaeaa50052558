package crosscast

import (
	"context"
	"log/slog"
	"time"

	"github.com/crosscast/crosscast/kind"
)

// NodeID is the ID of one run of one node: 48 random bits as 8 base64url characters. It is minted at each start, so a
// restarted process is a new node.
type NodeID string

// For drivers: NodeInfo describes a node to its peers.
type NodeInfo struct {
	ID   NodeID
	Name string // a label for people; need not be unique
	// Heartbeat is the interval at which the node publishes a heartbeat to everyone.
	Heartbeat time.Duration
}

// For drivers: AdapterStart is the argument of [Adapter.Start].
type AdapterStart struct {
	Self    NodeInfo       // the node that the adapter serves
	Handler AdapterHandler // receives the incoming instructions
	// EmitOnly means that the node is an emitter (Options.EmitOnly). Other nodes send it only answers to its queries, so
	// it needs to hear only its inbox. If the adapter is an [AdapterSubscriber], it need not hear even that before
	// Listen.
	EmitOnly bool
	// Offline means that Start must not wait for the bus (Options.StartOffline). It returns nil although there is no
	// link. From then on the driver behaves as in an outage that began at Start: it connects, as often as it takes,
	// reports the gap, and hands over what waits. A refused login is tried again, too. A driver that needs no link may
	// ignore it.
	Offline bool
	// Histograms means that the adapter measures what costs something to measure (Options.Histograms). A driver may
	// ignore it.
	Histograms bool
	// Logger is the node's; nil: the node has none. A driver with a logger in its own options uses that one instead. A
	// driver that calls Handler.Link must log each change, because the node does not log it. Without a logger, the node
	// writes the first change of each kind to slog.Default.
	Logger *slog.Logger
}

// For drivers: an Adapter carries instructions between the nodes of a cluster. It only carries: membership, filtering,
// timeouts and the list of peers are the node's work.
//
// One adapter serves one node. The node calls Start before anything else, and Close once, after everything else. If
// Start fails, it does not call Close, and another node may start with the adapter. Publish and the methods of the
// optional interfaces may be called concurrently.
//
// An adapter must keep these rules, which package adaptertest checks:
//
//   - Ready: once Start has returned nil (with Offline: once the link is live), everything that another ready node
//     publishes to everyone, or to this node, arrives.
//   - Order: the instructions that one goroutine publishes for a node arrive there in that order, except heartbeats.
//     One more exception: emissions to a single name each, two rooms or two users, may change places. A heartbeat must
//     never arrive after a goodbye that was published later, because it would be taken for a sign of life.
//   - Once: a node handles an instruction at most once.
//   - Not to itself: a node never handles its own instructions.
//   - Memory: Publish keeps nothing of the instruction after it has returned. Neither does Handle.
//   - Never silent: if a node might have missed instructions, its [AdapterHandler] gets a Gap before it handles
//     anything later of that origin. If an instruction that Publish accepted did not go out, or might not have, the
//     AdapterHandler gets a Loss.
//   - Bounded: every queue has a limit in bytes.
//
// A node must not assume any order between two nodes. Publish returning nil does not mean that any peer heard.
//
// These three methods make a driver. The optional interfaces add abilities; each may be left out. A driver has one if
// it has all of its methods, which it should assert: var _ crosscast.AdapterSubscriber = (*Adapter)(nil).
//
//	AdapterSubscriber   lets a node hear only the names in which it has interest
//	AdapterDeliverer    reports the outcome of one instruction, and of everything before
//	AdapterSizer        refuses an instruction that is too large before any peer gets it
//	AdapterObserver     reports whether the link works, and when a peer was last heard
//	AdapterMeter        has counters
//	ForeignAdapter      speaks a wire that others have defined
type Adapter interface {
	// Start connects, and returns nil once the node can hear and be heard, or at once if s.Offline is set. ctx bounds
	// Start only, and Start returns by its end. The error names the address and the cause.
	//
	// Once Start has called the AdapterHandler, the node might call the other methods before Start returns, because its
	// hooks might. If Start fails then, these calls end, and later ones return an error.
	//
	// After an error Start can be called again, for the same node or another one. Work that a client library still does
	// then ends by its own time-outs, and must not touch the work of a later Start. A later Start may wait for its end,
	// bounded by ctx. While a node has the adapter, Start fails at once with an error that names the node by
	// NodeInfo.Name. After Close it returns [ErrClosed].
	Start(ctx context.Context, s AdapterStart) error

	// Publish queues inst, and returns. It copies the parts that it needs. inst goes to:
	//
	//   - the node inst.To, if that is set;
	//   - every peer, if inst.Ref is set (the sender needs an answer from each), or inst.Kind is not [kind.Emit];
	//   - otherwise the peers with interest in inst.Target.
	//
	// An error means that no peer gets inst. If the queue is full, Publish waits for room, bounded by ctx. It fails at
	// once with [ErrNotConnected] instead:
	//
	//   - while the link is down and the queue is full;
	//   - for a volatile instruction, while the link is down or the queue is full. The adapter counts it as dropped.
	//
	// Hello and heartbeat instructions never wait. An instruction that is too large for the driver is refused with an
	// error that matches [ErrTooLarge].
	Publish(ctx context.Context, inst *Instruction) error

	// Close hands over the queue, within ctx, disconnects and stops. It is idempotent. Afterwards every method returns
	// [ErrClosed], and the AdapterHandler is not called again. If ctx ends first, Close returns ctx's error, and
	// running work ends by itself.
	Close(ctx context.Context) error
}

// For drivers: an AdapterHandler receives from an [Adapter]. The node implements it.
type AdapterHandler interface {
	// Handle handles an instruction of a peer or, if From is empty, of an external program. It is never called
	// concurrently for one origin. inst is valid only during the call. Handle never waits for the adapter, so an
	// adapter may call it on the goroutine that reads its connection.
	Handle(inst *Instruction)

	// Gap reports that instructions might have been missed. It is never called concurrently with Handle for the same
	// origin (for any origin, if g.Origin is empty).
	Gap(g Gap)

	// Outage reports at once that the link was lost, or is deaf (why), so that the node might miss everything from since
	// on. It is over with the next Gap of all names with
	// the reason "link lost", "link deaf" or "moved". Between the two no instruction is
	// handled. It is never called concurrently with Handle or Gap. If the link is back sooner, the adapter may leave it
	// out.
	Outage(since time.Time, why GapReason)

	// Loss reports that accepted instructions were refused, or might not have gone out.
	Loss(l Loss)

	// Awaits reports whether anybody still waits for an answer with this Ref. An adapter that translates answers may
	// call it before it makes a large one. It may be called concurrently with everything.
	Awaits(ref string) bool

	// Link reports a change of the link's state. Calls are made one at a time, in the order of the changes. An adapter
	// that does not know its link never calls it.
	Link(s LinkStatus)
}

// For drivers: an AdapterSubscriber is an [Adapter] that can limit the instructions of a node to the names in which it
// has interest. With other adapters, every instruction reaches every node, which then filters.
//
// For one name, the node's calls never overlap, and come in the order of its decisions. Calls for different names may
// overlap.
type AdapterSubscriber interface {
	// Subscribe adds interest in names, and returns nil when all of them are confirmed: everything that any node
	// publishes to them later arrives. Names already confirmed are confirmed at once. A [*NamesError] holds the names
	// that have failed, with their errors; the others are confirmed. Any other error applies to every name:
	//
	//   - [ErrNotConnected]: the link is down, or was lost meanwhile. It is returned at once. The name is subscribed on
	//     recovery, and the gap of that outage covers it.
	//   - [ErrDenied]: the bus refuses the name at this moment.
	//
	// After any error the names are remembered until Unsubscribe, and tried again.
	//
	// If the bus begins to refuse a name that was confirmed, or for which ErrNotConnected was returned, the adapter
	// reports a Gap with the reason "denied", without an Until because it goes on. When the bus allows the name again,
	// the adapter reports another one with the same Since.
	Subscribe(ctx context.Context, names ...Address) error

	// Unsubscribe drops interest in names. It does not wait for a confirmation.
	Unsubscribe(ctx context.Context, names ...Address) error

	// Listen waits, bounded by ctx, until an emitter (AdapterStart.EmitOnly) surely hears its inbox. The node calls it
	// before each query. Before the first call the adapter need not hear anything. The error matches [ErrNotConnected]
	// if the link cannot be made or is down. A driver that always hears returns nil.
	Listen(ctx context.Context) error
}

// For drivers: an AdapterDeliverer is an [Adapter] that can report the outcome of instructions.
type AdapterDeliverer interface {
	// Deliver publishes inst and waits, bounded by ctx, until the bus has accepted it. Receipt.Sockets stays 0: the
	// node enters the number of its own sockets.
	Deliver(ctx context.Context, inst *Instruction) (Receipt, error)

	// Flush waits, bounded by ctx, until everything published before has an outcome. A Loss is no error of Flush: the
	// AdapterHandler gets it before Flush returns.
	Flush(ctx context.Context) error
}

// For drivers: an AdapterSizer is an [Adapter] with a limit on the size of an instruction. The node calls it before it
// serves its own sockets, so [ErrTooLarge] means that nobody got the instruction.
type AdapterSizer interface {
	// MaxPayload returns the largest payload, in bytes, that fits together with one room or user, a namespace and an
	// event of 255 bytes each. Start calls it before Adapter.Start, and fails if it is less than
	// Options.MaxPayload. Without that option, it is the node's largest payload.
	MaxPayload() int
	// Fits returns the error with which Publish would refuse inst for its size. The node calls it for instructions with
	// a payload larger than an eighth of Options.MaxPayload, several names, or Meta. Fits keeps nothing of inst.
	Fits(inst *Instruction) error
}

// For drivers: an AdapterObserver is an [Adapter] that knows more about its link and its peers than it reports through
// the AdapterHandler. Its methods do not wait for anything. One goroutine calls them.
type AdapterObserver interface {
	// Proven reports whether the link surely works at this moment, both ways. While it does not, the node takes no peer
	// for dead because of its silence, and does not call the other methods.
	Proven() bool

	// Heard returns the time of a peer's latest new message, or a time shortly before it; zero: not known. The node
	// calls it if heartbeats of the peer are missing, because they might be lost or late while other messages arrive.
	Heard(peer NodeID) time.Time

	// Suspect reports that heartbeats of a peer are missing. heard is the time of its latest message. The peer might
	// have moved to another server of the bus, while this node has not. The node calls Suspect once for each time that
	// it suspects the peer, and always before Expire.
	Suspect(peer NodeID, heard time.Time)

	// Expire reports that the node takes the peer for dead. The adapter reports a Gap of that origin with
	// the reason "peer lost", from the peer's latest message on. When the peer returns, it reports another one, unless
	// it knows that nothing was missed in between.
	Expire(peer NodeID)
}

// For drivers: an AdapterMeter is an [Adapter] with counters of its own.
type AdapterMeter interface {
	AdapterStats() AdapterStats
}

// For drivers: a ForeignAdapter speaks a wire that others have defined, such as Socket.IO's. It differs in these ways:
//
//   - Peers send no hello and no heartbeats, so the node knows only their number. It has no Nodes and no OnNode, and
//     sends each query to everyone. Package adaptertest has a list of other abilities that such a wire might lack.
//   - Without a subscription the node hears only two things: instructions for everyone in the namespace "/", and
//     instructions for this node alone. It also subscribes to the address of each other namespace while that is in use,
//     and to the address of each socket, from Connect on; see [SpaceNamespace] and [SpaceSocket]. Connect and
//     [Namespace.Subscribe] wait for them. A query is published once its namespace's address is confirmed. All these
//     addresses linger as a room does.
//   - The wire may have one space for all names. Then the name of a room might be a user or another socket to other
//     nodes.
//   - If the wire cannot carry an instruction, for example one for a single node, Publish refuses it with an error that
//     matches errors.ErrUnsupported.
//
// A namespace is in use while it has a socket, a subscription, a watch, or an open query of this node, and from
// [Namespace.Keep] on.
//
// The adapter makes the answers to a query from its peers' messages:
//
//   - Each peer's answer is one [Answer] with Last. Its From may be empty; a second answer with the same From is
//     ignored.
//   - An answer to [kind.AskCount] or [kind.AskRooms], or to a command, may have Sockets, with the queried fields,
//     instead of Count, Users or Rooms. Each socket counts once over the whole query. An answer without From that has
//     sockets, but no new ones, is ignored.
//   - An answer to an acknowledged emission has the number of clients that got it as its Count. Each reply is another
//     Answer, without Last, before or after that one. Its Socket may be empty.
type ForeignAdapter interface {
	AdapterSubscriber

	// CountPeers returns the number of peers that will answer inst. The node calls it, bounded by ctx, before it
	// publishes an instruction that every peer must answer. While answers are missing, the node calls it again each
	// heartbeat, with again set, and waits for the smallest number of answers that was returned. So it does not wait
	// until the deadline for a peer that has left. inst is the published instruction without its Payload. For an
	// emitter, CountPeers also makes sure that answers in inst.Namespace are heard.
	CountPeers(ctx context.Context, inst *Instruction, again bool) (int, error)

	// CheckRoom returns an error that matches [ErrInvalidName] if a socket in the room would hear messages for somebody
	// else. The node calls it for each room of [Socket.Join] and [Namespace.Connect], but not for the rooms of
	// commands. user is the socket's. It may be called concurrently.
	CheckRoom(id SocketID, user, room string) error

	// TextOnly reports whether the wire carries only names in UTF-8. The node then refuses other names with
	// [ErrInvalidName]. It is called once, before Start.
	TextOnly() bool
}

// Space is one of the separate spaces of names of an [Address].
type Space uint8

const (
	SpaceRoom Space = 1 + iota
	SpaceUser
	SpaceSocket    // the name is a SocketID; only a [ForeignAdapter] subscribes to it
	SpaceNamespace // no name: emissions to everyone in the namespace, and instructions for all nodes that use it
)

// Address is the name of a room, a user or a socket, or a whole namespace.
type Address struct {
	Namespace string
	Space     Space
	Name      string
}

// For drivers: Instruction is a message from one node to others. It must not be changed once it is passed on.
type Instruction struct {
	Kind      kind.Kind
	Namespace string
	From      NodeID
	To        NodeID // one node's inbox; empty: every peer with interest
	Target    Target
	Volatile  bool // it waits neither for the link nor for room in a queue; see Adapter.Publish
	Event     string
	Payload   Payload
	Meta      []KeyValue // a few bounded pairs that travel along, such as a trace context
	Node      NodeInfo   // of a hello or heartbeat: the sender (the ID is From)

	Rooms  []string // of a join or leave
	Reason Reason   // of a disconnect
	// Ref is set if every peer must answer, with an instruction of [kind.Answer] to From that carries the same Ref. It
	// is unique among those of From, and at most 255 bytes.
	Ref string
	TTL time.Duration // with Ref: how long From waits; of a watch: how long it lasts if not renewed
	// Late is, with Ref, the longest time for which the instruction might have been under way, if the adapter has
	// noticed that this process or the bus stood still; otherwise 0. It is not published.
	Late     time.Duration
	Question *Question // of a kind.Ask
	Answer   *Answer   // of an answer; it may be kept, unlike the other fields, and is not changed any more
	// Presence is about the members of Rooms on From or, in a watch, about the watcher's versions. It may be kept, and
	// is not changed any more.
	Presence *Presence
}

// KeyValue is one pair of an instruction's Meta.
type KeyValue struct{ Key, Value string }

// Target is the receiver of an instruction: everyone in the namespace, or the union of rooms, users and sockets, minus
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

// isNobody reports whether the target can have no recipient.
func (t *Target) isNobody() bool {
	return !t.Everyone && len(t.Rooms) == 0 && len(t.Users) == 0 && len(t.Sockets) == 0
}

// onlySockets reports whether the target consists of single sockets.
func (t *Target) onlySockets() bool {
	return len(t.Sockets) > 0 && !t.Everyone && len(t.Rooms) == 0 && len(t.Users) == 0
}

// hasExceptions reports whether anyone is excluded from the target.
func (t *Target) hasExceptions() bool {
	return len(t.ExceptRooms) > 0 || len(t.ExceptUsers) > 0 || len(t.ExceptSockets) > 0
}

package crosscast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/internal/activity"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// Options of a node. The zero value is a complete single server.
type Options struct {
	// Name is a label for people; it need not be unique. Default: the host's name.
	Name string
	// Meta is more information for peers, such as a version or a zone: at most 8 pairs, of at most 255 bytes each.
	Meta []KeyValue
	// Adapter connects the node to its peers. It serves only this node. nil: the node has no peers.
	Adapter Adapter
	// Heartbeat is the interval at which the node tells its peers that it is alive. Default: 1 s; 10 ms to 1 minute.
	Heartbeat time.Duration
	// Linger is the time for which the node keeps hearing a room or user after the last member has left, so that coming
	// and going costs no subscriptions. Default: 5 s; at most 1 h. Names that were used again meanwhile linger for up
	// to twice as long, and so does a namespace, which ends after its rooms.
	Linger time.Duration
	// EmitOnly makes an emitter, for a process without sockets, such as a cron job or a worker. It emits, commands,
	// queries and sends requests, and hears nothing but answers. Its peers do not know it, so it costs them nothing and
	// is in nobody's Nodes. Connect, Subscribe, Watch and OnRequest return [ErrEmitOnly]. It needs an Adapter. OnGap,
	// OnNode and OnRoom must be nil, because they would never be called.
	//
	// Without queries, an emitter subscribes to nothing, and needs no permission to do so. Before a query it fetches
	// the node list from one node, and reuses that list for one Heartbeat. It does not notice that a node of the list
	// leaves, and waits for its answer until the deadline. If no node returns a list, or the bus has no receiver for
	// the request, an [IncompleteError] with an empty ID says so: no server is up, or the emitter is connected to the
	// wrong bus.
	EmitOnly bool
	// StartOffline makes Start return at once, even if the bus cannot be reached, for processes that boot before it.
	// The node serves its own sockets meanwhile, and is not [Node.Ready]. It connects as after an outage that began at
	// Start: calls behave as doc.go lists for a link that is down, and the first link makes a Gap since Start. If the
	// bus refuses the login, the node tries again, and [Node.Link] has the state "denied". Start still fails for wrong
	// Options.
	StartOffline bool
	// MaxPayload is the largest payload that may be emitted, in bytes, from 1 byte to 1 GiB. It must fit into the
	// adapter's largest frame, together with names: see [AdapterSizer]. Default: 1 MiB, or what fits if that is less.
	MaxPayload int
	// MaxRooms is the largest number of rooms of one socket. It bounds a client that chooses the names. Default:
	// 10,000; at least 1. Join and Connect refuse more with an error that matches [ErrTooLarge]. A command to
	// join has no effect on such a socket.
	MaxRooms int

	// Hooks get the node, because the first calls might come before Start returns. They may use it at once; only Close
	// waits for Start.

	// OnGap is called with a gap: instructions that this node's clients might have missed. It runs on the goroutine
	// that delivers. It must not wait for anything: no Join, Flush or Deliver inside, and no emission to peers, which
	// waits while the adapter's queue is full. Its emissions to sockets of this node arrive before anything later of
	// that origin: see [Node.EmitAffected]. One exception: another goroutine detects that this process stood still
	// (reason "paused"), so messages might be delivered during that call.
	OnGap func(*Node, Gap)

	// The other hooks may block, and may call anything but Node.Close, which waits for them. Calls of one hook are made
	// one at a time, in the order of the reported events. Calls of different hooks may overlap. Calls that wait for a
	// slow one are merged, so their number is bounded and nothing is left out.

	// OnLoss is called with this node's emissions that did not go out, or might not have. Of losses with the same
	// LossReason, the first is reported at once. The later ones are reported as a sum, once a second and when the node
	// closes. If 64 calls wait, the newest are merged into one, even if their reasons differ. See [Loss].
	OnLoss func(*Node, Loss)
	// OnNode is called when a peer joins, leaves, is suspected, is heard again or is taken for dead. For each peer only
	// the latest event waits. If more than 8,192 events wait, a peer that came and went meanwhile might be left out.
	// With a [ForeignAdapter] OnNode is never called.
	OnNode func(*Node, NodeEvent)
	// OnRoom is called when a socket joins or leaves a room on this node. At most 65,536 events wait. If there are
	// more, a single [RoomsChanged] replaces them.
	OnRoom func(*Node, RoomEvent)
	// OnLink is called with each change of the link between the node and its bus: see [LinkStatus]. If 64 changes wait,
	// a new one replaces the newest.
	OnLink func(*Node, LinkStatus)

	// Histograms makes the node, and its adapter, also measure the times that cost something to measure: see Stats.Times
	// and AdapterStats.Times. Of what is frequent, one of 64 is measured: about 6 ns for each delivery and each arrival,
	// and up to 250 bytes for each client with a [Queue]. The node also queries its peers for the round trip, every tenth
	// heartbeat: one message, and an answer of each peer. Default: only what costs nothing is measured.
	Histograms bool
	// Observer sees each emission, delivery and instruction, for metrics and traces. nil: none, which costs nothing.
	Observer Observer

	// Logger receives diagnostics. Everything important is also an error or a hook. Default: most of the log is
	// discarded. Two kinds of messages go to slog.Default: panics of the application's functions; and, once for each
	// cause, that the link to the bus is down, denied or deaf, or that a binding refuses a client.
	Logger *slog.Logger
}

const (
	defaultHeartbeat  = time.Second
	defaultLinger     = 5 * time.Second
	defaultMaxPayload = 1 << 20
	defaultMaxRooms   = 10_000
)

// The states of a node.
const (
	nodeOpen    = iota
	nodeClosing // no new sockets and subscriptions; OnClose handlers and hooks may still emit
	nodeClosed  // nothing
)

// A Node is one running instance of the library, usually one in a server process. It holds its own sockets in memory
// and reaches its peers' sockets through its adapter. The embedded namespace is "/", the default.
//
// Its methods may be called concurrently. Close must be called when it is done. A node owns these goroutines:
//
//   - with an adapter: one for its heartbeats and one for its interest
//   - while there is work: one for each of its hooks, two for presence, and one for each subscription and watch
//   - while a message is handed to 65,536 sockets or more that take time: one for each core but one
//   - one for each query or command that it answers for a peer, at most 256, and as many for requests
//   - one for each acknowledged emission whose replies it collects, at most 4,096
type Node struct {
	*Namespace

	id         NodeID
	name       string
	meta       []KeyValue
	heartbeat  time.Duration
	maxPayload int
	maxRooms   int
	log        logs
	observer   Observer // nil: none
	times      *times   // nil: nothing is measured

	adapter   Adapter             // nil: a single server
	everyPeer []NodeID            // the IDs that stand for all peers: nil or, without an adapter, none
	sizer     AdapterSizer        // nil: the adapter is not one
	foreign   ForeignAdapter      // nil: the adapter is not one
	onlyText  bool                // the adapter carries only names in UTF-8
	interests *interests          // nil: the adapter is not an AdapterSubscriber
	heart     *heart              // nil without an adapter, and for an emitter
	meets     bool                // the adapter has started
	reached   atomic.Bool         // the link has been live, or there is none
	outage    atomic.Pointer[Gap] // the one that goes on; nil: there is none
	lookout   *lookout            // for an emitter; nil: this node is not one
	expects   expecting           // of answers to queries
	deaf      error               // why it hears nothing but answers; nil: it hears
	blind     error               // why it cannot watch; nil: it can
	peers     peers
	hooks     hooks
	losses    lossLog
	queries   queries
	acks      acks
	handlers  handlers
	presence  presence
	jobs      jobs
	crew      crew
	link      linkStatus
	stats     counters
	busy      *activity.Counter // of a cluster for tests; nil: none

	state    atomic.Int32
	drain    atomic.Pointer[draining] // nil: there is none
	refusing atomic.Bool              // by a drain; set with gate locked
	started  chan struct{}            // closed when Start is done; heart and meets are valid then
	gate     sync.RWMutex             // locked to close, read-locked to open a socket or subscription, or to begin work for a peer
	sockets  sync.WaitGroup           // until OnClose has returned and the conn's handlers have ended
	spaces   spaces                   // in use
	nowhere  *space                   // always empty
	handles  *sync.Map                // from string to weak.Pointer[Namespace]: those that are referenced

	mu       sync.Mutex // guards the following fields
	subs     map[*Subscription]struct{}
	onClose  []func()      // of Node.OnClose
	gapHooks []gapHook     // of Namespace.OnGap; never changed in place
	closing  chan struct{} // made by the first Close; closed when it is done
	closed   error         // the result of Close; valid once closing is closed
}

// Start starts a node, and returns when its peers and it hear each other. If the bus cannot count the peers, as a Redis
// Cluster cannot, this takes one heartbeat. ctx bounds Start only. If ctx ends first, Start returns an error. But
// if only answers of peers are missing then, it returns nil.
//
// With [Options].StartOffline it returns at once, whether the bus can be reached or not.
//
// After an error nothing of the node is left. Work of the adapter's client library ends by its own time-outs. Start can
// be called again with the same Options, with one exception: if only the hello was refused, as the error says, the
// adapter is closed. An adapter that another node uses is refused.
func Start(ctx context.Context, o Options) (*Node, error) {
	n, err := newNode(o)
	if err != nil {
		return nil, err
	}
	err = n.start(ctx, &o)
	close(n.started)
	if err != nil {
		_ = n.Close(ctx) // hooks may have used the node
		return nil, errtext.Errorf("crosscast: start: %w", err)
	}
	return n, nil
}

func (n *Node) start(ctx context.Context, o *Options) error {
	if n.adapter == nil {
		return nil
	}
	if s := n.sizer; s != nil && s.MaxPayload() < n.maxPayload {
		return fmt.Errorf("Options.MaxPayload is %d, and the adapter carries payloads of at most %d: lower the one, or let "+
			"the adapter carry more", n.maxPayload, s.MaxPayload())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if sub, ok := n.adapter.(AdapterSubscriber); ok && n.lookout == nil {
		n.interests = startInterests(n, sub, cmp.Or(o.Linger, defaultLinger))
	}
	if err := n.adapter.Start(ctx, AdapterStart{
		Self: n.info(), Handler: (*handler)(n), EmitOnly: o.EmitOnly, Offline: o.StartOffline, Histograms: o.Histograms,
		Logger: o.Logger,
	}); err != nil {
		return err
	}
	n.meets = true
	if !o.StartOffline || n.Link().Live() {
		n.reached.Store(true)
	}
	if n.lookout != nil {
		return nil
	}
	if o.StartOffline {
		n.tell(n.control(kind.Hello, "")) // or, if there is no link yet, after the gap
	} else if err := n.introduce(ctx); err != nil {
		return errtext.Errorf("hello: %w", err)
	}
	n.heart = startHeart(n)
	return nil
}

func newNode(o Options) (*Node, error) {
	o.Heartbeat = cmp.Or(o.Heartbeat, defaultHeartbeat)
	o.Linger = cmp.Or(o.Linger, defaultLinger)
	byDefault := o.MaxPayload == 0
	o.MaxPayload = cmp.Or(o.MaxPayload, defaultMaxPayload)
	o.MaxRooms = cmp.Or(o.MaxRooms, defaultMaxRooms)
	if err := cmp.Or(
		bounds.Heartbeat("crosscast: Options.Heartbeat", o.Heartbeat),
		bounds.Time("crosscast: Options.Linger", o.Linger),
		bounds.Size("crosscast: Options.MaxPayload", o.MaxPayload, 1),
		bounds.Count("crosscast: Options.MaxRooms", o.MaxRooms, 1<<30),
	); err != nil {
		return nil, err
	}
	if o.EmitOnly && (o.Adapter == nil || o.OnGap != nil || o.OnNode != nil || o.OnRoom != nil) {
		return nil, errors.New("crosscast: Options with EmitOnly have an Adapter, and no OnGap, OnNode and OnRoom")
	}
	if o.Name == "" {
		host, _ := os.Hostname() // only a label: a node can do without one
		o.Name = host[:min(len(host), limit.Name)]
	}
	if len(o.Name) > limit.Name {
		return nil, &limit.Error{What: "node", Len: len(o.Name), Max: limit.Name, Name: true}
	}
	if err := checkMeta(o.Meta); err != nil {
		return nil, err
	}
	id := newNodeID()
	n := &Node{
		id: id, name: o.Name, adapter: o.Adapter, log: newLogs(o.Logger, o.Name, id), jobs: newJobs(),
		heartbeat:  o.Heartbeat,
		maxPayload: o.MaxPayload,
		maxRooms:   o.MaxRooms,
		observer:   o.Observer,
		meta:       slices.Clone(o.Meta),
		subs:       make(map[*Subscription]struct{}), started: make(chan struct{}),
	}
	if o.Adapter == nil {
		n.everyPeer = []NodeID{}
		n.reached.Store(true)
	}
	if o.Histograms {
		n.times = new(times)
	}
	if n.sizer, _ = o.Adapter.(AdapterSizer); n.sizer != nil && byDefault {
		n.maxPayload = min(n.maxPayload, max(1, n.sizer.MaxPayload()))
	}
	if f, ok := o.Adapter.(ForeignAdapter); ok {
		n.foreign, n.onlyText, n.blind = f, f.TextOnly(), errNoPresence
	}
	if o.EmitOnly {
		n.lookout, n.deaf = newLookout(), ErrEmitOnly
	}
	n.expects = n.chooseExpecting()
	if a, ok := o.Adapter.(interface{ Activity() *activity.Counter }); ok {
		n.busy = a.Activity()
	}
	n.hooks.init(n, &o)
	n.peers.changed = n.handlePeerEvent
	n.presence.init(n)
	n.crew.init(n)
	n.Namespace, n.nowhere, n.handles = &Namespace{node: n, name: "/"}, newSpace(&Namespace{node: n}), new(sync.Map)
	n.spaces.home = newSpace(n.Namespace)
	n.spaces.home.hold()
	n.Namespace.space.Store(n.spaces.home)
	return n, nil
}

// introduce says hello, and waits for as many answers as peers heard it, for at most one heartbeat. If the bus cannot
// count the peers, it waits for the whole heartbeat, in which every peer sends its own. The adapter has started, so an
// end of the link or of ctx is no error: heartbeats introduce the node too, and after an outage the node says hello
// again.
func (n *Node) introduce(ctx context.Context) error {
	if n.foreign != nil {
		return nil
	}
	receipt, err := n.deliverRemote(ctx, n.control(kind.Hello, ""))
	switch {
	case err == nil:
		n.stats.out.Add(1)
	case errors.Is(err, ErrDenied):
		return err
	case ctx.Err() != nil || errors.Is(err, ErrNotConnected) || errors.Is(err, ErrRefused) || errors.Is(err, ErrUncertain):
		n.log.Debug("crosscast: could not say hello", "error", err)
		return nil
	default:
		return err
	}
	wait, cancel := context.WithTimeout(ctx, n.heartbeat)
	defer cancel()
	if !receipt.Known {
		<-wait.Done()
		return nil
	}
	n.peers.await(wait, receipt.Nodes)
	return nil
}

// ID returns the node's ID, which is minted at each start.
func (n *Node) ID() NodeID { return n.id }

// Nodes returns the known peers, including suspected ones, without this node. An emitter knows the nodes that there
// were at its last query. With a [ForeignAdapter] no peer is known.
func (n *Node) Nodes() []Peer { return n.peers.list() }

// Name returns the node's label ([Options].Name). The name of the embedded namespace is "/".
func (n *Node) Name() string { return n.name }

// Of returns the namespace with the given name: the same pointer while anybody keeps it, or it is in use. It allocates
// nothing lasting, for any number of names.
func (n *Node) Of(namespace string) (*Namespace, error) {
	if err := checkName("namespace", namespace); err != nil {
		return nil, err
	}
	return n.namespace(namespace), nil
}

// Flush waits, bounded by ctx, until everything emitted before was handed to the bus or given up. A [*LossError] holds
// the emissions since the previous Flush that did not go out, or might not have. If calls overlap, each returns it.
func (n *Node) Flush(ctx context.Context) error {
	if n.state.Load() == nodeClosed {
		return ErrClosed
	}
	since := n.losses.mark()
	if f, ok := n.adapter.(AdapterDeliverer); ok {
		if err := f.Flush(ctx); err != nil {
			return err
		}
	}
	return n.losses.since(since)
}

// openSocket adds s if the node accepts sockets, and appends to waits the interests to wait for. Drain and Close find every socket that was added.
func (n *Node) openSocket(ns *Namespace, s *Socket, rooms []string, waits []*group) ([]*group, error) {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if err := ns.Accepts(); err != nil {
		return nil, err
	}
	n.sockets.Add(1)
	s.ns = ns.hold()
	return s.ns.openSocket(s, rooms, waits), nil
}

// openSubscription does the same for a subscription, which has no rooms yet.
func (n *Node) openSubscription(ns *Namespace, s *Subscription) (waits []*group, err error) {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.state.Load() != nodeOpen {
		return nil, ErrClosed
	}
	s.ns = ns.hold()
	n.mu.Lock()
	n.subs[s] = struct{}{}
	n.mu.Unlock()
	return s.ns.all.wait(nil), nil
}

// removeSubscription reports whether s was registered.
func (n *Node) removeSubscription(s *Subscription) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.subs[s]
	delete(n.subs, s)
	return ok
}

func (n *Node) subscriptions() []*Subscription {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.subs))
}

// holdsAll reports whether all recipients of t are sockets of this node.
func (n *Node) holdsAll(t *Target) bool {
	if t.Everyone || len(t.Rooms) > 0 || len(t.Users) > 0 {
		return false
	}
	for _, id := range t.Sockets {
		if id.Node() != n.id {
			return false
		}
	}
	return true
}

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

	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/warn"
)

// Options of a node. The zero value is a complete single server.
type Options struct {
	// Name is a label for people; it need not be unique. Default: the host's name.
	Name string
	// Meta is what else peers are told about this node, such as a version or a zone: at most 8 pairs, of at most 255
	// bytes each.
	Meta []KeyValue
	// Adapter connects the node to its peers; it serves this node alone. nil: there are none.
	Adapter Adapter
	// Heartbeat is how often the node tells its peers that it is alive; default 1 s. It may
	// be 10 ms to 1 minute.
	Heartbeat time.Duration
	// Linger is how long the node goes on hearing a room or user after the last member left, so that coming and
	// going costs no subscriptions; default 5 s, at most 1 h. Names that were in use again meanwhile linger for up to
	// twice as long, and so does a namespace, which ends after its rooms.
	Linger time.Duration
	// EmitOnly makes an emitter, for a process that holds no sockets, such as a cron job or a worker: it emits,
	// commands, asks and sends requests, and hears nothing but answers. It costs its peers nothing, who do not know of
	// it: it is in nobody's Nodes. Connect, Subscribe, Watch and OnRequest return [ErrEmitOnly]. It needs an Adapter, and
	// has no OnGap, OnNode and OnRoom, for which nothing would ever happen.
	//
	// Without a question it subscribes to nothing, and needs no permission to. Before a question it asks a node for the
	// nodes that there are, which it then takes for granted for a Heartbeat. It does not hear that one of them leaves,
	// and waits for its answer until the deadline. When no node answers that at all, also when the bus has nobody to
	// give it to, an [IncompleteError] says so, beside an empty ID: there is no server, or the emitter looks elsewhere.
	EmitOnly bool
	// MaxPayload is the largest payload that may be emitted, in bytes; default 1 MiB. It may be 1 byte to 1 GiB. The
	// adapter's largest frame must have room for it, beside names: see [AdapterSizer].
	MaxPayload int
	// MaxRooms is how many rooms one socket may be in, so that a client that chooses names is bounded; default 10,000,
	// at least 1. Join and Connect refuse more with a [LimitError] that matches [ErrTooLarge]; a command to join does
	// not reach such a socket.
	MaxRooms int

	// Hooks get the node, because the first calls might come before Start returns. It can be used then; only Close waits
	// for Start.

	// OnGap is told what this node's clients may have missed, on the goroutine that delivers. It must not wait for
	// anything: no Join, Flush or Deliver inside. What it emits to sockets of this node arrives before anything later of
	// that origin: see [Node.EmitAffected]. (That this process stood still, GapPaused, is found out by another goroutine, so it may be told
	// meanwhile.)
	OnGap func(*Node, Gap)

	// The other hooks may block, and may call anything but Node.Close, which waits for them. Calls of one hook are made
	// one at a time, in the order of what they report; those of different hooks may overlap. What waits for a call that
	// takes long is bounded by merging, so nothing is untold.

	// OnLoss is told what was emitted here and did not, or may not have, gone out. Of losses with the same LossReason the
	// first is told at once, and then the sum of those that followed, once a second and when the node is closed. When 64
	// calls wait, the newest are merged into one, whatever their reasons. See [Loss].
	OnLoss func(*Node, Loss)
	// OnNode is told of the peers: who joined, left, is suspected, is taken for dead. Of one peer only the last event
	// waits, and a peer that came and went meanwhile may be left out when more than 8,192 events wait. An adapter that
	// is a [ForeignAdapter] does not tell.
	OnNode func(*Node, NodeEvent)
	// OnRoom is told who joins and leaves which room on this node. At most 65,536 events wait; then a single one takes
	// their place, [RoomsChanged].
	OnRoom func(*Node, RoomEvent)
	// OnLink is told of each change of the link between the node and its bus: see [LinkStatus]. When 64 changes wait, of
	// the newest only the last.
	OnLink func(*Node, LinkStatus)

	// Logger gets what is of use to whoever looks for a fault; nothing is only logged. Default: discards, but for what
	// somebody who looks for a fault looks at first, which goes to slog.Default: functions of the application's that
	// panic, and the first time that the link to the bus is down, denied or deaf, or that a binding refuses a client, for
	// each cause.
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
// and reaches those of its peers through its adapter. The embedded namespace is "/", the default.
//
// Its methods may be called concurrently. Call Close when done. A node owns these goroutines: one for its heartbeats
// and one for its interest, if it has an adapter, and, while there is something to do, one for each of its hooks, two
// for presence, one for each subscription and watch, one for each question, command and request that it answers a peer (at
// most 256 of requests and as many of the others), and one for each acknowledged emission whose replies it collects (at
// most 4,096).
type Node struct {
	*Namespace

	id         NodeID
	name       string
	meta       []KeyValue
	heartbeat  time.Duration
	maxPayload int
	maxRooms   int
	log        *slog.Logger
	logger     *slog.Logger // Options.Logger; nil: log discards
	onGap      func(*Node, Gap)
	onLoss     func(*Node, Loss)
	onRoom     func(*Node, RoomEvent)
	onNode     func(*Node, NodeEvent)
	onLink     func(*Node, LinkStatus)

	adapter   Adapter        // nil: a single server
	sizer     AdapterSizer   // nil: the adapter is none
	foreign   ForeignAdapter // nil: the adapter is none
	onlyText  bool           // the adapter carries no names but UTF-8
	interests *interests     // nil: the adapter is no AdapterSubscriber
	heart     *heart         // nil without an adapter, and of an emitter
	meets     bool           // the adapter has started
	lookout   *lookout       // of an emitter; nil: this node is none
	peers     peers
	hooks     hooks
	losses    lossLog
	asks      asks
	acks      acks
	handlers  handlers
	presence  presence
	link      linkStatus
	stats     counters
	lines     lines
	firsts    warn.Firsts // that were logged as warnings
	busy      *activity   // of the in-process cluster; nil: of none

	ctx       context.Context // of what is done for peers; ends with the node
	cancel    context.CancelFunc
	answering chan struct{}  // a place for each goroutine that answers a question or command of a peer
	serving   chan struct{}  // the same for requests, which the application's handlers may keep
	workers   sync.WaitGroup // those goroutines, and those that collect replies of clients

	state   atomic.Int32
	started chan struct{}  // closed when Start is done; heart and meets are valid then
	gate    sync.RWMutex   // locked to close, read-locked to open a socket or subscription, or to begin work for a peer
	sockets sync.WaitGroup // until OnClose has returned and the conn's handlers have ended
	spaces  spaces         // in use
	nowhere *space         // always empty
	handles *sync.Map      // from string to weak.Pointer[Namespace]: those that somebody has

	mu       sync.Mutex // guards what follows
	subs     map[*Subscription]struct{}
	onClose  []func()      // of OnClose
	gapHooks []gapHook     // of Namespace.OnGap; never changed in place
	closing  chan struct{} // made by the first Close; closed when it is done
	closed   error         // what Close returned; valid once closing is closed
}

// Start starts a node and returns when its peers hear it and it hears them. Where the bus cannot tell how many there are,
// such as a Redis Cluster, that takes a heartbeat. ctx bounds Start only: it returns by the end of ctx, with an error
// unless only answers of peers are missing.
//
// After an error nothing of the node is left. What the adapter's client library is doing ends by its own time-outs, and
// Start can be called again with the same Options, as long as the adapter itself had not started: if only the hello was
// refused, which the error says, the adapter is closed. An adapter that another node has is refused.
func Start(ctx context.Context, o Options) (*Node, error) {
	n, err := newNode(o)
	if err != nil {
		return nil, err
	}
	err = n.start(ctx, cmp.Or(o.Linger, defaultLinger))
	close(n.started)
	if err != nil {
		_ = n.Close(ctx) // hooks may have used the node
		return nil, fmt.Errorf("crosscast: start: %w", err)
	}
	return n, nil
}

func (n *Node) start(ctx context.Context, linger time.Duration) error {
	if n.adapter == nil {
		return nil
	}
	if s := n.sizer; s != nil && s.MaxPayload() < n.maxPayload {
		return fmt.Errorf("Options.MaxPayload is %d, and the adapter carries payloads of at most %d: its MaxFrame has to be "+
			"larger", n.maxPayload, s.MaxPayload())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if sub, ok := n.adapter.(AdapterSubscriber); ok && n.lookout == nil {
		n.interests = startInterests(n, sub, linger)
	}
	if err := n.adapter.Start(ctx, AdapterStart{Self: n.info(), Handler: (*handler)(n), Logger: n.logger}); err != nil {
		return err
	}
	n.meets = true
	if n.lookout != nil {
		return nil
	}
	if err := n.introduce(ctx); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	n.heart = startHeart(n)
	return nil
}

func newNode(o Options) (*Node, error) {
	o.Heartbeat = cmp.Or(o.Heartbeat, defaultHeartbeat)
	o.Linger = cmp.Or(o.Linger, defaultLinger)
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
		host, _ := os.Hostname() // a label: a node without one is a node all the same
		o.Name = host[:min(len(host), MaxName)]
	}
	if len(o.Name) > MaxName {
		return nil, &LimitError{What: "node", Len: len(o.Name), Max: MaxName, Name: true}
	}
	if err := checkMeta(o.Meta); err != nil {
		return nil, err
	}
	n := &Node{
		id: NewNodeID(), name: o.Name, adapter: o.Adapter, log: o.Logger, logger: o.Logger,
		heartbeat:  o.Heartbeat,
		maxPayload: o.MaxPayload,
		maxRooms:   o.MaxRooms,
		onGap:      o.OnGap, onLoss: o.OnLoss, onRoom: o.OnRoom, onNode: o.OnNode, onLink: o.OnLink,
		meta: slices.Clone(o.Meta), answering: make(chan struct{}, maxAnswering), serving: make(chan struct{}, maxAnswering),
		subs: make(map[*Subscription]struct{}), started: make(chan struct{}),
	}
	n.sizer, _ = o.Adapter.(AdapterSizer)
	if f, ok := o.Adapter.(ForeignAdapter); ok {
		n.foreign, n.onlyText = f, f.TextOnly()
	}
	if o.EmitOnly {
		n.lookout = newLookout()
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if local, ok := o.Adapter.(*localAdapter); ok {
		n.busy = &local.cluster.busy
	}
	n.hooks.init(n)
	n.peers.told = n.nodeEvent
	n.presence.init(n)
	n.Namespace, n.nowhere, n.handles = &Namespace{node: n, name: "/"}, newSpace(&Namespace{node: n}), new(sync.Map)
	n.spaces.home = newSpace(n.Namespace)
	n.spaces.home.hold()
	n.Namespace.space.Store(n.spaces.home)
	return n, nil
}

// introduce says hello, and waits for the answers of as many peers as heard it, for at most one heartbeat. Where the bus
// cannot tell how many those are, it waits for all of that heartbeat, in which every peer has its own. The adapter
// has started, so when the link or ctx ends meanwhile that is no error: heartbeats introduce the node, too, and the gap
// of an outage makes it say hello again.
func (n *Node) introduce(ctx context.Context) error {
	if n.foreign != nil {
		return nil
	}
	var reach Reach
	var err error
	hello := n.control(KindHello, "")
	if d, ok := n.adapter.(AdapterDeliverer); ok {
		reach, err = d.Deliver(ctx, hello)
	} else {
		err = n.adapter.Publish(ctx, hello)
	}
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
	if !reach.Known {
		<-wait.Done()
		return nil
	}
	n.peers.await(wait, reach.Nodes)
	return nil
}

// ID returns the node's ID, which is minted at each start.
func (n *Node) ID() NodeID { return n.id }

// Nodes returns the peers that this node knows, those suspected included; not this node itself. An emitter knows those
// that there were at its last question, by ID only. With an adapter that is a [ForeignAdapter] nobody is known.
func (n *Node) Nodes() []Peer { return n.peers.list() }

// Name returns the node's label. (The embedded namespace's is "/".)
func (n *Node) Name() string { return n.name }

// Of returns the namespace with the given name: the same pointer for as long as somebody keeps it, or it is in use. It
// makes nothing that lasts, however many names there are.
func (n *Node) Of(namespace string) (*Namespace, error) {
	if err := checkName("namespace", namespace); err != nil {
		return nil, err
	}
	return n.namespace(namespace), nil
}

// Flush waits, bounded by ctx, until everything emitted before was handed to the bus or given up. What did not, or may
// not have, gone out since the previous Flush returned is a [*LossError]; overlapping calls both return it.
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
	return n.losses.take(since)
}

// openSocket adds s unless the node is being closed: Close finds each socket that was added, and no other.
func (n *Node) openSocket(ns *Namespace, s *Socket, rooms []string) (waits []*interest, ok bool) {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.state.Load() != nodeOpen {
		return nil, false
	}
	n.sockets.Add(1)
	s.ns = ns.hold()
	return s.ns.open(s, rooms), true
}

// openSubscription is the same for subscriptions.
func (n *Node) openSubscription(ns *Namespace, s *Subscription) (waits []*interest, ok bool) {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.state.Load() != nodeOpen {
		return nil, false
	}
	s.ns = ns.hold()
	n.mu.Lock()
	n.subs[s] = struct{}{}
	n.mu.Unlock()
	waits = s.ns.all.wait(nil)
	for _, room := range s.rooms {
		waits = s.ns.subscribe(s, room, waits)
	}
	return waits, true
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

// holdsAll reports whether t has no other recipients than sockets of this node.
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

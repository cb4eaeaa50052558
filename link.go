package crosscast

import (
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/warn"
)

// A LinkState says what one half of the link between a node and its bus can do:
//
//	connecting  it is being made
//	live        it works, as far as can be known
//	held        publishing: it works, and the queue waits for the peers to be back after an outage
//	deaf        subscribing: the connection stands, and what this node publishes does not come back
//	denied      the bus refuses the credentials, or what their user needs to be allowed
//	down        it is broken, and cannot be made
//
// [LinkStates] lists them.
type LinkState string

// LinkStates returns every [LinkState], for example to make a metric of each.
func LinkStates() []LinkState {
	return []LinkState{
		reasons.LinkConnecting, reasons.LinkLive, reasons.LinkHeld, reasons.LinkDeaf, reasons.LinkDenied, reasons.LinkDown,
	}
}

// A LinkHalf is the state of one half of the link.
type LinkHalf struct {
	State LinkState // empty: the adapter cannot tell
	Since time.Time // when it entered State
	Err   error     // why it is not live; nil while it is, and before anything has failed
}

// A LinkStatus is the state of the link between a node and its bus. The halves are separate connections: what can be
// published is not always heard, and the reverse.
type LinkStatus struct {
	Publishing, Subscribing LinkHalf
	// Busy is set while a call of the application's (a Conn's Send, an OnGap) keeps the goroutine that reads the link
	// for longer than three heartbeats. What arrives waits in the connection.
	Busy bool
}

// Live reports whether both halves are live. A half that the adapter cannot tell of counts as live.
func (s LinkStatus) Live() bool {
	return s.Publishing.live() && s.Subscribing.live()
}

func (h LinkHalf) live() bool { return h.State == reasons.LinkLive || h.State == "" }

// linkStatus is what the adapter has told of the link.
type linkStatus struct {
	mu      sync.Mutex // guards what follows
	status  LinkStatus
	broken  LinkHalf      // the subscribing half when it was last not live, and said why
	changed chan struct{} // made by now; closed by the next change
}

// now returns the status, and a channel that is closed when it changes.
func (l *linkStatus) now() (LinkStatus, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.status, l.changed
}

func (l *linkStatus) set(s LinkStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = s
	if h := s.Subscribing; !h.live() && h.Err != nil {
		l.broken = h
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// lastBroken returns the subscribing half when it was last not live, and said why.
func (l *linkStatus) lastBroken() LinkHalf {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// worse returns the half that explains more, and its name.
func (s *LinkStatus) worse() (string, LinkHalf) {
	if warn.Rank(string(s.Publishing.State)) > warn.Rank(string(s.Subscribing.State)) {
		return "publishing", s.Publishing
	}
	return "subscribing", s.Subscribing
}

// Link returns the state of the link between this node and its bus. It is empty without an adapter, and with one that
// cannot tell.
func (n *Node) Link() LinkStatus {
	s, _ := n.link.now()
	return s
}

// Ready returns nil if new clients may be sent to this node, for the probe of a load balancer:
//
//	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
//		if err := node.Ready(); err != nil {
//			http.Error(w, err.Error(), http.StatusServiceUnavailable)
//		}
//	})
//
// The error is one of:
//
//   - [ErrDraining]: Drain has begun.
//   - [ErrClosed]: Close has begun.
//   - [ErrNotConnected]: Options.StartOffline is set, and the link to the bus has not been live yet.
//
// A later outage is none: it often concerns all nodes at once, and clients that no node takes are worse off than those of
// a node without peers. [Node.Link] reports it. Ready never waits, and may be called concurrently.
func (n *Node) Ready() error {
	switch {
	case n.state.Load() != nodeOpen:
		return ErrClosed
	case n.drain.Load() != nil:
		return ErrDraining
	case !n.reached.Load():
		return ErrNotConnected
	}
	return nil
}

func (h *handler) Link(s LinkStatus) {
	n := (*Node)(h)
	n.link.set(s)
	if s.Live() {
		n.reached.Store(true)
	}
	n.noteLink(s)
	if n.hooks.onLink != nil {
		n.hooks.links.push(s)
	}
}

// noteLink logs the first time that a half of the link is in each state that needs a cure, where the adapter has no
// logger to do it: see [AdapterStart]. Every change is for those who debug.
func (n *Node) noteLink(s LinkStatus) {
	if n.state.Load() != nodeOpen {
		return
	}
	for what, half := range map[string]LinkHalf{"publishing": s.Publishing, "subscribing": s.Subscribing} {
		if cure := warn.LinkCure(string(half.State), half.Err); n.log.given == nil && cure != "" {
			n.log.firsts.Warn(n.Logger(), what+" "+string(half.State), "crosscast: the link to the bus is not live",
				"node", nodeLabel(n.name, n.id), "half", what, "state", string(half.State), "error", half.Err, "cure", cure)
		}
	}
	n.log.Debug("crosscast: the link to the bus has changed", "publishing", string(s.Publishing.State),
		"subscribing", string(s.Subscribing.State), "busy", s.Busy)
}

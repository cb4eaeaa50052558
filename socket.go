package crosscast

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/crosscast/crosscast/internal/guard"
)

// A Socket is one client connection, held by this node. Its methods may be called concurrently, and from within any
// hook. It lives until Close, the node's Close, or until its conn fails.
type Socket struct {
	ns        *space // held until it closes
	id        SocketID
	user      string
	data      any
	handshake any

	// What a delivery needs, in one place.
	conn       Conn
	slot       int32       // its bit in the sets of a delivery; unique in the namespace while the socket is open
	connecting atomic.Bool // Connect has not returned, or has failed: see early
	failing    atomic.Bool // its conn has failed, and it is about to be closed
	closed     atomic.Bool // set under mu

	onClose                 func(*Socket, Reason)
	dataJSON, handshakeJSON json.RawMessage // for questions

	mu      sync.Mutex             // guards what follows; locked before a shard's
	members []*membership          // of everyone, then of its ID and user, then of rooms
	index   map[*group]*membership // the same, once they are many
	claims  map[*membership]int    // nil while nothing is unconfirmed
	early   *early                 // nil unless Connect waits
	last    *[]string              // the rooms at the time of closing

	awaiting awaiting // guarded by mu, too
}

// ID returns the socket's ID, which is unique in the cluster and names this node.
func (s *Socket) ID() SocketID { return s.id }

// User returns whom the socket belongs to; empty: nobody.
func (s *Socket) User() string { return s.user }

// Data returns what was given to Connect.
func (s *Socket) Data() any { return s.data }

// Handshake returns what the binding gave to Connect of the connection; see its documentation for the type.
func (s *Socket) Handshake() any { return s.handshake }

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns.handle }

// Closed reports whether the socket was closed.
func (s *Socket) Closed() bool { return s.closed.Load() }

// Rooms returns the rooms that the socket is in; after Close, those it was in when it closed.
func (s *Socket) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return slices.Clone(*s.last)
	}
	return s.rooms()
}

// Join adds the socket to rooms; those it is in already are no error. It adds the socket at once, and then waits until
// every emission to the rooms that begins later, on any node, reaches the socket unless a gap is reported.
//
// An error means that nothing happened: what this call has added is taken back, all of its rooms. Until then the socket
// is in the rooms, so the client might have been sent what was emitted to them meanwhile, by this node or another. Who
// must not hear a room is to be kept out before Join is called. Where another call waits for the same membership, that
// decides. The error is one of an argument, [ErrClosed], ctx's if that ends before the confirmation, or, when the bus
// forbids this node to hear a room, [ErrDenied], with the rooms in a [*NamesError].
//
// A link that is down is no error: Join returns at once, the subscription is made up for on recovery, and the gap of
// that outage includes the rooms. Who wants to wait for that calls [Socket.Synced].
//
// Names of rooms often come from clients. Where the wire has one space of names, that of Socket.IO, rooms that are what
// a user or another socket is there are refused with [ErrInvalidName]. A command, such as [BoundTarget.Join], may have a
// socket join them all the same.
func (s *Socket) Join(ctx context.Context, rooms ...string) error {
	if err := checkNames("room", rooms); err != nil {
		return err
	}
	if err := s.ns.node.checkRooms(s, rooms); err != nil {
		return err
	}
	var few [8]*interest
	waits, claimed, err := s.join(rooms, few[:0], true)
	if err != nil || len(waits) == 0 {
		return err
	}
	err = s.ns.node.interests.wait(ctx, waits)
	s.settle(claimed, err == nil)
	return err
}

// join adds the socket to rooms, and appends what has to be waited for to waits. With claim, whoever calls it waits for
// that, and then settles what is claimed; else the memberships stand, whatever comes of it.
func (s *Socket) join(rooms []string, waits []*interest, claim bool) ([]*interest, []*membership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return waits, nil, ErrClosed
	}
	if err := s.hasPlace(rooms); err != nil {
		return waits, nil, err
	}
	before := len(s.members)
	for _, r := range rooms {
		waits = s.ns.join(s, SpaceRoom, r, waits)
	}
	if claim && len(waits) > 0 {
		return waits, s.claim(rooms, s.members[before:]), nil
	}
	if s.claims != nil {
		s.promise(rooms)
	}
	return waits, nil, nil
}

// hasPlace returns a [LimitError] when the socket, whose mu is held, would be in too many rooms.
func (s *Socket) hasPlace(rooms []string) error {
	most := s.ns.node.maxRooms
	if len(s.members)+len(rooms) <= most { // the first are no rooms
		return nil
	}
	in := make(map[string]struct{}, len(s.members)+len(rooms))
	for _, m := range s.members {
		if m.group.space == SpaceRoom {
			in[m.group.name] = struct{}{}
		}
	}
	for _, r := range rooms {
		in[r] = struct{}{}
	}
	if len(in) > most {
		return &LimitError{What: "number of rooms", Len: len(in), Max: most}
	}
	return nil
}

// Leave takes the socket out of rooms; those it is not in are no error. A message already under way may still arrive.
func (s *Socket) Leave(rooms ...string) error {
	if err := checkNames("room", rooms); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	for _, r := range rooms {
		s.ns.leave(s, r)
	}
	return nil
}

// Emit sends to this client. The error is one of an argument, as in [BoundTarget.Emit], or the conn's: [ErrDropped],
// [ErrClosed], or why the socket is being closed.
func (s *Socket) Emit(ctx context.Context, event string, payload any) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if err := checkName("event", event); err != nil {
		return err
	}
	n := s.ns.node
	p, err := n.payload(payload)
	if err != nil {
		return err
	}
	e := newEmission()
	defer e.release()
	e.in = Instruction{Kind: KindEmit, Namespace: s.ns.name, From: n.id, Event: event, Payload: p}
	e.one[0] = s.id
	e.in.Target.Sockets = e.one[:]
	e.fill(n, &e.in)
	e.sockets = append(e.sockets, s)
	e.handOn(n, func(_ *Socket, refused error) { err = refused })
	return err
}

// To targets the sockets in at least one of rooms, except this one.
func (s *Socket) To(rooms ...string) BoundTarget { return s.ns.handle.To(rooms...).ExceptSocket(s.id) }

// Broadcast targets every socket of the namespace except this one.
func (s *Socket) Broadcast() BoundTarget { return s.ns.handle.Everyone().ExceptSocket(s.id) }

// Close ends the socket: its memberships end, its conn is closed, and OnClose is called. Only the first Close does
// anything; others return at once.
func (s *Socket) Close(reason Reason) {
	s.close(reason, func(ended <-chan struct{}) {
		select {
		case <-ended:
			s.ns.node.sockets.Done()
		default:
			go func() {
				<-ended
				s.ns.node.sockets.Done()
			}()
		}
	})
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// close does what Close does. For the first caller, after is called last, whatever the application's functions do: with a
// channel that is closed once the conn's handlers have ended. It must call node.sockets.Done then.
func (s *Socket) close(reason Reason, after func(ended <-chan struct{})) {
	if !s.endMembership() {
		return
	}
	closed := false
	defer func() { s.tellClosed(reason, closed, after) }()
	closed = s.closeConn(reason)
}

// end closes the socket as a command does, on the goroutine that delivers: OnClose, which is the application's,
// follows on another. It reports whether the socket was open.
func (s *Socket) end(reason Reason) bool {
	if !s.endMembership() {
		return false
	}
	n := s.ns.node
	closed := false
	defer func() {
		if _, ok := s.conn.(doner); !ok && s.onClose == nil {
			n.sockets.Done()
			return
		}
		n.busy.begin()
		go s.tellClosed(reason, closed, func(ended <-chan struct{}) {
			n.busy.end(1)
			<-ended
			n.sockets.Done()
		})
	}()
	closed = s.closeConn(reason)
	return true
}

// closeConn closes the conn, and reports whether that returned.
func (s *Socket) closeConn(reason Reason) bool {
	return s.ns.node.call("Conn.Close", func() { s.conn.Close(reason) })
}

// tellClosed calls OnClose, and then after, with a channel that is closed once the handlers of the conn have ended. Those
// of a conn that could not be closed might never do.
func (s *Socket) tellClosed(reason Reason, closed bool, after func(ended <-chan struct{})) {
	ended := (<-chan struct{})(closedChan)
	defer func() { after(ended) }()
	n := s.ns.node
	defer func() {
		if d, ok := s.conn.(doner); ok && closed {
			n.call("Conn.Done", func() { ended = d.Done() })
		}
	}()
	if s.onClose != nil {
		n.call("ConnectOptions.OnClose", func() { s.onClose(s, reason) })
	}
}

// A doner is a conn whose handlers outlive Close.
type doner interface{ Done() <-chan struct{} }

// endMembership marks the socket as closed, and reports whether it was open.
func (s *Socket) endMembership() bool {
	s.mu.Lock()
	if s.closed.Load() {
		s.mu.Unlock()
		return false
	}
	s.closed.Store(true)
	last := s.rooms()
	s.last = &last
	s.ns.leaveAll(s)
	if s.early != nil && s.early.cancel != nil {
		s.early.cancel()
	}
	left := s.awaiting
	s.awaiting = awaiting{}
	s.mu.Unlock()
	left.give(s)
	return true
}

// refused acts on an error of the conn. It reports whether that is why the socket is being closed.
func (s *Socket) refused(err error) bool {
	st := &s.ns.node.stats
	reason := ReasonLeft
	var panicked *PanicError
	switch {
	case errors.Is(err, ErrDropped):
		st.drop(dropConn)
		return false
	case errors.Is(err, ErrClosed):
		return false
	case errors.Is(err, ErrSlow):
		reason = ReasonSlow
	case errors.As(err, &panicked), err == guard.ErrExit:
		reason = ReasonInternal
	}
	st.drop(dropConn)
	if !s.failing.CompareAndSwap(false, true) {
		return false
	}
	// On its own goroutine: this one is delivering, and OnClose is the user's. Node.Close waits for it as for every
	// open socket.
	n := s.ns.node
	n.busy.begin()
	go func() {
		defer n.busy.end(1)
		s.Close(reason)
	}()
	return true
}

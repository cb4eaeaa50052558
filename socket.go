package crosscast

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// A Socket is one client connection, held by this node. It lives until Close, the node's Close, or a failure of its
// conn. Its methods may be called concurrently, and within hooks. Within OnGap, methods that wait must not be called,
// such as Join and Synced.
type Socket struct {
	// These fields are all that a delivery needs, and in one cache line.
	conn       Conn
	slot       int32       // its bit in the sets of a delivery; unique in the namespace while the socket is open
	connecting atomic.Bool // Connect has not returned, or has failed: see early
	failing    atomic.Bool // the conn has failed, and the socket is about to be closed
	closed     atomic.Bool // set under mu

	ns    *space // held until it closes
	id    SocketID
	user  string
	told  *told                 // not nil
	shown atomic.Pointer[shown] // set under mu; nil: nothing

	mu      sync.Mutex             // guards the following fields; locked before a shard's
	members []*membership          // in everyone, then in its ID and user, then in rooms
	index   map[*group]*membership // the same, if there are many
	claims  map[*membership]int    // nil if everything is confirmed
	rare    *rare                  // nil for most sockets
	last    *[]string              // the rooms at the time of closing
	inAll   membership             // the one in everyone

	awaiting awaiting // guarded by mu
}

// told is what the application and the binding have told of a socket. Many tell nothing.
type told struct {
	data, handshake         any
	dataJSON, handshakeJSON string // for queries
	onClose                 func(*Socket, Reason)
}

var nothingTold told

func (s *Socket) named(id string) bool { return string(s.id) == id }

// ID returns the socket's ID, which is unique in the cluster and names this node.
func (s *Socket) ID() SocketID { return s.id }

// User returns the owner of the socket; empty: none.
func (s *Socket) User() string { return s.user }

// Data returns the Data given to Connect.
func (s *Socket) Data() any { return s.told.data }

// Handshake returns the binding's data about the connection. The binding's documentation names its type.
func (s *Socket) Handshake() any { return s.told.handshake }

// Conn returns the conn given to Connect, for bindings that send the client something beside messages. The conn must
// expect such calls before Connect has returned, and after it has failed.
func (s *Socket) Conn() Conn { return s.conn }

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns.handle }

// Closed reports whether the socket was closed.
func (s *Socket) Closed() bool { return s.closed.Load() }

// Rooms returns the socket's rooms; after Close, the rooms at the time of closing.
func (s *Socket) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return slices.Clone(*s.last)
	}
	return s.roomsLocked()
}

// Join adds the socket to rooms at once, and skips those that the socket is in already. Then it waits for the
// confirmation: every later emission to the rooms, on any node, reaches the socket, or a gap is reported.
//
// An error means that all memberships which this call has added are taken back. Until then the socket is in the rooms,
// and the client might have received emissions to them. An application must check that a client may hear a room before
// it calls Join. If another call waits for the same membership, it is taken back only if both fail. The errors are:
//
//   - an error of an argument
//   - [ErrClosed]: the socket is closed, or its node
//   - ctx's error, if it ends before the confirmation
//   - [ErrDenied]: the bus forbids this node to hear a room. A [*NamesError] holds the rooms. This is so even for a
//     room that the socket is in already; it stays there.
//
// A link that is down is no error: Join returns at once, the subscription is made on recovery, and the gap of that
// outage includes the rooms. [Socket.Synced] waits for the subscription.
//
// Names of rooms often come from clients. On a wire with one space for all names, such as Socket.IO's, Join refuses a
// room that is called like a user or another socket there, with [ErrInvalidName]. A command, such as
// [BoundTarget.Join], is not restricted in this way.
func (s *Socket) Join(ctx context.Context, rooms ...string) error {
	if err := checkNames("room", rooms); err != nil {
		return err
	}
	if err := s.ns.node.checkRooms(s, rooms); err != nil {
		return err
	}
	var few [8]*group
	waits, claimed, err := s.join(rooms, few[:0], true)
	if err != nil || len(waits) == 0 {
		return err
	}
	err = s.ns.node.interests.wait(ctx, waits)
	s.settle(claimed, err == nil)
	return err
}

// join adds the socket to rooms, and appends the interests to wait for to waits. With claim, the caller waits for them
// and then settles the returned claims. Without claim, the memberships stand in any case.
func (s *Socket) join(rooms []string, waits []*group, claim bool) ([]*group, []*membership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return waits, nil, ErrClosed
	}
	if err := s.hasPlaceLocked(rooms); err != nil {
		return waits, nil, err
	}
	before, asked := len(s.members), 0
	for i, r := range rooms {
		if len(s.members) == cap(s.members) {
			s.members = slices.Grow(s.members, len(rooms)-i)
		}
		if len(waits) == cap(waits) {
			waits = slices.Grow(waits, len(rooms)-i)
		}
		waits = s.ns.joinLocked(s, SpaceRoom, r, waits)
		if len(waits)-asked >= askAhead {
			s.ns.node.interests.want(waits[asked:])
			asked = len(waits)
		}
	}
	if claim && len(waits) > 0 {
		return waits, s.claimLocked(rooms, s.members[before:]), nil
	}
	if s.claims != nil {
		s.promiseLocked(rooms)
	}
	return waits, nil, nil
}

// hasPlaceLocked returns an error if the rooms would be too many for the socket.
func (s *Socket) hasPlaceLocked(rooms []string) error {
	most := s.ns.node.maxRooms
	if len(s.members)+len(rooms) <= most { // the first members are no rooms
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
		return &limit.Error{What: "number of rooms", Len: len(in), Max: most}
	}
	return nil
}

// Leave takes the socket out of rooms. Rooms that it is not in are no error. A message already under way might still
// arrive.
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
		s.ns.leaveLocked(s, r)
	}
	return nil
}

// Emit sends to this client. The error is one of an argument, as in [BoundTarget.Emit], or the conn's: [ErrDropped],
// [ErrClosed], or the reason why the socket is being closed.
func (s *Socket) Emit(ctx context.Context, event string, payload any) error {
	n := s.ns.node
	if n.observer == nil {
		return s.emit(ctx, event, payload, nil)
	}
	o := n.observe(ctx, s.ns.name, event, nil)
	defer o.end()
	err := s.emit(o.ctx, event, payload, &o)
	o.e.Err = err
	return err
}

func (s *Socket) emit(ctx context.Context, event string, payload any, o *observation) (err error) {
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
	e.inst = Instruction{Kind: kind.Emit, Namespace: s.ns.name, From: n.id, Event: event, Payload: p, Meta: o.read(len(p.Data), nil)}
	e.one[0] = s.id
	e.inst.Target.Sockets = e.one[:]
	e.fill(n, &e.inst)
	e.to.sockets = append(e.to.sockets, s)
	s.ns.handOver(ctx, e, func(_ *Socket, refused error) { err = refused })
	return err
}

// To targets the sockets in at least one of rooms, except this one.
func (s *Socket) To(rooms ...string) BoundTarget { return s.ns.handle.To(rooms...).ExceptSocket(s.id) }

// Broadcast targets every socket of the namespace except this one.
func (s *Socket) Broadcast() BoundTarget { return s.ns.handle.Everyone().ExceptSocket(s.id) }

// Close ends the socket: its memberships end, its conn is closed, and OnClose is called. Only the first call does
// anything; others return at once.
func (s *Socket) Close(reason Reason) {
	s.close(reason, func(ended <-chan struct{}) {
		select {
		case <-ended:
			s.ns.node.socketEnded(s)
		default:
			go func() {
				<-ended
				s.ns.node.socketEnded(s)
			}()
		}
	})
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// close does the work of Close. For the first caller it calls after last, even if functions of the application panic.
// after gets a channel that is closed once the conn's handlers have ended, and must then call node.socketEnded.
func (s *Socket) close(reason Reason, after func(ended <-chan struct{})) {
	if !s.endMembership() {
		return
	}
	s.ns.node.stats.disconnect(reason)
	closed := false
	defer func() { s.tellClosed(reason, closed, after) }()
	closed = s.closeConn(reason)
}

// end closes the socket for a command, on the goroutine that delivers, or for a drain. OnClose is the application's, so
// it runs on another goroutine. end reports whether the socket was open.
func (s *Socket) end(reason Reason) bool {
	if !s.endMembership() {
		return false
	}
	n := s.ns.node
	n.stats.disconnect(reason)
	closed := false
	defer func() {
		if _, ok := s.conn.(doner); !ok && s.told.onClose == nil {
			n.socketEnded(s)
			return
		}
		n.busy.Begin()
		go s.tellClosed(reason, closed, func(ended <-chan struct{}) {
			n.busy.End(1)
			<-ended
			n.socketEnded(s)
		})
	}()
	closed = s.closeConn(reason)
	return true
}

// closeConn closes the conn, and reports whether its Close returned normally.
func (s *Socket) closeConn(reason Reason) bool {
	return s.ns.node.call("Conn.Close", func() { s.conn.Close(reason) })
}

// tellClosed calls OnClose, and then after, with a channel that is closed once the conn's handlers have ended. If
// Conn.Close failed, the channel is already closed, because such handlers might never end.
func (s *Socket) tellClosed(reason Reason, closed bool, after func(ended <-chan struct{})) {
	ended := (<-chan struct{})(closedChan)
	defer func() { after(ended) }()
	n := s.ns.node
	defer func() {
		if d, ok := s.conn.(doner); ok && closed {
			n.call("Conn.Done", func() { ended = d.Done() })
		}
	}()
	if f := s.told.onClose; f != nil {
		n.call("ConnectOptions.OnClose", func() { f(s, reason) })
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
	last := s.roomsLocked()
	s.last = &last
	s.ns.leaveAllLocked(s)
	if r := s.rare; r != nil {
		r.stopExpiryLocked()
		if r.waits {
			r.early.wake()
		}
	}
	left := s.awaiting
	s.awaiting = awaiting{}
	s.mu.Unlock()
	left.give(s)
	return true
}

// handleConnError handles an error of the conn. It reports whether this error makes the socket close.
func (s *Socket) handleConnError(err error) bool {
	st := &s.ns.node.stats
	reason := ReasonLeft
	var panicked *PanicError
	var reasoned interface{ Reason() Reason }
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
	case errors.As(err, &reasoned):
		reason = reasoned.Reason()
	}
	st.drop(dropConn)
	if !s.failing.CompareAndSwap(false, true) {
		return false
	}
	// On its own goroutine: this one is delivering, and OnClose is the application's. Node.Close waits for it as for
	// every open socket.
	n := s.ns.node
	n.busy.Begin()
	go func() {
		defer n.busy.End(1)
		s.Close(reason)
	}()
	return true
}

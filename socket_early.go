package crosscast

import "context"

// While Connect waits, messages already reach the conn. But if Connect fails, the conn is its owner's again, and must
// not be called any more. Therefore each Send is counted until Connect has returned. A Connect that fails closes the
// socket without its conn, and waits for the counted calls.

// early is the state of this for one socket.
type early struct {
	signal  chan struct{} // with room for one: see wake
	sending int           // calls of Send
	idle    chan struct{} // made by a Connect that fails; closed when no call is left
}

// wake makes Connect look again whether it has to wait. The signal might be left over and wake another Connect, because
// a signal is used again.
func (e *early) wake() { wake(e.signal) }

func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// sender returns what passes messages to the client: the conn or, while s.connecting is set, the socket itself.
func (s *Socket) sender() Conn {
	if s.connecting.Load() {
		return (*earlyConn)(s)
	}
	return s.conn
}

// An earlyConn is a socket whose Connect has not returned, or has failed. Its messages might be passed on after Connect
// has returned.
type earlyConn Socket

// Close implements Conn. It is not called.
func (c *earlyConn) Close(Reason) {}

// Send implements Conn.
func (c *earlyConn) Send(m *Message) error {
	s := (*Socket)(c)
	s.mu.Lock()
	r := s.rare
	if (r == nil || !r.waits) && !s.closed.Load() { // Connect does not wait, so it does not fail
		s.mu.Unlock()
		return s.conn.Send(m)
	}
	if s.closed.Load() {
		s.mu.Unlock()
		return ErrClosed
	}
	e := &r.early
	e.sending++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.sending--; e.sending == 0 && e.idle != nil {
			close(e.idle)
		}
	}()
	return s.conn.Send(m)
}

// connected is called when Connect has succeeded.
func (s *Socket) connected() {
	if !s.connecting.Load() {
		return
	}
	s.connecting.Store(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		m.group.shard.mu.Lock()
		m.group.reachLocked(m.inGroup, s.conn)
		m.group.shard.mu.Unlock()
	}
}

// confirm waits for the confirmation of the subscriptions that Connect needs. After an error the socket is closed and
// the conn untouched. If another call has closed the socket, and so the conn, it returns nil.
func (s *Socket) confirm(ctx context.Context, waits []*group) error {
	x := s.ns.node.interests
	err := x.waitUnless(ctx, s, waits)
	if err != nil && s.abandon() {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rare
	r.waits = false
	if r.expiry == nil {
		s.rare = nil
		if r.early.sending == 0 { // nobody else has it
			*r = rare{early: early{signal: r.early.signal}}
			x.rares.Put(r)
		}
	}
	return nil
}

// abandon ends the socket without its conn, which is not called afterwards. It reports whether the socket was open.
func (s *Socket) abandon() bool {
	if !s.endMembership() {
		return false
	}
	s.mu.Lock()
	var idle chan struct{}
	if s.rare.early.sending > 0 {
		idle = make(chan struct{})
		s.rare.early.idle = idle
	}
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
	s.ns.node.sockets.Done()
	return true
}

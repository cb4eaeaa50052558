package crosscast

import "context"

// While Connect waits, messages reach the conn already. But when it fails, the conn is its owner's again, and must not
// be called any more. So until Connect has returned, whoever sends says so first, and a Connect that fails closes the
// socket without its conn, and waits for those who were sending.

// early is what a socket needs for that. It is guarded by the socket's mu.
type early struct {
	cancel  context.CancelFunc // ends the wait of Connect; nil before it has begun
	sending int                // calls of Send
	idle    chan struct{}      // made by a Connect that fails; closed when there are none
}

// sendEarly is conn.Send while Connect has not returned, or after it has failed: while s.connecting is set.
func (s *Socket) sendEarly(m *Message) error {
	s.mu.Lock()
	e := s.early
	if e == nil && !s.closed.Load() { // Connect waits for nothing, so it does not fail
		s.mu.Unlock()
		return s.conn.Send(m)
	}
	if s.closed.Load() {
		s.mu.Unlock()
		return ErrClosed
	}
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

// confirm waits until what Connect has asked for is confirmed. After an error the socket is closed and the conn
// untouched. When somebody else has closed the socket, and so the conn, there is none.
func (s *Socket) confirm(ctx context.Context, waits []*interest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.early.cancel = cancel
	closed := s.closed.Load()
	s.mu.Unlock()
	if closed {
		return nil
	}
	err := s.ns.node.interests.wait(ctx, waits)
	if err != nil && s.abandon() {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.early = nil
	return nil
}

// abandon ends the socket without its conn, which nobody calls afterwards. It reports whether the socket was open.
func (s *Socket) abandon() bool {
	if !s.endMembership() {
		return false
	}
	s.mu.Lock()
	var idle chan struct{}
	if s.early.sending > 0 {
		idle = make(chan struct{})
		s.early.idle = idle
	}
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
	s.ns.node.sockets.Done()
	return true
}

package crosscast

import "time"

// SetExpires sets the time at which the node closes the socket, with [ReasonExpired]: when the credential expires with
// which the client has connected. The zero time means never. A time that has passed closes the socket before SetExpires
// returns.
//
// An application extends the time when a client has sent a new credential, usually in the handler of an event. The last
// call counts. [ErrClosed]: the socket is closed, or about to be, because the former time has come.
//
// The clock is read once, in SetExpires. Later changes of the clock do not move the moment.
func (s *Socket) SetExpires(t time.Time) error {
	s.mu.Lock()
	if s.closed.Load() || s.rare != nil && s.rare.expired {
		s.mu.Unlock()
		return ErrClosed
	}
	if t.IsZero() {
		if s.rare != nil {
			s.rare.stopExpiryLocked()
		}
		s.mu.Unlock()
		return nil
	}
	if s.rare == nil {
		s.rare = new(rare)
	}
	r, wait := s.rare, time.Until(t)
	if wait > 0 {
		r.expires = time.Now().Add(wait)
		if r.expiry == nil {
			r.expiry = time.AfterFunc(wait, s.expire)
		} else {
			r.expiry.Reset(wait)
		}
		s.mu.Unlock()
		return nil
	}
	r.expired = true
	s.mu.Unlock()
	s.Close(ReasonExpired)
	return nil
}

// expire closes the socket, unless its time was extended after the timer had fired.
func (s *Socket) expire() {
	s.mu.Lock()
	r := s.rare
	if s.closed.Load() || r == nil || r.expires.IsZero() || time.Until(r.expires) > 0 {
		s.mu.Unlock()
		return
	}
	r.expired = true
	s.mu.Unlock()
	n := s.ns.node
	n.busy.Begin()
	defer n.busy.End(1)
	s.Close(ReasonExpired)
}

// rare is what few sockets have for long. It is guarded by the socket's mu.
type rare struct {
	early   early       // used while Connect waits
	expiry  *time.Timer // calls expire; nil: the socket had no time to expire yet
	expires time.Time   // when; zero: never
	expired bool        // that time has come
	waits   bool        // Connect waits
}

// stopExpiryLocked makes the socket never expire.
func (r *rare) stopExpiryLocked() {
	r.expires = time.Time{}
	if r.expiry != nil {
		r.expiry.Stop()
	}
}

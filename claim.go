package crosscast

// Claims. A membership takes effect at once, but while its call waits for a confirmation nobody was promised it: when
// the call fails it is to be taken back, unless another call has been told meanwhile that the socket is in the room.
// So each call that waits counts in the claims of the memberships that it has added, and of those that others have
// added and still wait for. The first one that succeeds makes a membership a promise, which has no claims any more; the
// last one that fails ends it. Who leaves a room ends the claims with the membership: those who wait find them gone.

// claim counts a call that waits for rooms, and returns the memberships that it is to settle. The last of s.members are
// those that it has added; s.mu is held.
func (s *Socket) claim(rooms []string, added []*membership) []*membership {
	claimed := s.unpromised(rooms)
	if s.claims == nil {
		if len(added) == 0 {
			return nil
		}
		s.claims = make(map[*membership]int, len(added))
	}
	claimed = append(claimed, added...)
	for _, m := range claimed {
		s.claims[m]++
	}
	return claimed
}

// promise makes the memberships in rooms stand, whatever becomes of the calls that wait for them; s.mu is held.
func (s *Socket) promise(rooms []string) {
	for _, m := range s.unpromised(rooms) {
		delete(s.claims, m)
	}
	s.unclaimed()
}

// unpromised returns the memberships in rooms that have claims; s.mu is held.
func (s *Socket) unpromised(rooms []string) (pending []*membership) {
	if s.claims == nil {
		return nil
	}
	for _, r := range rooms {
		s.ns.withGroup(SpaceRoom, r, func(g *group) {
			if m := s.membership(g); s.claims[m] > 0 {
				pending = append(pending, m)
			}
		})
	}
	return pending
}

// settle ends a call's claims: it has succeeded, or failed.
func (s *Socket) settle(claimed []*membership, succeeded bool) {
	if len(claimed) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range claimed {
		switch calls := s.claims[m]; {
		case calls == 0: // another call has succeeded, or the socket has left or closed
		case succeeded:
			delete(s.claims, m)
		case calls == 1:
			s.ns.end(s, m)
		default:
			s.claims[m]--
		}
	}
	s.unclaimed()
}

// unclaimed forgets the claims when there are none; s.mu is held.
func (s *Socket) unclaimed() {
	if len(s.claims) == 0 {
		s.claims = nil
	}
}

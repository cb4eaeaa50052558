package crosscast

// Claims. A membership takes effect at once, but it is promised to nobody while its call waits for a confirmation. If
// the call fails, the membership is taken back, unless another call has reported success for it meanwhile. Therefore
// each waiting call counts one claim for every membership that it has added, and for every one that other calls have
// added and still wait for. The first successful call makes the membership a promise and removes its claims. The last
// failing call ends the membership. A Leave ends the membership with its claims; waiting calls then find no claims.

// claimLocked counts a call that waits for rooms, and returns the memberships for its later settle. added are the
// memberships that the call has added, the last of s.members.
func (s *Socket) claimLocked(rooms []string, added []*membership) []*membership {
	claimed := s.unpromisedLocked(rooms)
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

// promiseLocked makes the memberships in rooms permanent, even if the calls that wait for them fail.
func (s *Socket) promiseLocked(rooms []string) {
	for _, m := range s.unpromisedLocked(rooms) {
		delete(s.claims, m)
	}
	s.freeClaimsLocked()
}

// unpromisedLocked returns the memberships in rooms that have claims.
func (s *Socket) unpromisedLocked(rooms []string) (pending []*membership) {
	if s.claims == nil {
		return nil
	}
	for _, r := range rooms {
		s.ns.withGroup(SpaceRoom, r, func(g *group) {
			if m := s.membershipLocked(g); s.claims[m] > 0 {
				pending = append(pending, m)
			}
		})
	}
	return pending
}

// settle ends a call's claims after its success or failure.
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
			s.ns.endLocked(s, m)
		default:
			s.claims[m]--
		}
	}
	s.freeClaimsLocked()
}

// freeClaimsLocked frees the map of claims if it is empty.
func (s *Socket) freeClaimsLocked() {
	if len(s.claims) == 0 {
		s.claims = nil
	}
}

package crosscast

import (
	"context"
	"slices"
)

// A subscribed is a subscription to a group: how many calls of Add have added it, less those of Remove.
type subscribed struct {
	*Subscription
	calls int
}

// Add adds rooms, and waits for the confirmation: every later emission to them, on any node, reaches the subscription, or
// a gap is reported. Earlier ones might too. The errors are those of [Socket.Join]. An error means that the call has added
// nothing. A link that is down is no error: Add returns nil at once, and the gap of the outage covers the rooms.
// [Subscription.Synced] waits for them.
//
// Calls are counted: a room that several calls have added is heard until as many calls of Remove have removed it. So a
// hub can call Add whenever a client joins a room, and Remove when that client leaves, and counts nothing itself. Names
// that stand twice in one call count once. The rooms of Subscribe count as added.
func (s *Subscription) Add(ctx context.Context, rooms ...string) error {
	return s.addNames(ctx, SpaceRoom, "room", rooms)
}

// AddUser adds users as [Subscription.Add] adds rooms: the subscription gets the emissions to them ([BoundTarget.ToUser]).
// The users need no socket. A subscription is none either: queries and presence do not show it.
func (s *Subscription) AddUser(ctx context.Context, users ...string) error {
	return s.addNames(ctx, SpaceUser, "user", users)
}

// Remove takes back one call of Add for each of rooms. Rooms that the subscription does not have are no error. After
// Remove has returned, no call of OnMessage or OnGap begins that concerns only rooms and users which the subscription does
// not have any more. It does not wait. A room that was removed too often for one caller is lost for all, so remove only
// what Add has added. The error is one of an argument, or [ErrClosed].
func (s *Subscription) Remove(rooms ...string) error { return s.removeNames(SpaceRoom, "room", rooms) }

// RemoveUser takes back one call of AddUser for each of users, as [Subscription.Remove] does for rooms.
func (s *Subscription) RemoveUser(users ...string) error {
	return s.removeNames(SpaceUser, "user", users)
}

func (s *Subscription) addNames(ctx context.Context, space Space, what string, names []string) error {
	if err := checkNames(what, names); err != nil {
		return err
	}
	return s.add(ctx, space, names, nil)
}

// add adds names, and waits for them and for waits.
func (s *Subscription) add(ctx context.Context, space Space, names []string, waits []*group) error {
	names = distinct(names)
	for i, name := range names {
		var open bool
		if waits, open = s.subscribe(space, name, waits); !open {
			return ErrClosed
		}
		if i%askAhead == askAhead-1 {
			s.ns.node.interests.want(waits[max(0, len(waits)-askAhead):])
		}
	}
	err := s.ns.node.interests.wait(ctx, waits)
	if err != nil {
		s.remove(space, names)
	}
	return err
}

func (s *Subscription) removeNames(space Space, what string, names []string) error {
	if err := checkNames(what, names); err != nil {
		return err
	}
	return s.remove(space, distinct(names))
}

func (s *Subscription) remove(space Space, names []string) error {
	for _, name := range names {
		s.unsubscribe(space, name)
	}
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return nil
}

// distinct returns names, each once.
func distinct(names []string) []string {
	if len(names) < 2 {
		return names
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// subscribe counts one call that adds the name, and appends the name's group to waits if it is not confirmed. It reports
// whether s is open; if not, nothing happens.
func (s *Subscription) subscribe(space Space, name string, waits []*group) (_ []*group, open bool) {
	p := s.ns.shardOf(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if s.closed {
		return waits, false
	}
	g := p.openGroupLocked(s.ns, space, name) // s holds ns until it is closed
	if g.subs == nil {
		g.subs = new([]subscribed)
	}
	names := &s.names[space-1]
	if names.Get(p.hash, name, (*group).named) == nil {
		names.Add(p.hash, g)
		*g.subs = append(*g.subs, subscribed{s, 1})
	} else {
		(*g.subs)[g.indexLocked(s)].calls++
	}
	return g.wait(waits), true
}

// unsubscribe takes back one call that added the name.
func (s *Subscription) unsubscribe(space Space, name string) {
	p := s.ns.shardOf(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groupLocked(space, name)
	if g == nil {
		return
	}
	i := g.indexLocked(s)
	if i < 0 {
		return
	}
	if sub := &(*g.subs)[i]; sub.calls > 1 {
		sub.calls--
		return
	}
	if s.forget(space, p.hash, g) {
		g.dropSubscriptionLocked(i)
	}
}

// forget takes g, whose shard is locked, out of s's names. It reports false if s was closed: then Close drops g.
func (s *Subscription) forget(space Space, hash uint32, g *group) bool {
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if s.closed {
		return false
	}
	s.names[space-1].Remove(hash, g)
	return true
}

// indexLocked returns the place of s in g's list, or -1.
func (g *group) indexLocked(s *Subscription) int {
	if g.subs == nil {
		return -1
	}
	return slices.IndexFunc(*g.subs, func(sub subscribed) bool { return sub.Subscription == s })
}

// dropSubscription ends the subscription of s, which was closed, to g.
func (g *group) dropSubscription(s *Subscription) {
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	g.dropSubscriptionLocked(g.indexLocked(s))
}

// dropSubscriptionLocked takes the i-th subscription out of g's list.
func (g *group) dropSubscriptionLocked(i int) {
	if *g.subs = slices.Delete(*g.subs, i, i+1); len(*g.subs) == 0 {
		g.subs = nil
		g.unusedLocked()
	}
}

// appendSubscriptions appends the subscriptions to g, which is locked.
func (g *group) appendSubscriptions(to []*Subscription) []*Subscription {
	if g.subs == nil {
		return to
	}
	for _, sub := range *g.subs {
		to = append(to, sub.Subscription)
	}
	return to
}

// subscribers returns the subscriptions that hear a, a name of ns.
func (ns *space) subscribers(a Address) (subs []*Subscription) {
	if a.Space == SpaceNamespace {
		return slices.DeleteFunc(ns.node.subscriptions(), func(s *Subscription) bool { return s.ns != ns })
	}
	ns.withGroup(a.Space, a.Name, func(g *group) { subs = g.appendSubscriptions(nil) })
	return subs
}

// hearsLocked reports whether s has a name of its namespace. The name of a namespace is in every subscription there.
func (s *Subscription) hearsLocked(space Space, name string) bool {
	switch space {
	case SpaceNamespace:
		return true
	case SpaceRoom, SpaceUser:
		return s.names[space-1].Get(s.ns.shardOf(name).hash, name, (*group).named) != nil
	}
	return false
}

// commonLocked returns the rooms and users of t that s has.
func (s *Subscription) commonLocked(t *Target) (names []Address) {
	for space, all := range [...][]string{SpaceRoom: t.Rooms, SpaceUser: t.Users} {
		for _, name := range all {
			if s.hearsLocked(Space(space), name) {
				names = append(names, Address{s.ns.name, Space(space), name})
			}
		}
	}
	return names
}

// concerns reports whether r, which was queued, still concerns s.
func (s *Subscription) concerns(r received) bool {
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if r.m != nil {
		hears := func(space Space, names []string) bool {
			return slices.ContainsFunc(names, func(name string) bool { return s.hearsLocked(space, name) })
		}
		return hears(SpaceRoom, r.m.Target.Rooms) || hears(SpaceUser, r.m.Target.Users)
	}
	return !s.closed && (r.gap.Names == nil || slices.ContainsFunc(r.gap.Names, func(a Address) bool {
		return a.Namespace == s.ns.name && s.hearsLocked(a.Space, a.Name)
	}))
}

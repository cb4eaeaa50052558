package crosscast

import (
	"context"
	"errors"
	"time"
)

// Synced waits until every emission that begins later, on any node, to this socket, its user and its rooms reaches it:
// until the link stands, and the bus has confirmed what the socket needs. Right after [Socket.Join] or Connect it
// returns at once, unless the link is down. It says nothing of what may have been missed before: that is a gap.
//
// The error is [ErrClosed], ctx's, or [ErrDenied], with the names in a [*NamesError], while the bus refuses one.
func (s *Socket) Synced(ctx context.Context) error {
	return s.ns.node.synced(ctx, func() (its []*interest, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed.Load() {
			return nil, ErrClosed
		}
		for _, m := range s.members {
			if it := m.group.interest; it != nil {
				its = append(its, it)
			}
		}
		return its, nil
	})
}

// Synced waits until every emission that begins later, on any node, to its rooms reaches the subscription, as
// [Socket.Synced] does.
func (s *Subscription) Synced(ctx context.Context) error {
	return s.ns.node.synced(ctx, func() (its []*interest, err error) {
		if !s.open() {
			return nil, ErrClosed
		}
		add := func(g *group) {
			if g.interest != nil {
				its = append(its, g.interest)
			}
		}
		s.ns.withGroup(SpaceNamespace, "", add)
		for _, room := range s.rooms {
			s.ns.withGroup(SpaceRoom, room, add)
		}
		return its, nil
	})
}

// synced waits until all that hears returns is confirmed while the link stands, or hears returns an error. What was
// confirmed before is asked for again, since the link may have been another one.
func (n *Node) synced(ctx context.Context, hears func() ([]*interest, error)) error {
	for {
		its, err := hears()
		if err != nil {
			return err
		}
		if n.adapter == nil {
			return nil
		}
		link, changed := n.link.now()
		if link.Subscribing.live() {
			if err := n.interests.confirm(ctx, its, true); !errors.Is(err, ErrNotConnected) {
				return err
			}
		}
		if err := n.pause(ctx, changed); err != nil {
			return err
		}
	}
}

// pause waits until changed is closed, but for a heartbeat at most: not every adapter tells of its link.
func (n *Node) pause(ctx context.Context, changed <-chan struct{}) error {
	timer := time.NewTimer(n.heartbeat)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-n.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

package crosscast

import (
	"context"
	"errors"
	"time"
)

// Synced waits until the link stands and the bus has confirmed the socket's subscriptions. After that every later
// emission to this socket, its user and its rooms reaches it, from every node. Right after [Socket.Join] or Connect it
// returns at once, unless the link is down. It does not report earlier messages that might have been missed: that is a
// gap.
//
// The error is [ErrClosed], ctx's, or [ErrDenied] while the bus refuses a name. A [*NamesError] holds the refused
// names.
func (s *Socket) Synced(ctx context.Context) error {
	return s.ns.node.synced(ctx, func() (its []*group, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed.Load() {
			return nil, ErrClosed
		}
		for _, m := range s.members {
			if m.group.interested() {
				its = append(its, m.group)
			}
		}
		return its, nil
	})
}

// Synced waits until the link stands and the bus has confirmed the subscription's rooms and users, as [Socket.Synced]
// does. After that every later emission to them reaches it, from every node.
func (s *Subscription) Synced(ctx context.Context) error {
	return s.ns.node.synced(ctx, func() (its []*group, err error) {
		s.lane.mu.Lock()
		defer s.lane.mu.Unlock()
		if s.closed {
			return nil, ErrClosed
		}
		if all := &s.ns.all; all.interested() {
			its = append(its, all)
		}
		for i := range s.names {
			for g := range s.names[i].All() {
				if g.interested() {
					its = append(its, g)
				}
			}
		}
		return its, nil
	})
}

// synced waits until all interests that hears returns are confirmed while the link stands. It returns an error of
// hears. Confirmed interests are subscribed again, because the link might have been another one.
func (n *Node) synced(ctx context.Context, hears func() ([]*group, error)) error {
	for {
		its, err := hears()
		if err != nil {
			return err
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

// pause waits until changed is closed, but for at most a heartbeat, because not every adapter reports changes of its
// link.
func (n *Node) pause(ctx context.Context, changed <-chan struct{}) error {
	timer := time.NewTimer(n.heartbeat)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-n.jobs.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/crosscast/crosscast"
)

// A target is whom a command is for.
type target struct {
	Room       []string `help:"The sockets in a room; may be repeated."`
	User       []string `help:"The sockets of a user; may be repeated."`
	Socket     []string `help:"One socket, by its ID; may be repeated."`
	Everyone   bool     `help:"All sockets of the namespace."`
	Except     []string `help:"But those in a room." placeholder:"ROOM"`
	ExceptUser []string `help:"But those of a user." placeholder:"USER"`
}

// check refuses a target that is nobody, or not clear.
func (t *target) check() error {
	named := len(t.Room)+len(t.User)+len(t.Socket) > 0
	if named == t.Everyone {
		return fail(exitUsage, "to whom? Either --everyone, or some of --room, --user and --socket")
	}
	return nil
}

func (t *target) of(ns *crosscast.Namespace) crosscast.BoundTarget {
	b := ns.Everyone()
	if !t.Everyone {
		b = ns.To(t.Room...).ToUser(t.User...)
		for _, id := range t.Socket {
			b = b.ToSocket(crosscast.SocketID(id))
		}
	}
	return b.Except(t.Except...).ExceptUser(t.ExceptUser...)
}

// names are the rooms and users of the target.
func (t *target) names(namespace string) (all []crosscast.Address) {
	for _, room := range t.Room {
		all = append(all, crosscast.Address{Namespace: namespace, Space: crosscast.SpaceRoom, Name: room})
	}
	for _, user := range t.User {
		all = append(all, crosscast.Address{Namespace: namespace, Space: crosscast.SpaceUser, Name: user})
	}
	return all
}

type emitCommand struct {
	target
	Event string `arg:"" help:"Name of the event."`
	Data  string `arg:"" optional:"" help:"Its payload, as JSON; the text hello is '\"hello\"'. Default: none."`
}

// Run emits.
func (c *emitCommand) Run(ctx context.Context, s *session) error {
	if err := c.check(); err != nil {
		return err
	}
	var payload any
	if c.Data != "" {
		if !json.Valid([]byte(c.Data)) {
			return fail(exitUsage, "%s is not JSON; the text hello is '\"hello\"'", c.Data)
		}
		payload = json.RawMessage(c.Data)
	}
	if err := s.meet(ctx, c.names(s.Namespace)...); err != nil {
		return err
	}
	ctx, cancel := s.patient(ctx)
	defer cancel()
	receipt, err := c.of(s.ns).Deliver(ctx, c.Event, payload)
	if err != nil {
		return err
	}
	if s.unheard && receipt.Nodes > 0 { // all nodes got it, perhaps for nobody
		if n, err := c.of(s.ns).Count(ctx); err == nil && n == 0 {
			receipt.Nodes = 0
		}
	}
	switch {
	case s.JSON:
		return s.json(map[string]any{"event": c.Event, "nodes": receipt.Nodes, "known": receipt.Known})
	case !receipt.Known:
		_, err = fmt.Fprintf(s.out, "emitted %q; a Redis Cluster does not say how many nodes got it\n", c.Event)
	case receipt.Nodes == 0:
		_, err = fmt.Fprintf(s.out, "emitted %q; no node has anybody to give it to\n", c.Event)
	default:
		_, err = fmt.Fprintf(s.out, "emitted %q to %s\n", c.Event, counted(receipt.Nodes, "node"))
	}
	return err
}

type disconnectCommand struct {
	target
	Reason string `help:"What the clients are told." default:"closed by the server"`
	Yes    bool   `help:"Really, with --everyone."`
}

// Run disconnects sockets.
func (c *disconnectCommand) Run(ctx context.Context, s *session) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Everyone && !c.Yes {
		return fail(exitUsage, "--everyone disconnects all clients of the namespace %s: if that is meant, add --yes", s.Namespace)
	}
	if err := s.meet(ctx); err != nil {
		return err
	}
	ctx, cancel := s.patient(ctx)
	defer cancel()
	stop := s.waiting("waiting for the nodes")
	changed, err := c.of(s.ns).Do(ctx, crosscast.Command{Disconnect: crosscast.Reason(c.Reason)})
	stop()
	gone, err := s.absent(err)
	if err != nil {
		return err
	}
	if s.JSON {
		err = s.json(map[string]any{"sockets": changed.Sockets, "nodes": changed.Nodes, "missing": gone})
	} else {
		_, err = fmt.Fprintf(s.out, "disconnected %s of %s\n",
			counted(changed.Sockets, "socket"), counted(len(changed.Nodes), "node"))
	}
	if err != nil {
		return err
	}
	return incomplete(gone)
}

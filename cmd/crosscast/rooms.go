package main

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/crosscast/crosscast"
)

type roomsCommand struct {
	Pattern string `arg:"" optional:"" help:"Only rooms like this, such as 'chat:*'."`
	Limit   int    `help:"How many rooms at most; 0: all." default:"50"`
}

type room struct {
	Room    string `json:"room"`
	Sockets int    `json:"sockets"`
}

// Run lists the rooms.
func (c *roomsCommand) Run(ctx context.Context, s *session) error {
	if _, err := path.Match(c.Pattern, ""); err != nil {
		return fail(exitUsage, "the pattern %q: %w", c.Pattern, err)
	}
	if err := s.meet(ctx); err != nil {
		return err
	}
	query, cancel := s.patient(ctx)
	defer cancel()
	counts := make(map[string]int)
	stop := s.waiting("asking for rooms")
	answers := s.ns.Everyone().Rooms(query)
	for r := range answers.All() {
		if ok, _ := path.Match(c.Pattern, r.Room); ok || c.Pattern == "" {
			counts[r.Room] += r.Sockets
		}
	}
	stop()
	gone, err := s.absent(answers.Err())
	if err != nil {
		return err
	}
	rooms := make([]room, 0, len(counts))
	for _, name := range sorted(counts) {
		rooms = append(rooms, room{name, counts[name]})
	}
	slices.SortStableFunc(rooms, func(a, b room) int { return cmp.Compare(b.Sockets, a.Sockets) })
	all := len(rooms)
	if c.Limit > 0 && all > c.Limit {
		rooms = rooms[:c.Limit]
	}
	switch {
	case s.JSON:
		err = s.json(map[string]any{"rooms": rooms, "total": all, "missing": gone})
	case all == 0:
		err = s.nobody(ctx, "room")
	default:
		t := newTable(s.out, "ROOM", "SOCKETS")
		for _, r := range rooms {
			t.row(r.Room, r.Sockets)
		}
		if err = t.flush(); all > len(rooms) && err == nil {
			_, err = fmt.Fprintf(s.out, "and %d more; --limit 0 lists all\n", all-len(rooms))
		}
	}
	if err != nil {
		return err
	}
	return incomplete(gone)
}

type usersCommand struct {
	User  string `arg:"" optional:"" help:"List the connections of this user."`
	Limit int    `help:"How many at most; 0: all." default:"50"`
}

type user struct {
	User    string   `json:"user"`
	Sockets int      `json:"sockets"`
	Nodes   []string `json:"nodes"`
}

type socket struct {
	ID    crosscast.SocketID `json:"id"`
	Node  string             `json:"node"`
	Rooms []string           `json:"rooms"`
}

// Run lists users, or the sockets of one.
func (c *usersCommand) Run(ctx context.Context, s *session) error {
	if err := s.meet(ctx); err != nil {
		return err
	}
	if c.User != "" {
		return c.one(ctx, s)
	}
	query, cancel := s.patient(ctx)
	defer cancel()
	sockets, nodes := make(map[string]int), make(map[string]map[string]bool)
	stop := s.waiting("asking for users")
	answers := s.ns.Everyone().Sockets(query, crosscast.Fields{ID: true, User: true})
	for i := range answers.All() {
		if i.User == "" {
			continue
		}
		sockets[i.User]++
		if nodes[i.User] == nil {
			nodes[i.User] = make(map[string]bool)
		}
		nodes[i.User][s.nodeOf(i.ID)] = true
	}
	stop()
	gone, err := s.absent(answers.Err())
	if err != nil {
		return err
	}
	users := make([]user, 0, len(sockets))
	for _, name := range sorted(sockets) {
		users = append(users, user{name, sockets[name], sorted(nodes[name])})
	}
	slices.SortStableFunc(users, func(a, b user) int { return cmp.Compare(b.Sockets, a.Sockets) })
	all := len(users)
	if c.Limit > 0 && all > c.Limit {
		users = users[:c.Limit]
	}
	switch {
	case s.JSON:
		err = s.json(map[string]any{"users": users, "total": all, "missing": gone})
	case all == 0:
		err = s.nobody(ctx, "user")
	default:
		t := newTable(s.out, "USER", "SOCKETS", "NODES")
		for _, u := range users {
			t.row(u.User, u.Sockets, list(u.Nodes))
		}
		if err = t.flush(); all > len(users) && err == nil {
			_, err = fmt.Fprintf(s.out, "and %d more; --limit 0 lists all\n", all-len(users))
		}
	}
	if err != nil {
		return err
	}
	return incomplete(gone)
}

func (c *usersCommand) one(ctx context.Context, s *session) error {
	query, cancel := s.patient(ctx)
	defer cancel()
	sockets := []socket{}
	answers := s.ns.ToUser(c.User).Sockets(query, crosscast.Fields{ID: true, Rooms: true})
	for i := range answers.All() {
		slices.Sort(i.Rooms)
		sockets = append(sockets, socket{i.ID, s.nodeOf(i.ID), i.Rooms})
	}
	gone, err := s.absent(answers.Err())
	if err != nil {
		return err
	}
	slices.SortFunc(sockets, func(a, b socket) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID)) })
	switch {
	case s.JSON:
		err = s.json(map[string]any{"user": c.User, "sockets": sockets, "missing": gone})
	case len(sockets) == 0:
		err = s.nobody(ctx, fmt.Sprintf("socket of the user %q", c.User))
	default:
		t := newTable(s.out, "SOCKET", "NODE", "ROOMS")
		for _, i := range sockets {
			t.row(i.ID, i.Node, list(i.Rooms))
		}
		err = t.flush()
	}
	if err != nil {
		return err
	}
	return incomplete(gone)
}

// nodeOf names the node of a socket. Servers of Socket.IO are not known.
func (s *session) nodeOf(id crosscast.SocketID) string {
	if s.Mode != modeCrosscast {
		return "?"
	}
	if p, ok := s.peers()[id.Node()]; ok {
		return p.Name
	}
	return string(id.Node())
}

// list prints names in a cell.
func list(names []string) string {
	const most = 10
	text := ""
	for i, n := range names {
		if i == most {
			return fmt.Sprintf("%s and %d more", text, len(names)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += n
	}
	return cmp.Or(text, "-")
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
)

type nodesCommand struct{}

// A row is what is known of a node.
type row struct {
	ID      crosscast.NodeID `json:"id"`
	Name    string           `json:"name"`
	State   string           `json:"state"`
	Suspect bool             `json:"suspect,omitempty"`
	Meta    string           `json:"meta,omitempty"`
	Stats   crosscast.Stats  `json:"stats"`
}

// A census is what the nodes have answered.
type census struct {
	Nodes   []row     `json:"nodes"`
	Missing []missing `json:"missing"`
	Lost    []lost    `json:"lost"`
}

// lost is a node that others remember, because it fell silent without a goodbye.
type lost struct {
	ID    crosscast.NodeID `json:"id"`
	Name  string           `json:"name"`
	Heard time.Time        `json:"heard"` // last, by the clock of the last of those who did
	By    []string         `json:"by"`    // those who have lost it
}

func (l lost) String() string {
	return fmt.Sprintf("%s (%s), last heard %s, by %s", l.Name, l.ID, l.Heard.Format("15:04:05"), strings.Join(l.By, " and "))
}

// noteLost enters whom a node has lost.
func (c *census) noteLost(by *row) {
	for _, p := range by.Stats.Lost {
		i := slices.IndexFunc(c.Lost, func(l lost) bool { return l.ID == p.ID })
		if i < 0 {
			i = len(c.Lost)
			c.Lost = append(c.Lost, lost{ID: p.ID, Name: p.Name})
		}
		l := &c.Lost[i]
		l.By = append(l.By, by.Name)
		if p.Heard.After(l.Heard) {
			l.Heard = p.Heard.Local()
		}
	}
}

// failure is nil if no node is missing or lost.
func (c *census) failure() error {
	err := incomplete(c.Missing)
	if len(c.Lost) == 0 {
		return err
	}
	var list []string
	for _, l := range c.Lost {
		list = append(list, l.String())
	}
	text := "lost: " + strings.Join(list, "; ")
	if err != nil {
		text += "; " + err.Error()
	}
	return fail(exitFault, "%s", text)
}

// takeCensus asks all nodes for their Stats.
func (s *session) takeCensus(ctx context.Context) (*census, error) {
	ctx, cancel := s.patient(ctx)
	defer cancel()
	all, err := s.ns.Servers().Stats(ctx).Collect()
	gone, err := s.absent(err)
	if err != nil {
		return nil, err
	}
	c := &census{Nodes: []row{}, Missing: gone, Lost: []lost{}}
	peers := s.peers()
	for _, stats := range all {
		p := peers[stats.Node]
		var meta []string
		for _, kv := range p.Meta {
			meta = append(meta, kv.Key+"="+kv.Value)
		}
		stats.Adapter.Link.Publishing.Err, stats.Adapter.Link.Subscribing.Err = nil, nil
		c.Nodes = append(c.Nodes, row{
			ID: stats.Node, Name: p.Name, Suspect: p.Suspect, Meta: strings.Join(meta, " "), State: stateOf(&stats), Stats: stats,
		})
	}
	slices.SortFunc(c.Nodes, func(a, b row) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for i := range c.Nodes {
		c.noteLost(&c.Nodes[i])
	}
	return c, nil
}

// stateOf is the state of a node's link, in a word or two.
func stateOf(s *crosscast.Stats) string {
	link := &s.Adapter.Link
	switch {
	case s.Adapter.Denied > 0:
		return fmt.Sprintf("live, %d denied", s.Adapter.Denied)
	case link.Busy:
		return "busy"
	case link.Live():
		return "live"
	}
	return fmt.Sprintf("publishing %s, subscribing %s", link.Publishing.State, link.Subscribing.State)
}

// Run lists the nodes.
func (nodesCommand) Run(ctx context.Context, s *session) error {
	if err := s.meet(ctx); err != nil {
		return err
	}
	if s.Mode != modeCrosscast {
		return s.countServers(ctx)
	}
	stop := s.waiting("asking the nodes")
	c, err := s.takeCensus(ctx)
	stop()
	if err != nil {
		return err
	}
	if s.JSON {
		if err := s.json(c); err != nil {
			return err
		}
		return c.failure()
	}
	if len(c.Nodes) > 0 {
		t := newTable(s.out, "NAME", "ID", "LINK", "SOCKETS", "USERS", "ROOMS", "DELIVERED", "GAPS", "LOSSES", "ECHO", "META")
		for _, n := range c.Nodes {
			t.row(n.Name, n.ID, n.State, n.Stats.Sockets, n.Stats.Users, n.Stats.Rooms, n.Stats.Delivered, n.Stats.Gaps,
				n.Stats.Losses, n.Stats.Adapter.EchoRoundTrip.Round(10*time.Microsecond), cmp.Or(n.Meta, "-"))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	return c.failure()
}

// countServers is for servers of Socket.IO, which do not tell who they are.
func (s *session) countServers(ctx context.Context) error {
	found, err := s.survey(ctx)
	if err != nil {
		return err
	}
	servers := 0
	for _, c := range found {
		if c.Mode == s.Mode && c.Prefix == s.Prefix {
			servers = c.Subscribers
		}
	}
	ctx, cancel := s.patient(ctx)
	defer cancel()
	sockets, err := s.ns.Everyone().Count(ctx)
	gone, err := s.absent(err)
	if err != nil {
		return err
	}
	if s.JSON {
		err = s.json(map[string]any{"servers": servers, "sockets": sockets, "missing": len(gone)})
	} else {
		_, err = fmt.Fprintf(s.out, "%s, which Socket.IO does not name, with %s in %s\n",
			counted(servers, "server"), counted(sockets, "socket"), s.Namespace)
	}
	if err != nil {
		return err
	}
	return incomplete(gone)
}

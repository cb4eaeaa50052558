package page

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/warn"
)

// A viewer answers the requests of a page about one node.
type viewer struct {
	page *Page
	node *crosscast.Node

	turn chan struct{} // capacity 1: whoever sends may use what follows, and receives when it is done
	last time.Time     // when nodes was gathered
	list []nodeState
	lack bool
}

// state is what the page shows all the time.
type state struct {
	Node       string      `json:"node"`
	Now        time.Time   `json:"now"`
	NotReady   string      `json:"notReady,omitempty"`
	Busy       bool        `json:"busy,omitempty"`
	Publishing half        `json:"publishing"`
	Hearing    half        `json:"subscribing"`
	Nodes      []nodeState `json:"nodes"`
	Incomplete bool        `json:"incomplete,omitempty"` // a node has not answered
	Events     []event     `json:"events"`
	Actions    bool        `json:"actions"`
}

// half is one half of the link.
type half struct {
	State string    `json:"state"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
	Cure  string    `json:"cure,omitempty"`
}

func halfOf(h crosscast.LinkHalf) half {
	out := half{State: cmp.Or(string(h.State), "unknown"), Since: h.Since, Cure: warn.LinkCure(string(h.State), h.Err)}
	if h.Err != nil {
		out.Error = h.Err.Error()
	}
	return out
}

// nodeState is a row of the table of nodes.
type nodeState struct {
	ID       crosscast.NodeID `json:"id"`
	Name     string           `json:"name"`
	Self     bool             `json:"self,omitempty"`
	Suspect  bool             `json:"suspect,omitempty"`
	Lost     bool             `json:"lost,omitempty"` // it has fallen silent, and is no peer any more
	Since    time.Time        `json:"since"`
	Heard    time.Time        `json:"heard,omitzero"` // last; of this node: never
	Answered bool             `json:"answered"`       // the fields below are known
	Live     bool             `json:"live"`
	Sockets  int              `json:"sockets"`
	Users    int              `json:"users"`
	Rooms    int              `json:"rooms"`
	Queue    int              `json:"queueBytes"`
	Gaps     uint64           `json:"gaps"`
	Losses   uint64           `json:"losses"`
	// Misrouted is how many have other Topics, Sharded or shards in the options of their adapter.
	Misrouted int `json:"misrouted,omitempty"`
}

func (v *viewer) serveState(w http.ResponseWriter, r *http.Request) {
	nodes, incomplete, err := v.nodes(r.Context())
	if err != nil {
		return // the browser has gone
	}
	link := v.node.Link()
	s := state{
		Node: v.node.Name(), Now: time.Now(), Busy: link.Busy,
		Publishing: halfOf(link.Publishing), Hearing: halfOf(link.Subscribing),
		Nodes: nodes, Incomplete: incomplete, Events: v.page.events.All(), Actions: v.page.o.Who != nil,
	}
	if err := v.node.Ready(); err != nil {
		s.NotReady = err.Error()
	}
	reply(w, s)
}

// nodes returns what is known of each node. The nodes are queried at most every two seconds, whoever looks.
func (v *viewer) nodes(ctx context.Context) (list []nodeState, incomplete bool, err error) {
	select {
	case v.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	defer func() { <-v.turn }()
	const often = 2 * time.Second
	if time.Since(v.last) > often-often/10 {
		v.gather()
	}
	return v.list, v.lack, nil
}

// gather queries the nodes. Its time does not depend on the request, because others wait for the result, too.
func (v *viewer) gather() {
	peers := v.node.Nodes()
	slices.SortFunc(peers, func(a, b crosscast.Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	list := []nodeState{{ID: v.node.ID(), Name: v.node.Name(), Self: true}}
	self := v.node.Stats()
	list[0].enter(self)
	for _, p := range peers {
		list = append(list, nodeState{ID: p.ID, Name: p.Name, Suspect: p.Suspect, Since: p.Since, Heard: p.Heard})
	}
	lost, err := v.query(list)
	for _, p := range append(self.Lost, lost...) {
		if !slices.ContainsFunc(list, func(n nodeState) bool { return n.ID == p.ID }) {
			list = append(list, nodeState{ID: p.ID, Name: p.Name, Lost: true, Since: p.Since, Heard: p.Heard})
		}
	}
	v.list, v.lack, v.last = list, err != nil, time.Now()
}

// query enters the Stats of the peers, and returns whom they have lost. During an outage it queries nobody: queries would
// wait in the queue.
func (v *viewer) query(list []nodeState) (lost []crosscast.Peer, err error) {
	if !v.node.Link().Live() {
		return nil, crosscast.ErrNotConnected
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	answers := v.node.Servers().Stats(ctx)
	for stats := range answers.All() {
		if i := slices.IndexFunc(list, func(n nodeState) bool { return n.ID == stats.Node }); i >= 0 {
			list[i].enter(stats)
			lost = append(lost, stats.Lost...)
		}
	}
	return lost, answers.Err()
}

func (n *nodeState) enter(s crosscast.Stats) {
	n.Answered, n.Live, n.Sockets, n.Users, n.Rooms = true, s.Connected, s.Sockets, s.Users, s.Rooms
	n.Queue, n.Gaps, n.Losses, n.Misrouted = s.QueueBytes, s.Gaps, s.Losses, len(s.Adapter.Misrouted)
}

// shown is how many rooms, and how many sockets of a user, a page shows.
const shown = 100

type room struct {
	Namespace string `json:"namespace"`
	Room      string `json:"room"`
	Sockets   int    `json:"sockets"`
}

// serveRooms replies with the largest rooms of the cluster.
func (v *viewer) serveRooms(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	out := struct {
		Rooms      []room `json:"rooms"`
		Total      int    `json:"total"`
		Incomplete bool   `json:"incomplete,omitempty"`
	}{Rooms: []room{}}
	for _, name := range v.page.o.Namespaces {
		counts := make(map[string]int)
		err := v.each(name, func(ns *crosscast.Namespace) error {
			answers := v.reach(ns.Everyone()).Rooms(ctx)
			for c := range answers.All() {
				counts[c.Room] += c.Sockets
			}
			return answers.Err()
		})
		out.Incomplete = out.Incomplete || err != nil || !v.node.Link().Live()
		for of, n := range counts {
			out.Rooms = append(out.Rooms, room{name, of, n})
		}
	}
	out.Total = len(out.Rooms)
	slices.SortFunc(out.Rooms, func(a, b room) int {
		return cmp.Or(b.Sockets-a.Sockets, cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Room, b.Room))
	})
	out.Rooms = out.Rooms[:min(shown, len(out.Rooms))]
	reply(w, out)
}

// reach returns the part of a target that may be queried now: see query.
func (v *viewer) reach(t crosscast.BoundTarget) crosscast.BoundTarget {
	if v.node.Link().Live() {
		return t
	}
	return t.Local()
}

// each calls f with a namespace.
func (v *viewer) each(name string, f func(*crosscast.Namespace) error) error {
	ns, err := v.node.Of(name)
	if err != nil {
		return err
	}
	return f(ns)
}

type socket struct {
	Namespace string             `json:"namespace"`
	ID        crosscast.SocketID `json:"id"`
	Node      crosscast.NodeID   `json:"node"`
	Rooms     []string           `json:"rooms"`
}

// serveUser replies with the sockets of a user.
func (v *viewer) serveUser(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	user := r.FormValue("name")
	out := struct {
		Sockets    []socket `json:"sockets"`
		Total      int      `json:"total"`
		Incomplete bool     `json:"incomplete,omitempty"`
	}{Sockets: []socket{}}
	for _, name := range v.page.o.Namespaces {
		err := v.each(name, func(ns *crosscast.Namespace) error {
			answers := v.reach(ns.ToUser(user)).Sockets(ctx, crosscast.Fields{Rooms: true})
			for s := range answers.All() {
				if out.Total++; out.Total <= shown {
					out.Sockets = append(out.Sockets, socket{name, s.ID, s.ID.Node(), s.Rooms})
				}
			}
			return answers.Err()
		})
		out.Incomplete = out.Incomplete || err != nil || !v.node.Link().Live()
	}
	reply(w, out)
}

// An order is what somebody wants changed.
type order struct {
	Room, User, Text string
}

// accept reads an order, and returns who sent it. It answers a request that it refuses.
func (v *viewer) accept(w http.ResponseWriter, r *http.Request) (o order, who string, ok bool) {
	who = v.page.o.Who(r)
	if who == "" {
		http.Error(w, "you may not change anything", http.StatusForbidden)
		return o, "", false
	}
	const limit = 16 << 10
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit)).Decode(&o); err != nil {
		http.Error(w, "not a valid order: "+err.Error(), http.StatusBadRequest)
		return o, "", false
	}
	return o, who, true
}

// serveNotice emits a notice to a room, a user, or everyone.
func (v *viewer) serveNotice(w http.ResponseWriter, r *http.Request) {
	o, who, ok := v.accept(w, r)
	if !ok {
		return
	}
	v.finish(w, "a notice was sent from the page", who, o, v.all(func(ns *crosscast.Namespace) error {
		target := ns.Everyone()
		switch {
		case o.Room != "" && o.User != "":
			return errors.New("a notice goes to a room or to a user, not to both")
		case o.Room != "":
			target = ns.To(o.Room)
		case o.User != "":
			target = ns.ToUser(o.User)
		}
		return target.Emit(r.Context(), v.page.o.NoticeEvent, o.Text)
	}))
}

// serveDisconnect disconnects all sockets of a user.
func (v *viewer) serveDisconnect(w http.ResponseWriter, r *http.Request) {
	o, who, ok := v.accept(w, r)
	if !ok {
		return
	}
	v.finish(w, "a user was disconnected from the page", who, o, v.all(func(ns *crosscast.Namespace) error {
		if o.User == "" {
			return errors.New("no user")
		}
		return ns.ToUser(o.User).Disconnect(r.Context(), crosscast.ReasonServer)
	}))
}

// all calls f with each namespace.
func (v *viewer) all(f func(*crosscast.Namespace) error) error {
	var errs []error
	for _, name := range v.page.o.Namespaces {
		errs = append(errs, v.each(name, f))
	}
	return errors.Join(errs...)
}

// finish logs and answers an order.
func (v *viewer) finish(w http.ResponseWriter, done, who string, o order, err error) {
	if err != nil {
		v.page.o.Logger.Warn("crosscast: not done: "+done, "who", who, "room", o.Room, "user", o.User, "error", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	v.page.o.Logger.Info("crosscast: "+done, "who", who, "room", o.Room, "user", o.User, "text", o.Text)
	w.WriteHeader(http.StatusNoContent)
}

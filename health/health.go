// Package health has HTTP handlers for the probes of an orchestrator, such as Kubernetes, and for people:
//
//	mux.Handle("/livez", health.Live())
//	mux.Handle("/readyz", health.Ready(node, health.Options{}))
//	admin.Handle("/healthz", health.Details(node, nil)) // behind the application's authentication
//
// The first two answer with one word, for everybody. The third has names and errors of the cluster: mount it apart, where
// only operators come.
//
// Use Live for liveness, which restarts the process, and Ready for readiness, which takes it out of the load balancer. Do
// not use Ready for liveness: a restart does not repair Redis, and disconnects all clients.
package health

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/warn"
)

// Options of [Ready]. The zero value works.
type Options struct {
	// WithoutBus makes a node ready while its link to the bus is not live, too. Its clients are then served, but do not
	// get messages of other nodes. An outage of the bus concerns all nodes at once. Without the option all of them are
	// taken out of the load balancer, and new clients get no server at all. Default: the link must be live.
	WithoutBus bool
}

// Live answers "live" with status 200, as long as the process can answer. It does not depend on the bus.
func Live() http.Handler {
	return handler(func(w http.ResponseWriter) { word(w, http.StatusOK, "live") })
}

// Ready answers "ready" with status 200 while the node takes clients: it does not drain, is not closed, and both halves of
// its link to the bus are live. Otherwise it answers with status 503 and the reason: "draining", "closed", or
// "disconnected". A node without an adapter has no link, and needs none.
func Ready(node *crosscast.Node, o Options) http.Handler {
	return handler(func(w http.ResponseWriter) {
		if why := unready(node, o); why != "" {
			word(w, http.StatusServiceUnavailable, why)
			return
		}
		word(w, http.StatusOK, "ready")
	})
}

// unready returns why the node is not ready, or "".
func unready(node *crosscast.Node, o Options) string {
	err := node.Ready()
	switch {
	case errors.Is(err, crosscast.ErrClosed):
		return "closed"
	case errors.Is(err, crosscast.ErrDraining):
		return "draining"
	case !o.WithoutBus && (err != nil || !node.Link().Live()):
		return "disconnected"
	}
	return ""
}

// Details answers with what the node knows about itself, its link and its peers, as indented JSON for people. With a
// [Recent] it also has the latest gaps and losses; nil: only their counts. Later versions might change its form. The
// status is always 200.
func Details(node *crosscast.Node, recent *Recent) http.Handler {
	return handler(func(w http.ResponseWriter) {
		d := detailsOf(node)
		if recent != nil {
			d.RecentGaps, d.RecentLosses = recent.gaps.All(), recent.losses.All()
		}
		text, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(text, '\n'))
	})
}

type details struct {
	Name  string           `json:"name"`
	ID    crosscast.NodeID `json:"id"`
	Ready string           `json:"ready"` // or why not
	Link  struct {
		Publishing  half   `json:"publishing"`
		Subscribing half   `json:"subscribing"`
		Busy        bool   `json:"busy"`
		Reconnects  uint64 `json:"reconnects"`
		Denied      int    `json:"deniedChannels"`
		QueueBytes  int    `json:"queueBytes"`
		Echo        string `json:"echoRoundTrip,omitempty"`
	} `json:"link"`
	Peers   []peer                          `json:"peers"`
	Lost    []peer                          `json:"lost"` // fell silent without a goodbye in the last hour
	Sockets int                             `json:"sockets"`
	Rooms   int                             `json:"rooms"`
	Users   int                             `json:"users"`
	Gaps    map[crosscast.GapReason]uint64  `json:"gaps"`
	Losses  map[crosscast.LossReason]uint64 `json:"losses"`
	Dropped map[crosscast.DropReason]uint64 `json:"dropped"`
	Panics  uint64                          `json:"panics"`

	// Misrouted are the nodes and emitters with other Topics, Sharded or shards, and which.
	Misrouted map[crosscast.NodeID]string `json:"misrouted,omitempty"`

	// Unopened are the nodes whose frames the seal refuses, and why.
	Unopened map[crosscast.NodeID]string `json:"unopened,omitempty"`

	RecentGaps   []gap  `json:"recentGaps,omitempty"` // the latest first
	RecentLosses []loss `json:"recentLosses,omitempty"`
}

type half struct {
	State crosscast.LinkState `json:"state,omitempty"` // none: the adapter cannot tell
	Since *time.Time          `json:"since,omitempty"`
	Error string              `json:"error,omitempty"`
	Cure  string              `json:"cure,omitempty"`
}

type peer struct {
	Name      string           `json:"name"`
	ID        crosscast.NodeID `json:"id"`
	Since     time.Time        `json:"since"`
	Heard     time.Time        `json:"heard"`
	Suspect   bool             `json:"suspect,omitempty"`
	RoundTrip string           `json:"roundTrip,omitempty"`
}

func detailsOf(node *crosscast.Node) (d details) {
	s, link := node.Stats(), node.Link()
	d.Name, d.ID, d.Ready = node.Name(), node.ID(), "ready"
	if why := unready(node, Options{}); why != "" {
		d.Ready = why
	}
	d.Link.Publishing, d.Link.Subscribing, d.Link.Busy = halfOf(link.Publishing), halfOf(link.Subscribing), link.Busy
	d.Link.Reconnects, d.Link.Denied, d.Link.QueueBytes = s.Adapter.Reconnects, s.Adapter.Denied, s.QueueBytes
	if link.Live() { // else it is of old
		d.Link.Echo = short(s.Adapter.EchoRoundTrip)
	}
	d.Peers, d.Lost = peersOf(node.Nodes()), peersOf(s.Lost)
	d.Misrouted, d.Unopened = s.Adapter.Misrouted, s.Adapter.Unopened
	d.Sockets, d.Rooms, d.Users = s.Sockets, s.Rooms, s.Users
	d.Gaps, d.Losses, d.Dropped, d.Panics = s.GapReasons, s.LossReasons, s.Dropped, s.Panics
	return d
}

func peersOf(all []crosscast.Peer) []peer {
	list := make([]peer, 0, len(all))
	for _, p := range all {
		if p.Suspect { // it is of old
			p.RoundTrip = 0
		}
		list = append(list, peer{p.Name, p.ID, p.Since, p.Heard, p.Suspect, short(p.RoundTrip)})
	}
	return list
}

func halfOf(h crosscast.LinkHalf) (made half) {
	made.State, made.Cure = h.State, warn.LinkCure(string(h.State), h.Err)
	if !h.Since.IsZero() {
		made.Since = &h.Since
	}
	if h.Err != nil {
		made.Error = h.Err.Error()
	}
	return made
}

// short is the text of a time, or "" if it is not known.
func short(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(time.Microsecond).String()
}

// handler answers requests that only read.
func handler(answer func(w http.ResponseWriter)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			word(w, http.StatusMethodNotAllowed, "method")
			return
		}
		answer(w)
	})
}

func word(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

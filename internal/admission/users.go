package admission

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// Users count the clients of each user in one namespace. Their methods may be called concurrently.
type Users struct {
	ns    *crosscast.Namespace
	most  int // of one user on this node; 0: any number
	total int // of one user on all nodes; 0: any number
	kick  bool

	mu     sync.Mutex
	places map[string][]*Place // by user, the oldest first; guarded by mu
}

// Init initializes u for the sockets of ns.
func (u *Users) Init(ns *crosscast.Namespace, l Limits) {
	u.ns, u.most, u.total, u.kick = ns, l.MaxUserClients, l.MaxUserClientsTotal, l.KickOldest
	u.places = make(map[string][]*Place)
}

// A Place is the place of one client among those of its user. nil is one that does not count, and has the same methods.
type Place struct {
	users     *Users
	user      string
	elsewhere int // the user's clients on other nodes

	kick   func() // closes the client; nil: it is not ready; guarded by users.mu
	kicked bool   // it must be closed; guarded by users.mu
}

// Enter takes a place for a client of user. Each Enter needs a Leave, for whatever reason the client is gone. ctx bounds
// the question to the other nodes. With Limits.KickOldest the client only gets its place with Take.
func (u *Users) Enter(ctx context.Context, user string) (*Place, *Refusal) {
	if user == "" || u.most == 0 && u.total == 0 {
		return nil, nil
	}
	p := &Place{users: u, user: user}
	if !u.enter(p, false) { // so a user whose clients here are too many costs no question
		return nil, tooManyOfUser()
	}
	p.elsewhere = u.elsewhere(ctx, user)
	if !u.enter(p, true) {
		return nil, tooManyOfUser()
	}
	return p, nil
}

// enter reports whether there is a place for p, and takes it if take is set.
func (u *Users) enter(p *Place, take bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	here := len(u.places[p.user]) + 1
	if u.kick {
		here = 1 // the others can be closed
	}
	if u.tooMany(here, p.elsewhere) {
		return false
	}
	if take && !u.kick {
		u.places[p.user] = append(u.places[p.user], p)
	}
	return true
}

func tooManyOfUser() *Refusal {
	return &Refusal{
		CauseUserClients, "too many clients of this user",
		"a larger Options.MaxUserClients or MaxUserClientsTotal, or Options.KickOldest",
		http.StatusTooManyRequests, spread(5 * time.Second),
	}
}

func (u *Users) tooMany(here, elsewhere int) bool {
	return u.most > 0 && here > u.most || u.total > 0 && here+elsewhere > u.total
}

// patience is how long the question to the other nodes may take.
const patience = 2 * time.Second

// elsewhere counts a user's clients on other nodes, as far as they answer and as far as it matters.
func (u *Users) elsewhere(ctx context.Context, user string) (n int) {
	if u.total == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for info := range u.ns.ToUser(user).Sockets(ctx, crosscast.Fields{ID: true}).All() {
		if u.ns.Socket(info.ID) == nil {
			if n++; n == u.total {
				break
			}
		}
	}
	return n
}

// Take is called once the handshake has succeeded. With Limits.KickOldest it closes the oldest clients of the user until
// there is a place.
func (p *Place) Take() {
	if p == nil || !p.users.kick {
		return
	}
	u := p.users
	var kicks []func()
	u.mu.Lock()
	all := u.places[p.user]
	for len(all) > 0 && u.tooMany(len(all)+1, p.elsewhere) {
		all[0].kicked = true
		if f := all[0].kick; f != nil {
			kicks = append(kicks, f)
		}
		all = slices.Delete(all, 0, 1)
	}
	u.places[p.user] = append(all, p)
	u.mu.Unlock()
	for _, f := range kicks {
		f()
	}
}

// Ready sets the function that closes the client when a newer one takes its place. It reports false if one has already
// done so: then the caller closes the client.
func (p *Place) Ready(kick func()) bool {
	if p == nil {
		return true
	}
	p.users.mu.Lock()
	defer p.users.mu.Unlock()
	p.kick = kick
	return !p.kicked
}

// Leave gives the place back. It may be called repeatedly.
func (p *Place) Leave() {
	if p == nil {
		return
	}
	u := p.users
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.places[p.user]
	if i := slices.Index(all, p); i >= 0 {
		all = slices.Delete(all, i, i+1)
	}
	if len(all) > 0 {
		u.places[p.user] = all
	} else {
		delete(u.places, p.user)
	}
}

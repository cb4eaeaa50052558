package admission

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
)

// TestDoorIsExact: however many enter and leave at once, there are never more inside than may be.
func TestDoorIsExact(t *testing.T) {
	var d Door
	d.Init(Limits{MaxClients: 10})
	var inside, most, entered, refused atomic.Int64
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			for range 200 {
				if why := d.Enter(); why != nil {
					if why.Status != http.StatusServiceUnavailable || why.Cause != CauseClients {
						t.Errorf("%+v", why)
					}
					refused.Add(1)
					continue
				}
				n := inside.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				entered.Add(1)
				inside.Add(-1)
				d.Leave()
			}
		})
	}
	all.Wait()
	if most.Load() > 10 || d.Inside() != 0 || entered.Load()+refused.Load() != 100*200 {
		t.Errorf("%d were inside at once, %d are left", most.Load(), d.Inside())
	}
	for range 10 {
		if d.Enter() != nil {
			t.Fatal("a place was lost")
		}
	}
	if d.Enter() == nil {
		t.Error("one too many")
	}
}

// TestHandshakeRate: more than the burst and the rate are refused, with the time until which it is of no use to come back.
func TestHandshakeRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Door
		d.Init(Limits{HandshakeRate: 0.5, HandshakeBurst: 3})
		for range 3 {
			if why := d.Enter(); why != nil {
				t.Fatal(why)
			}
		}
		for range 100 {
			why := d.Enter()
			if why == nil || why.Status != http.StatusTooManyRequests || why.After < 3*time.Second || why.After > 5*time.Second {
				t.Fatalf("%+v", why)
			}
			h := make(http.Header)
			why.SetHeader(h)
			if n, err := strconv.Atoi(h.Get("Retry-After")); err != nil || n < 3 || n > 5 {
				t.Errorf("Retry-After: %s", h.Get("Retry-After"))
			}
		}
		time.Sleep(2 * time.Second)
		if why := d.Enter(); why != nil {
			t.Error(why)
		}
		if d.Enter() == nil {
			t.Error("two in the time of one")
		}
		if d.Inside() != 4 {
			t.Errorf("%d inside", d.Inside())
		}
	})
}

// users returns the users of nodes in one cluster.
func users(t *testing.T, nodes int, l Limits) []*Users {
	cluster := crosscast.NewCluster()
	var all []*Users
	for range nodes {
		n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: cluster.Adapter()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close(context.Background()) })
		u := new(Users)
		u.Init(n.Namespace, l)
		all = append(all, u)
	}
	return all
}

// TestUsersAreExact: the same as TestDoorIsExact for each of several users, and nothing is kept in the end.
func TestUsersAreExact(t *testing.T) {
	u := users(t, 1, Limits{MaxUserClients: 3})[0]
	var inside [5]atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			for range 200 {
				p, why := u.Enter(t.Context(), strconv.Itoa(i%5))
				if why != nil {
					continue
				}
				if n := inside[i%5].Add(1); n > 3 {
					t.Errorf("%d clients of a user", n)
				}
				p.Take()
				p.Ready(nil)
				inside[i%5].Add(-1)
				p.Leave()
				p.Leave()
			}
		})
	}
	all.Wait()
	if len(u.places) != 0 {
		t.Errorf("places are left: %v", u.places)
	}
	for range 100 {
		if p, why := u.Enter(t.Context(), ""); p != nil || why != nil {
			t.Error("clients without a user count")
		}
	}
}

// TestKickOldest: the newest clients stay, and a handshake that fails kicks nobody.
func TestKickOldest(t *testing.T) {
	u := users(t, 1, Limits{MaxUserClients: 2, KickOldest: true})[0]
	var kicked []int
	var places []*Place
	enter := func() *Place {
		p, why := u.Enter(t.Context(), "ann")
		if why != nil {
			t.Fatal(why)
		}
		return p
	}
	for i := range 5 {
		enter().Leave() // its handshake has failed
		p := enter()
		p.Take()
		p.Ready(func() { kicked = append(kicked, i) })
		places = append(places, p)
	}
	if !slices.Equal(kicked, []int{0, 1, 2}) {
		t.Errorf("kicked %v", kicked)
	}
	places[4].Leave()
	enter().Take() // not ready yet
	enter().Take()
	if kicked[3] != 3 {
		t.Errorf("kicked %v", kicked)
	}
	slow := u.places["ann"][0]
	enter().Take()
	if slow.Ready(func() {}) {
		t.Error("a client that was kicked before it was ready does not notice")
	}
	if n := len(u.places["ann"]); n != 2 {
		t.Errorf("%d places", n)
	}
}

// TestTotal: clients on other nodes count, as far as the nodes answer.
func TestTotal(t *testing.T) {
	for _, kick := range []bool{false, true} {
		all := users(t, 3, Limits{MaxUserClientsTotal: 3, KickOldest: kick})
		connect := func(u *Users) (*crosscast.Socket, *Refusal) {
			p, why := u.Enter(t.Context(), "ann")
			if why != nil {
				return nil, why
			}
			p.Take()
			s, err := u.ns.Connect(t.Context(), new(crosscasttest.Conn), crosscast.ConnectOptions{
				User: "ann", OnClose: func(*crosscast.Socket, crosscast.Reason) { p.Leave() },
			})
			if err != nil {
				t.Fatal(err)
			}
			p.Ready(func() { s.Close(crosscast.ReasonReplaced) })
			return s, nil
		}
		first, _ := connect(all[0])
		for _, u := range []*Users{all[1], all[1]} {
			if _, why := connect(u); why != nil {
				t.Fatal(why)
			}
		}
		_, why := connect(all[2])
		if why == nil || why.Status != http.StatusTooManyRequests || why.Cause != CauseUserClients {
			t.Errorf("kick %v: the fourth on a node of its own: %v", kick, why)
		}
		if _, why := connect(all[0]); kick != (why == nil) || first.Closed() != kick {
			t.Errorf("kick %v: the fourth beside another: %v, that is closed: %v", kick, why, first.Closed())
		}
		if n, err := all[2].ns.ToUser("ann").Count(t.Context()); n != 3 || err != nil {
			t.Errorf("%d clients, %v", n, err)
		}
	}
}

// TestNoQuestionInVain: a user whose clients on this node are too many already costs the other nodes no question.
func TestNoQuestionInVain(t *testing.T) {
	var u Users
	u.Init(nil, Limits{MaxUserClients: 1, MaxUserClientsTotal: 5}) // a question would need the namespace
	u.places["ann"] = []*Place{{users: &u, user: "ann"}}
	if _, why := u.Enter(t.Context(), "ann"); why == nil || why.Cause != CauseUserClients {
		t.Errorf("%v", why)
	}
}

func TestCheck(t *testing.T) {
	for _, l := range []Limits{
		{MaxClients: -1}, {MaxUserClients: -1}, {MaxUserClientsTotal: -1}, {HandshakeRate: -1}, {HandshakeBurst: 1}, {KickOldest: true},
	} {
		if l.Check("x") == nil {
			t.Errorf("%+v", l)
		}
	}
	for _, l := range []Limits{{}, {MaxClients: 1, MaxUserClients: 2, KickOldest: true, HandshakeRate: 1, HandshakeBurst: 2}} {
		if err := l.Check("x"); err != nil {
			t.Error(err)
		}
	}
}

package redisadapter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// drifter is a member whose losses are kept, and which emits to its room all the time.
type drifter struct {
	*member
	losses chan crosscast.Loss
}

func drift(t *testing.T, name string, rdb redis.UniversalClient) *drifter {
	t.Helper()
	d := &drifter{&member{conn: make(conn, 1<<16), gaps: make(chan crosscast.Gap, 1<<10)}, make(chan crosscast.Loss, 1<<10)}
	var err error
	d.Node, err = crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
		Name: name, Heartbeat: 250 * time.Millisecond,
		OnGap:   func(_ *crosscast.Node, g crosscast.Gap) { d.gaps <- g },
		OnLoss:  func(_ *crosscast.Node, l crosscast.Loss) { d.losses <- l },
		Adapter: redisadapter.New(rdb, redisadapter.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-stopped
		_ = d.Close(redistest.Within(t, redistest.Patience))
	})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = d.To("other").Emit(context.Background(), "drift", nil)
			case <-stop:
				return
			}
		}
	}()
	d.socket, err = d.Connect(redistest.Within(t, redistest.Patience), d.conn, crosscast.ConnectOptions{Rooms: []string{"room"}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// mustFollow fails unless d, which was alone since left, is with its peer within a time, tells its loss, and has a gap
// that begins before.
func (d *drifter) mustFollow(t *testing.T, peer *member, left time.Time, within time.Duration) {
	t.Helper()
	hear(t, d.member, peer)
	hear(t, peer, d.member)
	took := time.Since(left)
	t.Logf("%s was back after %v", d.Name(), took)
	if took > within {
		t.Errorf("%s followed after %v", d.Name(), took)
	}
	timeout := time.After(redistest.Patience)
	for {
		select {
		case l := <-d.losses:
			if l.Reason != reasons.LossMoved {
				t.Logf("loss %+v", l)
				continue
			}
			if l.Names != nil || l.Instructions < 10 || !errors.Is(l.Err, crosscast.ErrUncertain) {
				t.Errorf("loss %+v", l)
			}
		case <-timeout:
			for len(d.gaps) > 0 {
				t.Logf("gap %+v", <-d.gaps)
			}
			t.Fatal("no loss")
		}
		break
	}
	for {
		select {
		case g := <-d.gaps:
			if g.Reason != reasons.GapMoved {
				t.Logf("gap %+v", g)
				continue
			}
			if g.Origin != "" || g.Names != nil || g.Since.After(left.Add(300*time.Millisecond)) {
				t.Errorf("gap %+v, alone since %v", g, left)
			}
			return
		case <-timeout:
			t.Fatal("no gap")
		}
	}
}

// mustBeLeft fails unless nothing publishes to, or is subscribed at, a server any more.
func mustBeLeft(t *testing.T, s *redistest.Server) {
	t.Helper()
	admin := s.Client()
	var users []string
	for ctx := redistest.Within(t, redistest.Patience); ctx.Err() == nil; time.Sleep(50 * time.Millisecond) { // poll
		list, err := admin.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		users = users[:0]
		for _, line := range strings.Split(list, "\n") {
			has := func(s string) bool { return strings.Contains(line, s) }
			// Not servers, and not Sentinels, which have one subscription each.
			if (has(" flags=N ") || has(" flags=P ")) && (has("cmd=publish ") || has("cmd=role ") || has("cmd=subscribe ") && !has(" sub=1 ")) {
				users = append(users, line)
			}
		}
		if len(users) == 0 {
			return
		}
	}
	t.Errorf("still in use: %q", users)
}

// TestSentinelFailoverUnseen: a client made from a failover client's options does not hear of a failover, so its
// connections to the old master stand, and serve it alone until that is demoted ten seconds later.
func TestSentinelFailoverUnseen(t *testing.T) {
	p := redistest.StartPair(t)
	peer := join(t, "peer", p.Client())
	o := *p.Client().Options()
	stale := drift(t, "stale", redistest.Client(t, &o))
	hear(t, stale.member, peer)
	hear(t, peer, stale.member)
	p.Failover()
	left := time.Now()
	stale.mustFollow(t, peer, left, 9*time.Second)
	mustBeLeft(t, p.Master)
}

// switched is where a name leads: a dialer that pays no attention to the address that it is given.
type switched struct {
	to atomic.Pointer[redistest.Server]
	at net.Addr // what connections say that they lead to; nil: where they do

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func (s *switched) options(server *redistest.Server) *redis.Options {
	s.to.Store(server)
	o := server.Options()
	o.Addr = "redis.invalid:6379"
	o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, s.to.Load().Addr())
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns = append(s.conns, c)
		if s.at != nil {
			return veiled{c, s.at}, nil
		}
		return c, nil
	}
	return o
}

// cut closes all connections.
func (s *switched) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// veiled is a connection through a proxy: it does not tell where it leads in the end.
type veiled struct {
	net.Conn
	at net.Addr
}

func (v veiled) RemoteAddr() net.Addr { return v.at }

// TestANameThatLeadsElsewhere: the address of the one server is given to another, and a node keeps its connections. The
// old server serves it alone. Pooled connections, of which there are several, are not used again.
func TestANameThatLeadsElsewhere(t *testing.T) {
	old, next := redistest.Start(t, redistest.Config{}), redistest.Start(t, redistest.Config{})
	var nameOfPeer, name switched
	peer := join(t, "peer", redistest.Client(t, nameOfPeer.options(old)))
	rdb := redistest.Client(t, name.options(old))
	stale := drift(t, "stale", rdb)
	hear(t, stale.member, peer)
	hear(t, peer, stale.member)
	fill(t, rdb)
	left := time.Now()
	name.to.Store(next)
	nameOfPeer.to.Store(next)
	nameOfPeer.cut()
	stale.mustFollow(t, peer, left, 5*time.Second)
	mustBeLeft(t, old)
}

// fill makes a client have idle connections in both of its pools.
func fill(t *testing.T, rdb *redis.Client) {
	t.Helper()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			pipe := rdb.Pipeline()
			pipe.Do(t.Context(), "client", "setname", "idle")
			pipe.BLPop(t.Context(), 200*time.Millisecond, "nothing")
			_, _ = pipe.Exec(t.Context())
		})
		wg.Go(func() { rdb.BLPop(t.Context(), 200*time.Millisecond, "nothing") })
	}
	wg.Wait()
	if st := rdb.PoolStats(); st.IdleConns < 2 || st.PipelineStats.IdleConns < 2 {
		t.Fatalf("%d and %d idle connections", st.IdleConns, st.PipelineStats.IdleConns)
	}
}

// TestADemotedMaster: its address is the same, be it through a proxy, but it calls itself a replica. New connections
// lead to the new master.
func TestADemotedMaster(t *testing.T) {
	for _, follows := range []bool{false, true} {
		t.Run(fmt.Sprintf("replicates %v", follows), func(t *testing.T) {
			old := redistest.Start(t, redistest.Config{Args: []string{"--repl-diskless-sync-delay", "0"}})
			next := redistest.StartReplica(t, old)
			var proxyOfPeer, proxy switched
			proxy.at = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 6379}
			peer := join(t, "peer", redistest.Client(t, proxyOfPeer.options(old)))
			stale := drift(t, "stale", redistest.Client(t, proxy.options(old)))
			hear(t, stale.member, peer)
			hear(t, peer, stale.member)
			left := time.Now()
			next.Promote()
			if follows { // then the stale node hears all that is published at the new master
				old.Demote(next)
			} else {
				old.DemoteTo(redistest.ClosedPort())
			}
			proxy.to.Store(next)
			proxyOfPeer.to.Store(next)
			proxyOfPeer.cut()
			stale.mustFollow(t, peer, left, 6*time.Second)
			mustBeLeft(t, old)
		})
	}
}

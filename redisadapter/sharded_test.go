package redisadapter_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// watcher is a node with what it has heard, missed and lost.
type watcher struct {
	*crosscast.Node
	mu     sync.Mutex // guards the fields below
	got    map[string]int
	gaps   []crosscast.Gap
	losses []crosscast.Loss
}

// watchRooms starts a node over a cluster, which subscribes to rooms.
func watchRooms(t *testing.T, rdb redis.UniversalClient, o redisadapter.Options, rooms []string) *watcher {
	t.Helper()
	w := &watcher{got: map[string]int{}}
	var err error
	w.Node, err = crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
		Adapter: redisadapter.New(rdb, o),
		OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.gaps = append(w.gaps, g)
		},
		OnLoss: func(_ *crosscast.Node, l crosscast.Loss) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.losses = append(w.losses, l)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Node.Close(context.WithoutCancel(t.Context())) })
	if len(rooms) == 0 {
		return w
	}
	_, err = w.Subscribe(redistest.Within(t, redistest.Patience), crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.got[m.Event]++
		},
	}, rooms...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watcher) told() (gaps []crosscast.Gap, losses []crosscast.Loss) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.gaps), slices.Clone(w.losses)
}

func aRoom(name string) crosscast.Address {
	return crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name}
}

// emission is one of those of a crier.
type emission struct {
	room, event string
	from, until time.Time // of the call of Emit
}

// crier emits to one room after the other, until it is stopped.
type crier struct {
	from *watcher
	all  []emission
	stop func()
}

func cry(from *watcher, rooms []string) *crier {
	c := &crier{from: from}
	stop, stopped := make(chan struct{}), make(chan struct{})
	c.stop = sync.OnceFunc(func() {
		close(stop)
		<-stopped
	})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			e := emission{room: rooms[n%len(rooms)], event: fmt.Sprint("message", n), from: time.Now()}
			if from.To(e.room).Emit(context.Background(), e.event, nil) == nil {
				e.until = time.Now()
				c.all = append(c.all, e)
			}
		}
	}()
	return c
}

// mustAccount fails unless each emission came once, or is part of a gap or a loss. It returns how many are missing.
func (c *crier) mustAccount(t *testing.T, to *watcher) (missing int) {
	t.Helper()
	gaps, _ := to.told()
	_, losses := c.from.told()
	to.mu.Lock()
	defer to.mu.Unlock()
	for _, e := range c.all {
		if n := to.got[e.event]; n > 1 {
			t.Errorf("%s to %s came %d times", e.event, e.room, n)
		} else if n == 1 {
			continue
		}
		missing++
		inGap := slices.ContainsFunc(gaps, func(g crosscast.Gap) bool {
			return g.Covers(aRoom(e.room)) && !g.Since.After(e.until) && (g.Until.IsZero() || !g.Until.Before(e.from))
		})
		inLoss := slices.ContainsFunc(losses, func(l crosscast.Loss) bool {
			return l.Names == nil || slices.Contains(l.Names, aRoom(e.room))
		})
		if !inGap && !inLoss {
			t.Errorf("%s to %s, emitted at %v, is missing without a gap or a loss", e.event, e.room, e.from)
		}
	}
	return missing
}

// mustHear emits to each room until it is heard, and returns how long that took.
func mustHear(t *testing.T, from, to *watcher, rooms []string, mark string) time.Duration {
	t.Helper()
	ctx := redistest.Within(t, redistest.Patience)
	began := time.Now()
	for n := 0; ; n++ {
		deaf := 0
		for _, room := range rooms {
			if !to.heardAny(fmt.Sprint(mark, " ", room, " ")) {
				deaf++
				_ = from.To(room).Emit(ctx, fmt.Sprint(mark, " ", room, " ", n), nil)
			}
		}
		if deaf == 0 {
			return time.Since(began)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d rooms stay deaf: %+v, %+v", deaf, from.Link(), to.Link())
		}
	}
}

// heardAny reports whether an event with a prefix came.
func (w *watcher) heardAny(prefix string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for event := range w.got {
		if strings.HasPrefix(event, prefix) {
			return true
		}
	}
	return false
}

func sixtyRooms() (rooms []string) {
	for i := range 60 {
		rooms = append(rooms, fmt.Sprint("room", i))
	}
	return rooms
}

// TestSlotsMoveUnderLoad: each of three masters in turn gives half of its slots to another one, while 60 rooms are in use.
// All are heard again, nothing is missing without a gap or a loss, and nothing comes twice.
func TestSlotsMoveUnderLoad(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	rooms := sixtyRooms()
	o := redisadapter.Options{Sharded: true}
	from, to := watchRooms(t, c.Client(), o, nil), watchRooms(t, c.Client(), o, rooms)
	mustHear(t, from, to, rooms, "begin")
	load := cry(from, rooms)
	defer load.stop()
	for i, s := range c.Servers {
		first, last := i*16384/3, (2*i+1)*16384/6-1
		c.MoveSlots(t, first, last, s, c.Servers[(i+1)%3])
		t.Logf("after the slots of master %d had moved, all rooms were heard in %v", i, mustHear(t, from, to, rooms, fmt.Sprint("moved", i)))
	}
	load.stop()
	mustHear(t, from, to, rooms, "end")
	missing := load.mustAccount(t, to)
	gaps, _ := to.told()
	_, losses := from.told()
	t.Logf("of %d emissions, %d are missing, with %d gaps and %d losses", len(load.all), missing, len(gaps), len(losses))
	if len(load.all) < len(rooms) || missing == len(load.all) {
		t.Error("nothing was tested")
	}
}

// TestAMasterFails: one of three masters is killed, and its replica takes over. Rooms on the others miss nothing.
// (It is over too soon for a node to be taken for dead: see TestThePartOfEveryoneDies in package wire.)
func TestAMasterFails(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	replica := c.Add(t, 1)[0]
	// Everyone's channel is on another master than the victim.
	admin := c.Client()
	home, err := admin.MasterForKey(t.Context(), "cc")
	if err != nil {
		t.Fatal(err)
	}
	victim := c.Servers[slices.IndexFunc(c.Servers, func(s *redistest.Server) bool { return s.Addr() != home.Options().Addr })]
	c.Replicate(t, replica, victim)
	rooms := sixtyRooms()
	o := redisadapter.Options{Sharded: true}
	from, to := watchRooms(t, c.Client(), o, nil), watchRooms(t, c.Client(), o, rooms)
	mustHear(t, from, to, rooms, "begin")
	load := cry(from, rooms)
	defer load.stop()
	victim.Kill()
	killed, promoted := time.Now(), replica.Client()
	for ctx := redistest.Within(t, redistest.Patience); ; {
		if role, err := promoted.Do(ctx, "role").Slice(); err == nil && len(role) > 0 && role[0] == "master" {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the replica does not take over")
		}
	}
	took := time.Since(killed)
	t.Logf("the replica took over after %v, all rooms were heard %v later", took, mustHear(t, from, to, rooms, "failed"))
	load.stop()
	mustHear(t, from, to, rooms, "end")
	missing := load.mustAccount(t, to)
	gaps, _ := to.told()
	concerned := map[string]bool{}
	for _, g := range gaps {
		if g.Names == nil {
			t.Errorf("a gap of everything: %+v", g)
		}
		for _, name := range g.Names {
			concerned[name.Name] = true
		}
	}
	t.Logf("of %d emissions, %d are missing; gaps name %d of %d rooms", len(load.all), missing, len(concerned), len(rooms))
	if len(concerned) == 0 || len(concerned) == len(rooms) {
		t.Errorf("gaps name %d of %d rooms", len(concerned), len(rooms))
	}
}

// TestModesThatDiffer: a node with Sharded and one without name each other, and report gaps. What is for everyone arrives.
func TestModesThatDiffer(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	plain := watchRooms(t, c.Client(), redisadapter.Options{}, []string{"a"})
	sharded := watchRooms(t, c.Client(), redisadapter.Options{Sharded: true}, []string{"a"})
	ctx := redistest.Within(t, redistest.Patience)
	for _, pair := range [][2]*watcher{{plain, sharded}, {sharded, plain}} {
		for pair[0].Stats().Adapter.Misrouted[pair[1].ID()] == "" {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("a node of another mode is not named")
			}
		}
		gaps, _ := pair[0].told()
		if !slices.ContainsFunc(gaps, func(g crosscast.Gap) bool { return g.Reason == "routing" && g.Origin == pair[1].ID() }) {
			t.Errorf("no gap because of another mode: %+v", gaps)
		}
		n, err := pair[0].Everyone().Count(ctx)
		if err != nil || n != 0 {
			t.Errorf("counted %d sockets, %v", n, err)
		}
	}
}

// TestShardedNeedsACluster: other clients, and several Redises, are an error of the start.
func TestShardedNeedsACluster(t *testing.T) {
	for _, a := range []crosscast.Adapter{
		redisadapter.Dial("redis://127.0.0.1:1", redisadapter.Options{Sharded: true}),
		redisadapter.New(redistest.Client(t, (&redistest.Server{}).Options()), redisadapter.Options{Sharded: true}),
		redisadapter.NewShards([]redisadapter.Shard{{
			Name: "a", Client: redistest.Client(t, &redis.Options{Addr: redistest.ClosedPort()}),
		}}, redisadapter.Options{Sharded: true}),
	} {
		if _, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: a}); err == nil || !strings.Contains(err.Error(), "Redis Cluster") {
			t.Errorf("started, or failed with %v", err)
		}
		_ = a.Close(t.Context())
	}
}

// TestQueueBytes: a wrong value is an error of the start, whatever the number of buses.
func TestQueueBytes(t *testing.T) {
	rdb := redistest.Client(t, &redis.Options{Addr: redistest.ClosedPort()})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{redistest.ClosedPort()}})
	t.Cleanup(func() { _ = cluster.Close() })
	for _, size := range []int{-1, -4, 3, 1<<30 + 1} {
		for name, a := range map[string]crosscast.Adapter{
			"New":       redisadapter.New(rdb, redisadapter.Options{QueueBytes: size}),
			"Sharded":   redisadapter.New(cluster, redisadapter.Options{QueueBytes: size, Sharded: true}),
			"NewShards": redisadapter.NewShards([]redisadapter.Shard{{Name: "a", Client: rdb}}, redisadapter.Options{QueueBytes: size}),
		} {
			_, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: a, StartOffline: true})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("QueueBytes is %d bytes", size)) {
				t.Errorf("%s with QueueBytes %d: %v", name, size, err)
			}
		}
	}
}

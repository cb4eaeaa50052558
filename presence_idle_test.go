package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// watchPeer is a peer that the test plays: what the node n sends to it, and what it says.
type watchPeer struct {
	t  *testing.T
	d  *driver
	id crosscast.NodeID

	mu  sync.Mutex
	got []crosscast.Instruction // about watches
}

func newWatchPeer(t *testing.T, d *driver) *watchPeer {
	p := &watchPeer{t: t, d: d, id: "peer0000"}
	d.onPublish = func(inst *crosscast.Instruction) {
		if inst.Kind == kind.Watch || inst.Kind == kind.Presence {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.got = append(p.got, *inst)
		}
	}
	return p
}

// hello makes the peer known.
func (p *watchPeer) hello() {
	node := crosscast.NodeInfo{ID: p.id, Heartbeat: time.Minute}
	p.d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: p.id, Node: node})
}

func (p *watchPeer) tell(r crosscast.Presence, rooms ...string) {
	p.d.h.Handle(&crosscast.Instruction{
		Kind: kind.Presence, Namespace: "/", From: p.id, Rooms: rooms, Presence: &r,
	})
}

func (p *watchPeer) watch(r crosscast.Presence, rooms ...string) {
	p.d.h.Handle(&crosscast.Instruction{
		Kind: kind.Watch, Namespace: "/", From: p.id, TTL: time.Minute, Rooms: rooms, Presence: &r,
	})
}

// take returns what the node has sent, once it is done.
func (p *watchPeer) take() []crosscast.Instruction {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// round returns the number of the one digest that the node asks for in what it sends.
func (p *watchPeer) round() uint64 {
	p.t.Helper()
	got := p.take()
	if len(got) != 1 || got[0].Presence == nil || got[0].Presence.Round == 0 || len(got[0].Rooms) > 0 {
		p.t.Fatalf("sent %+v, not what asks for a digest", got)
	}
	return got[0].Presence.Round
}

func rooms(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("room", i)
	}
	return names
}

// watchEmpty begins to watch rooms of which the peer, if it is known, tells that they are empty.
func (p *watchPeer) watchEmpty(n *crosscast.Node, names []string) {
	p.t.Helper()
	var begun sync.WaitGroup
	for _, room := range names {
		begun.Go(func() {
			_, err := n.Watch(ctx, room, crosscast.WatchOptions{})
			ok(p.t, err)
		})
	}
	versions := make([]uint64, len(names))
	for i := range versions {
		versions[i] = 1
	}
	p.take()
	p.tell(crosscast.Presence{Versions: versions}, names...)
	begun.Wait()
	p.take()
}

// TestIdleWatchesCostOneDigest: what rooms are watched for costs the same however many they are, where nothing happens.
func TestIdleWatchesCostOneDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		nodes := []*crosscast.Node{a, b, c}
		for i := range 500 {
			for _, n := range nodes {
				w, err := n.Watch(ctx, fmt.Sprint("room", i), crosscast.WatchOptions{})
				ok(t, err)
				if m := w.Missing(); len(m) > 0 {
					t.Fatal(m)
				}
			}
		}
		count := func() (sum uint64) {
			synctest.Wait()
			for _, n := range nodes {
				sum += n.Stats().InstructionsOut
			}
			return sum
		}
		time.Sleep(10 * time.Second)
		before := count()
		time.Sleep(100 * time.Second)
		// A heartbeat of each a second; each five, one question of each, and the digests of both others.
		if got := count() - before; got > 3*100+3*20+6*20+10 {
			t.Errorf("%d instructions in 100 s", got)
		}
	})
}

// TestWatchedRoomsAreToldOfTogether: those that are empty are one list, and the digest is what was told.
func TestWatchedRoomsAreToldOfTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		p := newWatchPeer(t, d)
		n := start(t, crosscast.Options{Adapter: d})
		connectUser(t, n.Namespace, &recorder{}, "ann", "room3")
		p.hello()
		p.take()
		p.watch(crosscast.Presence{}, rooms(300)...)
		got := p.take()
		if len(got) != 2 {
			t.Fatalf("%d instructions", len(got))
		}
		empty := 0
		for _, inst := range got {
			if inst.Presence.Versions == nil {
				equal(t, "a room with a member", fmt.Sprint(inst.Rooms, len(inst.Presence.Changes)), "[room3] 1")
			} else {
				equal(t, "versions", len(inst.Presence.Versions), len(inst.Rooms))
				empty = len(inst.Rooms)
			}
		}
		equal(t, "empty rooms", empty, 299)
		sum := func(buckets uint64) []uint64 {
			p.watch(crosscast.Presence{Round: 7, Buckets: buckets})
			got := p.take()
			if len(got) != 1 || got[0].Presence.Round != 7 || got[0].Presence.Buckets != buckets {
				t.Fatalf("%+v", got)
			}
			return got[0].Presence.Sums
		}
		one := sum(0)[0]
		all := sum(^uint64(0))
		added := uint64(0)
		for _, v := range all {
			added += v
		}
		equal(t, "the sum of all buckets", added, one)
		p.watch(crosscast.Presence{Versions: make([]uint64, 2)}, "room3") // nonsense
		p.take()
		connectUser(t, n.Namespace, &recorder{}, "bob", "room3")
		equal(t, "instructions about one that joins", len(p.take()), 1)
		if sum(0)[0] == one {
			t.Error("a digest is the same after a change")
		}
	})
}

// TestADigestThatDiffers: the buckets that differ are listed, and no more; and what is watched no more is forgotten.
func TestADigestThatDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		p := newWatchPeer(t, d)
		n := start(t, crosscast.Options{Adapter: d})
		p.hello()
		p.watchEmpty(n, rooms(1000))
		time.Sleep(5 * time.Second)
		round := p.round()
		p.tell(crosscast.Presence{Round: round + 1, Sums: []uint64{1}}) // of no question
		p.tell(crosscast.Presence{Round: round, Sums: []uint64{1, 2}})  // nonsense
		equal(t, "sent", len(p.take()), 0)
		time.Sleep(5 * time.Second)
		p.tell(crosscast.Presence{Round: p.round(), Sums: []uint64{1}})
		round = p.round()
		p.tell(crosscast.Presence{Round: round, Buckets: 1 << 5, Sums: []uint64{1}})
		p.tell(crosscast.Presence{Round: round, Buckets: 1 << 6, Sums: []uint64{1}}) // again
		got := p.take()
		if len(got) != 2 || got[0].Presence.Buckets != 1<<5 || len(got[0].Rooms) > 0 || got[0].To != p.id {
			t.Fatalf("%+v", got)
		}
		if l := len(got[1].Rooms); l == 0 || l > 40 || len(got[1].Presence.Versions) != l {
			t.Errorf("%d rooms are listed of 1000", l)
		}
		listed := got[1].Rooms

		// The other side: what is not listed twice is forgotten.
		other := newDriver(t)
		p = newWatchPeer(t, other)
		n = start(t, crosscast.Options{Adapter: other})
		p.watch(crosscast.Presence{}, listed...)
		p.take()
		for range 2 {
			p.watch(crosscast.Presence{Buckets: 1 << 5})
			p.watch(crosscast.Presence{Versions: make([]uint64, 1)}, listed[0])
		}
		p.take()
		for _, room := range listed {
			connectUser(t, n.Namespace, &recorder{}, "ann", room)
		}
		got = p.take()
		equal(t, "told of", fmt.Sprint(got[0].Rooms, len(got)), fmt.Sprint(listed[:1], 1))
	})
}

// TestAskedAgainIsWhatIsMissing: while a Watch waits, its peers are asked about its room again, and about no other.
func TestAskedAgainIsWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		p := newWatchPeer(t, d)
		n := start(t, crosscast.Options{Adapter: d})
		p.hello()
		p.watchEmpty(n, rooms(2000))
		synced := make(chan error, 1)
		go func() {
			w, err := n.Watch(ctx, "one more", crosscast.WatchOptions{})
			ok(t, err)
			synced <- w.Synced(ctx)
		}()
		asked := p.take()
		for range 7 {
			time.Sleep(time.Second)
			got := p.take()
			asked = append(asked, got...)
			for _, inst := range got {
				if r := inst.Presence; r != nil && r.Round != 0 { // the question was lost, and the digest is what is known
					p.tell(crosscast.Presence{Round: r.Round})
				}
			}
		}
		about := 0
		for _, inst := range append(asked, p.take()...) {
			about += len(inst.Rooms)
			for _, room := range inst.Rooms {
				equal(t, "asked about", room, "one more")
			}
		}
		if about < 3 || about > 9 {
			t.Errorf("asked %d times", about)
		}
		p.tell(crosscast.Presence{Versions: []uint64{1}}, "one more")
		ok(t, <-synced)
	})
}

// TestAPeerThatIsFull: a Watch does not wait for it, says why it is missing, and asks it again, more and more rarely.
func TestAPeerThatIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		p := newWatchPeer(t, d)
		n := start(t, crosscast.Options{Adapter: d})
		p.hello()
		begun := make(chan *crosscast.Watch, 1)
		go func() {
			w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
			ok(t, err)
			begun <- w
		}()
		p.take()
		began := time.Now()
		p.tell(crosscast.Presence{Full: true}, "r")
		w := <-begun
		equal(t, "waited", time.Since(began), 0)
		m := w.Missing()
		if len(m) != 1 || m[0].ID != p.id || !errors.Is(m[0].Err, crosscast.ErrBusy) {
			t.Errorf("missing: %v", m)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := w.Synced(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		asked := 0
		for range 3600 {
			time.Sleep(time.Second)
			for _, inst := range p.take() {
				if len(inst.Rooms) > 0 {
					asked++
					p.tell(crosscast.Presence{Full: true}, "r")
				}
			}
		}
		if asked < 5 || asked > 25 {
			t.Errorf("asked %d times in an hour", asked)
		}
		p.tell(crosscast.Presence{Versions: []uint64{3}}, "r")
		ok(t, w.Synced(ctx))
		equal(t, "missing", len(w.Missing()), 0)
	})
}

// TestWatchersHaveAShare: one that has far too much noted is told so, and takes nothing from another.
func TestWatchersHaveAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		var mu sync.Mutex
		told := map[crosscast.NodeID][2]int{} // of rooms: told, refused
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind != kind.Presence {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			v := told[inst.To]
			if inst.Presence.Full {
				v[1] += len(inst.Rooms)
			} else {
				v[0] += len(inst.Rooms)
			}
			told[inst.To] = v
		}
		watch := func(from crosscast.NodeID, rooms ...string) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Watch, Namespace: "/", From: from, TTL: time.Hour, Rooms: rooms,
			})
			synctest.Wait()
		}
		hello := func(id crosscast.NodeID) {
			d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: id, Node: crosscast.NodeInfo{ID: id}})
		}
		hello("greedy00")
		hello("greedy00") // it has a heartbeat
		all := rooms(120_000)
		for len(all) > 0 {
			watch("greedy00", all[:1000]...)
			all = all[1000:]
		}
		greedy := told["greedy00"]
		if greedy[0] < 40_000 || greedy[0] > 50_000 || greedy[0]+greedy[1] != 120_000 {
			t.Errorf("told of %d rooms, and refused %d", greedy[0], greedy[1])
		}
		equal(t, "counted", n.Stats().Dropped["busy"], uint64(greedy[1]))
		hello("modest00")
		hello("modest00")
		watch("modest00", rooms(1000)...)
		equal(t, "another one's", fmt.Sprint(told["modest00"]), "[1000 0]")
		for i := range 100 { // each takes what is left, until little is
			names := rooms(10_000)
			for j := range names {
				names[j] += fmt.Sprint("-", i)
			}
			watch(crosscast.NodeID(fmt.Sprintf("greedy%02d", i)), names...)
		}
		watch("modest01", rooms(20)...)
		equal(t, "the last one's", fmt.Sprint(told["modest01"]), "[20 0]")
	})
}

// TestGapsRenewOnceAHeartbeat: however many gaps of a peer there are, it is asked once a heartbeat, and after the last.
func TestGapsRenewOnceAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		p := newWatchPeer(t, d)
		n := start(t, crosscast.Options{Adapter: d})
		p.hello()
		p.watchEmpty(n, rooms(3))
		for _, origin := range []crosscast.NodeID{p.id, ""} {
			time.Sleep(11 * time.Second)
			p.take()
			for range 2000 {
				d.h.Gap(crosscast.Gap{Origin: origin, Reason: reasons.GapHole})
				time.Sleep(time.Millisecond)
			}
			if got := len(p.take()); got < 2 || got > 4 {
				t.Errorf("asked %d times in 2 s", got)
			}
			d.h.Gap(crosscast.Gap{Origin: origin, Reason: reasons.GapHole})
			time.Sleep(time.Second)
			if got := len(p.take()); got < 1 || got > 2 {
				t.Errorf("asked %d times after the last gap", got)
			}
		}
	})
}

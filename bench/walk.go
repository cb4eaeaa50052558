package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// W4: one broadcast to the members of a room on one node, which joined in an order that is not that of their allocation. The
// conn only counts, on a cache line of its own.
func walk() []workload {
	var all []workload
	for _, n := range []int{100, 10_000, 100_000} {
		w := workload{
			name: fmt.Sprintf("W4-%d", n), title: fmt.Sprintf("one broadcast to %d members on a node, shuffled", n), quick: n > 100,
			config:  config{N: n, Size: 128, JSON: true},
			metrics: []metric{{"ns", "ns a member", 1, true}},
			contestants: []contestant{
				{name: ownName, what: "**crosscast**: `Emit`, to conns that count", roles: solo(walkOwn)},
				{name: "limit", what: "limit: a slice, one cache line a member", roles: solo(walkLines)},
				{name: "calls", what: "limit: a slice, one call of a `Conn` a member", slow: true, roles: solo(walkCalls)},
				{name: "rings", what: "limit with a queue: a mutex and a ring a member", roles: solo(walkRings)},
				{name: "queues", what: "**crosscast**: `Emit`, to queues whose writers wake", slow: true, roles: solo(walkQueues)},
			},
			measure: alone,
		}
		if n <= 10_000 {
			w.contestants = append(w.contestants,
				contestant{name: "centrifuge", what: "centrifuge's hub, whose writers wake", roles: solo(walkCentrifuge)},
				contestant{name: "melody", what: "melody, whose writers wake", slow: true, roles: solo(walkMelody)})
		}
		switch n {
		case 10_000:
			w.goals = beside("calls", goal{"ns", "limit", true, 2.2, ""})
		case 100_000:
			w.goals = beside("calls", goal{"ns", "limit", true, 3, ""})
		}
		all = append(all, w)
	}
	return all
}

// solo are the roles of a contestant that is one process. prepare returns what is measured.
func solo(prepare func(p *proc) (measure func(span time.Duration) (values, error), err error)) map[string]role {
	return map[string]role{"solo": func(p *proc) error {
		measure, err := prepare(p)
		p.on["measure"] = func() (reply, error) {
			v, err := measure(p.Span)
			return reply{Values: v}, err
		}
		return err
	}}
}

// alone measures a contestant that is one process.
func alone(_ context.Context, r *run) (values, error) {
	r.config.Span = r.bench.span
	p, err := r.start("solo", nil)
	if err != nil {
		return nil, err
	}
	s, err := p.call("measure")
	return s.Values, err
}

// repeat calls f for at least a span, after two calls that are not measured, and returns the nanoseconds of one call.
func repeat(span time.Duration, f func() error) (float64, error) {
	for range 2 {
		if err := f(); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for n := 1; ; n++ {
		if err := f(); err != nil {
			return 0, err
		}
		if d := time.Since(began); d >= span {
			return float64(d) / float64(n), nil
		}
	}
}

// broadcasts measures a function that serves all members.
func broadcasts(p *proc, f func() error) func(span time.Duration) (values, error) {
	return func(span time.Duration) (values, error) {
		ns, err := repeat(span, f)
		return values{"ns": ns / float64(p.N)}, err
	}
}

// A cacheLine is what a walk touches of a member at least.
type cacheLine struct {
	n int
	_ [56]byte
}

func (c *cacheLine) Send(*crosscast.Message) error { c.n++; return nil }
func (*cacheLine) Close(crosscast.Reason)          {}

func walkOwn(p *proc) (func(span time.Duration) (values, error), error) {
	target, err := shuffledRoom(p, func() crosscast.Conn { return &cacheLine{} })
	var payload any = crosscast.Bytes(make([]byte, 128))
	return broadcasts(p, func() error { return target.Emit(context.Background(), "roomMessage", payload) }), err
}

// shuffledRoom is a room whose members joined in an order that is not that of their allocation.
func shuffledRoom(p *proc, conn func() crosscast.Conn) (target crosscast.BoundTarget, err error) {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		return target, err
	}
	sockets := make([]*crosscast.Socket, p.N)
	for i := range sockets {
		if sockets[i], err = node.Connect(ctx, conn(), crosscast.ConnectOptions{}); err != nil {
			return target, err
		}
	}
	for _, i := range rand.Perm(p.N) {
		if err := sockets[i].Join(ctx, "hot"); err != nil {
			return target, err
		}
	}
	return node.To("hot"), nil
}

// shuffled returns pointers to new values in an order that is not that of their allocation.
func shuffled[T any](n int, make func() *T) []*T {
	all := []*T{}
	for range n {
		all = append(all, make())
	}
	rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func walkLines(p *proc) (func(span time.Duration) (values, error), error) {
	members := shuffled(p.N, func() *cacheLine { return new(cacheLine) })
	return broadcasts(p, func() error {
		for _, m := range members {
			m.n++
		}
		return nil
	}), nil
}

// walkCalls calls the conns of all members, which is what a broadcast does at least.
func walkCalls(p *proc) (func(span time.Duration) (values, error), error) {
	var conns []crosscast.Conn
	for _, c := range shuffled(p.N, func() *cacheLine { return new(cacheLine) }) {
		conns = append(conns, c)
	}
	m := &crosscast.Message{}
	return broadcasts(p, func() (err error) {
		for _, c := range conns {
			if e := c.Send(m); e != nil {
				err = e
			}
		}
		return err
	}), nil
}

// A ringMember is the least queue.
type ringMember struct {
	mu    sync.Mutex
	slots [][]byte
	tail  uint32
}

func walkRings(p *proc) (func(span time.Duration) (values, error), error) {
	members := shuffled(p.N, func() *ringMember { return &ringMember{slots: make([][]byte, 8)} })
	frame := make([]byte, 128)
	return broadcasts(p, func() error {
		for _, m := range members {
			m.mu.Lock()
			m.slots[m.tail&7] = frame
			m.tail++
			m.mu.Unlock()
		}
		return nil
	}), nil
}

// W5: joining and leaving a room of one's own, on one goroutine and on two, and the memory of memberships: 100,000 sockets in
// 10 of 10,000 rooms each.
func membership() []workload {
	return []workload{{
		name: "W5", title: "membership: joining and leaving, and its memory",
		most: 5,
		metrics: []metric{
			{"pairs", "pairs of join and leave a second", 0, false}, {"two", "pairs a second, 2 goroutines", 0, false},
			{"bytes", "bytes a membership", 1, true},
		},
		contestants: []contestant{
			{name: ownName, what: "**crosscast**: `Join`, `Leave`", roles: solo(joinOwn)},
			{name: "limit", what: "limit: a slice a room, one lock, no library", roles: solo(joinSlices)},
		},
		measure: alone,
	}}
}

const memberships, membershipRooms = 10, 10_000

// membershipRoom is the j-th room of the i-th socket: steps of a prime, so that rooms are as full as each other, and no
// socket's are neighbours.
func membershipRoom(i, j int) int { return (i*memberships + j*7919) % membershipRooms }

// pairs measures a function that joins and leaves, on so many goroutines, each of which makes its own.
func pairs(span time.Duration, goroutines int, start func(g int) func() error) (float64, error) {
	var total atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, goroutines)
	began := time.Now()
	for g := range goroutines {
		f := start(g)
		wg.Go(func() {
			n := 0
			for ; n&127 != 0 || time.Since(began) < span; n++ {
				if err := f(); err != nil {
					errs <- err
					return
				}
			}
			total.Add(int64(n))
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(total.Load()) / time.Since(began).Seconds(), nil
	}
}

func measurePairs(start func(g int) func() error, bytes func() (float64, error)) func(span time.Duration) (values, error) {
	return func(span time.Duration) (values, error) {
		one, err := pairs(span/2, 1, start)
		if err != nil {
			return nil, err
		}
		two, err := pairs(span/2, 2, start)
		if err != nil {
			return nil, err
		}
		each, err := bytes()
		return values{"pairs": one, "two": two, "bytes": each}, err
	}
}

func joinOwn(p *proc) (func(span time.Duration) (values, error), error) {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		return nil, err
	}
	conn := &cacheLine{}
	connect := func() *crosscast.Socket {
		s, errConnect := node.Connect(ctx, conn, crosscast.ConnectOptions{})
		if errConnect != nil {
			p.fail(errConnect)
		}
		return s
	}
	start := func(g int) func() error {
		s, room := connect(), fmt.Sprint("own", g)
		return func() error {
			if err := s.Join(ctx, room); err != nil {
				return err
			}
			s.Leave(room)
			return nil
		}
	}
	return measurePairs(start, func() (float64, error) {
		sockets := make([]*crosscast.Socket, 100_000)
		for i := range sockets {
			sockets[i] = connect()
		}
		rooms := make([]string, membershipRooms)
		for i := range rooms {
			rooms[i] = fmt.Sprint("room", i)
		}
		before := heap()
		for i, s := range sockets {
			for j := range memberships {
				if err := s.Join(ctx, rooms[membershipRoom(i, j)]); err != nil {
					return 0, err
				}
			}
		}
		return (heap() - before) / float64(len(sockets)*memberships), nil
	}), nil
}

// A slicedSocket is in rooms that are slices, from which it takes itself by swapping. It knows its places in them.
type slicedSocket struct {
	rooms  []*slicedRoom
	places []int
}

type slicedRoom struct{ members []*slicedSocket }

type slicedHub struct {
	mu    sync.Mutex
	rooms map[string]*slicedRoom
}

func (h *slicedHub) join(s *slicedSocket, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	room := h.rooms[name]
	if room == nil {
		room = &slicedRoom{}
		h.rooms[name] = room
	}
	s.rooms, s.places = append(s.rooms, room), append(s.places, len(room.members))
	room.members = append(room.members, s)
}

// leave takes a socket from the room that it joined last.
func (h *slicedHub) leave(s *slicedSocket, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(s.rooms) - 1
	room, place := s.rooms[last], s.places[last]
	s.rooms, s.places = s.rooms[:last], s.places[:last]
	end := len(room.members) - 1
	if moved := room.members[end]; moved != s {
		room.members[place] = moved
		for i, r := range moved.rooms {
			if r == room {
				moved.places[i] = place
			}
		}
	}
	if room.members = room.members[:end]; end == 0 {
		delete(h.rooms, name)
	}
}

func joinSlices(*proc) (func(span time.Duration) (values, error), error) {
	h := &slicedHub{rooms: make(map[string]*slicedRoom)}
	start := func(g int) func() error {
		s, room := &slicedSocket{}, fmt.Sprint("own", g)
		return func() error {
			h.join(s, room)
			h.leave(s, room)
			return nil
		}
	}
	return measurePairs(start, func() (float64, error) {
		sockets := make([]slicedSocket, 100_000)
		rooms := make([]string, membershipRooms)
		for i := range rooms {
			rooms[i] = fmt.Sprint("room", i)
		}
		before := heap()
		for i := range sockets {
			for j := range memberships {
				h.join(&sockets[i], rooms[membershipRoom(i, j)])
			}
		}
		return (heap() - before) / float64(len(sockets)*memberships), nil
	}), nil
}

package wire

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/kind"
)

// A Part is one of several buses below one node. Its name decides which rooms and users are on it.
type Part struct {
	Name string // 1 to 32 ASCII letters, digits and -_.
	Bus  Bus

	// Home makes this the part of everyone's topic, of single nodes and sockets, and of the ingress. It has no rooms and
	// no users. At most one part has it. Without one, the names decide.
	Home bool
}

// Parts is an adapter over several buses: see [NewParts]. It implements crosscast.Adapter and these optional
// interfaces: AdapterSubscriber, AdapterDeliverer, AdapterSizer, AdapterObserver and AdapterMeter.
//
// Each part is an Adapter of its own, with its link, its echo, its queue and its books. What is here only chooses the
// part, and makes one stream of theirs for the node:
//
//   - Each room and each user is on one part, by its name and the names of the parts. Everyone's topic and the inboxes
//     are on one part, which is home.
//   - Hellos, heartbeats and goodbyes go over all parts, as copies. So each part knows its peers, and the node takes a
//     peer for dead only if it is silent on all parts whose links work. After an outage of one part, a hello goes over that
//     part alone, without a copy number, and is answered there.
//   - A peer that is silent on one part only has lost that one. That is a gap of the part's names.
//   - Frames have numbers of one counter, and copies of another: see together.
//   - A gap of everything on a part other than home names that part's rooms and users.
type Parts struct {
	parts    []*Adapter
	names    []string
	seeds    []uint64
	home     int
	bare     bool // home has no rooms and users
	together together
	seen     seenIDs
	err      error

	watching   sync.WaitGroup // the watcher
	introduced time.Time      // when an emitter told its routing; guarded by the mu of home's sender

	mu     sync.Mutex             // held while the node handles something
	lossMu sync.Mutex             // held while the node gets a loss
	linkMu sync.Mutex             // held while the node gets the link's state
	links  []crosscast.LinkStatus // of the parts; guarded by linkMu
}

const (
	maxParts     = 32
	maxPartNames = 1 << 16 // names in the gap of a part; beyond that the gap is of everything
)

// NewParts returns an adapter over several buses that do not know each other, such as independent Redises. All nodes
// must have the same parts, by their names, in any order: others are reported as a gap (reason "routing"). o is for each
// part; each has a queue of o.QueueBytes.
//
// If the bus of a part is down, rooms and users of the others go on. Emissions to its own wait, and are a loss after
// o.MaxAge. Its outage is a gap of its rooms and users. If it is the part of everyone's topic, that gap is of everything;
// emissions to everyone, commands, queries and single sockets wait, and no peer is taken for dead.
//
// Order holds on each part. Between two parts there is none: an emission to a room, and one to another room, a user, a
// socket or everyone, might change places. Package adaptertest calls that order between names. If you send a snapshot
// and then changes of it, send both to the same room.
//
// Start fails if one of the buses cannot be reached. With crosscast.Options.StartOffline it does not.
func NewParts(parts []Part, o Options) *Parts {
	p := &Parts{links: make([]crosscast.LinkStatus, len(parts)), err: checkParts(parts)}
	sorted := slices.SortedFunc(slices.Values(parts), func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	for i := range sorted {
		p.names = append(p.names, sorted[i].Name)
	}
	p.home = slices.IndexFunc(sorted, func(p Part) bool { return p.Home })
	p.bare = p.home >= 0
	o.parts = p.describe()
	ingress := o.Ingress
	for i := range sorted {
		o.Ingress = ingress && (!p.bare || i == p.home)
		o.part = sorted[i].Name
		a := New(sorted[i].Bus, o)
		a.together, a.seen = &p.together, &p.seen
		p.parts = append(p.parts, a)
		p.seeds = append(p.seeds, mix(hashTopic(sorted[i].Name)))
		if p.err == nil {
			p.err = a.optErr
		}
	}
	if !p.bare {
		p.home = p.partOf(crosscast.Address{})
	}
	return p
}

func checkParts(parts []Part) error {
	if len(parts) == 0 || len(parts) > maxParts {
		return fmt.Errorf("crosscast/wire: there are %d parts: it must be from 1 to %d", len(parts), maxParts)
	}
	seen := map[string]bool{}
	homes := 0
	for _, p := range parts {
		if p.Home {
			homes++
		}
		valid := len(p.Name) > 0 && len(p.Name) <= 32 && strings.Trim(p.Name, partNameBytes) == ""
		if !valid || seen[p.Name] {
			return fmt.Errorf("crosscast/wire: Part.Name is %q: each part needs a name of its own, of 1 to 32 letters, digits, dots, - and _", p.Name)
		}
		seen[p.Name] = true
	}
	if homes > 1 || homes == len(parts) {
		return fmt.Errorf("crosscast/wire: of %d parts, %d are Home: at most one may be, and not the only one", len(parts), homes)
	}
	return nil
}

const partNameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// describe returns the parts as the routing has them: their names, or a hash of them if they are long, or if one is Home.
func (p *Parts) describe() string {
	all := strings.Join(p.names, "+")
	switch {
	case p.bare:
		all = fmt.Sprintf("%s-%08x", p.names[p.home], uint32(hashTopic(all)))
	case len(all) > 100:
		all = fmt.Sprintf("%d-parts-%x", len(p.names), hashTopic(all))
	}
	return all + "/"
}

// mix spreads the bits of a hash.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// partOf returns the part of a name; for the zero Address, that of everyone. If a part is added or removed, only names
// of that part change theirs.
func (p *Parts) partOf(name crosscast.Address) (best int) {
	if p.bare && name == noName {
		return p.home
	}
	h := hashPart(hashPart((hashStart^uint64(name.Space))*hashPrime, name.Namespace)*hashPrime, name.Name)
	most := uint64(0)
	for i, seed := range p.seeds {
		if p.bare && i == p.home {
			continue
		}
		if weight := mix(h ^ seed); weight >= most {
			most, best = weight, i
		}
	}
	return best
}

// each calls f for all parts at the same time, and returns the errors with the names of their parts.
func (p *Parts) each(f func(i int, a *Adapter) error) error {
	errs := make([]error, len(p.parts))
	var all sync.WaitGroup
	for i, a := range p.parts {
		all.Go(func() { errs[i] = p.named(i, f(i, a)) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (p *Parts) named(i int, err error) error {
	if err == nil {
		return nil
	}
	return errtext.Errorf("part %s: %w", p.names[i], err)
}

// Start implements crosscast.Adapter.
func (p *Parts) Start(ctx context.Context, s crosscast.AdapterStart) error {
	if p.err != nil {
		return p.err
	}
	id := drawRun()
	p.together.runID.Store(&id)
	started := make([]bool, len(p.parts))
	err := p.each(func(i int, a *Adapter) error {
		own := s
		own.Handler = &partHandler{s.Handler, p, i}
		err := a.Start(ctx, own)
		started[i] = err == nil
		return err
	})
	if err != nil {
		for i, a := range p.parts {
			if started[i] {
				a.giveUp()
			}
		}
		return err
	}
	p.watching.Go(p.watch)
	return nil
}

// giveUp ends a start that has succeeded, as if it had failed.
func (a *Adapter) giveUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.run.Load()
	a.user, a.running = nil, false
	r.started.Store(false)
	r.sender.halt()
	r.stop()
}

// Close implements crosscast.Adapter.
func (p *Parts) Close(ctx context.Context) error {
	err := p.each(func(_ int, a *Adapter) error { return a.Close(ctx) })
	p.watching.Wait()
	return err
}

// Publish implements crosscast.Adapter.
func (p *Parts) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	if inst.Kind.Control() || inst.Kind == kind.Goodbye {
		_, err := p.publishEverywhere(ctx, inst, nil)
		return err
	}
	part, one := p.only(inst)
	p.introduce(part, one)
	if one {
		return p.parts[part].Publish(ctx, inst)
	}
	return p.publishAcross(ctx, inst, nil)
}

// introduce makes an emitter tell its routing on the part that has no rooms, where nodes without these parts hear it: see
// misrouted.go. part is that of the next emission, if there is only one.
func (p *Parts) introduce(part int, one bool) {
	if !p.bare || one && part == p.home {
		return
	}
	s := p.parts[p.home].run.Load().sender
	if s.presence.beats { // a node's heartbeats tell it
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(p.introduced) >= introducedFor && s.gate.up() {
		p.introduced = now
		s.queueControlLocked(s.box.introduction(), nil)
	}
}

// only returns the part that inst goes to, if there is only one.
func (p *Parts) only(inst *crosscast.Instruction) (part int, one bool) {
	t := &inst.Target
	if inst.To != "" || t.Everyone || inst.Kind != kind.Emit || inst.Ref != "" || len(t.Rooms)+len(t.Users) > maxCopies {
		return p.home, true
	}
	part = -1
	same := func(q int) bool {
		if part < 0 {
			part = q
		}
		return part == q
	}
	for _, r := range t.Rooms {
		if !same(p.partOf(crosscast.Address{Namespace: inst.Namespace, Space: crosscast.SpaceRoom, Name: r})) {
			return 0, false
		}
	}
	for _, u := range t.Users {
		if !same(p.partOf(crosscast.Address{Namespace: inst.Namespace, Space: crosscast.SpaceUser, Name: u})) {
			return 0, false
		}
	}
	if len(t.Sockets) > 0 && !same(p.home) {
		return 0, false
	}
	return max(part, 0), true
}

// publishEverywhere publishes a hello, heartbeat or goodbye on all parts. It fails if all parts fail.
func (p *Parts) publishEverywhere(
	ctx context.Context, inst *crosscast.Instruction, ds []*delivery,
) (published []int, err error) {
	number := p.together.copies.Add(1)
	var errs []error
	for i, a := range p.parts {
		s := a.run.Load().sender
		var d *delivery
		if ds != nil {
			d = ds[i]
		}
		if inst.Kind.Control() {
			err = s.publishControl(inst, d, number)
		} else {
			err = p.publishCopies(ctx, []int{i}, [][]destination{{{node: inst.To}}}, inst, []*delivery{d}, number)
		}
		if err != nil {
			errs = append(errs, p.named(i, err))
		} else {
			published = append(published, i)
		}
	}
	if len(published) > 0 {
		return published, nil
	}
	return nil, errors.Join(errs...)
}

// publishAcross publishes an emission to names of several parts, on all of them or on none.
func (p *Parts) publishAcross(ctx context.Context, inst *crosscast.Instruction, ds []*delivery) error {
	own := make([]crosscast.Instruction, len(p.parts)) // with the targets of one part
	for _, r := range inst.Target.Rooms {
		q := p.partOf(crosscast.Address{Namespace: inst.Namespace, Space: crosscast.SpaceRoom, Name: r})
		own[q].Target.Rooms = append(own[q].Target.Rooms, r)
	}
	for _, u := range inst.Target.Users {
		q := p.partOf(crosscast.Address{Namespace: inst.Namespace, Space: crosscast.SpaceUser, Name: u})
		own[q].Target.Users = append(own[q].Target.Users, u)
	}
	own[p.home].Target.Sockets = inst.Target.Sockets
	var at []int
	var to [][]destination
	var waiting []*delivery
	for i := range own {
		own[i].Kind, own[i].Namespace = inst.Kind, inst.Namespace
		r := p.parts[i].run.Load()
		if ds := r.routing.route(nil, &own[i], r.self.ID); len(ds) > 0 {
			at, to = append(at, i), append(to, ds)
		}
	}
	for i := range own {
		switch {
		case ds == nil:
		case !slices.Contains(at, i):
			ds[i].expect(0)
		default:
			waiting = append(waiting, ds[i])
		}
	}
	if ds == nil {
		waiting = make([]*delivery, len(at))
	}
	return p.publishCopies(ctx, at, to, inst, waiting, p.together.copies.Add(1))
}

// publishCopies queues inst on some parts, for the destinations to of each, on all of them or on none. It waits for room
// on all of them.
func (p *Parts) publishCopies(
	ctx context.Context, at []int, to [][]destination, inst *crosscast.Instruction, ds []*delivery, number uint64,
) error {
	m := messagePool.Get().(*messages)
	defer m.release()
	var err error
	if m.data, err = appendInstruction(m.data, inst, &noName); err != nil { // the same bytes for all topics
		return err
	}
	if err := p.parts[p.home].run.Load().bounded(len(m.data) + maxCopyNumber); err != nil {
		return err
	}
	for {
		busy, room, err := p.queueCopies(at, to, inst, m.data, ds, number)
		if room == nil {
			return err
		}
		if err := busy.waitForRoom(ctx, room); err != nil {
			return err
		}
	}
}

// queueCopies is one attempt. If a part has no room, it returns its sender, and the channel to wait on.
func (p *Parts) queueCopies(
	at []int, to [][]destination, inst *crosscast.Instruction, data []byte, ds []*delivery, number uint64,
) (busy *sender, room <-chan struct{}, err error) {
	for k, i := range at { // always in the order of parts
		s := p.parts[i].run.Load().sender
		s.mu.Lock()
		defer s.mu.Unlock()
		size := 0
		for j := range to[k] {
			size += s.box.mayHold(&to[k][j], len(data)+maxCopyNumber)
		}
		if room, err = s.admitLocked(size, inst.Volatile); room != nil || err != nil {
			return s, room, p.named(i, err)
		}
	}
	for k, i := range at {
		s := p.parts[i].run.Load().sender
		s.box.enterCopies(to[k], inst, data, ds[k], s.gate.up(), toSeveral, number)
		s.signalLocked()
	}
	p.parts[at[0]].stats.instructionsOut.Add(1)
	return nil, nil, nil
}

// Deliver implements crosscast.AdapterDeliverer.
func (p *Parts) Deliver(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	everywhere := inst.Kind.Control() || inst.Kind == kind.Goodbye
	part, one := p.only(inst)
	if !everywhere {
		p.introduce(part, one)
	}
	if one && !everywhere {
		return p.parts[part].Deliver(ctx, inst)
	}
	ds := make([]*delivery, len(p.parts))
	for i := range ds {
		ds[i] = newDelivery()
	}
	if everywhere {
		published, err := p.publishEverywhere(ctx, inst, ds)
		if err != nil {
			return crosscast.Receipt{}, err
		}
		if slices.Contains(published, p.home) { // who hears that hears everyone's topic
			published = []int{p.home}
		}
		return await(ctx, []*delivery{ds[published[0]]})
	}
	if err := p.publishAcross(ctx, inst, ds); err != nil {
		return crosscast.Receipt{}, err
	}
	return await(ctx, ds)
}

// await adds up the outcomes of deliveries.
func await(ctx context.Context, ds []*delivery) (sum crosscast.Receipt, err error) {
	sum.Known = true
	for _, d := range ds {
		select {
		case <-d.done:
		case <-ctx.Done():
			return crosscast.Receipt{}, errtext.Errorf("%w: %w", crosscast.ErrUncertain, ctx.Err())
		}
		sum.Known = sum.Known && d.receipt.Known
		sum.Nodes += d.receipt.Nodes
		err = errors.Join(err, d.err)
	}
	if !sum.Known {
		sum.Nodes = 0
	}
	return sum, err
}

// Flush implements crosscast.AdapterDeliverer.
func (p *Parts) Flush(ctx context.Context) error {
	return p.each(func(_ int, a *Adapter) error { return a.Flush(ctx) })
}

// Subscribe implements crosscast.AdapterSubscriber.
func (p *Parts) Subscribe(ctx context.Context, names ...crosscast.Address) error {
	own := p.divide(names)
	failed := map[crosscast.Address]error{}
	var mu sync.Mutex
	var all error // of every name
	var some sync.WaitGroup
	for i, part := range own {
		if len(part) == 0 {
			continue
		}
		some.Go(func() {
			err := p.parts[i].Subscribe(ctx, part...)
			var named *crosscast.NamesError
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
			case errors.As(err, &named):
				for name, err := range named.Failed {
					failed[name] = err
				}
			case errors.Is(err, crosscast.ErrNotConnected):
				for _, name := range part {
					failed[name] = p.named(i, err)
				}
			default:
				all = err
			}
		})
	}
	some.Wait()
	switch {
	case all != nil:
		return all
	case len(failed) > 0:
		return &crosscast.NamesError{Failed: failed}
	}
	return nil
}

// Unsubscribe implements crosscast.AdapterSubscriber.
func (p *Parts) Unsubscribe(ctx context.Context, names ...crosscast.Address) error {
	var err error
	for i, part := range p.divide(names) {
		if len(part) > 0 {
			err = errors.Join(err, p.parts[i].Unsubscribe(ctx, part...))
		}
	}
	return err
}

// divide returns the names of each part.
func (p *Parts) divide(names []crosscast.Address) [][]crosscast.Address {
	own := make([][]crosscast.Address, len(p.parts))
	for _, name := range names {
		i := p.partOf(name)
		own[i] = append(own[i], name)
	}
	return own
}

// Listen implements crosscast.AdapterSubscriber.
func (p *Parts) Listen(ctx context.Context) error { return p.parts[p.home].Listen(ctx) }

// MaxPayload implements crosscast.AdapterSizer.
func (p *Parts) MaxPayload() int {
	least := math.MaxInt
	for _, a := range p.parts {
		least = min(least, a.MaxPayload())
	}
	return least
}

// Fits implements crosscast.AdapterSizer.
func (p *Parts) Fits(inst *crosscast.Instruction) error {
	for _, a := range p.parts {
		if err := a.Fits(inst); err != nil {
			return err
		}
	}
	return nil
}

// AdapterStats implements crosscast.AdapterMeter. It has the sums over all parts; times, and the round trip, are those of
// the part of everyone's topic.
func (p *Parts) AdapterStats() crosscast.AdapterStats {
	if len(p.parts) == 0 {
		return crosscast.AdapterStats{}
	}
	sum := p.parts[p.home].AdapterStats()
	for i, a := range p.parts {
		if i == p.home {
			continue
		}
		s := a.AdapterStats()
		sum.InstructionsIn += s.InstructionsIn
		sum.InstructionsOut += s.InstructionsOut
		sum.BytesIn += s.BytesIn
		sum.BytesOut += s.BytesOut
		sum.FramesIn += s.FramesIn
		sum.FramesOut += s.FramesOut
		sum.QueueBytes += s.QueueBytes
		sum.Denied += s.Denied
		sum.Reconnects += s.Reconnects
		sum.Connected = sum.Connected && s.Connected
		for why, n := range s.Dropped {
			sum.Dropped[why] += n
		}
		for id, routing := range s.Misrouted {
			if sum.Misrouted == nil {
				sum.Misrouted = map[crosscast.NodeID]string{}
			}
			sum.Misrouted[id] = routing
		}
		for id, why := range s.Unopened {
			if sum.Unopened == nil {
				sum.Unopened = map[crosscast.NodeID]string{}
			}
			sum.Unopened[id] = why
		}
		for key, n := range s.Opened {
			sum.Opened[key] += n
		}
	}
	sum.Link = p.status()
	return sum
}

var (
	_ crosscast.Adapter           = (*Parts)(nil)
	_ crosscast.AdapterSubscriber = (*Parts)(nil)
	_ crosscast.AdapterDeliverer  = (*Parts)(nil)
	_ crosscast.AdapterSizer      = (*Parts)(nil)
	_ crosscast.AdapterObserver   = (*Parts)(nil)
	_ crosscast.AdapterMeter      = (*Parts)(nil)
)

package crosscast

import (
	"maps"
	"slices"
	"time"
)

// The watched side: what peers watch here. What a peer may have noted is bounded in bytes, and each has a share.

const (
	maxLease = 30 * time.Minute // a peer's watches last no longer without being renewed

	watcherBytes  = 16 << 10 // what each watcher may have noted, whatever the others have
	maxLeaseBytes = 48 << 20 // beyond that, a watcher may have as much as all of them leave free
	leaseBytes    = 512      // of one room of one watcher, about, beside its name
	maxRefused    = 4096     // rooms that watchers are still to be told of as refused
)

// A name that somebody made up must not take the place of a node. So how many watchers there may be before one more is
// refused, and what they may have noted beyond their shares, depends on what that one is to this node. Those who are heard
// again and again are peers, of whom there are at most maxPeers.
var (
	maxWatchers = [...]int{stranger: 256, heardOnce: 1024, heardAgain: 1024 + maxPeers}
	maxNoted    = [...]int{stranger: 0, heardOnce: maxLeaseBytes / 2, heardAgain: maxLeaseBytes}
)

// leasing is the part of presence about them. All is guarded by presence.mu.
type leasing struct {
	watchers map[NodeID]*watcher
	noted    int // bytes, of all

	// For the lane.
	refusals     map[NodeID][]Address
	refusalCount int
	digests      map[NodeID]digestRequest
}

// A watcher is a node that watches rooms of this one.
type watcher struct {
	id     NodeID
	until  time.Time
	leases map[*watched]*lease
	bytes  int
	told   digest // of the versions that it was told
}

// A lease is a peer's watch of one room.
type lease struct {
	by      *watcher
	whole   bool   // it is to be told all the members; guarded by watched.mu
	version uint64 // it was told; 0: none, or not surely
	doubted bool   // the watcher was to list it, and has not yet
	ended   bool
}

type digestRequest struct{ round, buckets uint64 }

// asked acts on a peer's watch.
func (p *presence) asked(in *Instruction) {
	now := time.Now()
	r := in.Presence
	if r == nil {
		r = &Presence{}
	}
	who := p.n.peers.standing(in.From)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	by := p.watchers[in.From]
	if in.TTL <= 0 {
		for _, room := range in.Rooms {
			if w := p.rooms[Address{in.Namespace, SpaceRoom, room}]; w != nil && by != nil {
				p.drop(by, w)
			}
		}
		return
	}
	if by != nil {
		by.until = now.Add(min(in.TTL, maxLease))
	}
	switch {
	case r.Round != 0:
		p.want(in.From, digestRequest{r.Round, r.Buckets})
	case r.Buckets != 0 && by != nil:
		p.doubt(by, r.Buckets)
	}
	for i, room := range in.Rooms {
		known := uint64(0)
		if len(r.Versions) == len(in.Rooms) {
			known = r.Versions[i]
		}
		p.lease(in.From, who, Address{in.Namespace, SpaceRoom, room}, known, now.Add(min(in.TTL, maxLease)))
	}
}

// want has a digest told; p.mu is held.
func (p *presence) want(to NodeID, d digestRequest) {
	if _, ok := p.digests[to]; !ok && len(p.digests) >= maxPeers {
		p.n.stats.drop(dropBusy)
		return
	}
	if p.digests == nil {
		p.digests = make(map[NodeID]digestRequest)
	}
	p.digests[to] = d
	p.wake()
}

// doubt has what a watcher watches in some buckets end, unless it is listed before the next time; p.mu is held.
func (p *presence) doubt(by *watcher, buckets uint64) {
	for w, l := range by.leases {
		if buckets&(1<<w.hash.bucket()) == 0 {
			continue
		}
		if l.doubted {
			p.drop(by, w)
		} else {
			l.doubted = true
		}
	}
}

// lease begins or goes on with a peer's watch of a room, of which it has a version; p.mu is held.
func (p *presence) lease(from NodeID, who standing, at Address, known uint64, until time.Time) {
	w, by := p.rooms[at], p.watchers[from]
	if w != nil && by != nil && by.leases[w] != nil {
		l := by.leases[w]
		l.doubted = false
		if known == 0 || known != l.version {
			w.mu.Lock()
			defer w.mu.Unlock()
			l.whole = true
			w.poke()
		}
		return
	}
	if !p.hasSpace(by, who, leaseCost(at)) {
		p.refuse(from, at)
		return
	}
	if by == nil {
		by = &watcher{id: from, until: until, leases: make(map[*watched]*lease)}
		if p.watchers == nil {
			p.watchers = make(map[NodeID]*watcher)
		}
		p.watchers[from] = by
	}
	if w == nil {
		w = p.open(at)
	}
	l := &lease{by: by}
	by.leases[w] = l
	by.bytes += leaseCost(at)
	p.noted += leaseCost(at)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leases = append(w.leases, l)
	if base, ok := w.log.base(); ok && base == known {
		l.version = known
		by.told.move(w.hash, 0, known)
		return
	}
	l.whole = true
	w.poke()
}

func leaseCost(at Address) int { return leaseBytes + len(at.Namespace) + len(at.Name) }

// hasSpace reports whether a watcher, nil if it is new, may have so much more noted; p.mu is held.
func (p *presence) hasSpace(by *watcher, who standing, cost int) bool {
	bytes := cost
	if by != nil {
		bytes += by.bytes
	} else if len(p.watchers) >= maxWatchers[who] {
		return false
	}
	return bytes <= watcherBytes || bytes <= maxNoted[who]-p.noted
}

// refuse has a peer told that a room is not told of. Of too many it hears nothing, and asks again; p.mu is held.
func (p *presence) refuse(from NodeID, at Address) {
	p.n.stats.drop(dropBusy)
	if p.refusalCount >= maxRefused {
		return
	}
	if p.refusals == nil {
		p.refusals = make(map[NodeID][]Address)
	}
	p.refusals[from] = append(p.refusals[from], at)
	p.refusalCount++
	p.wake()
}

// drop ends a peer's watch of a room; p.mu is held.
func (p *presence) drop(by *watcher, w *watched) {
	l := by.leases[w]
	if l == nil {
		return
	}
	l.ended = true
	by.told.move(w.hash, l.version, 0)
	by.bytes -= leaseCost(w.at)
	p.noted -= leaseCost(w.at)
	delete(by.leases, w)
	if len(by.leases) == 0 {
		delete(p.watchers, by.id)
	}
	w.mu.Lock()
	if i := slices.Index(w.leases, l); i >= 0 {
		w.leases = slices.Delete(w.leases, i, i+1)
	}
	w.mu.Unlock()
	p.unused(w)
}

// forget ends what a peer watches; p.mu is held.
func (p *presence) forget(id NodeID) {
	if by := p.watchers[id]; by != nil {
		for w := range by.leases {
			p.drop(by, w)
		}
	}
}

// expire ends what was not renewed; p.mu is held.
func (p *presence) expire(now time.Time) {
	for id, by := range p.watchers {
		if now.After(by.until) {
			p.forget(id)
		}
	}
}

// An emptyList is rooms of one namespace without a member, of which a watcher is told together.
type emptyList struct {
	rooms    []string
	versions []uint64
	told     []toldLease
}

type toldLease struct {
	w *watched
	l *lease
}

type emptyKey struct {
	to        NodeID
	namespace string
}

// answer tells watchers what there is to tell: of rooms, and then in digests how that has added up. It runs on the lane.
func (p *presence) answer(rooms []*watched) {
	p.mu.Lock()
	refused, digests := p.refusals, maps.Clone(p.digests)
	p.refusals, p.refusalCount = nil, 0
	clear(p.digests)
	p.mu.Unlock()

	empty := make(map[emptyKey]*emptyList)
	for _, w := range rooms {
		w.send(empty)
	}
	for key, list := range empty {
		in := Instruction{Kind: KindPresence, Namespace: key.namespace, To: key.to}
		p.list(in, list.rooms, list.versions, func(from, to int, err error) {
			for i, t := range list.told[from:to] {
				t.w.settle(t.l, list.versions[from+i], err)
			}
		})
	}
	for to, all := range refused {
		for namespace, names := range byNamespace(all) {
			in := Instruction{Kind: KindPresence, Namespace: namespace, To: to, Presence: &Presence{Full: true}}
			p.list(in, names, nil, nil)
		}
	}
	for to, d := range digests {
		r := &Presence{Round: d.round, Buckets: d.buckets}
		p.mu.Lock()
		told := new(digest) // of a watcher of nothing
		if by := p.watchers[to]; by != nil {
			told = &by.told
		}
		r.Sums = told.sums(d.buckets)
		p.mu.Unlock()
		p.publish(&Instruction{Kind: KindPresence, Volatile: true, To: to, Presence: r})
	}
}

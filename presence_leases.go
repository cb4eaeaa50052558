package crosscast

import (
	"maps"
	"slices"
	"time"

	"github.com/crosscast/crosscast/kind"
)

// The watched side: the rooms that peers watch here. The memory for all peers is bounded in bytes, and each peer has a
// share.

const (
	maxLease = 30 * time.Minute // the longest time for which a peer's watches last without a renewal

	watcherBytes  = 16 << 10 // share of each watcher
	maxLeaseBytes = 48 << 20 // beyond its share, a watcher may use the free rest of this
	leaseBytes    = 512      // one room of one watcher, about, without its name
	maxRefused    = 4096     // refused rooms that are not reported to watchers yet
)

// A forged name must not take the place of a node. Therefore two limits depend on a watcher's standing: the number of
// watchers above which it is refused, and the bytes that it may use beyond its share. Nodes that are heard again and
// again are peers, and there are at most maxPeers of them.
var (
	maxWatchers = [...]int{stranger: 256, heardOnce: 1024, heardAgain: 1024 + maxPeers}
	maxNoted    = [...]int{stranger: 0, heardOnce: maxLeaseBytes / 2, heardAgain: maxLeaseBytes}
)

// leasing is the part of presence for the watched side. All is guarded by presence.mu.
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
	told   digest // of the versions sent to it
}

// A lease is a peer's watch of one room.
type lease struct {
	by      *watcher
	whole   bool   // all the members are to be sent; guarded by watched.mu
	version uint64 // sent to the watcher; 0: none, or not surely
	doubted bool   // the watcher was to list the room, and has not yet
	ended   bool
}

type digestRequest struct{ round, buckets uint64 }

// handleWatch handles a peer's kind.Watch.
func (p *presence) handleWatch(inst *Instruction) {
	now := time.Now()
	r := inst.Presence
	if r == nil {
		r = &Presence{}
	}
	who := p.n.peers.standing(inst.From)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	by := p.watchers[inst.From]
	if inst.TTL <= 0 {
		for _, room := range inst.Rooms {
			if w := p.rooms[Address{inst.Namespace, SpaceRoom, room}]; w != nil && by != nil {
				p.dropLeaseLocked(by, w)
			}
		}
		return
	}
	if by != nil {
		by.until = now.Add(min(inst.TTL, maxLease))
	}
	switch {
	case r.Round != 0:
		p.wantDigestLocked(inst.From, digestRequest{r.Round, r.Buckets})
	case r.Buckets != 0 && by != nil:
		p.doubtLeasesLocked(by, r.Buckets)
	}
	for i, room := range inst.Rooms {
		known := uint64(0)
		if len(r.Versions) == len(inst.Rooms) {
			known = r.Versions[i]
		}
		p.leaseLocked(inst.From, who, Address{inst.Namespace, SpaceRoom, room}, known, now.Add(min(inst.TTL, maxLease)))
	}
}

// wantDigestLocked queues a digest for a peer.
func (p *presence) wantDigestLocked(to NodeID, d digestRequest) {
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

// doubtLeasesLocked marks a watcher's leases in some buckets. A lease that is not listed before the next doubt ends.
func (p *presence) doubtLeasesLocked(by *watcher, buckets uint64) {
	for w, l := range by.leases {
		if buckets&(1<<w.hash.bucket()) == 0 {
			continue
		}
		if l.doubted {
			p.dropLeaseLocked(by, w)
		} else {
			l.doubted = true
		}
	}
}

// leaseLocked begins or renews a peer's watch of a room. known is the version that the peer has.
func (p *presence) leaseLocked(from NodeID, who standing, at Address, known uint64, until time.Time) {
	w, by := p.rooms[at], p.watchers[from]
	if w != nil && by != nil && by.leases[w] != nil {
		l := by.leases[w]
		l.doubted = false
		if known == 0 || known != l.version {
			w.mu.Lock()
			defer w.mu.Unlock()
			l.whole = true
			w.pokeLocked()
		}
		return
	}
	if !p.hasSpaceLocked(by, who, leaseCost(at)) {
		p.refuseLocked(from, at)
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
		w = p.openRoomLocked(at)
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
	w.pokeLocked()
}

func leaseCost(at Address) int { return leaseBytes + len(at.Namespace) + len(at.Name) }

// hasSpaceLocked reports whether a watcher, nil if it is new, may use so many more bytes.
func (p *presence) hasSpaceLocked(by *watcher, who standing, cost int) bool {
	bytes := cost
	if by != nil {
		bytes += by.bytes
	} else if len(p.watchers) >= maxWatchers[who] {
		return false
	}
	return bytes <= watcherBytes || bytes <= maxNoted[who]-p.noted
}

// refuseLocked queues the report that a room is refused. Above maxRefused it only counts: the peer gets no answer and
// asks again.
func (p *presence) refuseLocked(from NodeID, at Address) {
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

// dropLeaseLocked ends a peer's watch of a room.
func (p *presence) dropLeaseLocked(by *watcher, w *watched) {
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
	p.endUnusedLocked(w)
}

// forgetWatcherLocked ends all watches of a peer.
func (p *presence) forgetWatcherLocked(id NodeID) {
	if by := p.watchers[id]; by != nil {
		for w := range by.leases {
			p.dropLeaseLocked(by, w)
		}
	}
}

// expireLeasesLocked ends the watches of peers that did not renew them.
func (p *presence) expireLeasesLocked(now time.Time) {
	for id, by := range p.watchers {
		if now.After(by.until) {
			p.forgetWatcherLocked(id)
		}
	}
}

// An emptyList is the rooms of one namespace without a member that one watcher is to get together.
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

// answer sends to watchers all that is due: first rooms, then digests that sum them up. It runs on the lane.
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
		inst := Instruction{Kind: kind.Presence, Namespace: key.namespace, To: key.to}
		p.list(inst, list.rooms, list.versions, func(from, to int, err error) {
			for i, t := range list.told[from:to] {
				t.w.settle(t.l, list.versions[from+i], err)
			}
		})
	}
	for to, all := range refused {
		for namespace, names := range byNamespace(all) {
			inst := Instruction{Kind: kind.Presence, Namespace: namespace, To: to, Presence: &Presence{Full: true}}
			p.list(inst, names, nil, nil)
		}
	}
	for to, d := range digests {
		r := &Presence{Round: d.round, Buckets: d.buckets}
		p.mu.Lock()
		told := new(digest) // for a watcher of nothing
		if by := p.watchers[to]; by != nil {
			told = &by.told
		}
		r.Sums = told.sums(d.buckets)
		p.mu.Unlock()
		p.publish(&Instruction{Kind: kind.Presence, Volatile: true, To: to, Presence: r})
	}
}

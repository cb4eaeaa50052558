package crosscast

import (
	"slices"

	"github.com/crosscast/crosscast/kind"
)

// The watching side: the rooms that this node watches, and its requests to its peers.

// watching is the part of presence for the watching side. All is guarded by presence.mu.
type watching struct {
	views map[Address]*view
	mates map[NodeID]*mate // the peers, while this node watches a room
	kept  int              // bytes of their reports, about
	fulls int              // entries in full, of all of them

	maxKept int    // maxTold
	round   uint64 // number of the last request for a digest
	beats   int    // heartbeats so far

	waiting int   // calls of Watch and Watch.Synced that wait for peers
	failed  error // why peers could not be asked, the last time

	// For the lane.
	news  []newView // rooms for a request to everyone
	ended []Address // rooms that are watched no more
	all   renewal   // of everyone
}

// A newView is a view that begins.
type newView struct {
	view *view
	sent chan<- error // has space for the error of the request, or nil
}

// A mate is this node's record of a peer whose rooms it watches.
type mate struct {
	id    NodeID
	known digest             // of the versions that it has reported
	told  int                // number of rooms that it has reported, those in full included
	bytes int                // of its reports, about
	full  map[*view]struct{} // rooms that it refuses, or whose reports are too large
	asked uint64             // the round before the last request for all its other rooms; see view.begun
	sent  uint64             // the last round of a request for a digest to it
	heard uint64             // the last round of a digest from it
	retry int                // the beat after which those in full are requested again
	pause int                // beats until then

	// For the lane.
	ask    map[*view]struct{} // reported rooms that are to be requested
	before uint64             // rooms without a report are to be requested if their last request was before this round
	list   uint64             // buckets in which it is to get a list of all rooms
	parts  uint64             // the round of a request for the sums of all buckets; 0: none
	renewal
}

// A renewal is a request for a digest, at most one in a heartbeat.
type renewal struct {
	due   uint64 // the round of the request; 0: none
	done  bool   // in this heartbeat
	again bool   // in the next one
}

const (
	maxPause  = 64 * renewEvery // beats
	probe     = 256             // rooms requested from a peer that was full, before it has reported one of them
	firstWait = renewEvery

	toldShare = 32 << 10  // bytes of reports of each peer, whatever the others use
	maxTold   = 256 << 20 // beyond its share, a peer may use the free rest of this
	maxFulls  = 65536     // refused rooms of all peers
)

func (p *presence) noteWaiting(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting += n
}

// whyUntold returns the reason why a peer's list has not come.
func (p *presence) whyUntold() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.failed != nil:
		return p.failed
	case !p.n.Link().Live():
		return ErrNotConnected
	}
	return errUnheard
}

// lookLocked begins to watch a room.
func (p *presence) lookLocked(at Address, known map[NodeID]*peer) (*view, <-chan error) {
	w := p.rooms[at]
	if w == nil {
		w = p.openRoomLocked(at)
	}
	v := &view{p: p, at: at, hash: w.hash, begun: p.round, roster: roster{self: p.n.id}}
	if p.views == nil {
		p.views, p.mates = make(map[Address]*view), make(map[NodeID]*mate)
	}
	if len(p.views) == 0 { // from now on, meetLocked and partLocked keep mates up to date
		for id := range known {
			p.mateLocked(id)
		}
	}
	p.views[at] = v
	v.roster.list(p.n.id)
	w.showLocked(v)
	if p.n.adapter == nil {
		return v, nil
	}
	sent := make(chan error, 1)
	p.news = append(p.news, newView{v, sent})
	p.wake()
	return v, sent
}

// overlookLocked ends the watching of a room.
func (p *presence) overlookLocked(v *view) {
	delete(p.views, v.at)
	v.mu.Lock()
	for id, l := range v.roster.nodes {
		if m := p.mates[id]; m != nil {
			m.known.move(v.hash, l.version, 0)
			m.told -= btoi(l.settled())
			p.holdLocked(m, -l.bytes())
			p.unfullLocked(m, v)
			delete(m.ask, v)
		}
	}
	v.mu.Unlock()
	w := p.rooms[v.at]
	w.mu.Lock()
	w.view = nil
	w.mu.Unlock()
	p.endUnusedLocked(w)
	if p.n.adapter != nil && !p.stopped {
		p.ended = append(p.ended, v.at)
		p.wake()
	}
}

// mateLocked returns the record of a peer.
func (p *presence) mateLocked(id NodeID) *mate {
	m := p.mates[id]
	if m == nil {
		m = &mate{id: id, full: make(map[*view]struct{}), pause: firstWait}
		p.mates[id] = m
	}
	return m
}

// meetLocked asks a new peer for a digest. Only if it answers is it asked about the rooms. So a forged name costs the
// same however many rooms are watched.
func (p *presence) meetLocked(id NodeID) {
	if len(p.views) > 0 {
		p.renewLocked(p.mateLocked(id))
	}
}

// partLocked forgets a peer that has gone, and its members.
func (p *presence) partLocked(id NodeID) {
	for _, v := range p.views {
		v.mu.Lock()
		v.roster.removeNode(id)
		v.movedLocked()
		v.mu.Unlock()
	}
	if m := p.mates[id]; m != nil {
		p.kept -= m.bytes
		p.fulls -= len(m.full)
		delete(p.mates, id)
	}
}

// untoldLocked is the number of rooms that a peer has neither reported nor refused.
func (p *presence) untoldLocked(m *mate) int { return len(p.views) - m.told }

// holdLocked counts more bytes for a peer's reports, and returns whether they are within the limits.
func (p *presence) holdLocked(m *mate, bytes int) bool {
	m.bytes += bytes
	p.kept += bytes
	return bytes <= 0 || m.bytes <= toldShare || p.kept <= p.maxKept
}

// askAgainLocked queues a request for a room that a peer has reported.
func (p *presence) askAgainLocked(m *mate, v *view) {
	if m.ask == nil {
		m.ask = make(map[*view]struct{})
	}
	m.ask[v] = struct{}{}
	p.wake()
}

// renewLocked requests a digest from a peer, now or in the next heartbeat.
func (p *presence) renewLocked(m *mate) {
	if m.again = m.done; m.again {
		return
	}
	m.done = true
	p.round++
	m.due, m.sent = p.round, p.round
	p.wake()
}

// renewAllLocked requests a digest from everyone, now or in the next heartbeat.
func (p *presence) renewAllLocked() {
	if p.all.again = p.all.done; !p.all.again {
		p.all.done = true
		p.renewNowLocked()
	}
}

// renewNowLocked requests a digest from everyone.
func (p *presence) renewNowLocked() {
	p.round++
	p.all.due = p.round
	for _, m := range p.mates {
		m.due, m.again, m.sent = 0, false, p.round
	}
	p.wake()
}

// renewDueLocked requests the digests that are due, once a heartbeat.
func (p *presence) renewDueLocked() {
	if len(p.views) == 0 {
		return
	}
	all := p.all.again || p.beats%renewEvery == 0
	p.all.done, p.all.again = p.all.again, false
	if all {
		p.renewNowLocked()
	}
	for _, m := range p.mates {
		m.done = false
		if !all && (m.again || p.waiting > 0 && p.untoldLocked(m) > 0) {
			p.renewLocked(m)
		}
		p.retryLocked(m)
	}
}

// retryLocked asks a peer again about rooms for which it had no space, if it is time.
func (p *presence) retryLocked(m *mate) {
	if len(m.full) == 0 || p.beats < m.retry {
		return
	}
	n := 0
	for v := range m.full {
		if n++; n > probe && m.pause > firstWait {
			break
		}
		p.askAgainLocked(m, v)
	}
	m.retry = p.beats + m.pause
	m.pause = min(2*m.pause, maxPause)
}

// handleGap requests digests after a gap.
func (p *presence) handleGap(g *Gap) {
	if !g.controls() { // only emissions to rooms and users are missing
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.views) == 0 || p.stopped {
		return
	}
	if g.Origin == "" {
		p.renewAllLocked()
	} else if m := p.mates[g.Origin]; m != nil {
		p.renewLocked(m)
	}
}

// handleReport handles a report of a peer.
func (p *presence) handleReport(inst *Instruction) {
	r := inst.Presence
	if r == nil || !r.valid() {
		p.n.stats.drop(dropPresence)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.mates[inst.From]
	switch {
	case m == nil:
		p.n.stats.drop(dropPresence)
	case r.Round != 0:
		p.compareDigestLocked(m, r)
	case r.Full:
		p.eachViewLocked(inst, func(_ int, v *view) { p.noteRefusalLocked(m, v) })
	case len(inst.Rooms) == 1 && r.Versions == nil:
		p.eachViewLocked(inst, func(_ int, v *view) { p.takeReportLocked(m, v, r) })
	case len(inst.Rooms) == len(r.Versions): // the rooms are empty
		p.eachViewLocked(inst, func(i int, v *view) { p.takeReportLocked(m, v, &Presence{Version: r.Versions[i], Last: true}) })
	default:
		p.n.stats.drop(dropPresence)
	}
}

func (p *presence) eachViewLocked(inst *Instruction, f func(i int, v *view)) {
	for i, room := range inst.Rooms {
		if v := p.views[Address{inst.Namespace, SpaceRoom, room}]; v != nil {
			f(i, v)
		} else {
			p.n.stats.drop(dropPresence)
		}
	}
}

// changeLocked calls f, which changes the record of a peer's list of a room, and returns whether there is space for it.
func (p *presence) changeLocked(m *mate, v *view, f func()) (fits bool) {
	l, version := v.roster.nodes[m.id], v.roster.version(m.id)
	bytes, settled := l.bytes(), l.settled()
	f()
	l = v.roster.nodes[m.id]
	m.known.move(v.hash, version, v.roster.version(m.id))
	m.told += btoi(l.settled()) - btoi(settled)
	return p.holdLocked(m, l.bytes()-bytes)
}

// takeReportLocked takes a peer's report of one room.
func (p *presence) takeReportLocked(m *mate, v *view, r *Presence) {
	ask := false
	v.lock()
	fits := p.changeLocked(m, v, func() { ask = v.roster.apply(m.id, r) })
	if !fits { // its members leave, because they would not be kept up to date
		p.changeLocked(m, v, func() { v.roster.removeNode(m.id) })
	}
	known := v.roster.version(m.id) != 0
	v.movedLocked()
	v.mu.Unlock()
	switch {
	case !fits:
		p.n.stats.drop(dropBusy)
		p.noteRefusalLocked(m, v)
	case known && p.unfullLocked(m, v): // there is space again
		m.retry, m.pause = p.beats+1, firstWait
	}
	if ask && fits {
		p.askAgainLocked(m, v)
	}
}

// unfullLocked removes a room from a peer's full ones, and returns whether it was one.
func (p *presence) unfullLocked(m *mate, v *view) bool {
	if _, was := m.full[v]; !was {
		return false
	}
	delete(m.full, v)
	p.fulls--
	return true
}

// noteRefusalLocked records that a peer refuses a room, or that its reports are too large. Above maxFulls this is not
// recorded, and the room is requested again as if the peer had sent nothing.
func (p *presence) noteRefusalLocked(m *mate, v *view) {
	if _, was := m.full[v]; !was {
		if p.fulls >= maxFulls {
			return
		}
		if len(m.full) == 0 {
			m.retry = p.beats + m.pause
		}
		m.full[v] = struct{}{}
		p.fulls++
	}
	v.lock()
	defer v.mu.Unlock()
	p.changeLocked(m, v, func() { v.roster.markFull(m.id) })
	v.movedLocked()
}

// compareDigestLocked takes a digest.
func (p *presence) compareDigestLocked(m *mate, r *Presence) {
	if r.Round <= m.heard || r.Round > m.sent { // nobody asked for it, or it has been seen
		p.n.stats.drop(dropPresence)
		return
	}
	m.heard = r.Round
	if p.untoldLocked(m) > 0 { // requests for them, or their reports, are lost
		m.before = r.Round
		p.wake()
	}
	differ := m.known.differing(r.Buckets, r.Sums)
	switch {
	case differ == 0:
		return
	case r.Buckets == 0:
		p.round++
		m.parts, m.sent = p.round, p.round
	default:
		m.list |= differ
	}
	p.wake()
}

// ask publishes the requests to peers. It runs on the lane.
func (p *presence) ask() {
	p.mu.Lock()
	ended, news, all := p.ended, p.news, p.all.due
	p.ended, p.news, p.all.due = nil, nil, 0
	news = slices.DeleteFunc(news, func(v newView) bool { return p.views[v.view.at] != v.view }) // nobody waits for it
	var mates []mate                                                                             // as they are now
	for _, m := range p.mates {
		if len(m.ask) > 0 || m.before != 0 || m.list != 0 || m.parts != 0 || m.due != 0 {
			mates = append(mates, *m)
			if m.before != 0 {
				m.asked = p.round
			}
			m.ask, m.before, m.list, m.parts, m.due = nil, 0, 0, 0, 0
		}
	}
	p.mu.Unlock()

	ttl := leaseFor * p.n.heartbeat
	for namespace, rooms := range byNamespace(ended) {
		p.list(Instruction{Kind: kind.Watch, Volatile: true, Namespace: namespace}, rooms, nil, nil)
	}
	var failed error
	if len(news) > 0 {
		at := make([]Address, len(news))
		for i := range news {
			at[i] = news[i].view.at
		}
		for namespace, rooms := range byNamespace(at) {
			inst := Instruction{Kind: kind.Watch, Volatile: true, Namespace: namespace, TTL: ttl}
			if err := p.list(inst, rooms, nil, nil); err != nil {
				failed = err
			}
		}
		if failed != nil {
			p.setFailed(failed) // before Watch returns, because Missing reports it
		}
		for i := range news {
			news[i].sent <- failed
		}
	}
	say := func(to NodeID, r Presence) {
		err := p.publish(&Instruction{Kind: kind.Watch, Volatile: true, To: to, TTL: ttl, Presence: &r})
		if err != nil {
			failed = err
		}
	}
	for i := range mates {
		m := &mates[i]
		if m.list != 0 {
			say(m.id, Presence{Buckets: m.list})
		}
		if err := p.askMate(m); err != nil {
			failed = err
		}
		if m.due != 0 {
			say(m.id, Presence{Round: m.due})
		}
		if m.parts != 0 {
			say(m.id, Presence{Round: m.parts, Buckets: ^uint64(0)})
		}
	}
	if all != 0 {
		say("", Presence{Round: all})
	}
	if failed == nil && len(news) == 0 && len(mates) == 0 && all == 0 {
		return // nothing was asked
	}
	p.setFailed(failed)
}

func (p *presence) setFailed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = err
}

// askMate asks a peer about rooms, and names the known versions. m is a copy of the mate from the time of the decision.
func (p *presence) askMate(m *mate) (failed error) {
	var at []Address
	versions := make(map[Address]uint64)
	p.mu.Lock()
	if m.list == 0 && m.before == 0 {
		for v := range m.ask {
			p.askRoomLocked(m, v, &at, versions)
		}
	} else {
		for _, v := range p.views {
			p.askRoomLocked(m, v, &at, versions)
		}
	}
	p.mu.Unlock()
	for namespace, rooms := range byNamespace(at) {
		known := make([]uint64, len(rooms))
		for i, room := range rooms {
			known[i] = versions[Address{namespace, SpaceRoom, room}]
		}
		inst := Instruction{
			Kind: kind.Watch, Volatile: true, Namespace: namespace, To: m.id, TTL: leaseFor * p.n.heartbeat,
		}
		if err := p.list(inst, rooms, known, nil); err != nil {
			failed = err
		}
	}
	return failed
}

// askRoomLocked adds a room to the request to a peer, if it belongs there.
func (p *presence) askRoomLocked(m *mate, v *view, at *[]Address, versions map[Address]uint64) {
	v.mu.Lock()
	l, version := v.roster.nodes[m.id], v.roster.version(m.id)
	v.mu.Unlock()
	_, ask := m.ask[v]
	if !ask && !l.settled() {
		ask = max(m.asked, v.begun) < m.before
	}
	if ask || m.list&(1<<v.hash.bucket()) != 0 && (l == nil || !l.full) {
		*at = append(*at, v.at)
		versions[v.at] = version
	}
}

// byNamespace groups rooms by namespace.
func byNamespace(all []Address) map[string][]string {
	rooms := make(map[string][]string)
	for _, at := range all {
		rooms[at.Namespace] = append(rooms[at.Namespace], at.Name)
	}
	for _, names := range rooms {
		slices.Sort(names)
	}
	return rooms
}

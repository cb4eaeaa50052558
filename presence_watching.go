package crosscast

import "slices"

// The watching side: the rooms that this node watches, and what it asks its peers.

// watching is the part of presence about that. All is guarded by presence.mu.
type watching struct {
	views map[Address]*view
	mates map[NodeID]*mate // the peers, while this node watches something
	kept  int              // bytes of what they have told, about
	fulls int              // entries in full, of all of them

	maxKept int    // maxTold
	round   uint64 // number of what asked for a digest the last time
	beats   int    // heartbeats so far

	waiting int   // calls of Watch and Watch.Synced that wait for peers
	failed  error // why peers could not be asked, the last time

	// For the lane.
	news  []newView // rooms that everyone is to be asked about
	ended []Address // rooms that are watched no more
	all   renewal   // of everyone
}

// A newView is a view that begins.
type newView struct {
	view *view
	sent chan<- error // has space for whether the peers were asked
}

// A mate is what this node keeps of a peer whose rooms it watches.
type mate struct {
	id    NodeID
	known digest             // of the versions that it has told
	told  int                // rooms of which it has told, those in full included
	bytes int                // of what it has told, about
	full  map[*view]struct{} // rooms of which it does not tell, or tells too much
	asked uint64             // the round before it was asked last about all others; see view.begun
	sent  uint64             // the last round in which it was asked for a digest
	heard uint64             // the last round of which one came
	retry int                // the beat after which it is asked again for those in full
	pause int                // beats until then

	// For the lane.
	ask    map[*view]struct{} // rooms that it has told of and is to be asked about
	before uint64             // it is to be asked about the rooms that it has not told of, and was not asked about since this round
	list   uint64             // buckets in which it is to be listed everything
	parts  uint64             // the round in which it is to be asked for the sums of all buckets; 0: it is not
	renewal
}

// A renewal is the asking for a digest, at most once in a heartbeat.
type renewal struct {
	due   uint64 // the round in which to ask; 0: none
	done  bool   // in this heartbeat
	again bool   // in the next one
}

const (
	maxPause  = 64 * renewEvery // beats
	probe     = 256             // rooms that a peer which was full is asked about, before it has told of one of them
	firstWait = renewEvery

	toldShare = 32 << 10  // bytes that each peer may have told, whatever the others have
	maxTold   = 256 << 20 // beyond that, a peer may have told as much as all of them leave free
	maxFulls  = 65536     // rooms, for all peers, of which they do not tell
)

func (p *presence) wait(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting += n
}

// unasked says why a peer's list has not come.
func (p *presence) unasked() error {
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

// look begins to watch a room; p.mu is held.
func (p *presence) look(at Address, known map[NodeID]*peer) (*view, <-chan error) {
	w := p.rooms[at]
	if w == nil {
		w = p.open(at)
	}
	v := &view{p: p, at: at, hash: w.hash, begun: p.round, roster: roster{self: p.n.id}}
	if p.views == nil {
		p.views, p.mates = make(map[Address]*view), make(map[NodeID]*mate)
	}
	if len(p.views) == 0 { // from now on meet and part see to it
		for id := range known {
			p.mate(id)
		}
	}
	p.views[at] = v
	v.roster.list(p.n.id)
	w.see(v)
	if p.n.adapter == nil {
		return v, nil
	}
	sent := make(chan error, 1)
	p.news = append(p.news, newView{v, sent})
	p.wake()
	return v, sent
}

// overlook ends the watching of a room; p.mu is held.
func (p *presence) overlook(v *view) {
	delete(p.views, v.at)
	v.mu.Lock()
	for id, l := range v.roster.nodes {
		if m := p.mates[id]; m != nil {
			m.known.move(v.hash, l.version, 0)
			m.told -= btoi(l.settled())
			p.hold(m, -l.bytes())
			p.unfull(m, v)
			delete(m.ask, v)
		}
	}
	v.mu.Unlock()
	w := p.rooms[v.at]
	w.mu.Lock()
	w.view = nil
	w.mu.Unlock()
	p.unused(w)
	if p.n.adapter != nil && !p.stopped {
		p.ended = append(p.ended, v.at)
		p.wake()
	}
}

// mate returns what is kept of a peer; p.mu is held.
func (p *presence) mate(id NodeID) *mate {
	m := p.mates[id]
	if m == nil {
		m = &mate{id: id, full: make(map[*view]struct{}), pause: firstWait}
		p.mates[id] = m
	}
	return m
}

// meet asks a peer that has come for a digest: when it answers that, it is asked about the rooms. So a name that
// somebody made up costs no more however many rooms are watched; p.mu is held.
func (p *presence) meet(id NodeID) {
	if len(p.views) > 0 {
		p.renew(p.mate(id))
	}
}

// part forgets a peer that has gone, and its members; p.mu is held.
func (p *presence) part(id NodeID) {
	for _, v := range p.views {
		v.mu.Lock()
		v.roster.gone(id)
		v.moved()
		v.mu.Unlock()
	}
	if m := p.mates[id]; m != nil {
		p.kept -= m.bytes
		p.fulls -= len(m.full)
		delete(p.mates, id)
	}
}

// untold is of how many rooms a peer has not told, and not said that it does not; p.mu is held.
func (p *presence) untold(m *mate) int { return len(p.views) - m.told }

// hold notes that a peer has told so many bytes more, and reports whether it may; p.mu is held.
func (p *presence) hold(m *mate, bytes int) bool {
	m.bytes += bytes
	p.kept += bytes
	return bytes <= 0 || m.bytes <= toldShare || p.kept <= p.maxKept
}

// askAgain has a peer asked about a room of which it has told; p.mu is held.
func (p *presence) askAgain(m *mate, v *view) {
	if m.ask == nil {
		m.ask = make(map[*view]struct{})
	}
	m.ask[v] = struct{}{}
	p.wake()
}

// renew has a peer asked for a digest, now or in the next heartbeat; p.mu is held.
func (p *presence) renew(m *mate) {
	if m.again = m.done; m.again {
		return
	}
	m.done = true
	p.round++
	m.due, m.sent = p.round, p.round
	p.wake()
}

// renewAll has everyone asked for a digest, now or in the next heartbeat; p.mu is held.
func (p *presence) renewAll() {
	if p.all.again = p.all.done; !p.all.again {
		p.all.done = true
		p.renewNow()
	}
}

// renewNow has everyone asked for a digest; p.mu is held.
func (p *presence) renewNow() {
	p.round++
	p.all.due = p.round
	for _, m := range p.mates {
		m.due, m.again, m.sent = 0, false, p.round
	}
	p.wake()
}

// renewDue asks for the digests that are due, once a heartbeat; p.mu is held.
func (p *presence) renewDue() {
	if len(p.views) == 0 {
		return
	}
	all := p.all.again || p.beats%renewEvery == 0
	p.all.done, p.all.again = p.all.again, false
	if all {
		p.renewNow()
	}
	for _, m := range p.mates {
		m.done = false
		if !all && (m.again || p.waiting > 0 && p.untold(m) > 0) {
			p.renew(m)
		}
		p.retry(m)
	}
}

// retry has a peer asked again that had no space for some rooms, if it is time; p.mu is held.
func (p *presence) retry(m *mate) {
	if len(m.full) == 0 || p.beats < m.retry {
		return
	}
	n := 0
	for v := range m.full {
		if n++; n > probe && m.pause > firstWait {
			break
		}
		p.askAgain(m, v)
	}
	m.retry = p.beats + m.pause
	m.pause = min(2*m.pause, maxPause)
}

// gap asks what was missed.
func (p *presence) gap(g *Gap) {
	if !g.controls() { // emissions to rooms and users, so nothing of this
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.views) == 0 || p.stopped {
		return
	}
	if g.Origin == "" {
		p.renewAll()
	} else if m := p.mates[g.Origin]; m != nil {
		p.renew(m)
	}
}

// told acts on what a peer tells.
func (p *presence) told(in *Instruction) {
	r := in.Presence
	if r == nil {
		p.n.stats.drop(dropPresence)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.mates[in.From]
	switch {
	case m == nil:
		p.n.stats.drop(dropPresence)
	case r.Round != 0:
		p.compare(m, r)
	case r.Full:
		p.eachView(in, func(_ int, v *view) { p.refused(m, v) })
	case len(in.Rooms) == 1 && r.Versions == nil:
		p.eachView(in, func(_ int, v *view) { p.heard(m, v, r) })
	case len(in.Rooms) == len(r.Versions): // they are empty
		p.eachView(in, func(i int, v *view) { p.heard(m, v, &Presence{Version: r.Versions[i], Last: true}) })
	default:
		p.n.stats.drop(dropPresence)
	}
}

func (p *presence) eachView(in *Instruction, f func(i int, v *view)) {
	for i, room := range in.Rooms {
		if v := p.views[Address{in.Namespace, SpaceRoom, room}]; v != nil {
			f(i, v)
		} else {
			p.n.stats.drop(dropPresence)
		}
	}
}

// change makes a change of what a peer has told of a room, and reports whether there is space for it; p.mu is held, and v
// locked.
func (p *presence) change(m *mate, v *view, f func()) (fits bool) {
	l, version := v.roster.nodes[m.id], v.roster.version(m.id)
	bytes, settled := l.bytes(), l.settled()
	f()
	l = v.roster.nodes[m.id]
	m.known.move(v.hash, version, v.roster.version(m.id))
	m.told += btoi(l.settled()) - btoi(settled)
	return p.hold(m, l.bytes()-bytes)
}

// heard takes what a peer tells of one room; p.mu is held.
func (p *presence) heard(m *mate, v *view, r *Presence) {
	ask := false
	v.lock()
	fits := p.change(m, v, func() { ask = v.roster.apply(m.id, r) })
	if !fits { // its members leave, because what is kept of them would not be kept up to date
		p.change(m, v, func() { v.roster.gone(m.id) })
	}
	known := v.roster.version(m.id) != 0
	v.moved()
	v.mu.Unlock()
	switch {
	case !fits:
		p.n.stats.drop(dropBusy)
		p.refused(m, v)
	case known && p.unfull(m, v): // there is space again
		m.retry, m.pause = p.beats+1, firstWait
	}
	if ask && fits {
		p.askAgain(m, v)
	}
}

// unfull notes that a peer is not one that does not tell of a room, and reports whether it was; p.mu is held.
func (p *presence) unfull(m *mate, v *view) bool {
	if _, was := m.full[v]; !was {
		return false
	}
	delete(m.full, v)
	p.fulls--
	return true
}

// refused notes that a peer does not tell of a room, or tells too much. Of too many rooms that is not noted: they are asked
// about again as if the peer had said nothing; p.mu is held.
func (p *presence) refused(m *mate, v *view) {
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
	p.change(m, v, func() { v.roster.refused(m.id) })
	v.moved()
}

// compare takes a digest; p.mu is held.
func (p *presence) compare(m *mate, r *Presence) {
	if r.Round <= m.heard || r.Round > m.sent { // nobody asked for it, or it has been seen
		p.n.stats.drop(dropPresence)
		return
	}
	m.heard = r.Round
	if p.untold(m) > 0 { // what they were asked, or told, is lost
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

// ask publishes what peers are to be asked. It runs on the lane.
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
		p.list(Instruction{Kind: KindWatch, Volatile: true, Namespace: namespace}, rooms, nil, nil)
	}
	var failed error
	if len(news) > 0 {
		at := make([]Address, len(news))
		for i := range news {
			at[i] = news[i].view.at
		}
		for namespace, rooms := range byNamespace(at) {
			in := Instruction{Kind: KindWatch, Volatile: true, Namespace: namespace, TTL: ttl}
			if err := p.list(in, rooms, nil, nil); err != nil {
				failed = err
			}
		}
		if failed != nil {
			p.setFailed(failed) // before the watch returns, which is asked why
		}
		for i := range news {
			news[i].sent <- failed
		}
	}
	say := func(to NodeID, r Presence) {
		err := p.publish(&Instruction{Kind: KindWatch, Volatile: true, To: to, TTL: ttl, Presence: &r})
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

// askMate asks a peer about rooms, and says which versions are known. m is as the peer was when it was decided.
func (p *presence) askMate(m *mate) (failed error) {
	var at []Address
	versions := make(map[Address]uint64)
	p.mu.Lock()
	if m.list == 0 && m.before == 0 {
		for v := range m.ask {
			p.askRoom(m, v, &at, versions)
		}
	} else {
		for _, v := range p.views {
			p.askRoom(m, v, &at, versions)
		}
	}
	p.mu.Unlock()
	for namespace, rooms := range byNamespace(at) {
		known := make([]uint64, len(rooms))
		for i, room := range rooms {
			known[i] = versions[Address{namespace, SpaceRoom, room}]
		}
		in := Instruction{
			Kind: KindWatch, Volatile: true, Namespace: namespace, To: m.id, TTL: leaseFor * p.n.heartbeat,
		}
		if err := p.list(in, rooms, known, nil); err != nil {
			failed = err
		}
	}
	return failed
}

// askRoom adds a room to what a peer is to be asked about, if it is; p.mu is held.
func (p *presence) askRoom(m *mate, v *view, at *[]Address, versions map[Address]uint64) {
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

// byNamespace sorts rooms by namespace.
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

package crosscast

import (
	"maps"
	"slices"
)

// The watching side: the rooms that this node watches, and what it asks its peers.

// watching is the part of presence about that. All is guarded by presence.mu.
type watching struct {
	views map[Address]*view
	mates map[NodeID]*mate // the peers, since this node watches something
	round uint64           // number of what asked for a digest the last time
	beats int              // heartbeats so far

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
	id     NodeID
	known  digest             // of the versions that it has told
	untold map[*view]uint64   // rooms of which it has not told, and the round before it was asked
	full   map[*view]struct{} // rooms of which it said that it does not tell
	sent   uint64             // the last round in which it was asked for a digest
	heard  uint64             // the last round of which one came
	retry  int                // the beat after which it is asked again for those in full
	pause  int                // beats until then

	// For the lane.
	ask   map[*view]struct{} // rooms that it is to be asked about
	list  uint64             // buckets in which it is to be listed everything
	parts uint64             // the round in which it is to be asked for the sums of all buckets; 0: it is not
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
	v := &view{p: p, at: at, hash: w.hash, roster: roster{self: p.n.id}}
	if p.views == nil {
		p.views, p.mates = make(map[Address]*view), make(map[NodeID]*mate)
	}
	p.views[at] = v
	v.roster.add(p.n.id)
	for id := range known {
		v.roster.add(id)
		p.mate(id).untold[v] = p.round
	}
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
	for id, m := range p.mates {
		m.known.move(v.hash, v.roster.version(id), 0)
		m.told(v)
		delete(m.ask, v)
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
		m = &mate{id: id, untold: make(map[*view]uint64), full: make(map[*view]struct{}), pause: firstWait}
		p.mates[id] = m
	}
	return m
}

// meet asks a peer that has come about all rooms; p.mu is held.
func (p *presence) meet(id NodeID) {
	if len(p.views) == 0 {
		return
	}
	m := p.mate(id)
	for _, v := range p.views {
		v.mu.Lock()
		v.roster.add(id)
		v.moved()
		v.mu.Unlock()
		p.askAbout(m, v)
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
	delete(p.mates, id)
}

// askAbout has a peer asked about a room of which it has not told; p.mu is held.
func (p *presence) askAbout(m *mate, v *view) {
	m.untold[v] = p.round
	p.askAgain(m, v)
}

func (p *presence) askAgain(m *mate, v *view) {
	if m.ask == nil {
		m.ask = make(map[*view]struct{})
	}
	m.ask[v] = struct{}{}
	p.wake()
}

func (m *mate) told(v *view) {
	delete(m.untold, v)
	delete(m.full, v)
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
		if !all && (m.again || p.waiting > 0 && len(m.untold) > 0) {
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
		p.n.stats.presence.Add(1)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.mates[in.From]
	switch {
	case m == nil:
		p.n.stats.presence.Add(1)
	case r.Round != 0:
		p.compare(m, r)
	case r.Full:
		p.eachView(in, func(_ int, v *view) { p.refused(m, v) })
	case len(in.Rooms) == 1 && r.Versions == nil:
		p.eachView(in, func(_ int, v *view) { p.heard(m, v, r) })
	case len(in.Rooms) == len(r.Versions): // they are empty
		p.eachView(in, func(i int, v *view) { p.heard(m, v, &Presence{Version: r.Versions[i], Last: true}) })
	default:
		p.n.stats.presence.Add(1)
	}
}

func (p *presence) eachView(in *Instruction, f func(i int, v *view)) {
	for i, room := range in.Rooms {
		if v := p.views[Address{in.Namespace, RoomSpace, room}]; v != nil {
			f(i, v)
		} else {
			p.n.stats.presence.Add(1)
		}
	}
}

// heard takes what a peer tells of one room; p.mu is held.
func (p *presence) heard(m *mate, v *view, r *Presence) {
	v.lock()
	before := v.roster.version(m.id)
	ask, known := v.roster.apply(m.id, r)
	after := v.roster.version(m.id)
	v.moved()
	v.mu.Unlock()
	if !known {
		p.n.stats.presence.Add(1)
		return
	}
	m.known.move(v.hash, before, after)
	if after != 0 {
		if _, was := m.full[v]; was { // there is space again
			m.retry, m.pause = p.beats+1, firstWait
		}
		m.told(v)
	}
	if ask {
		p.askAgain(m, v)
	}
}

// refused notes that a peer does not tell of a room; p.mu is held.
func (p *presence) refused(m *mate, v *view) {
	v.lock()
	before := v.roster.version(m.id)
	v.roster.refused(m.id)
	v.moved()
	v.mu.Unlock()
	m.known.move(v.hash, before, 0)
	if len(m.full) == 0 {
		m.retry = p.beats + m.pause
	}
	delete(m.untold, v)
	m.full[v] = struct{}{}
}

// compare takes a digest; p.mu is held.
func (p *presence) compare(m *mate, r *Presence) {
	if r.Round <= m.heard || r.Round > m.sent { // nobody asked for it, or it has been seen
		p.n.stats.presence.Add(1)
		return
	}
	m.heard = r.Round
	for v, asked := range m.untold {
		if asked < r.Round { // it, or what was told, is lost
			p.askAbout(m, v)
		}
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
		if len(m.ask) > 0 || m.list != 0 || m.parts != 0 || m.due != 0 {
			now := *m
			m.ask, m.list, m.parts, m.due = nil, 0, 0, 0
			if now.list != 0 {
				now.ask = maps.Clone(now.ask)
				if now.ask == nil {
					now.ask = make(map[*view]struct{})
				}
				for _, v := range p.views {
					if _, full := m.full[v]; now.list&(1<<v.hash.bucket()) != 0 && !full {
						now.ask[v] = struct{}{}
					}
				}
			}
			mates = append(mates, now)
		}
	}
	p.mu.Unlock()

	ttl := leaseFor * p.n.heartbeat
	for namespace, rooms := range byNamespace(ended) {
		p.list(Instruction{Kind: KindWatch, Flags: Volatile, Namespace: namespace}, rooms, nil, nil)
	}
	var failed error
	if len(news) > 0 {
		at := make([]Address, len(news))
		for i := range news {
			at[i] = news[i].view.at
		}
		for namespace, rooms := range byNamespace(at) {
			in := Instruction{Kind: KindWatch, Flags: Volatile, Namespace: namespace, TTL: ttl}
			if err := p.list(in, rooms, nil, nil); err != nil {
				failed = err
			}
		}
		for i := range news {
			news[i].sent <- failed
		}
	}
	say := func(to NodeID, r Presence) {
		err := p.publish(&Instruction{Kind: KindWatch, Flags: Volatile, To: to, TTL: ttl, Presence: &r})
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
	p.mu.Lock()
	p.failed = failed
	p.mu.Unlock()
}

// askMate asks a peer about rooms, and says which versions are known.
func (p *presence) askMate(m *mate) (failed error) {
	at := make([]Address, 0, len(m.ask))
	versions := make(map[Address]uint64, len(m.ask))
	for v := range m.ask {
		v.mu.Lock()
		version := v.roster.version(m.id)
		v.mu.Unlock()
		at = append(at, v.at)
		versions[v.at] = version
	}
	for namespace, rooms := range byNamespace(at) {
		known := make([]uint64, len(rooms))
		for i, room := range rooms {
			known[i] = versions[Address{namespace, RoomSpace, room}]
		}
		in := Instruction{
			Kind: KindWatch, Flags: Volatile, Namespace: namespace, To: m.id, TTL: leaseFor * p.n.heartbeat,
		}
		if err := p.list(in, rooms, known, nil); err != nil {
			failed = err
		}
	}
	return failed
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

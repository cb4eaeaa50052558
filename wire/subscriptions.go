package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
)

// subscriptions holds the set of wanted topics, and subscribes them on each link. The link's own goroutine writes
// requests in order; events confirm them in the same order.
//
// A caller of Subscribe touches no connection: it waits for events. If the link breaks, it returns at once.
type subscriptions struct {
	*session
	began time.Time

	mu       sync.Mutex
	topics   topicSet       // wanted; guarded by mu, like everything below
	link     *link          // nil while there is none
	resumed  bool           // link has confirmed or refused all topics that were wanted when it began
	requests []request      // not yet written to link
	written  []request      // written to link, without all replies; only subscribing ones
	leaving  map[string]int // by topic: unsubscribe requests on link without a confirmation
	hashed   hashedTopics   // on a Patchy bus
	confirm  *time.Timer    // checks the oldest request in written
	pinged   uint64         // pings written behind late requests
	sealed   int            // how many of requests and written are sealed
	news     []*topic       // topics that might have gaps to report
	denials  denials
}

// request is one command for a link.
type request struct {
	subscribe bool
	sealed    bool // it is not merged with others; gaps are reported when no sealed request is left
	retry     bool // it belongs to a round of denials
	topics    []*topic
	next      int       // index in topics of the next one to be confirmed
	at        time.Time // when it was written
	ping      string    // the ping after it, because its confirmation is late
}

func newSubscriptions(s *session) *subscriptions {
	return &subscriptions{session: s, began: time.Now(), topics: newTopicSet(), hashed: newHashedTopics()}
}

// wantHome adds the topics that the node always needs, before there is a link.
func (s *subscriptions) wantHome(home []destination) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range home {
		key := d.topic(s.o.Prefix)
		s.enterLocked(s.topics.newTopic(s.o.Prefix, &d, key), key, true)
	}
}

// sought is a topic of one of a call's names.
type sought struct {
	to   destination
	key  string // the topic's name; part of a longer string
	end  int    // of key in that
	name int    // index in the names of the call
}

// each calls f with the topics of names, a part at a time. It holds mu only during these calls, so that a delivery can
// take mu between them.
func (s *subscriptions) each(names []crosscast.Address, f func(part []sought)) {
	list := soughtLists.Get().(*[]sought)
	part := *list
	var to []destination
	var buf []byte
	for i, name := range names {
		to = s.format.destinations(to[:0], name)
		for _, d := range to {
			buf = d.appendTopic(buf, s.o.Prefix)
			part = append(part, sought{d, "", len(buf), i})
		}
		if len(part) >= maxHeld || i == len(names)-1 {
			keys, from := string(buf), 0
			for i := range part {
				p := &part[i]
				p.key, from = keys[from:p.end], p.end
			}
			s.mu.Lock()
			f(part)
			s.mu.Unlock()
			clear(part)
			part, buf = part[:0], buf[:0]
		}
	}
	*list = part
	soughtLists.Put(list)
}

var soughtLists = sync.Pool{New: func() any { return new(make([]sought, 0, maxHeld)) }}

func (s *subscriptions) subscribe(ctx context.Context, names []crosscast.Address) error {
	w := &wait{names: names, left: 1, done: make(chan struct{})} // left counts this call until it has requested all topics
	now := time.Now()
	down := false
	s.each(names, func(part []sought) {
		down = down || !s.resumed || w.err != nil
		s.askLocked(w, part, down, now)
	})
	s.mu.Lock()
	w.left--
	wait := w.left > 0
	if down { // the result ErrNotConnected is a promise for all names
		for _, r := range w.refused {
			r.topic.promise(time.Now()) // the link might be back, and might have resumed without this topic
		}
	}
	s.mu.Unlock()
	switch {
	case down:
		return s.downError()
	case !wait:
		return w.outcome()
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		if !s.abandon(w) {
			return ctx.Err()
		}
	}
	return w.outcome()
}

// askLocked requests the topics that are not confirmed. Unless the link is down, it makes w wait for them.
func (s *subscriptions) askLocked(w *wait, part []sought, down bool, now time.Time) {
	var ask, again []*topic
	var waiters []waiter // one object for all topics of the part, because that is the garbage of many joins
	for i := range part {
		p := &part[i]
		t := s.wantLocked(&p.to, p.key, &w.names[p.name])
		if t.state == confirmed {
			continue
		}
		if s.link != nil && t.request == idle {
			t.request = asking
			if ask == nil {
				ask = make([]*topic, 0, len(part))
			}
			if t.state == denied {
				again = append(again, t)
			} else {
				ask = append(ask, t)
			}
		}
		if down {
			t.promise(now)
		} else {
			if waiters == nil {
				waiters = make([]waiter, 0, len(part))
			}
			waiters = append(waiters, waiter{w, p.name, nil})
			t.await(&waiters[len(waiters)-1])
		}
	}
	s.requestLocked(request{subscribe: true}, ask)
	s.requestLocked(request{subscribe: true, sealed: true}, again)
}

// abandon ends the wait of w, and reports whether it was over already.
func (s *subscriptions) abandon(w *wait) (over bool) {
	s.mu.Lock()
	over = w.left == 0 || w.err != nil
	s.mu.Unlock()
	if over {
		return true
	}
	s.each(w.names, func(part []sought) {
		for _, p := range part {
			if t := s.topics.get(p.key); t != nil {
				t.forget(w)
			}
		}
	})
	return false
}

// wantLocked returns the topic of d, and makes it if it is missing. It adds a name to the topic.
func (s *subscriptions) wantLocked(d *destination, key string, name *crosscast.Address) *topic {
	t := s.topics.get(key)
	if t == nil {
		t = s.topics.newTopic(s.o.Prefix, d, key)
		s.enterLocked(t, key, false)
		if d.name == *name {
			return t
		}
	}
	if to := t.to(); to.name != *name && !t.home {
		t.addName(*name)
	}
	return t
}

// gapNames returns the names for a gap of t; nil: all names.
func (s *subscriptions) gapNames(t *topic) []crosscast.Address {
	if to := t.to(); !to.isShared() {
		return to.names()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.gapNamesLocked()
}

// gapNamesLocked is gapNames of a shared topic.
func (t *topic) gapNamesLocked() []crosscast.Address {
	if len(t.more) > maxGapNames {
		return nil
	}
	return t.appendNames([]crosscast.Address{})
}

// namesOn returns the names for a gap of the shared topic with a name, if this node hears it; nil: all names.
func (s *subscriptions) namesOn(topic string) (names []crosscast.Address, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics.get(topic)
	if t == nil {
		return nil, false
	}
	if to := t.to(); !to.isShared() { // a stranger's
		return nil, false
	}
	return t.gapNamesLocked(), true
}

// enterLocked adds a topic with the name key to the sets of topics. dropLocked removes it.
func (s *subscriptions) enterLocked(t *topic, key string, home bool) {
	t.home = home
	s.topics.add(t, key)
	if s.ground.patchy {
		s.hashed.addTopic(hashTopic(key), t)
	}
}

func (s *subscriptions) dropLocked(t *topic) {
	s.topics.remove(t)
	if s.ground.patchy {
		s.hashed.removeTopic(hashTopic(t.name()), t)
	}
}

// unsubscribe removes names from the wanted topics.
func (s *subscriptions) unsubscribe(names []crosscast.Address) {
	s.each(names, func(part []sought) {
		var drop []*topic
		for _, p := range part {
			t := s.topics.get(p.key)
			if t == nil || t.home || !t.removeName(names[p.name]) {
				continue
			}
			s.dropLocked(t)
			if t.state == denied {
				s.denials.count--
			}
			t.gone = true
			t.resolve(errGone)
			if t.request != idle || t.state == confirmed {
				drop = append(drop, t)
			}
		}
		s.denials.tidy()
		s.requestLocked(request{}, drop)
	})
}

// requestLocked queues requests like r for the current link, if there is one.
func (s *subscriptions) requestLocked(r request, topics []*topic) {
	if s.link == nil || len(topics) == 0 {
		return
	}
	s.requestByLocked(subscribeBatch, r, topics)
}

// requestByLocked is requestLocked, with at most size topics in a command.
func (s *subscriptions) requestByLocked(size int, r request, topics []*topic) {
	for part := range slices.Chunk(topics, size) {
		r.topics = part
		s.requests = append(s.requests, r)
		if r.sealed {
			s.sealed++
		}
	}
	s.link.signal()
}

// beginLink makes l the current link, and requests all wanted topics from it. The home topics are first, one by one, so
// that an error names the topic. The topics that the bus has denied before are last. l need not wait for these.
func (s *subscriptions) beginLink(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.resumed, s.leaving = l, false, map[string]int{}
	var home, others []*topic
	for t := range s.topics.all() {
		switch {
		case t.home:
			home = append(home, t)
		case t.state == denied && !t.unreported():
			continue
		default:
			others = append(others, t)
		}
		t.request = askedFirst
	}
	l.unconfirmed = len(home) + len(others)
	s.requestByLocked(1, request{subscribe: true, sealed: true}, home)
	s.requestLocked(request{subscribe: true}, others)
	s.askDeniedLocked()
}

// endLink forgets the current link, and fails the waiting calls.
func (s *subscriptions) endLink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.resumed = nil, false
	s.requests, s.written, s.leaving, s.news, s.sealed = nil, nil, nil, nil, 0
	s.denials.rest()
	if s.confirm != nil {
		s.confirm.Stop()
	}
	err := s.downError()
	for t := range s.topics.all() {
		t.request = idle
		switch t.state {
		case confirmed:
			t.state = unheard
		case denied:
			s.denials.later(t)
		}
		t.fail(err)
	}
}

// nextRequest returns the next request for l, and enters it in written, or in leaving.
func (s *subscriptions) nextRequest(l *link) (r request, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l || len(s.requests) == 0 {
		return r, false
	}
	take := func() request {
		r := s.requests[0]
		s.requests[0] = request{}
		s.requests = s.requests[1:]
		return r
	}
	r = take()
	// Joins that came one by one while the link was busy become one command.
	own := false // r.topics is not part of another request
	for !r.sealed && len(s.requests) > 0 {
		next := &s.requests[0]
		if next.sealed || next.subscribe != r.subscribe || len(r.topics)+len(next.topics) > subscribeBatch {
			break
		}
		if !own {
			r.topics, own = append(make([]*topic, 0, subscribeBatch), r.topics...), true
		}
		r.topics = append(r.topics, take().topics...)
	}
	if !r.subscribe {
		for _, t := range r.topics {
			s.leaving[t.name()]++
		}
		return r, true
	}
	r.at = time.Now()
	s.written = append(s.written, r)
	if len(s.written) == 1 {
		s.watchLocked(confirmTimeout)
	}
	return r, true
}

// watchLocked looks after d whether the oldest request was confirmed.
func (s *subscriptions) watchLocked(d time.Duration) {
	if s.confirm == nil {
		s.confirm = time.AfterFunc(d, s.checkConfirmed)
		return
	}
	s.confirm.Reset(d)
}

func (s *subscriptions) checkConfirmed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil || len(s.written) == 0 {
		return
	}
	oldest := &s.written[0]
	age := time.Since(oldest.at)
	switch {
	case age < confirmTimeout:
		s.watchLocked(confirmTimeout - age)
	case s.link.silentFor() < confirmTimeout/2:
		// The confirmation waits behind other bytes, or the reader is in a call of the application. The link is pinged
		// now. If the confirmation has not come before the answer, it does not come.
		if oldest.ping == "" {
			s.pinged++
			oldest.ping = fmt.Sprint("confirm", s.pinged)
			s.link.ping(oldest.ping)
		}
		s.watchLocked(confirmTimeout / 2)
	default:
		s.link.fail(errUnconfirmed)
	}
}

// handlePong handles the answer to a ping: the request before it is confirmed by now, or never will be.
func (s *subscriptions) handlePong(l *link, ping string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == l && len(s.written) > 0 && s.written[0].ping == ping {
		return errUnconfirmed
	}
	return nil
}

var (
	errUnconfirmed = fmt.Errorf("no confirmation of a subscription within %v", confirmTimeout)
	errReplaced    = errors.New("the connection was replaced")
	errTaken       = errors.New("the bus has ended a subscription that was to stay")
	errGone        = errors.New("crosscast: unsubscribed meanwhile")
)

// finishOldestLocked removes the oldest request, which was confirmed or refused.
func (s *subscriptions) finishOldestLocked() {
	if s.written[0].sealed {
		s.sealed--
	}
	if s.written[0].retry {
		s.denials.left--
	}
	s.written[0] = request{}
	s.written = s.written[1:]
	if len(s.written) > 0 {
		s.watchLocked(max(confirmTimeout-time.Since(s.written[0].at), 0))
	} else {
		s.confirm.Stop()
	}
}

// repliedLocked returns the topic of a reply. A reply that is not the next one means that the client library has
// replaced the connection on its own.
func (s *subscriptions) repliedLocked(l *link, name string) (*topic, error) {
	if s.link != l || len(s.written) == 0 {
		return nil, errReplaced
	}
	r := &s.written[0]
	t := r.topics[r.next]
	if !t.named(name) {
		return nil, errReplaced
	}
	r.next++
	if r.next == len(r.topics) {
		s.finishOldestLocked()
	}
	t.answered(l)
	return t, nil
}

// answered notes that a request for t has an outcome. The caller holds subscriptions.mu.
func (t *topic) answered(l *link) {
	if t.request == askedFirst {
		l.unconfirmed--
	}
	t.request = idle
}

// handleSubscribed enters a confirmation, which has a number, and arrived at now.
func (s *subscriptions) handleSubscribed(l *link, ev *Event, confirmation uint64, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.repliedLocked(l, ev.Topic)
	if err != nil || t.gone {
		return err
	}
	wasDenied := t.state == denied
	t.state, t.promised, t.unproven = confirmed, true, ev.Err != nil
	if wasDenied {
		s.allowLocked()
	}
	t.epoch++
	t.confirmation, t.confirmedAt = confirmation, now.Sub(s.began)
	t.resolve(nil)
	if t.missing != nil {
		s.news = append(s.news, t)
	}
	return nil
}

// handleUnsubscribed enters the end of a subscription. If it was not requested, it ends the link, in any state of the
// topic, because the topic's confirmation, or a request for it, might be under way.
func (s *subscriptions) handleUnsubscribed(l *link, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return errReplaced
	}
	switch s.leaving[name] {
	case 0:
		return errtext.Errorf("%w: %s", errTaken, name)
	case 1:
		delete(s.leaving, name)
	default:
		s.leaving[name]--
	}
	return nil
}

// tryResume reports whether l has just confirmed or refused all topics that were wanted when it began. It drops missing
// stretches that the gap of the outage covers.
func (s *subscriptions) tryResume(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l || s.resumed || l.unconfirmed > 0 {
		return false
	}
	s.resumed = true
	if l.outage != nil {
		for _, t := range s.news {
			if t.state == confirmed && t.missing.within(l.outage) {
				t.missing = nil
			}
		}
	}
	return true
}

// lookup returns the topic with a name, or nil if its subscription is not confirmed; whether the link has resumed; and
// whether there might be a gap to report first.
func (s *subscriptions) lookup(name string) (t *topic, resumed, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = s.topics.get(name)
	if t != nil && t.state != confirmed {
		t = nil
	}
	return t, s.resumed, len(s.news) > 0
}

// hears reports whether this node itself receives a topic.
func (s *subscriptions) hears(name string) bool {
	t, _, _ := s.lookup(name)
	return t != nil
}

package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// subscriptions holds the set of topics that this node wants to hear, and brings each link to that set: requests are
// written in order, by the link's own goroutine, and confirmed by events in the same order.
//
// A caller of Subscribe touches no connection: it waits for events, and is let go at once when the link breaks.
type subscriptions struct {
	a *Adapter

	mu       sync.Mutex
	topics   map[string]*topic // wanted, by name; guarded by mu, like everything below
	link     *link             // nil while there is none
	resumed  bool              // link has confirmed everything wanted when it began
	requests []request         // not yet written to link
	written  []request         // written to link, not yet confirmed; only subscribing ones
	owed     []*topic          // confirmed, but not yet reported as a gap
	retry    *time.Timer       // for topics that the bus denies
	confirm  *time.Timer       // for the oldest of written
	pinged   uint64            // pings written behind late requests
}

// topic is one subscription.
type topic struct {
	to    destination
	name  string
	more  []crosscast.Address // that it stands for beside to.name: a dialect may have one topic for several names
	home  bool                // the adapter cannot do without it
	state topicState
	epoch uint32 // counts confirmations
	alone bool   // asked for alone, because the bus refuses a request as a whole when it denies one of its topics
	first *link  // the link that must confirm it before it resumes
	waits []*wait

	// Someone was told that the topic is joined, but not subscribed: once it is, that is a gap.
	owedSince  time.Time
	owedReason crosscast.GapReason

	books books // guarded by incoming.mu
}

type topicState uint8

const (
	unasked topicState = iota
	pending
	confirmed
	denied
)

// request is one command for a link.
type request struct {
	subscribe bool
	topics    []*topic
	next      int       // of topics, the next one to be confirmed
	at        time.Time // when it was written
	ping      string    // written behind it, because its confirmation is late
}

// wait is a caller of Subscribe.
type wait struct {
	left int
	err  error
	done chan struct{}
}

func (w *wait) resolve(err error) {
	w.left--
	w.err = errors.Join(w.err, err)
	if w.left == 0 {
		close(w.done)
	}
}

func (s *subscriptions) init(a *Adapter) {
	s.a = a
	s.topics = map[string]*topic{}
}

// add wants topics before there is a link.
func (s *subscriptions) add(to ...destination) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range to {
		t := &topic{to: d, name: d.topic(s.a.o.Prefix), home: true}
		s.topics[t.name] = t
	}
}

func (s *subscriptions) subscribe(ctx context.Context, names []crosscast.Address) error {
	w := &wait{done: make(chan struct{})}
	now := time.Now()
	s.mu.Lock()
	var ask []*topic
	var to []destination
	down := false
	for _, name := range names {
		if !s.resumed {
			down = true
		}
		to = s.a.destinations(to[:0], name)
		for _, d := range to {
			t := s.want(d)
			switch t.state {
			case confirmed:
				continue
			case unasked, denied:
				t.state = pending
				ask = append(ask, t)
			}
			if !s.resumed {
				t.owe(now, crosscast.GapLinkLost)
				continue
			}
			t.waits = append(t.waits, w)
			w.left++
		}
	}
	if s.link != nil {
		s.request(true, ask)
	}
	wait := w.left > 0
	s.mu.Unlock()
	if down {
		return s.a.downError()
	}
	if !wait {
		return nil
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// want returns the topic that d is, for d's name. The caller holds mu.
func (s *subscriptions) want(d destination) *topic {
	key := d.topic(s.a.o.Prefix)
	t := s.topics[key]
	switch {
	case t == nil:
		t = &topic{to: d, name: key, state: unasked}
		s.topics[key] = t
	case t.to.name != d.name && !t.home && !slices.Contains(t.more, d.name):
		t.more = append(t.more, d.name)
	}
	return t
}

// unwant takes a name off a topic, and reports whether nothing is left that wants it. The caller holds mu.
func (s *subscriptions) unwant(t *topic, name crosscast.Address) bool {
	switch i := slices.Index(t.more, name); {
	case i >= 0:
		t.more = slices.Delete(t.more, i, i+1)
		return false
	case t.to.name != name:
		return false
	case len(t.more) > 0:
		t.to.name = t.more[0]
		t.more = slices.Delete(t.more, 0, 1)
		return false
	}
	return true
}

func (t *topic) owe(since time.Time, reason crosscast.GapReason) {
	if t.owedReason == "" {
		t.owedSince, t.owedReason = since, reason
	}
}

func (s *subscriptions) remove(names []crosscast.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var drop []*topic
	var to []destination
	for _, name := range names {
		to = s.a.destinations(to[:0], name)
		for _, d := range to {
			t := s.topics[d.topic(s.a.o.Prefix)]
			if t == nil || !s.unwant(t, name) {
				continue
			}
			delete(s.topics, t.name)
			if t.state != denied {
				drop = append(drop, t)
			}
		}
	}
	if s.link != nil {
		s.request(false, drop)
	}
}

// request queues a command for the current link. The caller holds mu.
func (s *subscriptions) request(subscribe bool, topics []*topic) {
	for len(topics) > 0 {
		n := min(len(topics), subscribeBatch)
		s.requests = append(s.requests, request{subscribe: subscribe, topics: topics[:n:n]})
		topics = topics[n:]
	}
	s.link.signal()
}

// begin makes l the current link and asks it for everything wanted: first, one by one, for what it cannot do without.
func (s *subscriptions) begin(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.resumed = l, false
	l.unconfirmed = len(s.topics)
	var home, alone, others []*topic
	for _, t := range s.topics {
		t.state, t.first = pending, l
		switch {
		case t.home:
			t.alone = true // so that an error names it
			home = append(home, t)
		case t.alone:
			alone = append(alone, t)
		default:
			others = append(others, t)
		}
	}
	for _, t := range append(home, alone...) {
		s.request(true, []*topic{t})
	}
	s.request(true, others)
}

// end forgets the current link. Whoever waits is told.
func (s *subscriptions) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.resumed = nil, false
	s.requests, s.written, s.owed = nil, nil, nil
	for _, timer := range []*time.Timer{s.retry, s.confirm} {
		if timer != nil {
			timer.Stop()
		}
	}
	err := s.a.downError()
	for _, t := range s.topics {
		t.state = pending
		t.resolve(err)
	}
}

func (t *topic) resolve(err error) {
	for _, w := range t.waits {
		w.resolve(err)
	}
	t.waits = nil
}

// nextRequest returns what l has to write next, and enters it in written.
func (s *subscriptions) nextRequest(l *link) (r request, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l || len(s.requests) == 0 {
		return r, false
	}
	r = s.requests[0]
	s.requests[0] = request{}
	s.requests = s.requests[1:]
	// Joins that came one by one while the link was busy become one command.
	for len(s.requests) > 0 && s.requests[0].subscribe == r.subscribe && len(r.topics)+len(s.requests[0].topics) <= subscribeBatch &&
		!r.topics[0].alone && !s.requests[0].topics[0].alone {
		r.topics = append(r.topics[:len(r.topics):len(r.topics)], s.requests[0].topics...)
		s.requests[0] = request{}
		s.requests = s.requests[1:]
	}
	if r.subscribe {
		r.at = time.Now()
		s.written = append(s.written, r)
		if len(s.written) == 1 {
			s.watch(confirmTimeout)
		}
	}
	return r, true
}

// watch looks after d whether the oldest request was confirmed. The caller holds mu.
func (s *subscriptions) watch(d time.Duration) {
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
		s.watch(confirmTimeout - age)
	case s.link.quiet() < confirmTimeout/2:
		// The confirmation waits behind other bytes, or for a call of the application's to return. If it is not there
		// when what is written now is answered, it does not come.
		if oldest.ping == "" {
			s.pinged++
			oldest.ping = fmt.Sprint("confirm", s.pinged)
			s.link.ping(oldest.ping)
		}
		s.watch(confirmTimeout / 2)
	default:
		s.link.fail(errUnconfirmed)
	}
}

// answered acts on the answer to a ping: the request that it was written behind is confirmed, or will never be.
func (s *subscriptions) answered(l *link, ping string) error {
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
)

// finishOldest removes the oldest request, which was confirmed or refused. The caller holds mu.
func (s *subscriptions) finishOldest() {
	s.written[0] = request{}
	s.written = s.written[1:]
	if len(s.written) > 0 {
		s.watch(max(confirmTimeout-time.Since(s.written[0].at), 0))
	} else {
		s.confirm.Stop()
	}
}

// confirmedBy enters a confirmation. A confirmation that was not asked for means that the client library has replaced
// the connection on its own.
func (s *subscriptions) confirmedBy(l *link, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return errReplaced
	}
	if len(s.written) == 0 || s.written[0].topics[s.written[0].next].name != name {
		return errReplaced
	}
	r := &s.written[0]
	t := r.topics[r.next]
	r.next++
	t.state, t.alone = confirmed, false
	t.epoch++
	t.resolve(nil)
	if t.owedReason != "" {
		s.owed = append(s.owed, t)
	}
	if t.first == l {
		l.unconfirmed--
	}
	if r.next == len(r.topics) {
		s.finishOldest()
	}
	return nil
}

// deniedBy enters the refusal of the oldest request.
func (s *subscriptions) deniedBy(l *link, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l || len(s.written) == 0 || s.written[0].next != 0 {
		return cause
	}
	topics := s.written[0].topics
	s.finishOldest()
	now := time.Now()
	for _, t := range topics {
		if t.home {
			return fmt.Errorf("%w: %s: %w", crosscast.ErrDenied, t.name, cause)
		}
		if len(topics) > 1 {
			t.alone = true
			s.request(true, []*topic{t})
			continue
		}
		t.state, t.alone = denied, true
		t.owe(now, crosscast.GapDenied)
		t.resolve(fmt.Errorf("%w: %s: %w", crosscast.ErrDenied, t.name, cause))
		if t.first == l {
			l.unconfirmed--
		}
		s.retryLater()
	}
	return nil
}

// retryLater asks for denied topics again after a while. The caller holds mu.
func (s *subscriptions) retryLater() {
	if s.retry == nil {
		s.retry = time.AfterFunc(deniedRetry, s.retryDenied)
		return
	}
	s.retry.Reset(deniedRetry)
}

func (s *subscriptions) retryDenied() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return
	}
	for _, t := range s.topics {
		if t.state == denied {
			t.state = pending
			s.request(true, []*topic{t})
		}
	}
}

// tryResume reports whether l has just confirmed everything that was wanted when it began. What is owed is then part
// of the outage that l ends.
func (s *subscriptions) tryResume(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l || s.resumed || l.unconfirmed > 0 {
		return false
	}
	s.resumed = true
	if l.outage != nil {
		for _, t := range s.owed {
			t.owedReason = ""
		}
		s.owed = nil
	}
	return true
}

// takeOwed returns the gaps of topics that were joined without a subscription and have one now; with wait, once the
// request that they belong to is confirmed as a whole, so that there is one gap and not one a topic.
func (s *subscriptions) takeOwed(wait bool) []crosscast.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.owed) == 0 || !s.resumed || (wait && len(s.written) > 0 && s.written[0].next > 0) {
		return nil
	}
	var gaps []crosscast.Gap
	now := time.Now()
	for _, t := range s.owed {
		i := 0
		for i < len(gaps) && gaps[i].Reason != t.owedReason {
			i++
		}
		if i == len(gaps) {
			gaps = append(gaps, crosscast.Gap{Since: t.owedSince, Until: now, Reason: t.owedReason})
		}
		g := &gaps[i]
		g.Names = append(append(g.Names, t.to.name), t.more...)
		if t.owedSince.Before(g.Since) {
			g.Since = t.owedSince
		}
		t.owedReason = ""
	}
	s.owed = nil
	return gaps
}

// lookup returns the topic that a frame arrived on, when it is subscribed; whether the link has resumed; and whether
// a gap must be reported first.
func (s *subscriptions) lookup(name string) (t *topic, resumed, owed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = s.topics[name]
	if t != nil && t.state != confirmed {
		t = nil
	}
	return t, s.resumed, len(s.owed) > 0
}

func (s *subscriptions) confirmed(name string) bool {
	t, _, _ := s.lookup(name)
	return t != nil
}

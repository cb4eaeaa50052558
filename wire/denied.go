package wire

import (
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/reasons"
)

// The bus may deny a topic. Then each Subscribe of it fails; an earlier promise becomes a gap; and it is requested
// again until the bus allows it.
//
// A bus might refuse a whole request because of one denied topic, without naming that topic. The request is then split
// until each topic has its own answer. Retries are in rounds of bounded size, so that 10,000 denied topics are no more
// load than a few. See askDeniedLocked.

// denials are the denied topics. subscriptions.mu guards them.
type denials struct {
	count int
	queue []*topic // topics to request again, least recently requested first; might have topics that need no request
	retry *time.Timer
	armed bool // retry runs
	left  int  // requests of the round without an answer
	again bool // a topic was allowed since the round began

	// For the log:
	fresh    int    // topics that became denied since the last line
	latest   *topic // one of them
	cause    error  // why latest is denied
	logged   bool   // the last line reported denied topics
	loggedAt time.Time
}

// missing is a gap that must be reported for a promised topic that is not received: from since on, with reason.
type missing struct {
	since  time.Time
	reason crosscast.GapReason
	open   bool // a gap without an end was reported; another one with the same since must follow
}

// within reports whether the gap of an outage covers m.
func (m *missing) within(o *outage) bool { return m == nil || !m.open && !m.since.Before(o.since) }

// unreported reports whether a denial of t must be reported as a gap.
func (t *topic) unreported() bool { return t.promised && (t.missing == nil || !t.missing.open) }

// promise notes that ErrNotConnected is returned for t. The caller holds subscriptions.mu.
func (t *topic) promise(now time.Time) {
	if !t.promised {
		t.promised, t.missing = true, &missing{since: now, reason: reasons.GapLinkLost}
	}
}

// handleDenied enters a refusal: of one topic, or, with an empty name, of the whole oldest request.
func (s *subscriptions) handleDenied(l *link, name string, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "" {
		t, err := s.repliedLocked(l, name)
		if err != nil {
			return err
		}
		return s.refuseLocked(l, t, cause)
	}
	if s.link != l || len(s.written) == 0 || s.written[0].next != 0 {
		return cause
	}
	r := s.written[0]
	s.finishOldestLocked()
	if len(r.topics) == 1 {
		r.topics[0].answered(l)
		return s.refuseLocked(l, r.topics[0], cause)
	}
	var split []*topic
	for _, t := range r.topics {
		if t.gone {
			t.answered(l)
		} else {
			split = append(split, t)
		}
	}
	// Into eight: one denied topic of 512 costs 24 more requests, and 512 denied ones 584.
	s.requestByLocked((len(r.topics)+7)/8, request{subscribe: true, sealed: true}, split)
	return nil
}

// refuseLocked enters that l denies t.
func (s *subscriptions) refuseLocked(l *link, t *topic, cause error) error {
	if t.home {
		return deniedError(t, cause)
	}
	if t.gone {
		return nil
	}
	if t.state != denied {
		t.state = denied
		s.denials.count++
		s.denials.fresh++
		s.denials.latest, s.denials.cause = t, cause
	}
	s.denials.later(t)
	if t.promised && t.missing == nil {
		t.missing = &missing{since: time.Now()}
		if l.outage != nil {
			t.missing.since = l.outage.since
		}
	}
	if t.unreported() {
		t.missing.reason = reasons.GapDenied
		s.news = append(s.news, t)
	}
	if t.waiters != nil {
		t.resolve(deniedError(t, cause))
	}
	s.retryLaterLocked()
	s.nextRoundLocked()
	return nil
}

// allowLocked enters that a topic is not denied any more. Then other topics might be allowed, too.
func (s *subscriptions) allowLocked() {
	s.denials.count--
	s.denials.again = true
	s.nextRoundLocked()
}

// nextRoundLocked begins another round at once if a topic was allowed in the last one, and that is over.
func (s *subscriptions) nextRoundLocked() {
	if s.denials.again && s.denials.left == 0 {
		s.askDeniedLocked()
	}
}

// later puts a denied topic at the end of the queue. The caller holds subscriptions.mu.
func (d *denials) later(t *topic) {
	if !t.queued {
		t.queued = true
		d.queue = append(d.queue, t)
		d.tidy()
	}
}

// tidy removes topics that need no request from the queue, once they are most of it. The caller holds subscriptions.mu.
func (d *denials) tidy() {
	if len(d.queue) <= 2*d.count+retryRound {
		return
	}
	d.queue = slices.DeleteFunc(d.queue, func(t *topic) bool {
		t.queued = t.state == denied && !t.gone
		return !t.queued
	})
}

func deniedError(t *topic, cause error) error {
	return errtext.Errorf("%w: %s: %w", crosscast.ErrDenied, t.name(), cause)
}

// retryLaterLocked requests denied topics again after a while.
func (s *subscriptions) retryLaterLocked() {
	d := &s.denials
	switch {
	case d.armed:
		return
	case d.retry == nil:
		d.retry = time.AfterFunc(deniedRetry, s.retryDenied)
	default:
		d.retry.Reset(deniedRetry)
	}
	d.armed = true
}

// rest ends the retries until the next link. The caller holds subscriptions.mu.
func (d *denials) rest() {
	if d.retry != nil {
		d.retry.Stop()
	}
	d.armed, d.left, d.again = false, 0, false
}

func (s *subscriptions) retryDenied() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denials.armed = false
	s.askDeniedLocked()
}

// askDeniedLocked begins a round: it requests the least recently requested denied topics, one by one. If the round
// finds allowed topics, the next round begins when this one is over, otherwise after a while.
func (s *subscriptions) askDeniedLocked() {
	d := &s.denials
	if s.link == nil || d.count == 0 {
		d.again = false
		return
	}
	s.retryLaterLocked()
	if d.left > 0 {
		return
	}
	var ask []*topic
	for len(d.queue) > 0 && len(ask) < retryRound {
		t := d.queue[0]
		d.queue[0], d.queue = nil, d.queue[1:]
		t.queued = false
		if t.state == denied && !t.gone && t.request == idle { // a topic in flight comes back with its refusal
			t.request = asking
			ask = append(ask, t)
		}
	}
	d.left, d.again = len(ask), false
	s.requestByLocked(1, request{subscribe: true, sealed: true, retry: true}, ask)
}

// takeNews returns the gaps of single topics:
//
//   - a gap without an end, for topics that the bus has begun to deny;
//   - gaps with an end, for topics that are subscribed now, for the time without a subscription.
//
// While requests are under way it returns nothing, so that there is one gap for many topics. now overrides this: the
// caller sets it before anything else is delivered.
func (s *subscriptions) takeNews(now bool) []crosscast.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := s.sealed > 0 || len(s.written) > 0 && s.written[0].next > 0
	if len(s.news) == 0 || !s.resumed || busy && !now {
		return nil
	}
	var gaps []crosscast.Gap
	var begins crosscast.Gap
	var begun []*missing
	until := time.Now()
	for _, t := range s.news {
		m := t.missing
		switch {
		case t.gone || m == nil:
		case t.state == confirmed:
			g := m.gap(&gaps, until)
			g.Names = t.appendNames(g.Names)
			t.missing = nil
		case t.state == denied && !m.open:
			m.open = true
			begun = append(begun, m)
			begins.Names = t.appendNames(begins.Names)
			if begins.Since.IsZero() || m.since.Before(begins.Since) {
				begins.Since = m.since
			}
		}
	}
	s.news = nil
	if len(begun) > 0 {
		begins.Reason = reasons.GapDenied
		gaps = append(gaps, begins)
	}
	for _, m := range begun {
		m.since = begins.Since
	}
	return gaps
}

// gap returns the gap that m belongs to, and adds it to gaps if it is missing. m ends now.
func (m *missing) gap(gaps *[]crosscast.Gap, until time.Time) *crosscast.Gap {
	for i := range *gaps {
		g := &(*gaps)[i]
		if g.Reason != m.reason || m.reason == reasons.GapDenied && !g.Since.Equal(m.since) {
			continue
		}
		if m.since.Before(g.Since) {
			g.Since = m.since
		}
		return g
	}
	*gaps = append(*gaps, crosscast.Gap{Since: m.since, Until: until, Reason: m.reason})
	return &(*gaps)[len(*gaps)-1]
}

func (s *subscriptions) countDenied() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.denials.count
}

// logDenied writes a log line if topics became denied, or if none is denied any more. After a recent line it leaves
// this to a later call.
func (s *subscriptions) logDenied() {
	s.mu.Lock()
	d := &s.denials
	n, latest, cause := d.count, d.latest, d.cause
	fresh, over := d.fresh > 0 && n > 0, d.logged && n == 0
	if d.fresh == 0 && !over || time.Since(d.loggedAt) < deniedLog {
		s.mu.Unlock()
		return
	}
	d.fresh, d.latest, d.cause = 0, nil, nil
	if fresh || over {
		d.logged, d.loggedAt = fresh, time.Now()
	}
	s.mu.Unlock()
	switch {
	case fresh:
		s.logger.Warn("crosscast: the bus denies subscriptions", "denied", n, "channel", latest.name(), "error", cause)
	case over:
		s.logger.Info("crosscast: no subscription is denied any more")
	}
}

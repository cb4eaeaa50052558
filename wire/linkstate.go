package wire

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/warn"
)

// linkState is the state of the link, for people: the state of each half, and whether the application keeps the reader
// busy. The other parts enter changes. One goroutine logs the changes and reports them to the node, in order. So no
// caller, perhaps with a lock, ever waits for a Logger. Twice a heartbeat that goroutine also looks for calls that do
// not return, and logs denied topics.
type linkState struct {
	*session
	deaf atomic.Bool // the subscribing half is deaf, until the next echo
	log  *linkLog    // of run

	mu      sync.Mutex
	status  crosscast.LinkStatus // guarded by mu, like everything below
	changes []change             // changes that wait to be reported, oldest first; at most maxChanges
	wake    chan struct{}        // capacity 1
	flush   chan chan struct{}   // run closes a received channel after it has reported all earlier changes
}

// change is a change of the status.
type change struct {
	half   string // "publishing" or "subscribing"; empty: a change of Busy
	from   crosscast.LinkState
	to     crosscast.LinkHalf
	status crosscast.LinkStatus // after the change
}

var (
	errStalled = warn.ErrNoAnswer
	errHeld    = errors.New("what is emitted waits for the link, and for the peers, to be back")
)

func newLinkState(s *session) *linkState {
	return &linkState{session: s, log: newLinkLog(s), wake: make(chan struct{}, 1), flush: make(chan chan struct{})}
}

func (s *linkState) publishing(to crosscast.LinkState, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.enterLocked("publishing", &s.status.Publishing, to, cause)
	}
}

func (s *linkState) subscribing(to crosscast.LinkState, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.enterLocked("subscribing", &s.status.Subscribing, to, cause)
		s.deaf.Store(to == reasons.LinkDeaf)
	}
}

// enterLocked notes a change of a half.
func (s *linkState) enterLocked(name string, half *crosscast.LinkHalf, to crosscast.LinkState, cause error) {
	if half.State == to {
		return
	}
	from := half.State
	*half = crosscast.LinkHalf{State: to, Since: time.Now(), Err: cause}
	s.tellLocked(change{half: name, from: from, to: *half})
}

func (s *linkState) busy(busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Busy != busy {
		s.status.Busy = busy
		s.tellLocked(change{})
	}
}

// tellLocked queues a change for reporting.
func (s *linkState) tellLocked(c change) {
	c.status = s.status
	if len(s.changes) == maxChanges { // the receiver is slow, and only the last state counts
		s.changes = s.changes[:maxChanges-1]
	}
	s.changes = append(s.changes, c)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *linkState) now() crosscast.LinkStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// linkLost enters the end of a link that had worked. Another one is made now. After a deaf link the state stays deaf
// until the next link is proven to work.
func (s *linkState) linkLost(err error) {
	switch {
	case errors.Is(err, errDeaf):
		s.subscribing(reasons.LinkDeaf, err)
	case errors.Is(err, crosscast.ErrDenied):
		s.subscribing(reasons.LinkDenied, err)
	default:
		s.subscribing(reasons.LinkConnecting, err)
	}
}

// linkFailed enters that a link could not be made.
func (s *linkState) linkFailed(err error) {
	if errors.Is(err, crosscast.ErrDenied) {
		s.subscribing(reasons.LinkDenied, err)
		return
	}
	s.subscribing(reasons.LinkDown, err)
}

// linkResumed enters that a link has its subscriptions. After a deaf link only an echo proves that it works.
func (s *linkState) linkResumed() {
	if !s.deaf.Load() || !s.presence.beats { // without heartbeats there might be no echo for long
		s.subscribing(reasons.LinkLive, nil)
	}
}

// echoHeard is called with each echo.
func (s *linkState) echoHeard() {
	if s.deaf.Load() {
		s.subscribing(reasons.LinkLive, nil)
	}
}

// run reports changes until the adapter stops. It calls look twice a heartbeat.
func (s *linkState) run(look func()) {
	t := time.NewTicker(s.patience() / 2)
	defer t.Stop()
	for {
		select {
		case <-s.wake:
		case told := <-s.flush:
			s.tellAll()
			close(told)
			continue
		case <-t.C:
			look()
			s.log.rest(s.now())
		case <-s.ctx.Done():
			if s.endState() {
				s.tellAll()
			}
			return
		}
		s.tellAll()
	}
}

// drain returns when every earlier change was reported, or when ctx ends.
func (s *linkState) drain(ctx context.Context) {
	told := make(chan struct{})
	select {
	case s.flush <- told:
	case <-ctx.Done():
		return
	case <-s.ctx.Done():
		return
	}
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// endState enters the last state of a started node: the adapter is closed. No change is entered after that.
func (s *linkState) endState() (started bool) {
	if !s.started.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Busy = false
	s.enterLocked("publishing", &s.status.Publishing, reasons.LinkDown, crosscast.ErrClosed)
	if s.status.Subscribing.State != "" {
		s.enterLocked("subscribing", &s.status.Subscribing, reasons.LinkDown, crosscast.ErrClosed)
	}
	return true
}

func (s *linkState) tellAll() {
	s.mu.Lock()
	changes := s.changes
	s.changes = nil
	s.mu.Unlock()
	for _, c := range changes {
		s.log.note(&c)
		s.handler.Link(c.status)
	}
}

package wire

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// link is one subscribing connection of an adapter. It has three goroutines: one reads and delivers, one writes
// subscriptions, and one closes the connection when it is broken. Closing might block for seconds, and the next link
// does not wait for it.
//
// A link is never repaired. It ends at the first error, and the supervisor dials another.
type link struct {
	receiver    *receiver
	subs        *subscriptions
	conn        Link
	outage      *outage // the outage that this link ends; nil: it is the first link
	unconfirmed int     // topics that it must confirm or refuse before it resumes; guarded by subscriptions.mu
	began       time.Time
	resumedAt   time.Time     // set before resumed is closed
	resumed     chan struct{} // closed once unconfirmed is 0
	waits       atomic.Int64  // when the reader began to wait, counted from began; the complement: began to be busy
	work        chan struct{} // capacity 1: there are requests to write
	pings       chan string   // names of pings to write: maxPings for echo, and one for subscriptions
	broken      chan struct{} // closed by fail
	once        sync.Once
	err         error // set before broken is closed
}

// outage is the time without a link.
type outage struct {
	since  time.Time // nothing from before is missing
	reason crosscast.GapReason
	moved  bool // peers might have left the lost link's server before it broke: emissions since then are a loss
}

// moves makes o begin at since, when the peers were last on the old server.
func (o *outage) moves(since time.Time) {
	o.reason = reasons.GapMoved
	if since.Before(o.since) {
		o.since = since
	}
}

var (
	errDeaf   = errors.New("the link is deaf: the bus answers on it, and what this node publishes does not come back")
	errExited = errors.New("a function of the application's has ended the goroutine that reads the link")
	errDead   = errors.New("the link is dead: what this node publishes does not come back, and neither does anything else")
)

// connect dials, and starts the new link with its subscriptions. old is the last link that resumed, or nil.
func (r *run) connect(ctx context.Context, old *link) (*link, error) {
	conn, err := r.bus.Dial(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{
		receiver: r.receiver, subs: r.subs, conn: conn, outage: r.receiver.takeOutage(), began: time.Now(),
		resumed: make(chan struct{}), broken: make(chan struct{}),
		work: make(chan struct{}, 1), pings: make(chan string, maxPings+1),
	}
	if l.outage != nil && old != nil && l.outage.reason != reasons.GapMoved && !l.outage.moved {
		l.outage.moved = r.mover.moved(old)
	}
	r.receiver.link.Store(l)
	r.subs.beginLink(l)
	r.wg.Go(l.receive)
	r.wg.Go(l.request)
	r.wg.Go(func() {
		<-l.broken
		if b, ok := l.conn.(Blamed); ok && (errors.Is(l.err, errDead) || errors.Is(l.err, errDeaf) || errors.Is(l.err, errUnconfirmed)) {
			b.Blame(l.err)
		}
		l.conn.Close()
	})
	return l, nil
}

func (l *link) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.broken)
	})
}

func (l *link) signal() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// ping requests a ping. If many wait already, the link does not write, and another one would not help.
func (l *link) ping(name string) {
	select {
	case l.pings <- name:
	default:
	}
}

// receive handles events until the link is broken.
func (l *link) receive() {
	defer l.fail(errExited) // unless it has failed
	for {
		ev, err := l.conn.Receive()
		if err == nil {
			now := time.Now()
			l.waits.Store(^int64(now.Sub(l.began)))
			err = l.receiver.handleEvent(l, ev, now)
			l.receiver.measure(ev.Kind, now)
		}
		if err != nil {
			l.fail(err)
			return
		}
		l.waits.Store(int64(time.Since(l.began)))
	}
}

// silentSince returns since when the reader has waited for a byte. While the reader handles an event, perhaps in a call
// of the application, it does not wait: then silentSince returns now.
func (l *link) silentSince(now time.Time) time.Time {
	since := l.waits.Load()
	if since < 0 {
		return now
	}
	return later(l.began.Add(time.Duration(since)), l.conn.Heard())
}

// silentFor returns how long the reader has waited for a byte.
func (l *link) silentFor() time.Duration {
	now := time.Now()
	return now.Sub(l.silentSince(now))
}

// busy returns how long the reader has been handling one event.
func (l *link) busy() time.Duration {
	since := l.waits.Load()
	if since >= 0 {
		return 0
	}
	return time.Since(l.began) - time.Duration(^since)
}

// request writes requests, and pings between them.
func (l *link) request() {
	for {
		var err error
		select {
		case <-l.work:
			err = l.writeRequests()
		case name := <-l.pings:
			err = l.conn.Ping(name)
		case <-l.broken:
			return
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// writeRequests writes all waiting requests.
func (l *link) writeRequests() error {
	for {
		next, ok := l.subs.nextRequest(l)
		if !ok {
			return nil
		}
		names := namesOf(next.topics)
		ask := l.conn.Subscribe
		if !next.subscribe {
			ask = l.conn.Unsubscribe
		}
		if err := ask(names); err != nil {
			return err
		}
		select {
		case name := <-l.pings:
			if err := l.conn.Ping(name); err != nil {
				return err
			}
		default:
		}
	}
}

// namesOf returns the names of topics, in one object.
func namesOf(topics []*topic) []string {
	size := 0
	for _, t := range topics {
		size += len(t.site.prefix) + len(t.tail)
	}
	var text strings.Builder
	text.Grow(size)
	names := make([]string, len(topics))
	for i, t := range topics {
		from := text.Len()
		text.WriteString(t.site.prefix)
		text.WriteString(t.tail)
		names[i] = text.String()[from:]
	}
	return names
}

func (l *link) isBroken() bool {
	select {
	case <-l.broken:
		return true
	default:
		return false
	}
}

func (l *link) hasResumed() bool {
	select {
	case <-l.resumed:
		return true
	default:
		return false
	}
}

// supervise replaces the link whenever it breaks, and makes it if it is nil, until the adapter stops.
func (r *run) supervise(l *link) {
	var pause backoff
	var old *link // the last one that resumed
	for {
		var err error // nil: no attempt yet
		if l != nil {
			select {
			case <-l.resumed:
				old = l
				select {
				case <-l.broken:
				case <-r.ctx.Done():
					l.fail(crosscast.ErrClosed)
				}
			case <-l.broken:
			case <-r.ctx.Done():
				l.fail(crosscast.ErrClosed)
			}
			err = l.err
			if l.hasResumed() {
				pause.worked(time.Since(l.resumedAt))
			}
			r.linkDown(l)
			if l.hasResumed() {
				r.state.linkLost(err)
			} else {
				r.state.linkFailed(err)
			}
			r.inbox.noteLink(nil, err)
		}
		for {
			if r.ctx.Err() != nil {
				return
			}
			if err != nil && !r.backOff(&pause, err) {
				return
			}
			ctx, cancel := context.WithTimeout(r.ctx, r.o.PublishTimeout)
			l, err = r.connect(ctx, old)
			cancel()
			r.inbox.noteLink(l, err)
			if err == nil {
				break
			}
			r.state.linkFailed(err)
		}
	}
}

// backOff waits before the next attempt to connect. It returns false if there must be none.
func (r *run) backOff(pause *backoff, why error) bool {
	wait := pause.next()
	if errors.Is(why, crosscast.ErrDenied) {
		wait += deniedRetry
	}
	select {
	case <-time.After(wait):
		return true
	case <-r.ctx.Done():
		return false
	}
}

// linkDown takes l out of use in all parts.
func (r *run) linkDown(l *link) {
	r.receiver.turn.Lock()
	defer r.receiver.turn.Unlock()
	r.receiver.link.CompareAndSwap(l, nil)
	if errors.Is(l.err, errDeaf) { // before the sender reports its state, which depends on this
		r.state.linkLost(l.err)
	}
	r.receiver.noteOutageLocked(l)
	r.echo.endLink()
	if r.presence.linked {
		r.sender.linkIsDown()
	}
	r.subs.endLink()
}

package wire

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// link is one subscribing connection of an adapter, with three goroutines: one reads and delivers, one writes
// subscriptions, one closes the connection when it is broken (closing may block for seconds; the next link does not
// wait for it).
//
// A link is never repaired. It ends at the first error, and the supervisor dials another.
type link struct {
	a           *Adapter
	conn        Link
	outage      *outage // that this link ends; nil for the first link
	unconfirmed int     // topics that it must confirm before it resumes; guarded by subscriptions.mu
	began       time.Time
	resumedAt   time.Time     // set before resumed is closed
	resumed     chan struct{} // closed once everything wanted is confirmed
	lastRead    atomic.Int64  // when something arrived, after began
	work        chan struct{} // capacity 1: there are requests to write
	broken      chan struct{} // closed by fail
	once        sync.Once
	err         error // set before broken is closed
}

// outage is the time without a link.
type outage struct {
	since  time.Time // nothing before is missing
	reason crosscast.GapReason
}

var errDeaf = errors.New("the link is deaf: what this node publishes does not come back")

// connect dials, and begins to bring the new link to the wanted subscriptions.
func (a *Adapter) connect(ctx context.Context) (*link, error) {
	conn, err := a.bus.Dial(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{
		a: a, conn: conn, outage: a.incoming.takeOutage(), began: time.Now(),
		resumed: make(chan struct{}), work: make(chan struct{}, 1), broken: make(chan struct{}),
	}
	a.incoming.link.Store(l)
	a.subs.begin(l)
	a.wg.Go(l.read)
	a.wg.Go(l.write)
	a.wg.Go(func() {
		<-l.broken
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

func (l *link) read() {
	for {
		ev, err := l.conn.Receive()
		if err == nil {
			l.lastRead.Store(int64(time.Since(l.began)))
			err = l.a.incoming.event(l, ev)
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

func (l *link) write() {
	var names []string
	for {
		select {
		case <-l.work:
		case <-l.broken:
			return
		}
		for {
			r, ok := l.a.subs.nextRequest(l)
			if !ok {
				break
			}
			names = names[:0]
			for _, t := range r.topics {
				names = append(names, t.name)
			}
			ask := l.conn.Subscribe
			if !r.subscribe {
				ask = l.conn.Unsubscribe
			}
			if err := ask(names); err != nil {
				l.fail(err)
				return
			}
		}
		clear(names)
	}
}

// quiet is how long nothing has arrived.
func (l *link) quiet() time.Duration { return time.Since(l.lastHeard()) }

func (l *link) lastHeard() time.Time { return l.began.Add(time.Duration(l.lastRead.Load())) }

func (l *link) hasResumed() bool {
	select {
	case <-l.resumed:
		return true
	default:
		return false
	}
}

// supervise replaces the link whenever it breaks, and makes it when it is nil, until the adapter stops.
func (a *Adapter) supervise(l *link) {
	var pause backoff
	downLogged := false
	for {
		var err error // nil: nothing was tried yet
		if l != nil {
			select {
			case <-l.resumed:
				if downLogged {
					a.o.Logger.Info("crosscast: the link to the bus is back")
					downLogged = false
				}
				pause.reset()
				select {
				case <-l.broken:
				case <-a.ctx.Done():
					l.fail(crosscast.ErrClosed)
				}
			case <-l.broken:
			case <-a.ctx.Done():
				l.fail(crosscast.ErrClosed)
			}
			err = l.err
			a.linkDown(l)
			a.inbox.note(nil, err)
		}
		for {
			if a.ctx.Err() != nil {
				return
			}
			if err != nil && !a.backOff(&pause, err, &downLogged) {
				return
			}
			ctx, cancel := context.WithTimeout(a.ctx, a.o.PublishTimeout)
			l, err = a.connect(ctx)
			cancel()
			a.inbox.note(l, err)
			if err == nil {
				break
			}
		}
	}
}

// backOff waits before another attempt to connect, and reports whether there is to be one.
func (a *Adapter) backOff(pause *backoff, why error, logged *bool) bool {
	if !*logged {
		*logged = true
		a.o.Logger.Warn("crosscast: the link to the bus is down", "error", why)
	}
	wait := pause.next()
	if errors.Is(why, crosscast.ErrDenied) {
		wait += deniedRetry
	}
	select {
	case <-time.After(wait):
		return true
	case <-a.ctx.Done():
		return false
	}
}

// linkDown undoes what depends on the link l.
func (a *Adapter) linkDown(l *link) {
	a.incoming.link.CompareAndSwap(l, nil)
	a.incoming.noteOutage(l)
	a.echo.end()
	if !a.self.EmitOnly { // an emitter publishes without a link
		a.writer.linkDown()
	}
	a.subs.end()
}

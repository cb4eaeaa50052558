package crosscast

import (
	"errors"
	"sync"
	"time"
)

// maxSumNames is the number of names that a sum of losses lists.
const maxSumNames = 256

// add makes l cover o, which came later.
func (l *Loss) add(o *Loss) {
	if l.From == 0 || o.From == 0 {
		l.From, l.To = 0, 0
	} else {
		l.From, l.To = min(l.From, o.From), max(l.To, o.To)
	}
	l.Names = coverNames(l.Names, o.Names, maxSumNames)
	l.Instructions += o.Instructions
	if !errors.Is(l.Err, ErrUncertain) || errors.Is(o.Err, ErrUncertain) {
		l.Reason, l.Err = o.Reason, o.Err
	}
}

// lossPause is the shortest time between two calls of OnLoss for one cause.
const lossPause = time.Second

// pace gathers losses, so that OnLoss gets those of one cause only now and then: the first at once, and later ones as a
// sum.
type pace struct {
	tell func(Loss) // called with mu held, so that losses of one cause keep their order

	mu     sync.Mutex // guards the following fields
	causes []cause    // at most maxReasons
	timer  *time.Timer
	ended  bool // losses are not gathered any more
}

// A cause is the state of a pace for the losses of one reason.
type cause struct {
	reason  LossReason
	told    time.Time // the time of the last call
	waiting bool      // sum is not reported yet
	sum     Loss
}

func (p *pace) add(l Loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch c := p.of(l.Reason); {
	case c.waiting:
		c.sum.add(&l)
	case p.ended || now.Sub(c.told) >= lossPause:
		c.told = now
		p.tell(l)
	default:
		c.waiting, c.sum = true, l
		p.wake(now)
	}
}

// of returns the cause of a reason. Reasons above the limit share the last one; p.mu is held.
func (p *pace) of(reason LossReason) *cause {
	for i := range p.causes {
		if p.causes[i].reason == reason {
			return &p.causes[i]
		}
	}
	if len(p.causes) < maxReasons {
		p.causes = append(p.causes, cause{reason: reason})
	}
	return &p.causes[len(p.causes)-1]
}

// wake sets the timer for the earliest sum; p.mu is held.
func (p *pace) wake(now time.Time) {
	var next time.Time
	for i := range p.causes {
		if c := &p.causes[i]; c.waiting && (next.IsZero() || c.told.Before(next)) {
			next = c.told
		}
	}
	if next.IsZero() {
		return
	}
	wait := next.Add(lossPause).Sub(now)
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, p.due)
		return
	}
	p.timer.Reset(wait)
}

// due reports the sums whose time has come.
func (p *pace) due() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tellBefore(now, now.Add(-lossPause))
	p.wake(now)
}

// flush reports all sums.
func (p *pace) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tellBefore(now, now)
}

// end reports all sums, and makes later losses be reported at once.
func (p *pace) end() {
	p.mu.Lock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.flush()
}

// tellBefore reports the sums of causes whose last report was at the given time or earlier; p.mu is held.
func (p *pace) tellBefore(now, last time.Time) {
	for i := range p.causes {
		if c := &p.causes[i]; c.waiting && !c.told.After(last) {
			p.tell(c.sum)
			c.told, c.waiting, c.sum = now, false, Loss{}
		}
	}
}

// maxLosses is the number of losses that are kept for a Flush.
const maxLosses = 64

// lossLog keeps the latest losses for Flush.
type lossLog struct {
	mu      sync.Mutex // guards the following fields
	recent  []Loss
	total   int // losses so far; recent are the latest
	flushed int // total when the last Flush returned
}

func (l *lossLog) add(v Loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) == maxLosses {
		l.recent = append(l.recent[:0], l.recent[1:]...)
	}
	l.recent = append(l.recent, v)
	l.total++
}

func (l *lossLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// mark returns the number of losses that earlier Flushes have returned.
func (l *lossLog) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushed
}

// take returns the losses after a mark as an error; nil: there are none.
func (l *lossLog) take(mark int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.after(mark)
}

// rest returns the losses that no Flush has returned, without the first told ones.
func (l *lossLog) rest(told int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.after(max(told, l.flushed))
}

// after is take for callers that hold l.mu.
func (l *lossLog) after(mark int) error {
	l.flushed = l.total
	n := l.total - mark
	if n == 0 {
		return nil
	}
	listed := min(n, len(l.recent))
	return &LossError{
		Losses: append([]Loss(nil), l.recent[len(l.recent)-listed:]...),
		More:   n - listed,
	}
}

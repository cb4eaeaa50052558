package crosscast

import (
	"errors"
	"sync"
	"time"
)

// maxSumNames is how many names a sum of losses lists.
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

// pace gathers losses, so that OnLoss is told of those of one cause once in a while: of the first at once, and then of
// the sum of what came meanwhile.
type pace struct {
	tell func(Loss) // called with mu held, so that losses of one cause keep their order

	mu     sync.Mutex // guards what follows
	causes []cause    // at most maxReasons
	timer  *time.Timer
	ended  bool // nothing is gathered any more
}

// A cause is what a pace knows of the losses of one reason.
type cause struct {
	reason  LossReason
	told    time.Time // the last time
	waiting bool      // there is a sum that was not told yet
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

// of returns the cause of a reason. Reasons past the limit share the last one; p.mu is held.
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

// wake sets the timer for the sum that is due first; p.mu is held.
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

// due tells the sums whose time has come.
func (p *pace) due() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tellBefore(now, now.Add(-lossPause))
	p.wake(now)
}

// flush tells all sums.
func (p *pace) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tellBefore(now, now)
}

// end tells all sums, and from now on every loss at once.
func (p *pace) end() {
	p.mu.Lock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.flush()
}

// tellBefore tells the sums of causes that were told of last at the given time or before; p.mu is held.
func (p *pace) tellBefore(now, last time.Time) {
	for i := range p.causes {
		if c := &p.causes[i]; c.waiting && !c.told.After(last) {
			p.tell(c.sum)
			c.told, c.waiting, c.sum = now, false, Loss{}
		}
	}
}

// maxLosses is how many losses wait for a Flush to return them.
const maxLosses = 64

// lossLog keeps the latest losses for Flush.
type lossLog struct {
	mu      sync.Mutex // guards what follows
	recent  []Loss
	total   int // losses so far; recent are the last ones of them
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

// mark returns where a Flush that begins now starts to count.
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

// rest returns the losses, but for the first told ones, that no Flush has returned.
func (l *lossLog) rest(told int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.after(max(told, l.flushed))
}

// after is take; l.mu is held.
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

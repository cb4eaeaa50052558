package crosscast

import (
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/activity"
)

// lossPause is the shortest time between two calls of OnLoss for one cause.
const lossPause = time.Second

// pace gathers losses, so that OnLoss gets those of one cause only now and then: the first at once, and later ones as a
// sum.
type pace struct {
	tell func(Loss)        // called with mu held, so that losses of one cause keep their order
	busy *activity.Counter // counts the sums that wait

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

func (p *pace) gather(l Loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch c := p.causeLocked(l.Reason); {
	case c.waiting:
		c.sum.merge(&l)
	case p.ended || now.Sub(c.told) >= lossPause:
		c.told = now
		p.tell(l)
	default:
		p.busy.Begin()
		c.waiting, c.sum = true, l
		p.setTimerLocked(now)
	}
}

// causeLocked returns the cause of a reason. Reasons above the limit share the last one.
func (p *pace) causeLocked(reason LossReason) *cause {
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

// setTimerLocked sets the timer for the earliest sum.
func (p *pace) setTimerLocked(now time.Time) {
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
	p.tellBeforeLocked(now, now.Add(-lossPause))
	p.setTimerLocked(now)
}

// flush reports all sums.
func (p *pace) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tellBeforeLocked(now, now)
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

// tellBeforeLocked reports the sums of causes whose last report was at the given time or earlier.
func (p *pace) tellBeforeLocked(now, last time.Time) {
	for i := range p.causes {
		if c := &p.causes[i]; c.waiting && !c.told.After(last) {
			p.tell(c.sum)
			c.told, c.waiting, c.sum = now, false, Loss{}
			p.busy.End(1)
		}
	}
}

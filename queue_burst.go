package crosscast

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A QueueBudget bounds what waits in several queues above their limits: bursts. What waits below a limit is not its
// concern, nor is a frame that waits alone.
//
// When it is spent, the policies of the queues act on their clients, beginning with the one that is furthest behind,
// until an eighth of it is free: a client is disconnected, or so much of what waits for it is dropped, at the end that
// its policy says, that its limit holds again. Senders at the same time may exceed the budget by a frame each.
//
// It must not be copied.
type QueueBudget struct {
	bytes int64
	used  atomic.Int64

	relieving sync.Mutex // held by relieve; no other lock is held when it is taken

	mu     sync.Mutex // guards what follows; locked after a queue's
	queues map[*Queue]*burst
}

// NewQueueBudget returns a budget of so many bytes. It panics when that is below 1.
func NewQueueBudget(bytes int) *QueueBudget {
	if bytes < 1 {
		panic(fmt.Sprintf("crosscast: QueueBudget of %d bytes", bytes))
	}
	return &QueueBudget{bytes: int64(bytes), queues: make(map[*Queue]*burst)}
}

// Used returns how many bytes wait above the limits. It may be called concurrently.
func (b *QueueBudget) Used() int { return int(b.used.Load()) }

// sharedBudget is of the queues that have no other.
var sharedBudget = NewQueueBudget(64 << 20)

// burstOptions are those of a [QueueOptions]. Queues that have the same share them.
type burstOptions struct {
	bytes        int // that may wait, those below the limit included
	time         time.Duration
	writeTimeout time.Duration
	budget       *QueueBudget
}

// A burst is what a queue knows of the time since more than its limit waits. It is guarded by the queue's mu.
type burst struct {
	began    time.Time    // zero: there is none
	finished time.Time    // when a frame was written last, or began
	excess   atomic.Int64 // what is charged to the budget; read without mu
}

// aboveLocked returns how many bytes may wait above the limit now.
func (q *Queue) aboveLocked() int {
	o := q.bursts.Value()
	if o.time < 0 {
		return 0
	}
	if r := q.rare; r != nil && !r.began.IsZero() {
		if now := time.Now(); now.Sub(r.began) >= o.time || now.Sub(r.finished) >= o.writeTimeout {
			return 0
		}
	}
	return o.bytes - q.limit
}

// accountLocked notes how much waits above the limit. It is called when something does, or has until now.
func (q *Queue) accountLocked() {
	r := q.rarelyLocked()
	switch {
	case q.room >= 0:
		r.began = time.Time{}
	case r.began.IsZero():
		r.began = time.Now()
		r.finished = r.began
	}
	excess := 0
	if q.ring.len() > 1 {
		excess = max(-q.room, 0)
	}
	q.bursts.Value().budget.charge(q, &r.burst, int64(excess))
}

// calmLocked ends a burst when the queue ends.
func (q *Queue) calmLocked() {
	if r := q.rare; r != nil {
		r.began = time.Time{}
		q.bursts.Value().budget.charge(q, &r.burst, 0)
	}
}

// charge sets what q is charged. Called with the queue's mu held.
func (b *QueueBudget) charge(q *Queue, r *burst, excess int64) {
	before := r.excess.Swap(excess)
	b.used.Add(excess - before)
	if (before == 0) == (excess == 0) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if excess == 0 {
		delete(b.queues, q)
	} else {
		b.queues[q] = r
	}
}

// relieve has queues yield until an eighth of the budget is free, when it is spent.
func (b *QueueBudget) relieve() {
	if b.used.Load() <= b.bytes {
		return
	}
	b.relieving.Lock()
	defer b.relieving.Unlock()
	if b.used.Load() <= b.bytes { // somebody else has done it
		return
	}
	for _, q := range b.furthest() {
		if b.used.Load() <= b.bytes-b.bytes/8 {
			return
		}
		q.yield()
	}
}

// furthest returns the queues that are charged, that with the largest charge first.
func (b *QueueBudget) furthest() []*Queue {
	type charged struct {
		q      *Queue
		excess int64
	}
	b.mu.Lock()
	all := make([]charged, 0, len(b.queues))
	for q, r := range b.queues {
		all = append(all, charged{q, r.excess.Load()})
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y charged) int { return cmp.Compare(y.excess, x.excess) })
	queues := make([]*Queue, len(all))
	for i := range all {
		queues[i] = all[i].q
	}
	return queues
}

// yield has the policy act as if there might be no burst any more.
func (q *Queue) yield() {
	q.mu.Lock()
	switch {
	case q.state&(closed|ended) != 0 || q.room >= 0:
	case q.policy == QueueDropOldest:
		q.dropOldestLocked(0, 1)
	case q.policy == QueueDropNewest:
		for q.ring.len() > 1 && q.room < 0 {
			q.room += frameSize(q.ring.unput())
			q.dropped++
			q.noteDropLocked(q.ring.tail)
		}
		q.accountLocked()
	default:
		q.endLocked(ErrSlow)
		q.mu.Unlock()
		go q.finish(ReasonSlow)
		return
	}
	q.mu.Unlock()
}

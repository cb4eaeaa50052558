package crosscast

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A QueueBudget bounds the bytes that wait in several queues above their limits, in bursts. It does not count bytes
// below a limit, or a frame that waits alone.
//
// When the budget is spent, queues apply their policies until an eighth of the budget is free, beginning with the
// client that is furthest behind. [QueueDisconnect] disconnects the client. The other policies drop its oldest or
// newest frames, until no more than its limit waits. Each concurrent Send might exceed the budget by one frame.
//
// The queues of a budget with [QueueOptions].TryWrite also share goroutines. Tests of these in bubbles of testing/synctest
// need a budget for each bubble.
//
// All methods may be called concurrently. A QueueBudget must not be copied.
type QueueBudget struct {
	bytes int64
	used  atomic.Int64

	relieving sync.Mutex // held by relieve; taken with no other lock held

	mu     sync.Mutex // guards queues; locked after a queue's mutex
	queues map[*Queue]*burst

	pumps pumpCrew // of the queues with TryWrite
}

// NewQueueBudget returns a budget of the given number of bytes. It panics if bytes is below 1.
func NewQueueBudget(bytes int) *QueueBudget {
	if bytes < 1 {
		panic(fmt.Sprintf("crosscast: QueueBudget of %d bytes", bytes))
	}
	return &QueueBudget{bytes: int64(bytes), queues: make(map[*Queue]*burst)}
}

// sharedBudget is for queues without a budget of their own.
var sharedBudget = NewQueueBudget(64 << 20)

// sharedOptions are part of [QueueOptions]. Queues with equal ones share them.
type sharedOptions struct {
	bytes        int // the most bytes that may wait, including those below the limit
	time         time.Duration
	writeTimeout time.Duration
	grace        time.Duration // of Close
	budget       *QueueBudget
}

// A burst describes the time in which more than the queue's limit waits. The queue's mu guards it.
type burst struct {
	began    time.Time    // zero: there is no burst
	finished time.Time    // when a frame was last finished, or began
	excess   atomic.Int64 // bytes charged to the budget; read without mu
}

// aboveLocked returns the number of bytes that may wait above the limit now.
func (q *Queue) aboveLocked() int {
	o := q.shared.Value()
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

// accountLocked records the bytes above the limit. It is called if there are any, or were until now.
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
	if q.waitingFramesLocked() > 1 {
		excess = max(-q.room, 0)
	}
	q.shared.Value().budget.charge(q, &r.burst, int64(excess))
}

// calmLocked ends a burst when the queue ends.
func (q *Queue) calmLocked() {
	if r := q.rare; r != nil {
		r.began = time.Time{}
		q.shared.Value().budget.charge(q, &r.burst, 0)
	}
}

// charge sets the bytes charged for q, whose mu is held.
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

// relieve checks whether the budget is spent. If so, it makes queues yield until an eighth of the budget is free.
func (b *QueueBudget) relieve() {
	if b.used.Load() <= b.bytes {
		return
	}
	b.relieving.Lock()
	defer b.relieving.Unlock()
	if b.used.Load() <= b.bytes { // another call has done it
		return
	}
	for _, q := range b.furthest() {
		if b.used.Load() <= b.bytes-b.bytes/8 {
			return
		}
		q.yield()
	}
}

// furthest returns the queues with a charge, the largest charge first.
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

// yield applies the policy as if no burst were allowed any more.
func (q *Queue) yield() {
	q.mu.Lock()
	switch {
	case q.state&(closed|ended) != 0 || q.room >= 0:
	case q.policy == QueueDropOldest:
		q.dropOldestLocked(0, 1)
	case q.policy == QueueDropNewest:
		for q.ring.len() > 1 && q.room < 0 {
			q.room += frameSize(q.ring.unput())
			q.unsampleLocked(q.ring.tail)
			q.dropped++
			if q.notice != nil {
				q.noteDropLocked(q.ring.tail, q.queuedAfterLocked(q.ring.tail))
			}
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

package crosscast

import "time"

// A QueueDrop is what a notice of [QueueOptions.DropNotice] tells a client.
type QueueDrop struct {
	// Frames is the number of dropped frames. It is 0 if only calls of SendNotice were merged.
	Frames int
	// Since is never after the time at which the first dropped frame was queued, nor after the time of a merged
	// SendNotice.
	Since time.Time
}

// SendNotice queues a frame which tells the client that it might have missed something since the given time. It never
// drops that: if the client does not keep up, the frame is not queued, since is merged into the next DropNotice behind
// the frames that wait, and the error is [ErrDropped]. Any number of such calls takes bounded memory. A client keeps up
// if at most a sixteenth of the limit waits, under a policy that drops frames if nothing waits or is being written.
//
// Without a DropNotice it is SendFrame. It returns the errors of Send.
func (q *Queue) SendNotice(frame []byte, since time.Time) error {
	q.mu.Lock()
	if q.state&(closed|ended) == 0 && q.notice != nil && !q.keepsUpLocked() {
		q.noteMissedLocked(since)
		q.mu.Unlock()
		return ErrDropped
	}
	then, err := q.pushLocked(frame, frameSize(frame), false)
	q.mu.Unlock()
	if then != 0 {
		q.follow(then)
	}
	return err
}

func (q *Queue) keepsUpLocked() bool {
	if q.policy != QueueDisconnect {
		return q.state&writing == 0
	}
	return q.waitingLocked() <= q.limit/16
}

// A dropRun is a run of frames that were dropped in front of the one at position at of the ring.
type dropRun struct {
	at uint32
	QueueDrop
}

// maxNotices is the number of runs up to which SendNotice makes another one.
const maxNotices = 16

// noteMissedLocked records a SendNotice behind the waiting frames. If there are many runs, it goes into the last one: it
// might be early, but not late.
func (q *Queue) noteMissedLocked(since time.Time) {
	r := q.rarelyLocked()
	if n := len(r.runs); n > 0 && (n >= maxNotices || r.runs[n-1].at == q.ring.tail) {
		last := &r.runs[n-1]
		last.Since = earlier(last.Since, since)
		return
	}
	r.runs = append(r.runs, dropRun{q.ring.tail, QueueDrop{Since: since}})
}

// noteDropLocked records, for the notice, a frame dropped in front of position at, which was queued after since. Runs are
// in the order of the frames: QueueDropNewest adds at the end, which moves back when the budget is spent.
// QueueDropOldest has only one run, which moves along with the head.
func (q *Queue) noteDropLocked(at uint32, since time.Time) {
	r := q.rarelyLocked()
	n, run := len(r.runs), dropRun{at, QueueDrop{1, since}}
	for ; n > 0 && (q.policy == QueueDropOldest || int32(r.runs[n-1].at-at) >= 0); n-- {
		run.Frames += r.runs[n-1].Frames
		run.Since = earlier(run.Since, r.runs[n-1].Since)
	}
	r.runs = append(r.runs[:n], run)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// dueRunLocked removes the run that was dropped in front of the next frame, if there is one.
func (q *Queue) dueRunLocked() (d QueueDrop, due bool) {
	if !q.isRunDueLocked() {
		return d, false
	}
	r := q.rare
	d = r.runs[0].QueueDrop
	if r.runs = r.runs[1:]; len(r.runs) == 0 {
		r.runs = nil
	}
	return d, true
}

// isRunDueLocked reports whether frames were dropped in front of the next one.
func (q *Queue) isRunDueLocked() bool {
	r := q.rare
	return r != nil && len(r.runs) > 0 && r.runs[0].at == q.ring.head
}

// A mark is a time before which no frame from position pos on was queued. The ring has no times: a queue that drops
// waiting frames, and has a notice, makes a few marks while it has a writer, so that a notice is not far too early.
type mark struct {
	pos uint32
	at  time.Time
}

const (
	markEvery = 100 * time.Millisecond
	maxMarks  = 16
)

// markLocked makes a mark for the frames that are queued from now on.
func (q *Queue) markLocked() {
	if q.notice == nil || q.policy == QueueDisconnect {
		return
	}
	r, now := q.rarelyLocked(), time.Now()
	n := len(r.marks)
	if n > 0 && now.Sub(r.marks[n-1].at) < markEvery {
		return
	}
	passed := 0 // marks that no waiting frame needs
	for passed+1 < n && int32(q.ring.head-r.marks[passed+1].pos) >= 0 {
		passed++
	}
	r.marks = append(r.marks[:0], r.marks[passed:]...)
	if len(r.marks) == maxMarks {
		for i := range maxMarks / 2 {
			r.marks[i] = r.marks[2*i]
		}
		r.marks = r.marks[:maxMarks/2]
	}
	r.marks = append(r.marks, mark{q.ring.tail, now})
}

// queuedAfterLocked returns a time after which the waiting frame at a position was queued.
func (q *Queue) queuedAfterLocked(pos uint32) (at time.Time) {
	for _, m := range q.rare.marks {
		if int32(pos-m.pos) >= 0 {
			at = m.at
		}
	}
	return at
}

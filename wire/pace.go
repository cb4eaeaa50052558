package wire

import "time"

// How much goes out at once. What is queued goes out in batches of whole frames, one batch at a time. A heartbeat goes
// with the next batch, so it stands behind one at most; and a batch holds no more than the link carries in a quarter of a
// heartbeat, and maxBatch. So the peers of a node on a slow link do not take it for dead, and no batch meets a time-out
// that is meant for a bus that does not answer. Who emits more than the link carries waits for room in the queue.

const (
	minBatch   = 64 << 10        // bytes that a batch may have on any link, and on a new one at first
	fullBatch  = 512 << 10       // a batch of this size measures the link, whatever it might have been
	idleBatch  = 4 << 10         // one of at most this size takes a round trip, and no more
	growth     = 8               // of what is taken for the rate, from one batch to the next, at most
	idleMemory = 5 * time.Second // how long the shortest round trip counts
	lateness   = 4               // how many times longer than expected the bytes of a batch may take
	maxBatch   = 4 << 20         // bytes that a batch may have: a fast link may become slow while one is under way
	certain    = 4 << 20         // bytes a second, at most, that are expected: a link may become slower at any time
)

// pace is how fast the link takes batches, as measured. A rest changes nothing. Only the sender's goroutine uses it.
//
// The rate is that of a batch's bytes, over the time beyond an idle round trip. Only batches that were full, or nearly,
// count: what a small one takes is mostly chance. The rate falls only when a batch took longer than the quarter. If the
// round trip was not measured lately it is measured then: it may have become longer, and the link not slower.
type pace struct {
	quarter time.Duration // of a heartbeat
	rate    float64       // bytes a second
	idle    time.Duration // the shortest round trip lately
	idleAt  time.Time     // when that was measured; zero: never
	again   bool          // the next batch is to be a small one, to measure it
	known   bool          // a batch was under way that counts, whatever became of it
}

func newPace(quarter time.Duration) pace {
	return pace{quarter: quarter, rate: minBatch / quarter.Seconds()}
}

// limit is how many bytes the next batch may have.
func (p *pace) limit() int {
	return int(min(max(p.rate*p.quarter.Seconds(), minBatch), maxBatch))
}

// expected is the expected time for n bytes, beyond a round trip.
func (p *pace) expected(n int) time.Duration {
	return time.Duration(float64(n) / min(p.rate, certain) * float64(time.Second))
}

// measure enters how long a batch of n bytes was under way. One that failed may have ended early.
func (p *pace) measure(n int, took time.Duration, failed bool, now time.Time) {
	p.again = false
	stale := now.Sub(p.idleAt) > idleMemory
	switch limit := p.limit(); {
	case n <= idleBatch:
		if !failed && (took < p.idle || stale) {
			p.idle, p.idleAt = took, now
		}
		return
	case n < min(limit/2, fullBatch):
		return
	}
	p.known = true
	beyond := max(took-p.idle, time.Microsecond)
	rate := float64(n) / beyond.Seconds()
	least := minBatch / p.quarter.Seconds() / 4 // else a stall would make the next time-outs endless
	switch {
	case rate > p.rate:
		if !failed {
			p.rate = min(rate, growth*max(p.rate, 4*least))
		}
	case beyond > p.quarter:
		p.rate, p.again = max(rate, least), stale
	}
}

// timeout is how long a batch may take; answer is the bus's time to answer. A slow link must not look dead. On a link
// without a measurement, the bytes get only the expected time, and at most twice answer, because the bus has not been
// seen to answer.
func (p *pace) timeout(bytes int, answer time.Duration) time.Duration {
	beyond := p.expected(bytes)
	if p.known {
		beyond *= lateness
	} else {
		beyond = min(beyond, 2*answer)
	}
	return answer + beyond
}

package wire

import "time"

// This file decides how many bytes are sent at once. Queued frames are sent in batches, one batch at a time. A
// heartbeat goes with the next batch, so at most one batch is before it. A batch holds no more than the link carries in
// a quarter of a heartbeat, and no more than maxBatch. This has two effects:
//
//   - Peers do not take a node on a slow link for dead.
//   - A slow batch does not reach the time limit for a bus that does not answer.
//
// If emissions exceed the link's rate, Emit waits for room in the queue.

const (
	minBatch   = 64 << 10        // bytes that a batch may have on any link; also the first limit
	fullBatch  = 512 << 10       // a batch of this size measures the link, even if the limit is larger
	idleBatch  = 4 << 10         // a batch of at most this size takes only a round trip
	growth     = 8               // the rate grows at most by this factor from one batch to the next
	idleMemory = 5 * time.Second // how long the shortest round trip counts
	lateness   = 4               // how many times longer than expected the bytes of a batch may take
	maxBatch   = 4 << 20         // bytes that any batch may have: a fast link might become slow during a batch
	certain    = 4 << 20         // the highest expected rate in bytes a second: a link might become slower at any time
)

// pace is the measured rate of the link. A pause changes nothing. Only the sender's goroutine uses it.
//
// The rate is the bytes of a batch, divided by its time beyond an idle round trip. Only full or nearly full batches
// count, because the time of a small one is mostly chance. The rate falls only if a batch took longer than the quarter.
// If the round trip was not measured lately, the next batch then measures it, because the round trip might have become
// longer, and not the link slower.
type pace struct {
	quarter time.Duration // of a heartbeat
	rate    float64       // bytes a second
	idle    time.Duration // the shortest round trip lately
	idleAt  time.Time     // when idle was measured; zero: never
	again   bool          // the next batch must be small, to measure idle
	known   bool          // a batch was sent that counts, even if it failed
}

func newPace(quarter time.Duration) pace {
	return pace{quarter: quarter, rate: minBatch / quarter.Seconds()}
}

// limit returns how many bytes the next batch may have.
func (p *pace) limit() int {
	return int(min(max(p.rate*p.quarter.Seconds(), minBatch), maxBatch))
}

// expected returns the expected time for n bytes, beyond a round trip.
func (p *pace) expected(n int) time.Duration {
	return time.Duration(float64(n) / min(p.rate, certain) * float64(time.Second))
}

// measure enters the time of a batch of n bytes. A failed batch might have ended early.
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
	least := minBatch / p.quarter.Seconds() / 4 // without it, a stall would make the next time limits endless
	switch {
	case rate > p.rate:
		if !failed {
			p.rate = min(rate, growth*max(p.rate, 4*least))
		}
	case beyond > p.quarter:
		p.rate, p.again = max(rate, least), stale
	}
}

// timeout returns how long a batch may take; answer is the bus's time to answer. A slow link must not look dead. On a
// link without a measurement, the bytes get only the expected time, and at most twice answer, because the bus has not
// answered before.
func (p *pace) timeout(bytes int, answer time.Duration) time.Duration {
	beyond := p.expected(bytes)
	if p.known {
		beyond *= lateness
	} else {
		beyond = min(beyond, 2*answer)
	}
	return answer + beyond
}

const (
	manyFrames = 256                  // of a batch
	smallFrame = 4 << 10              // bytes of a frame on average
	longPause  = 2 * time.Millisecond // the longest pause
)

// isScattered reports whether a batch had many small frames of a few instructions each. Then the cost of a frame is
// most of that of its instructions, which come again and again for the same topics, and which wait for batches anyway.
// After such a batch the sender pauses for as long as it took, so that the next frames hold more.
func isScattered(batch []*frame, bytes int) bool {
	if len(batch) < manyFrames || bytes > smallFrame*len(batch) {
		return false
	}
	n := 0
	for _, f := range batch {
		n += int(f.instructions)
		if len(f.deliveries) > 0 { // somebody waits
			return false
		}
	}
	return 2*len(batch) <= n && n < 16*len(batch)
}

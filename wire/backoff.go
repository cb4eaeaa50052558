package wire

import (
	"math/rand/v2"
	"time"
)

// backoff doubles from minBackoff to maxBackoff, with jitter: all nodes lose Redis at the same moment, and must not
// come back at the same moment. It begins anew after what is tried has worked for maxBackoff: what works for a moment
// each time is not tried more often than what never works.
type backoff struct{ last time.Duration }

func (b *backoff) reset() { b.last = 0 }

// worked notes for how long what was tried has worked, until it failed again.
func (b *backoff) worked(d time.Duration) {
	if d >= maxBackoff {
		b.reset()
	}
}

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, minBackoff), maxBackoff)
	return b.last/2 + rand.N(b.last/2+1)
}

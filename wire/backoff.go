package wire

import (
	"math/rand/v2"
	"time"
)

// backoff is the pause between attempts. It doubles from minBackoff to maxBackoff. It has jitter, because all nodes
// lose the bus at the same moment, and must not come back at the same moment. It begins anew only after a success that
// lasted for maxBackoff. So an attempt that works for a moment each time is not repeated more often than one that never
// works.
type backoff struct{ last time.Duration }

func (b *backoff) reset() { b.last = 0 }

// worked notes that an attempt succeeded, and worked for d until it failed again.
func (b *backoff) worked(d time.Duration) {
	if d >= maxBackoff {
		b.reset()
	}
}

// next returns the next pause.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, minBackoff), maxBackoff)
	return b.last/2 + rand.N(b.last/2+1)
}

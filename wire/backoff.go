package wire

import (
	"math/rand/v2"
	"time"
)

// backoff doubles from minBackoff to maxBackoff, with jitter: all nodes lose Redis at the same moment, and must not
// come back at the same moment.
type backoff struct{ last time.Duration }

func (b *backoff) reset() { b.last = 0 }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, minBackoff), maxBackoff)
	return b.last/2 + rand.N(b.last/2+1)
}

package wire

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// together is what the parts of one node share: the counters of frames and of copies, and which copies have come. An
// instruction that goes over several parts has one copy number in all of them. Parts have no order between them, so
// copies of two instructions might come crosswise, and the last number alone does not tell what has come.
type together struct {
	numbers, copies atomic.Uint64

	runID atomic.Pointer[runID] // of sealed frames, in all parts

	mu   sync.Mutex
	seen map[crosscast.NodeID]*copySet // at most maxOrigins; guarded by mu
}

// copySet has the latest copy numbers of one origin. If a number is below all of them and the set is full, nobody knows
// whether that copy has come. A stranger's high number takes one place, and hides nothing.
type copySet struct {
	numbers [maxCopySet]uint64 // a ring
	n       int                // numbers in the set
	next    int                // its next place
	goodbye uint64             // the copy number of a goodbye; 0: there was none
	leftAt  time.Time          // when it came
}

const (
	maxCopySet = 512
	goodbyeFor = 10 * time.Second // then older heartbeats than a goodbye show that it was forged
)

// judge enters a copy, and reports whether it is new.
func (t *together) judge(id crosscast.NodeID, k kind.Kind, number uint64, now time.Time) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.seen[id]
	if s == nil {
		if len(t.seen) >= maxOrigins {
			for other := range t.seen { // any
				delete(t.seen, other)
				break
			}
		}
		if t.seen == nil {
			t.seen = make(map[crosscast.NodeID]*copySet)
		}
		s = &copySet{}
		t.seen[crosscast.NodeID([]byte(id))] = s
	}
	switch v := s.enter(number); {
	case k == kind.Goodbye:
		s.goodbye, s.leftAt = number, now
		return v
	case !k.Control():
		return v
	case v == overdue, number < s.goodbye && now.Sub(s.leftAt) < goodbyeFor:
		return copied // a heartbeat from before the goodbye is no sign of life
	default:
		return v
	}
}

func (s *copySet) enter(number uint64) verdict {
	least := number
	for _, n := range s.numbers[:s.n] {
		if n == number {
			return copied
		}
		least = min(least, n)
	}
	if s.n == maxCopySet && least == number {
		return overdue
	}
	s.n = min(s.n+1, maxCopySet)
	s.numbers[s.next] = number
	s.next = (s.next + 1) % maxCopySet
	return fresh
}

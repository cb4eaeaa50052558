package wire_test

import (
	"errors"
	"testing"
	"time"
)

// TestUnproven: a peer's server does not know of a subscription yet, and drops what the peer publishes, before anything
// else of the peer arrives. That is a gap if the bus has said so, also if another message on the topic follows at once.
// What is certainly older than the subscription is none.
func TestUnproven(t *testing.T) {
	for _, follows := range []bool{false, true} {
		onPatchy(t, 2, func(t *testing.T, c *cluster) {
			a, b := c.peers[0], c.peers[1]
			emitEach(t, a, []string{"old"})
			c.beat(time.Second)
			b.port.Unprove(errors.New("a server does not answer"))
			subscribe(t, b, "a", "old")
			a.missing(b, anything)
			emitEach(t, a, []string{"a"})
			a.port.SetFate(nil)
			if follows {
				emitEach(t, a, []string{"a"})
			}
			c.beat(4 * time.Second)
			wantGaps(t, b, a.id, []string{"a"})
		})
	}
}

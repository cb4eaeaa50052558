package wsconn

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/pace"
)

// Rate bounds the events of each client. The zero value bounds nothing.
type Rate struct {
	Events float64 // a second
	Burst  int     // at once; 0: those of a second
	Policy EventPolicy
	Paused *atomic.Uint64 // counts pauses

	pace *pace.Pace // nil: no bound
}

// An EventPolicy is what happens to the events above a rate.
type EventPolicy uint8

// Bindings have the same constants.
const (
	EventPause EventPolicy = iota
	EventRefuse
	EventClose
)

func (r *Rate) check(owner string) error {
	if r.Policy > EventClose {
		return fmt.Errorf("%s: Options.EventPolicy is %d: it must be EventPause, EventRefuse or EventClose", owner, r.Policy)
	}
	if err := pace.Check(owner+": Options.EventRate", r.Events, owner+": Options.EventBurst", r.Burst); err != nil {
		return err
	}
	r.pace = pace.New(r.Events, r.Burst)
	return nil
}

// ErrTooMany is the error of an event that is refused.
var ErrTooMany = Errorf("%s", crosscast.ReasonFlood)

// causeEvents counts the events that are refused, and the connections that are closed for one.
const causeEvents = "events"

// Admit is called by the reader for each event of the client, which might be one too many. Then the event is to be
// answered with ErrTooMany, or Admit returns an error with which reading ends. With EventPause lanes wait instead.
func (c *Conn) Admit() (refused bool, err error) {
	r := &c.config.Rate
	if r.pace == nil || r.Policy == EventPause || c.take() == 0 {
		return false, nil
	}
	c.config.Refused.Count(causeEvents)
	if r.Policy == EventRefuse {
		c.warnRate("an event was refused")
		return true, nil
	}
	c.warnRate("a connection was closed")
	return false, Unacceptable(CauseOf(crosscast.ReasonFlood))
}

func (c *Conn) take() (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config.Rate.pace.Take(&c.bucket)
}

// turn returns how long the client's next event must wait. 0: it has its turn.
func (c *Conn) turn() time.Duration {
	r := &c.config.Rate
	if r.pace == nil || r.Policy != EventPause {
		return 0
	}
	wait := c.take()
	if wait > 0 {
		r.Paused.Add(1)
		c.warnRate("events of a client wait")
	}
	return wait
}

// AwaitTurn waits for the turn of something that does not wait in a lane, or for the end of ctx.
func (c *Conn) AwaitTurn(ctx context.Context) {
	for {
		wait := c.turn()
		if wait == 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (c *Conn) warnRate(what string) {
	c.warn("events", what+", because the client sends too many", "cure",
		"a client that sends less, or a larger Options.EventRate or EventBurst", "rate", c.config.Rate.Events)
}

// A Tally counts by cause. There are only a few causes. The zero value is ready, and may be used concurrently.
type Tally struct {
	mu sync.Mutex
	m  map[string]uint64 // guarded by mu
}

// Count counts one for a cause.
func (t *Tally) Count(cause string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[string]uint64)
	}
	t.m[cause]++
}

// Snapshot returns a copy, which is never nil.
func (t *Tally) Snapshot() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		return make(map[string]uint64)
	}
	return maps.Clone(t.m)
}

// Package admission decides which clients a binding accepts: how many at a time, how many of one user, and how many a
// second.
package admission

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/pace"
)

// Limits are the options of a binding, which documents them. The zero value limits nothing.
type Limits struct {
	MaxClients          int
	MaxUserClients      int
	MaxUserClientsTotal int
	KickOldest          bool
	HandshakeRate       float64
	HandshakeBurst      int
}

// Check checks the options of owner.
func (l *Limits) Check(owner string) error {
	err := cmp.Or(
		bounds.Count(owner+": Options.MaxClients", cmp.Or(l.MaxClients, 1), 1<<30),
		bounds.Count(owner+": Options.MaxUserClients", cmp.Or(l.MaxUserClients, 1), 1<<20),
		bounds.Count(owner+": Options.MaxUserClientsTotal", cmp.Or(l.MaxUserClientsTotal, 1), 1<<20),
		pace.Check(owner+": Options.HandshakeRate", l.HandshakeRate, owner+": Options.HandshakeBurst", l.HandshakeBurst),
	)
	if err == nil && l.KickOldest && l.MaxUserClients == 0 && l.MaxUserClientsTotal == 0 {
		err = fmt.Errorf("%s: Options.KickOldest is for MaxUserClients and MaxUserClientsTotal, and neither is set", owner)
	}
	return err
}

// The causes of refusals, as in the statistics of bindings.
const (
	CauseClients     = "clients"
	CauseUserClients = "user clients"
	CauseHandshakes  = "handshakes"
	CauseDraining    = "draining"
)

// A Refusal is the error of a client that is not accepted.
type Refusal struct {
	Cause  string
	Text   string        // for the client
	Cure   string        // for the log
	Status int           // of HTTP
	After  time.Duration // the client should not come back earlier
}

func (r *Refusal) Error() string { return r.Text }

// Ending returns the refusal of a node that drains or is closed, if err says so, or nil. err is that of
// [crosscast.Namespace.Accepts]. The client may come back at once, because it will get to another node.
func Ending(err error) *Refusal {
	var reason crosscast.Reason
	switch {
	case errors.Is(err, crosscast.ErrDraining):
		reason = crosscast.ReasonDrained
	case errors.Is(err, crosscast.ErrClosed):
		reason = crosscast.ReasonShutdown
	default:
		return nil
	}
	return &Refusal{CauseDraining, string(reason), "", http.StatusServiceUnavailable, time.Second}
}

// SetHeader tells the client when to come back.
func (r *Refusal) SetHeader(h http.Header) {
	seconds := max((r.After+time.Second-1)/time.Second, 1)
	h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
}

// spread returns a time from least to three times that, so that refused clients do not come back at once.
func spread(least time.Duration) time.Duration { return least + rand.N(2*least) }

// A Door counts the clients of a server. Its methods may be called concurrently.
type Door struct {
	most int
	rate *pace.Pace // nil: any

	mu     sync.Mutex // guards the fields below
	inside int
	bucket pace.Bucket
}

// Init initializes the door.
func (d *Door) Init(l Limits) {
	d.most, d.rate = l.MaxClients, pace.New(l.HandshakeRate, l.HandshakeBurst)
}

// Enter counts a client in. Each Enter that returns nil needs one Leave.
func (d *Door) Enter() *Refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.most > 0 && d.inside >= d.most {
		return &Refusal{
			CauseClients, "too many clients", "a larger Options.MaxClients, or more servers",
			http.StatusServiceUnavailable, spread(5 * time.Second),
		}
	}
	if d.rate != nil {
		if wait := d.rate.Take(&d.bucket); wait > 0 {
			return &Refusal{
				CauseHandshakes, "too many handshakes", "a larger Options.HandshakeRate or HandshakeBurst",
				http.StatusTooManyRequests, wait + spread(time.Second),
			}
		}
	}
	d.inside++
	return nil
}

// Leave counts a client out.
func (d *Door) Leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
}

// Inside returns how many clients there are.
func (d *Door) Inside() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inside
}

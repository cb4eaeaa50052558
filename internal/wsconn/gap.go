package wsconn

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// maxGapWindow is the longest GapWindow.
const maxGapWindow = time.Hour

// GapWindow returns the time within which a number of clients may query the application. spread is the time for 1,000 of
// them; negative: none.
func GapWindow(spread time.Duration, clients int) time.Duration {
	perClient := max(spread, 0) / 1000
	if clients > 0 && perClient > math.MaxInt64/time.Duration(clients) {
		return maxGapWindow
	}
	return min(perClient*time.Duration(clients), maxGapWindow)
}

// A GapNotice is what a client is told of a gap.
type GapNotice struct {
	Room         string    // empty: everything
	Since, Until time.Time // a zero Until: it goes on
	Ends         bool      // it is the end of one that went on
	Wait         time.Duration

	outage bool // it is one that an Outage knows
}

// NoticeOf returns what clients are told of g.
func NoticeOf(g *crosscast.Gap) GapNotice {
	ends := !g.Until.IsZero() && reasons.GapGoesOn(string(g.Reason))
	return GapNotice{Since: g.Since, Until: g.Until, Ends: ends, outage: g.Names == nil}
}

// IsOutage reports whether g is the beginning of an outage of the node, which goes on. Clients are not sent away for
// that, because other nodes often have the same outage.
func IsOutage(g *crosscast.Gap) bool { return g.Until.IsZero() && g.Names == nil }

// SendAway closes a socket at a random time within a window, as a drain does.
func SendAway(s *crosscast.Socket, window time.Duration) {
	time.AfterFunc(time.Duration(rand.Float64()*float64(window)), func() { s.Close(crosscast.ReasonDrained) })
}

// An Outage is what a server knows of an outage of its node. Its methods may be called concurrently.
type Outage struct{ since atomic.Pointer[time.Time] }

// Note is called with each gap, before the clients that it concerns are looked up.
func (o *Outage) Note(g *crosscast.Gap) {
	switch {
	case g.Names != nil:
	case g.Until.IsZero():
		o.since.Store(&g.Since)
	case NoticeOf(g).Ends:
		o.since.Store(nil)
	}
}

// Dropped returns the notice of what a queue has dropped: everything since a time. During an outage it goes on, and
// otherwise it also ends a gap that went on, because notices of both might be among what was dropped.
func (o *Outage) Dropped(since time.Time) GapNotice {
	if began := o.since.Load(); began != nil {
		if began.Before(since) {
			since = *began
		}
		return GapNotice{Since: since}
	}
	return GapNotice{Since: since, Until: time.Now(), Ends: true}
}

// Tell tells a client of an outage that goes on. Its socket has just connected, so it is looked up from now on. An end
// that comes meanwhile is told again, because it might have been told first.
func (o *Outage) Tell(tell func(GapNotice)) {
	for now := o.since.Load(); now != nil; {
		tell(GapNotice{Since: *now, outage: true})
		began := now
		if now = o.since.Load(); now == nil {
			tell(GapNotice{Since: *began, Until: time.Now(), Ends: true, outage: true})
		} else if now == began {
			return
		}
	}
}

// AppendGap appends the object of which a client is told about a gap, in milliseconds before now: {"room":"r",
// "ago":[4200,300],"wait":800}, and "ends":true if it ends one that went on. A room that is not UTF-8 has the bytes in
// question replaced by U+FFFD.
func AppendGap(b []byte, g GapNotice) []byte {
	b = append(b, '{')
	if g.Room != "" {
		name, _ := json.Marshal(g.Room) // a string has no errors
		b = append(append(append(b, `"room":`...), name...), ',')
	}
	now := time.Now()
	ago := max(now.Sub(g.Since), 0)
	ms := ago.Milliseconds()
	if ago%time.Millisecond > 0 {
		ms++ // never later than since
	}
	b = strconv.AppendInt(append(b, `"ago":[`...), ms, 10)
	if !g.Until.IsZero() {
		b = strconv.AppendInt(append(b, ','), max(now.Sub(g.Until), 0).Milliseconds(), 10)
	}
	b = strconv.AppendInt(append(b, `],"wait":`...), g.Wait.Milliseconds(), 10)
	if g.Ends {
		b = append(b, `,"ends":true`...)
	}
	return append(b, '}')
}

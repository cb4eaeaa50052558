package client

import (
	"errors"
	"math/rand/v2"
	"time"
)

// A Gap is a stretch of time in which the client might have missed emissions. The application fetches them again, for
// example in Options.Refetch.
type Gap struct {
	// Room is the room that the gap concerns; empty: everything that the client receives.
	Room string
	// Since and Until bound the gap by the clock of this client. Since is two seconds earlier than the server reports,
	// for the travel time of the report. A zero Until means that the gap goes on: another Gap with the same Room follows
	// when it ends. If the connection is lost first, the gap of the absence begins with it.
	Since, Until time.Time
	// Away is true if the client had no connection, and false if the server missed something or the client was too slow.
	Away bool
	// Wait is how long the client should wait before it queries the server, so that not all clients do at once. It is
	// drawn at random.
	Wait time.Duration
}

// gapMessage is a message of the server about a gap, in milliseconds: ago has the beginning and, unless the gap goes on,
// the end.
type gapMessage struct {
	Room string
	Ago  []int64
	Wait int64
	Ends bool // a gap of the room that went on has ended
}

var errBadGap = errors.New("malformed message: a gap without times")

// maxMillis is about a hundred years.
const maxMillis = 1 << 42

// gap returns what a message that has arrived now reports.
func (m *gapMessage) gap(now time.Time) (Gap, error) {
	if len(m.Ago) == 0 || len(m.Ago) > 2 || m.Wait < 0 || m.Wait > maxMillis {
		return Gap{}, errBadGap
	}
	for _, ago := range m.Ago {
		if ago < 0 || ago > maxMillis {
			return Gap{}, errBadGap
		}
	}
	before := func(ms int64) time.Time { return now.Add(-time.Duration(ms) * time.Millisecond) }
	g := Gap{Room: m.Room, Since: before(m.Ago[0]).Add(-inFlight), Wait: draw(time.Duration(m.Wait) * time.Millisecond)}
	if len(m.Ago) == 2 {
		g.Until = before(m.Ago[1])
	}
	return g, nil
}

// draw returns a random time up to most.
func draw(most time.Duration) time.Duration { return rand.N(max(most, 0) + 1) }

// handleGap is called by the client's goroutine. ends is whether a gap of the room that went on has ended.
func (c *Client) handleGap(g Gap, ends bool) {
	c.open.note(g, ends)
	if c.o.OnGap != nil {
		c.o.OnGap(c, g)
	}
	if c.o.Refetch != nil && !g.Until.IsZero() {
		c.refetches.add(g, time.Now())
	}
	c.rewatchAfter(g)
}

// openGaps has the beginnings of the gaps that go on, by room. Only the client's goroutine uses it.
type openGaps map[string]time.Time

func (o openGaps) note(g Gap, ends bool) {
	if ends {
		delete(o, g.Room)
	}
	if !g.Until.IsZero() {
		return
	}
	if len(o) >= maxRefetches {
		g.Room = ""
	}
	if began, known := o[g.Room]; !known || g.Since.Before(began) {
		o[g.Room] = g.Since
	}
}

// absence returns the beginning of an absence that begins at since, of which the gaps that go on become part.
func (o openGaps) absence(since time.Time) time.Time {
	for _, began := range o {
		if began.Before(since) {
			since = began
		}
	}
	clear(o)
	return since
}

// refetches are the gaps for which Options.Refetch is still to be called, by room. Only the client's goroutine uses them.
type refetches struct {
	waiting map[string]*refetch
	due     schedule[*refetch] // the same
}

type refetch struct {
	gap     Gap
	due     time.Time
	backoff time.Duration // after the last failure
}

func (r *refetch) dueAt() time.Time { return r.due }

// maxRefetches is the number of waiting gaps from which a gap of another room counts as one of everything.
const maxRefetches = 1000

// add adds g to the gap that waits for the same room, or makes it wait.
func (r *refetches) add(g Gap, now time.Time) {
	if r.waiting[g.Room] == nil && len(r.waiting) >= maxRefetches {
		g.Room = ""
	}
	if waiting := r.waiting[g.Room]; waiting != nil {
		waiting.gap.cover(g)
		return
	}
	r.keep(&refetch{gap: g, due: now.Add(g.Wait)})
}

func (r *refetches) keep(f *refetch) {
	r.waiting[f.gap.Room] = f
	r.due.add(f)
}

// take removes the gap whose time comes first.
func (r *refetches) take() *refetch {
	f := r.due.take()
	delete(r.waiting, f.gap.Room)
	return f
}

// cover makes g cover o, which was reported later.
func (g *Gap) cover(o Gap) {
	if o.Since.Before(g.Since) {
		g.Since = o.Since
	}
	if o.Until.After(g.Until) {
		g.Until = o.Until
	}
	g.Away = g.Away || o.Away
}

// refetch calls Refetch if a gap's time has come, and reports that.
func (c *Client) refetch() (called bool) {
	if !c.refetches.due.isDue() {
		return false
	}
	f := c.refetches.take()
	err := c.o.Refetch(c.ctx, c, f.gap)
	if err == nil || c.ctx.Err() != nil {
		return true
	}
	c.o.OnError(c, "refetch", err)
	var pause time.Duration
	f.backoff, pause = c.o.nextPause(f.backoff)
	f.due = time.Now().Add(pause)
	c.refetches.keep(f)
	return true
}

// earliestGap returns since, or the beginning of an earlier gap among the messages that were not handled.
func (s *session) earliestGap(since time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.queue {
		if m := &s.queue[i]; m.Gap != nil && m.bad == nil && m.gap.Since.Before(since) {
			since = m.gap.Since
		}
	}
	return since
}

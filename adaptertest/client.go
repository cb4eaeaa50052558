package adaptertest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// fencePrefix begins the events of fences, which rules do not see.
const fencePrefix = "\x00fence-"

// A client is a socket that records its messages, and the gaps of its node among them.
type client struct {
	*crosscast.Socket
	b    *bed
	node *node
	log  *log
}

// conn is the client as a crosscast.Conn.
type conn struct{ c *client }

func (v conn) Send(m *crosscast.Message) error {
	c := v.c
	if m.From != c.node.ID() { // the application might emit from many goroutines, but a peer is one origin
		if !c.log.enter(m.From) {
			c.b.breaks("THE RULE: Handle is never called concurrently for one origin.\n" +
				"SEEN: two messages of one peer were being delivered at once.")
		}
		defer c.log.exit(m.From)
	}
	c.log.add(entry{msg: m.Clone()})
	return nil
}

func (v conn) Close(crosscast.Reason) {}

// An entry is a message or a gap.
type entry struct {
	msg *crosscast.Message
	gap *crosscast.Gap
}

func (e entry) String() string {
	if e.gap != nil {
		return fmt.Sprintf("[gap: %s]", e.gap.Reason)
	}
	return e.msg.Event
}

// A log is the messages and gaps of a client, in order.
type log struct {
	mu      sync.Mutex // guards the fields below
	entries []entry
	taken   int            // entries that take has returned
	count   map[string]int // messages, by event
	changed chan struct{}  // made by a waiting goroutine, closed by the next entry
	inside  map[crosscast.NodeID]int
}

func newLog() *log {
	return &log{count: make(map[string]int), inside: make(map[crosscast.NodeID]int)}
}

// enter notes the start of a delivery from an origin. It reports whether no other one from it is in progress.
func (l *log) enter(from crosscast.NodeID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside[from]++
	return l.inside[from] == 1
}

func (l *log) exit(from crosscast.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside[from]--
}

func (l *log) add(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	if e.msg != nil {
		l.count[e.msg.Event]++
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// await waits until ok returns true. It calls ok with the log locked.
func (l *log) await(d time.Duration, ok func() bool) bool {
	timeout := time.After(d)
	for {
		l.mu.Lock()
		if ok() {
			l.mu.Unlock()
			return true
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			return false
		}
	}
}

// take returns the entries since the last call, without fences.
func (l *log) take() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := slices.Clone(l.entries[l.taken:])
	l.taken = len(l.entries)
	return slices.DeleteFunc(news, func(e entry) bool {
		return e.msg != nil && strings.HasPrefix(e.msg.Event, fencePrefix)
	})
}

// messages is take without the gaps.
func (l *log) messages() (all []*crosscast.Message) {
	for _, e := range l.take() {
		if e.msg != nil {
			all = append(all, e.msg)
		}
	}
	return all
}

// wait waits until an event has come n times in all.
func (c *client) wait(event string, n int) {
	c.b.Helper()
	came := 0
	if !c.log.await(c.b.patience, func() bool { came = c.log.count[event]; return came >= n }) {
		c.b.Fatalf("a client on %s waited %v for %q, which came %d times instead of %d; since it was looked at last "+
			"it got %s\n%s",
			c.node.Name(), c.b.patience, event, came, n, list(c.got()), c.b.condition())
	}
}

// got returns the events since the last call of take, without fences and gaps.
func (c *client) got() []string {
	var events []string
	for _, m := range c.log.messages() {
		events = append(events, m.Event)
	}
	return events
}

// want checks the events since the last call of take. Their order does not count if the driver lacks CapOrder.
func (c *client) want(events ...string) {
	c.b.Helper()
	if c.b.unordered {
		c.wantAnyOrder(events...)
	} else {
		c.wantInOrder(events...)
	}
}

// wantInOrder is want for the emissions to one name, whose order counts in any case.
func (c *client) wantInOrder(events ...string) {
	c.b.Helper()
	if got := c.got(); !slices.Equal(got, events) {
		c.b.Errorf("a client on %s got %s instead of %s", c.node.Name(), list(got), list(events))
	}
}

// wantAnyOrder is want for the emissions of several nodes.
func (c *client) wantAnyOrder(events ...string) {
	c.b.Helper()
	got := slices.Sorted(slices.Values(c.got()))
	if want := slices.Sorted(slices.Values(events)); !slices.Equal(got, want) {
		c.b.Errorf("a client on %s got %s instead of %s, in any order", c.node.Name(), list(got), list(want))
	}
}

// list returns a text with the events; if there are many, the first and the last.
func list(events []string) string {
	if len(events) == 0 {
		return "nothing"
	}
	var quoted []string
	for i, e := range events {
		if i >= 12 && i < len(events)-4 {
			if i == 12 {
				quoted = append(quoted, fmt.Sprintf("… (%d in all)", len(events)))
			}
			continue
		}
		if len(e) > 60 {
			e = e[:60] + "…"
		}
		quoted = append(quoted, fmt.Sprintf("%q", e))
	}
	return strings.Join(quoted, " ")
}

// numbered returns prefix0 … prefix(n-1).
func numbered(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return all
}

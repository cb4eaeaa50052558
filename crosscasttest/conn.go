package crosscasttest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/poison"
)

func init() { poison.On = true }

// patience is for contexts without a deadline. Only failures take that long.
const patience = 10 * time.Second

// A Conn is a client that records the messages that it receives. It implements [crosscast.Conn]. "So far" means: since
// the last Clear.
//
// A Conn has a connection to one node. [Connect] makes both. If your application connects it, make it with [NewConn];
// then Bind is needed only for the actions of a client: Socket, HangUp, Reply, ReplyWith and WantNone.
type Conn struct {
	tb testing.TB

	mu      sync.Mutex // guards what follows
	socket  *crosscast.Socket
	got     []*crosscast.Message
	fences  map[string]bool // that have come
	refuse  error
	stalled bool
	room    int                  // of held
	held    []*crosscast.Message // came while stalled
	reply   func(*crosscast.Message) (any, bool)
	early   []*crosscast.Message // to be replied to once the socket is known
	closed  bool
	reason  crosscast.Reason
	changed chan struct{} // made by who waits, closed by the next change
}

// NewConn makes a client that the application connects. Failures are reported to tb.
func NewConn(tb testing.TB) *Conn { return &Conn{tb: tb, fences: make(map[string]bool)} }

// Connect makes a client and connects it to ns. If that fails, the test fails.
func Connect(ctx context.Context, tb testing.TB, ns *crosscast.Namespace, o crosscast.ConnectOptions) *Conn {
	tb.Helper()
	c := NewConn(tb)
	ctx, cancel := bounded(ctx)
	defer cancel()
	s, err := ns.Connect(ctx, c, o)
	if err != nil {
		tb.Fatalf("crosscasttest: connecting a client: %v", err)
	}
	c.Bind(s)
	return c
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, patience)
}

// Bind sets the socket that was made for the Conn.
func (c *Conn) Bind(s *crosscast.Socket) {
	c.mu.Lock()
	c.socket = s
	early := c.early
	c.early = nil
	c.mu.Unlock()
	c.answer(early...)
}

// Socket returns the client's socket. The test fails if there is none.
func (c *Conn) Socket() *crosscast.Socket {
	c.tb.Helper()
	c.mu.Lock()
	s := c.socket
	c.mu.Unlock()
	if s == nil {
		c.tb.Fatalf("crosscasttest: the conn has no socket: use Connect, or Bind")
	}
	return s
}

// Send implements [crosscast.Conn].
func (c *Conn) Send(m *crosscast.Message) error {
	keep, err := c.take(m)
	if keep != nil {
		c.answer(keep)
	}
	return err
}

// take accepts or refuses m. It returns a copy of m if the client received it now.
func (c *Conn) take(m *crosscast.Message) (*crosscast.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, crosscast.ErrClosed
	case strings.HasPrefix(m.Event, fencePrefix): // is no message to a client, and passes whatever the client does
		c.fences[m.Event] = true
		c.change()
		return nil, nil
	case c.refuse != nil:
		return nil, c.refuse
	case !c.stalled:
		m = m.Clone()
		c.got = append(c.got, m)
		c.change()
		return m, nil
	case m.Volatile:
		return nil, crosscast.ErrDropped
	case len(c.held) >= c.room:
		return nil, crosscast.ErrSlow
	}
	c.held = append(c.held, m.Clone())
	return nil, nil
}

// change wakes all that wait; c.mu is held.
func (c *Conn) change() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// Close implements [crosscast.Conn].
func (c *Conn) Close(reason crosscast.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.reason, c.held = true, reason, nil
	c.change()
}

// Closed returns the reason, and whether the connection was closed.
func (c *Conn) Closed() (crosscast.Reason, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason, c.closed
}

// WaitClosed waits until the connection is closed, and returns the reason.
func (c *Conn) WaitClosed(ctx context.Context) crosscast.Reason {
	c.tb.Helper()
	c.await(ctx, "the end of the connection", func() bool { return c.closed })
	reason, _ := c.Closed()
	return reason
}

// Messages returns the messages so far. Do not change them.
func (c *Conn) Messages() []*crosscast.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// Lines returns the messages so far as text: the event, then a space and the payload, if there is one. A JSON payload
// is written as it came, bytes as a quoted Go string, and other encodings as [crosscast.Payload.AppendJSON] does.
func (c *Conn) Lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lines(c.got)
}

func lines(messages []*crosscast.Message) []string {
	all := make([]string, len(messages))
	for i, m := range messages {
		all[i] = line(m)
	}
	return all
}

func line(m *crosscast.Message) string {
	switch m.Payload.Encoding {
	case crosscast.EncodingNone:
		return m.Event
	case crosscast.EncodingJSON:
		return m.Event + " " + string(m.Payload.Data)
	case crosscast.EncodingArgs, crosscast.EncodingMsgPack:
		data, err := m.Payload.AppendJSON([]byte(m.Event + " "))
		if err != nil {
			return fmt.Sprintf("%s %q: %v", m.Event, m.Payload.Data, err)
		}
		return string(data)
	default:
		return fmt.Sprintf("%s %q", m.Event, m.Payload.Data)
	}
}

// Clear forgets the messages so far.
func (c *Conn) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = nil
}

// Want fails the test unless the messages so far are lines, as [Conn.Lines] writes them. It then forgets them. After
// [Cluster.Settle] these are all messages.
func (c *Conn) Want(lines ...string) {
	c.tb.Helper()
	got := c.Lines()
	c.Clear()
	if !slices.Equal(got, lines) {
		c.tb.Errorf("%s got %s\nwant %s", c.name(), list(got), list(lines))
	}
}

// name names the client in a failure.
func (c *Conn) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.socket == nil:
		return "a client"
	case c.socket.User() != "":
		return fmt.Sprintf("a client of the user %q", c.socket.User())
	}
	return "the client " + string(c.socket.ID())
}

func list(lines []string) string {
	if len(lines) == 0 {
		return "nothing"
	}
	return "\n\t" + strings.Join(lines, "\n\t")
}

// Nth waits until n messages have arrived so far, and returns the n-th. The first is 1.
func (c *Conn) Nth(ctx context.Context, n int) *crosscast.Message {
	c.tb.Helper()
	if n < 1 {
		c.tb.Fatalf("crosscasttest: message %d: the first is 1", n)
	}
	var m *crosscast.Message
	c.await(ctx, fmt.Sprintf("message %d", n), func() bool {
		if len(c.got) < n {
			return false
		}
		m = c.got[n-1]
		return true
	})
	return m
}

// Event returns the first message so far with the given event. It waits for one if there is none.
func (c *Conn) Event(ctx context.Context, event string) *crosscast.Message {
	c.tb.Helper()
	return c.Find(ctx, fmt.Sprintf("the event %q", event), func(m *crosscast.Message) bool { return m.Event == event })
}

// Find returns the first message so far that matches. It waits for one if there is none. what describes the message in
// a failure. match must not use the Conn.
func (c *Conn) Find(ctx context.Context, what string, match func(m *crosscast.Message) bool) *crosscast.Message {
	c.tb.Helper()
	var found *crosscast.Message
	c.await(ctx, what, func() bool {
		i := slices.IndexFunc(c.got, match)
		if i >= 0 {
			found = c.got[i]
		}
		return i >= 0
	})
	return found
}

// await waits until ok returns true; ok is called with c.mu held. The test fails if ctx ends first, or if the
// connection is closed, so that nothing more can arrive.
func (c *Conn) await(ctx context.Context, what string, ok func() bool) {
	c.tb.Helper()
	ctx, cancel := bounded(ctx)
	defer cancel()
	for {
		c.mu.Lock()
		if ok() {
			c.mu.Unlock()
			return
		}
		if c.closed {
			reason := c.reason
			c.mu.Unlock()
			c.tb.Fatalf("%s waited for %s, and was closed (%s); it got %s", c.name(), what, reason, list(c.Lines()))
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			c.tb.Fatalf("%s waited for %s: %v; it got %s", c.name(), what, ctx.Err(), list(c.Lines()))
		}
	}
}

package natsadapter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/natsadapter"
)

// within returns a context that ends after the patience.
func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	tb.Cleanup(cancel)
	return ctx
}

// member is a node, and the books of what its clients hear in the room "room". A message is the number of its emission,
// by a node's name.
type member struct {
	*crosscast.Node

	mu      sync.Mutex // guards the fields below
	emitted int
	heard   map[string]int
	excused map[string]bool // names of which a gap was told since the last message
	silent  []string
	gaps    []crosscast.Gap
	losses  []crosscast.Loss
}

// join starts a node until the test ends.
func join(tb testing.TB, name, url string, o natsadapter.Options, change func(*crosscast.Options), client ...nats.Option) *member {
	tb.Helper()
	m := &member{heard: map[string]int{}, excused: map[string]bool{}}
	options := crosscast.Options{
		Name: name, Heartbeat: 250 * time.Millisecond, Adapter: natsadapter.Dial(url, o, client...),
		OnLoss: func(_ *crosscast.Node, l crosscast.Loss) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.losses = append(m.losses, l)
		},
	}
	if change != nil {
		change(&options)
	}
	var err error
	if m.Node, err = crosscast.Start(within(tb), options); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(within(tb)); err != nil && !errors.As(err, new(*crosscast.LossError)) {
			tb.Errorf("close %s: %v", name, err)
		}
	})
	if _, err = m.Subscribe(within(tb), crosscast.Receiver{
		QueueBytes: 256 << 20,
		OnMessage:  func(_ *crosscast.Subscription, msg *crosscast.Message) { m.hear(msg.Event) },
		OnGap: func(_ *crosscast.Subscription, g crosscast.Gap) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.gaps = append(m.gaps, g)
			for other := range m.heard {
				m.excused[other] = true
			}
		},
	}, "room"); err != nil {
		tb.Fatal(err)
	}
	return m
}

// hear enters a message. A number that is not the next one needs a gap in its place.
func (m *member) hear(event string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int
	from, number, _ := strings.Cut(event, " ")
	_, _ = fmt.Sscan(number, &n)
	last, known := m.heard[from]
	if known && n != last+1 && (n <= last || !m.excused[from]) {
		m.silent = append(m.silent, fmt.Sprintf("%s heard %d of %s after %d", m.Name(), n, from, last))
	}
	m.heard[from], m.excused[from] = n, false
}

// emit emits the next number.
func (m *member) emit() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.To("room").Emit(context.Background(), fmt.Sprintf("%s %d", m.Name(), m.emitted+1), nil); err == nil {
		m.emitted++
	}
}

func (m *member) last(of *member) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.heard[of.Name()]
}

func (m *member) gapsSoFar() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.gaps)
}

// under has the members emit all the time, and checks that they hear each other before the fault and after it, and
// that what they do not hear was told in its place.
func under(tb testing.TB, fault func(), members ...*member) {
	tb.Helper()
	stop := make(chan struct{})
	var emitting sync.WaitGroup
	for _, m := range members {
		emitting.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					m.emit()
				case <-stop:
					return
				}
			}
		})
	}
	hearEachOther(tb, members)
	fault()
	hearEachOther(tb, members)
	close(stop)
	emitting.Wait()
	for _, m := range members {
		m.mu.Lock()
		for _, s := range m.silent {
			tb.Error(s)
		}
		m.mu.Unlock()
	}
}

// hearEachOther waits until each member hears something of each other one that was emitted from now on.
func hearEachOther(tb testing.TB, members []*member) {
	tb.Helper()
	for _, from := range members {
		from.mu.Lock()
		now := from.emitted
		from.mu.Unlock()
		for _, m := range members {
			eventually(tb, fmt.Sprintf("%s hears %s", m.Name(), from.Name()), func() bool { return m.last(from) > now })
		}
	}
}

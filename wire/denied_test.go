package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// watchedBus counts the requests to subscribe, and may change what links receive: one event into others.
type watchedBus struct {
	*membus.Port
	requests atomic.Int64
	change   atomic.Pointer[func(ev wire.Event) []wire.Event]
}

func (b *watchedBus) Dial(ctx context.Context) (wire.Link, error) {
	l, err := b.Port.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return &watchedLink{Link: l, bus: b}, nil
}

type watchedLink struct {
	wire.Link
	bus  *watchedBus
	next []wire.Event
}

func (l *watchedLink) Subscribe(topics []string) error {
	l.bus.requests.Add(1)
	return l.Link.Subscribe(topics)
}

func (l *watchedLink) Receive() (wire.Event, error) {
	if len(l.next) == 0 {
		ev, err := l.Link.Receive()
		change := l.bus.change.Load()
		if err != nil || change == nil {
			return ev, err
		}
		l.next = (*change)(ev)
	}
	ev := l.next[0]
	l.next = l.next[1:]
	return ev, nil
}

// watched adds a peer over a watchedBus.
func (c *cluster) watched(o wire.Options) (*peer, *watchedBus) {
	b := &watchedBus{Port: c.hub.Port("watched")}
	p := &peer{
		id: "watched0", port: b.Port, a: wire.New(b, o),
		emitted: map[string]emission{}, joined: map[crosscast.Address]time.Time{},
	}
	if err := p.a.Start(c.t.Context(), starting(crosscast.NodeInfo{ID: p.id, Heartbeat: time.Second}, p)); err != nil {
		c.t.Fatal(err)
	}
	c.peers = append(c.peers, p)
	return p, b
}

// news returns the gaps since the last look.
func (p *peer) news() []crosscast.Gap {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	gaps := p.gaps
	p.gaps = nil
	return gaps
}

func deny(p *peer, denied bool, rooms ...string) {
	for _, r := range rooms {
		p.port.Deny("cc:r:/:"+r, denied)
	}
}

// outage breaks p's link, and returns the gap of that and what comes with it.
func (c *cluster) outage(p *peer) (lost crosscast.Gap, more []crosscast.Gap) {
	c.t.Helper()
	time.Sleep(10 * time.Millisecond) // lasts: so that there is a since
	p.port.Cut()
	c.beat(2 * time.Second)
	gaps := p.news()
	if len(gaps) == 0 || gaps[0].Reason != reasons.GapLinkLost || gaps[0].Names != nil || gaps[0].Until.IsZero() {
		c.t.Fatalf("gaps %+v, want first that of the outage", gaps)
	}
	return gaps[0], gaps[1:]
}

// wantDenied fails unless gaps is one that begins at since and goes on.
func wantDenied(t *testing.T, gaps []crosscast.Gap, since time.Time, rooms ...string) {
	t.Helper()
	if len(gaps) != 1 || gaps[0].Reason != reasons.GapDenied || !gaps[0].Until.IsZero() || !gaps[0].Since.Equal(since) {
		t.Fatalf("gaps %+v, want one of what is denied since %v", gaps, since)
	}
	wantRooms(t, gaps[0], rooms...)
}

// wantAllowed fails unless gaps is one gap of a topic that was denied since then, and is allowed now.
func wantAllowed(t *testing.T, gaps []crosscast.Gap, since time.Time, rooms ...string) {
	t.Helper()
	if len(gaps) != 1 || gaps[0].Reason != reasons.GapDenied || !gaps[0].Since.Equal(since) ||
		gaps[0].Until.IsZero() {
		t.Fatalf("gaps %+v, want one of what was denied since %v", gaps, since)
	}
	wantRooms(t, gaps[0], rooms...)
}

func wantRooms(t *testing.T, g crosscast.Gap, rooms ...string) {
	t.Helper()
	var names []string
	for _, a := range g.Names {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	slices.Sort(rooms)
	if !slices.Equal(names, rooms) {
		t.Errorf("a gap of %d rooms %.100q, want %d: %.100q", len(names), names, len(rooms), rooms)
	}
}

// wantRefused fails unless err says that just these rooms are denied.
func wantRefused(t *testing.T, err error, rooms ...string) {
	t.Helper()
	var e *crosscast.NamesError
	if !errors.As(err, &e) || !errors.Is(err, crosscast.ErrDenied) {
		t.Fatalf("got %v, want an error of the names %q", err, rooms)
	}
	wantRooms(t, crosscast.Gap{Names: slices.Collect(maps.Keys(e.Failed))}, rooms...)
}

// TestARevokedRoom: a room that was heard is denied from the next link on. That is a gap at once, and another when it is
// over; meanwhile who asks is told each time; and other rooms are heard.
func TestARevokedRoom(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "R")
		c.beat(2 * time.Second)
		deny(b, true, "R")
		lost, more := c.outage(b)
		wantDenied(t, more, lost.Since, "R")
		for range 20 {
			mustPublish(t, a, emitTo("R"))
		}
		mustPublish(t, a, emitTo("A"))
		wantEvents(t, b, "A")
		for range 3 {
			wantRefused(t, b.a.Subscribe(t.Context(), room("R")), "R")
		}
		wantRefused(t, b.a.Subscribe(t.Context(), room("A"), room("R"), room("B")), "R")
		mustPublish(t, a, emitTo("B"))
		wantEvents(t, b, "B")
		c.beat(20 * time.Second)
		if g := b.news(); len(g) != 0 {
			t.Errorf("while it lasts, gaps %+v", g)
		}
		if _, more := c.outage(b); len(more) != 0 { // another link, which may not hear it either
			t.Errorf("while it lasts, after an outage, gaps %+v", more)
		}
		if n := b.a.AdapterStats().Denied; n != 1 {
			t.Errorf("%d channels are denied, want 1", n)
		}
		deny(b, false, "R")
		c.beat(6 * time.Second)
		wantAllowed(t, b.news(), lost.Since, "R")
		mustPublish(t, a, emitTo("R"))
		wantEvents(t, b, "R")
		subscribe(t, b, "R")
		if n := b.a.AdapterStats().Denied; n != 0 {
			t.Errorf("%d channels are denied, want none", n)
		}

		// Once more, and it is over with the next link, or as soon as somebody asks.
		for _, over := range []func(){
			func() {
				if _, more := c.outage(b); len(more) != 1 {
					t.Errorf("gaps %+v", more)
				} else {
					wantAllowed(t, more, lost.Since, "R")
				}
			},
			func() {
				subscribe(t, b, "R")
				wantAllowed(t, b.news(), lost.Since, "R")
			},
		} {
			deny(b, true, "R")
			lost, more = c.outage(b)
			wantDenied(t, more, lost.Since, "R")
			deny(b, false, "R")
			over()
		}
		// Nobody wants it any more: nothing is to be told.
		deny(b, true, "R")
		c.outage(b)
		b.a.Unsubscribe(t.Context(), room("R"))
		deny(b, false, "R")
		c.beat(10 * time.Second)
		if g, n := b.news(), b.a.AdapterStats().Denied; len(g) != 0 || n != 0 {
			t.Errorf("of a room that nobody wants: gaps %+v, %d denied", g, n)
		}
		subscribe(t, b, "R")
		if g := b.news(); len(g) != 0 {
			t.Errorf("wanted again: gaps %+v", g)
		}
	})
}

// TestPromisedRooms: ErrNotConnected is a promise, so a topic that the next link does not receive is a gap, from the
// promise on.
func TestPromisedRooms(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[1]
		deny(b, true, "before", "during", "waiting", "refused")
		wantRefused(t, b.a.Subscribe(t.Context(), room("before")), "before")
		wantRefused(t, b.a.Subscribe(t.Context(), room("never"), room("refused")), "refused")
		c.beat(time.Second)

		// Two calls are under way when the link breaks; of one a name was refused already.
		b.port.SetLatency(time.Second)
		waiting := make(chan error, 1)
		go func() { waiting <- b.a.Subscribe(t.Context(), room("waiting")) }()
		time.Sleep(500 * time.Millisecond)
		b.port.SetLatency(0)
		b.port.Down()
		if err := <-waiting; err != crosscast.ErrNotConnected {
			t.Errorf("waiting when the link breaks: %v", err)
		}
		time.Sleep(time.Second)
		promised := time.Now()
		for range 2 {
			if err := b.a.Subscribe(t.Context(), room("before"), room("during")); err != crosscast.ErrNotConnected {
				t.Errorf("while the link is down: %v", err)
			}
		}
		b.port.Up()
		c.beat(3 * time.Second)
		gaps := b.news()
		if len(gaps) != 2 {
			t.Fatalf("gaps %+v, want two", gaps)
		}
		if !gaps[0].Since.Before(promised) {
			t.Error("the outage began before the promise")
		}
		wantDenied(t, gaps[1:], gaps[0].Since, "before", "during", "waiting")
		deny(b, false, "before", "during", "waiting")
		c.beat(6 * time.Second)
		wantAllowed(t, b.news(), gaps[0].Since, "before", "during", "waiting")
		deny(b, false, "refused") // never promised
		c.beat(6 * time.Second)
		if g := b.news(); len(g) != 0 {
			t.Errorf("a room that nobody was promised: gaps %+v", g)
		}
	})
}

// TestManyDeniedRooms: those of one moment are one gap; those that are allowed are found, with few requests when few are
// denied.
func TestManyDeniedRooms(t *testing.T) {
	for _, kind := range []struct {
		every    int // one of so many is denied
		requests int64
	}{{1, 1300}, {2, 1300}, {100, 300}, {1000, 40}} {
		t.Run(fmt.Sprint(kind.every), func(t *testing.T) {
			inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
				a := c.peers[0]
				b, bus := c.watched(wire.Options{})
				var all, refused []string
				for i := range 1000 {
					all = append(all, fmt.Sprint("r", i))
					if i%kind.every == 0 {
						refused = append(refused, all[i])
					}
				}
				subscribe(t, b, all...)
				c.beat(time.Second)
				deny(b, true, refused...)
				bus.requests.Store(0)
				lost, more := c.outage(b)
				if n := bus.requests.Load(); n > kind.requests {
					t.Errorf("%d requests, want at most %d", n, kind.requests)
				}
				wantDenied(t, more, lost.Since, refused...)
				for _, r := range all {
					mustPublish(t, a, emitTo(r))
				}
				synctest.Wait()
				if n := len(b.got()); n != len(all)-len(refused) {
					t.Errorf("%d rooms are heard, want %d", n, len(all)-len(refused))
				}
				deny(b, false, refused...)
				c.beat(6 * time.Second)
				wantAllowed(t, b.news(), lost.Since, refused...)
			})
		})
	}
}

// TestDeniedRetriesAreBounded: 10,000 denied rooms cost some requests each five seconds, whatever is allowed again.
func TestDeniedRetriesAreBounded(t *testing.T) {
	inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
		b, bus := c.watched(wire.Options{})
		var all []string
		for i := range 10_000 {
			all = append(all, fmt.Sprint("r", i))
		}
		subscribe(t, b, all...)
		c.beat(time.Second)
		deny(b, true, all...)
		lost, more := c.outage(b)
		wantDenied(t, more, lost.Since, all...)
		rate := func(d time.Duration) {
			t.Helper()
			bus.requests.Store(0)
			c.beat(d)
			if n, max := bus.requests.Load(), int64(300*(d/(5*time.Second)+1)); n == 0 || n > max {
				t.Errorf("%d requests in %v, want at most %d", n, d, max)
			}
		}
		rate(time.Minute)
		if _, more := c.outage(b); len(more) > 0 {
			t.Errorf("gaps %+v", more)
		}
		deny(b, false, "r17") // a needle
		rate(5 * time.Minute)
		wantAllowed(t, b.news(), lost.Since, "r17")
		deny(b, false, all...)
		bus.requests.Store(0)
		c.beat(6 * time.Second)
		if n := bus.requests.Load(); n > 10_300 {
			t.Errorf("%d requests when all are allowed again", n)
		}
		if g := b.news(); len(g) != 1 || len(g[0].Names) != len(all)-1 {
			t.Errorf("when all are allowed again: %d gaps", len(g))
		}
		if n := b.a.AdapterStats().Denied; n != 0 {
			t.Errorf("%d are denied", n)
		}
	})
}

// TestJoinsOfADeniedRoomShareRequests: each is answered anew, and a storm of them is no storm on the bus. Each room gets
// its own answer, also beside a retry.
func TestJoinsOfADeniedRoomShareRequests(t *testing.T) {
	inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
		b, bus := c.watched(wire.Options{})
		deny(b, true, "R")
		wantRefused(t, b.a.Subscribe(t.Context(), room("R")), "R")
		b.port.SetLatency(10 * time.Millisecond)
		bus.requests.Store(0)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for range 10 {
					wantRefused(t, b.a.Subscribe(t.Context(), room("R")), "R")
				}
			})
		}
		wg.Wait()
		if n := bus.requests.Load(); n > 12 {
			t.Errorf("%d requests for 100 callers of ten joins each", n)
		}
		deny(b, false, "R")
		subscribe(t, b, "R") // at once
		b.port.SetLatency(0)

		var all []string
		for i := range 2000 {
			all = append(all, fmt.Sprint("r", i))
		}
		deny(b, true, all...)
		wantRefused(t, b.a.Subscribe(t.Context(), rooms(all...)...), all...)
		deny(b, false, all[1000:]...)
		b.port.SetLatency(5 * time.Millisecond)
		time.Sleep(5*time.Second - time.Millisecond) // the retry is about to begin
		for _, half := range [][]string{all[:1000], all[1000:]} {
			wg.Go(func() {
				time.Sleep(10 * time.Millisecond)
				err := b.a.Subscribe(t.Context(), rooms(half...)...)
				if half[0] == all[0] {
					wantRefused(t, err, half...)
				} else if err != nil {
					t.Errorf("rooms that are allowed: %v", err)
				}
			})
		}
		wg.Wait()
	})
}

func rooms(names ...string) (all []crosscast.Address) {
	for _, n := range names {
		all = append(all, room(n))
	}
	return all
}

// TestDenialsByTopic: a bus may know which topic of a request it denies.
func TestDenialsByTopic(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		b, bus := c.watched(wire.Options{})
		var denied atomic.Bool
		denied.Store(true)
		change := func(ev wire.Event) []wire.Event {
			if ev.Kind == wire.Subscribed && strings.HasPrefix(ev.Topic, "cc:r:/:no") && denied.Load() {
				ev = wire.Event{Kind: wire.Denied, Topic: ev.Topic, Err: errors.New("scripted")}
			}
			return []wire.Event{ev}
		}
		bus.change.Store(&change)
		bus.requests.Store(0)
		wantRefused(t, b.a.Subscribe(t.Context(), rooms("A", "no1", "B", "no2")...), "no1", "no2")
		if n := bus.requests.Load(); n != 1 {
			t.Errorf("%d requests, want one", n)
		}
		for _, r := range []string{"A", "no1", "B"} {
			mustPublish(t, a, emitTo(r))
		}
		wantEvents(t, b, "A", "B")
		denied.Store(false)
		c.beat(6 * time.Second)
		mustPublish(t, a, emitTo("no2"))
		wantEvents(t, b, "no2")
	})
}

// TestTheLogOfDenials: a line when something is denied, with the cause, and one when nothing is any more; at most one in
// ten seconds.
func TestTheLogOfDenials(t *testing.T) {
	var log bytes.Buffer
	lines := func() string {
		defer log.Reset()
		return log.String()
	}
	inBubble(t, 1, wire.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, c *cluster) {
		b := c.peers[0]
		subscribe(t, b, "R", "S")
		deny(b, true, "R")
		b.port.Cut()
		c.beat(time.Second)
		if s := lines(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "channel=cc:r:/:R") || !strings.Contains(s, "membus: denied") {
			t.Errorf("denied: %s", s)
		}
		for i := range 50 { // in 50 s
			r := fmt.Sprint("r", i)
			deny(b, true, r)
			wantRefused(t, b.a.Subscribe(t.Context(), room(r)), r)
			c.beat(time.Second)
		}
		if s := lines(); strings.Count(s, "denies") != strings.Count(s, "\n") || strings.Count(s, "\n") < 3 || strings.Count(s, "\n") > 5 {
			t.Errorf("while more are denied: %s", s)
		}
		for i := range 50 {
			deny(b, false, fmt.Sprint("r", i))
		}
		c.beat(time.Minute)
		if s := lines(); strings.Contains(s, "any more") || strings.Count(s, "\n") > 1 {
			t.Errorf("while one is denied: %s", s)
		}
		deny(b, false, "R")
		c.beat(20 * time.Second)
		if s := lines(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "any more") {
			t.Errorf("when none is denied: %s", s)
		}
		c.beat(time.Minute)
		if s := lines(); s != "" {
			t.Errorf("later: %s", s)
		}
	})
}

// stuck is a writer of a log that takes an hour.
type stuck struct{}

func (stuck) Write(p []byte) (int, error) {
	time.Sleep(time.Hour)
	return len(p), nil
}

// TestALogOfDenialsThatWaits: nothing that is delivered waits for it.
func TestALogOfDenialsThatWaits(t *testing.T) {
	inBubble(t, 1, wire.Options{Logger: slog.New(slog.NewTextHandler(stuck{}, nil))}, func(t *testing.T, c *cluster) {
		a, b := c.add(wire.Options{}), c.peers[0]
		subscribe(t, b, "S")
		deny(b, true, "R")
		wantRefused(t, b.a.Subscribe(t.Context(), room("R")), "R")
		c.beat(time.Second)
		if err := a.a.Publish(t.Context(), emitTo("S")); err != nil {
			t.Error(err)
		}
		c.beat(time.Second)
		if got := b.got(); len(got) != 1 {
			t.Errorf("delivered while the log waits: %q", got)
		}
	})
}

// Names that are denied, and given up, again and again, are not kept; those that stay have their turn all the same.
func TestDeniedNamesThatComeAndGo(t *testing.T) {
	for _, stay := range []int{0, 10} {
		t.Run(fmt.Sprint(stay), func(t *testing.T) {
			inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
				a := c.peers[0]
				var names []string
				for i := range stay {
					names = append(names, fmt.Sprint("stays", i))
				}
				deny(a, true, names...)
				for _, n := range names {
					wantRefused(t, a.a.Subscribe(t.Context(), room(n)), n)
				}
				most := 0
				for i := range 5000 {
					n := fmt.Sprint("comes", i)
					deny(a, true, n)
					wantRefused(t, a.a.Subscribe(t.Context(), room(n)), n)
					if err := a.a.Unsubscribe(t.Context(), room(n)); err != nil {
						t.Fatal(err)
					}
					deny(a, false, n)
					most = max(most, wire.DeniedQueue(a.a))
				}
				if most > 1000 {
					t.Errorf("%d topics were kept", most)
				}
				deny(a, false, names...)
				c.beat(6 * time.Second)
				if n := a.a.AdapterStats().Denied; n != 0 {
					t.Errorf("%d channels are denied, want none", n)
				}
				if n := wire.DeniedQueue(a.a); n > 1000 {
					t.Errorf("%d topics are kept", n)
				}
			})
		})
	}
}

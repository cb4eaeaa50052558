package wire_test

import (
	"bytes"
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/wire"
)

// forgetful is a bus that confirms the topics of rooms, and keeps nothing of them.
type forgetful struct {
	wire.Bus
	takes time.Duration // a call that subscribes to rooms
}

func (b forgetful) Dial(ctx context.Context) (wire.Link, error) {
	l, err := b.Bus.Dial(ctx)
	return &forgetfulLink{Link: l, takes: b.takes, events: make(chan wire.Event), closed: make(chan struct{})}, err
}

type forgetfulLink struct {
	wire.Link
	takes  time.Duration
	events chan wire.Event // confirmations
	closed chan struct{}
	passed chan wire.Event // nil before the first Receive
	err    error           // set before passed is closed
}

func (l *forgetfulLink) Subscribe(topics []string) error {
	if !strings.Contains(topics[0], ":r:") {
		return l.Link.Subscribe(topics)
	}
	if l.takes > 0 {
		<-time.After(l.takes)
	}
	for _, topic := range topics {
		select {
		case l.events <- wire.Event{Kind: wire.Subscribed, Topic: topic}:
		case <-l.closed:
		}
	}
	return nil
}

func (l *forgetfulLink) Receive() (wire.Event, error) {
	if l.passed == nil {
		l.passed = make(chan wire.Event)
		go func() {
			defer close(l.passed)
			for {
				ev, err := l.Link.Receive()
				if err != nil {
					l.err = err
					return
				}
				ev.Data = bytes.Clone(ev.Data) // it is valid until the next Receive, which comes while this one is used
				select {
				case l.passed <- ev:
				case <-l.closed:
				}
			}
		}()
	}
	select {
	case ev := <-l.events:
		return ev, nil
	case ev, ok := <-l.passed:
		if !ok {
			return ev, l.err
		}
		return ev, nil
	}
}

func (l *forgetfulLink) Close() error {
	close(l.closed)
	return l.Link.Close()
}

// With 24,000 names the parts of the sets are three quarters full. With other numbers, chance decides how many grow.
const manyTopics = 24_000

// heapOf returns the bytes that f leaves, for each of many topics.
func heapOf(f func()) int {
	heap := func() int {
		synctest.Wait()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	f()
	return (heap() - before) / manyTopics
}

// A subscription takes little memory where nothing has arrived: 96 bytes beside its place in a set. It has no name of its
// own.
func TestBytesOfATopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := wire.New(forgetful{Bus: membus.New().Port("a")}, wire.Options{})
		if err := a.Start(t.Context(), starting(crosscast.NodeInfo{ID: "receiver"}, &receiver{})); err != nil {
			t.Fatal(err)
		}
		defer a.Close(context.Background())
		names := make([]crosscast.Address, manyTopics)
		for i := range names {
			names[i] = room(strconv.Itoa(100_000 + i))
		}
		used := heapOf(func() {
			if err := a.Subscribe(t.Context(), names...); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%d bytes a topic", used)
		if used > 125 {
			t.Errorf("%d bytes a topic", used)
		}
		runtime.KeepAlive(names)
	})
}

type hearsNothing struct{}

func (hearsNothing) Send(*crosscast.Message) error { return nil }
func (hearsNothing) Close(crosscast.Reason)        {}

// A room takes 300 bytes in all layers, with its name; and its only membership takes 80.
func TestBytesOfARoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := crosscast.Start(t.Context(), crosscast.Options{
			Adapter: wire.New(forgetful{Bus: membus.New().Port("a")}, wire.Options{}), MaxRooms: manyTopics,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close(context.Background())
		s, err := node.Connect(t.Context(), hearsNothing{}, crosscast.ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		rooms := make([]string, manyTopics)
		for i := range rooms {
			rooms[i] = strconv.Itoa(100_000 + i)
		}
		used := heapOf(func() {
			if err := s.Join(t.Context(), rooms...); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%d bytes a room with its membership", used)
		if used > 350 {
			t.Errorf("%d bytes a room with its membership", used)
		}
		runtime.KeepAlive(rooms)
	})
}

// A Connect to a room of its own makes few objects: the socket, its ID, its list and what it has while it waits, the room,
// its name and membership, the topic, and a share of what a call that subscribes makes.
func TestAllocationsOfAConnect(t *testing.T) {
	if memtest.Race {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	synctest.Test(t, func(t *testing.T) {
		node, err := crosscast.Start(t.Context(), crosscast.Options{
			Adapter: wire.New(forgetful{membus.New().Port("a"), time.Millisecond}, wire.Options{}), MaxRooms: manyTopics,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close(context.Background())
		rooms := make([]string, manyTopics)
		for i := range rooms {
			rooms[i] = strconv.Itoa(100_000 + i)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var wg sync.WaitGroup
		const goroutines = 256
		for g := range goroutines {
			wg.Go(func() {
				for i := g; i < len(rooms); i += goroutines {
					if _, err := node.Connect(t.Context(), hearsNothing{}, crosscast.ConnectOptions{Rooms: rooms[i : i+1]}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		runtime.ReadMemStats(&after)
		objects := float64(after.Mallocs-before.Mallocs) / manyTopics
		bytes := float64(after.TotalAlloc-before.TotalAlloc) / manyTopics
		t.Logf("%.1f allocations and %.0f bytes a Connect", objects, bytes)
		if objects > 10 || bytes > 1120 {
			t.Errorf("%.1f allocations and %.0f bytes a Connect", objects, bytes)
		}
	})
}

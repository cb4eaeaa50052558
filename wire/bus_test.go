package wire_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/wire"
)

// A driver implements wire.Bus and wire.Link, here by a bus in memory (memory_test.go). Package adaptertest checks it.
func Example() {
	ctx := context.Background()
	bus := &hub{links: map[*subscriber]bool{}}
	start := func() (*crosscast.Node, error) {
		return crosscast.Start(ctx, crosscast.Options{Adapter: wire.New(&port{hub: bus}, wire.Options{})})
	}
	a, err := start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close(ctx)
	b, err := start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close(ctx)
	got := make(chan string)
	_, err = b.Subscribe(ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { got <- m.Event },
	}, "room1")
	if err == nil {
		err = a.To("room1").Emit(ctx, "hello", nil)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-got)
	// Output: hello
}

// TestMemory runs the rules over the bus of the example, with cuts.
func TestMemory(t *testing.T) {
	adaptertest.Run(t, adaptertest.Harness{New: func(testing.TB) adaptertest.Cluster {
		bus := &hub{links: map[*subscriber]bool{}}
		var ports []*port
		return adaptertest.Cluster{
			Adapter: func() crosscast.Adapter {
				p := &port{hub: bus}
				ports = append(ports, p)
				return wire.New(p, wire.Options{})
			},
			Cut:     func(i int) { ports[i].setCut(true) },
			Restore: func(i int) { ports[i].setCut(false) },
		}
	}})
}

// A strict is a port of a bus to which other bytes than those of the documentation mean something, and which notes the
// longest topic. It carries at most so many bytes at once.
type strict struct {
	*port
	max int

	mu      sync.Mutex // guards what follows
	bad     []string
	longest int
	largest int
}

func (s *strict) MaxMessage() int { return s.max }

func (s *strict) look(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = max(s.longest, len(topic))
	for _, c := range []byte(topic) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && !strings.Contains("-_/:%@=~!$&'(),;", string(rune(c))) {
			s.bad = append(s.bad, topic)
			return
		}
	}
}

func (s *strict) Publish(ctx context.Context, frames []wire.Frame) {
	for i := range frames {
		s.look(frames[i].Topic)
		s.mu.Lock()
		s.largest = max(s.largest, len(frames[i].Data))
		s.mu.Unlock()
	}
	s.port.Publish(ctx, frames)
}

func (s *strict) Dial(ctx context.Context) (wire.Link, error) {
	l, err := s.port.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return strictLink{l, s}, nil
}

type strictLink struct {
	wire.Link
	s *strict
}

func (l strictLink) Subscribe(topics []string) error {
	for _, t := range topics {
		l.s.look(t)
	}
	return l.Link.Subscribe(topics)
}

// startStrict starts a node on a strict bus.
func startStrict(t *testing.T, s *strict, o wire.Options, maxPayload int) (*crosscast.Node, error) {
	t.Helper()
	n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.New(s, o), MaxPayload: maxPayload})
	if err == nil {
		t.Cleanup(func() { n.Close(context.WithoutCancel(t.Context())) })
	}
	return n, err
}

// TestTopicsAreOfTheAlphabet: whatever names users choose, a bus gets topics that mean nothing else to it, and names
// that differ have different ones.
func TestTopicsAreOfTheAlphabet(t *testing.T) {
	bus := &hub{links: map[*subscriber]bool{}}
	a, b := &strict{port: &port{hub: bus}, max: 8 << 20}, &strict{port: &port{hub: bus}, max: 8 << 20}
	from, err := startStrict(t, a, wire.Options{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	to, err := startStrict(t, b, wire.Options{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("\xff", limit.Name)
	names := []string{
		"a.>", "a.*", "a.b", "a b", "*", ">", "#", "+", "a/+/b", "a/#", "[a]", "a?", `a\`, "{a}", "a%2E%3E", "a%", "café", "\x00",
		"\xff", "a\r\nb", "\t", "a|b", `"`, long,
	}
	got := make(chan string, 2*len(names))
	for _, ns := range []string{"/", "/a.> b", "/" + long[1:]} {
		heard, err := to.Of(ns)
		if err != nil {
			t.Fatal(err)
		}
		emitting, err := from.Of(ns)
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if _, err := heard.Subscribe(t.Context(), crosscast.Receiver{
				OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { got <- fmt.Sprint(i, " got ", m.Event) },
			}, name); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
		}
		for i, name := range names {
			if err := emitting.To(name).Emit(t.Context(), fmt.Sprint(i), nil); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
			if s := <-got; s != fmt.Sprint(i, " got ", i) {
				t.Errorf("%q: %s", name, s)
			}
		}
	}
	for _, s := range []*strict{a, b} {
		s.mu.Lock()
		if len(s.bad) > 0 || s.longest > len("cc")+1600 || s.longest < 1500 {
			t.Errorf("the longest topic has %d bytes; against the documentation are %q", s.longest, s.bad)
		}
		s.mu.Unlock()
	}
}

// TestMaxMessage: a message that the bus cannot carry is refused before anybody gets it. All others are carried.
func TestMaxMessage(t *testing.T) {
	const most = 256 << 10
	bus := &hub{links: map[*subscriber]bool{}}
	s := &strict{port: &port{hub: bus}, max: most}
	if _, err := startStrict(t, s, wire.Options{}, 1<<20); err == nil || !strings.Contains(err.Error(), "MaxPayload") {
		t.Errorf("a node that may emit 1 MiB: %v", err)
	}
	if _, err := startStrict(t, &strict{port: s.port, max: 100 << 10}, wire.Options{}, 1); err == nil {
		t.Error("a bus for next to nothing is taken")
	}
	maxPayload := wire.New(s, wire.Options{}).MaxPayload()
	if maxPayload < most/2-8<<10 {
		t.Errorf("payloads have at most %d bytes", maxPayload)
	}
	n, err := startStrict(t, s, wire.Options{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	payload := func(size int) any { return crosscast.Bytes(make([]byte, size)) }
	if err := n.To("r").Emit(t.Context(), "e", payload(maxPayload)); err != nil {
		t.Error(err)
	}
	if err := n.To("r").Emit(t.Context(), "e", payload(maxPayload+1)); !errors.Is(err, crosscast.ErrTooLarge) {
		t.Errorf("what is too large: %v", err)
	}
	for range 1000 {
		if err := n.To("r").Emit(t.Context(), "e", payload(1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.largest < maxPayload || s.largest > most {
		t.Errorf("the largest message has %d bytes", s.largest)
	}
}

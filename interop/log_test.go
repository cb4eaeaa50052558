package interop

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// event is something that was heard: a name and the arguments as they arrived.
type event struct {
	name string
	args []any
}

func ev(name string, args ...any) event { return event{name, args} }

func (e event) String() string { return e.name + show(append([]any{}, e.args...)) }

// disconnected is what a client hears last.
func disconnected(reason string) event { return ev("disconnect", reason) }

// log is what one client or server has heard and no test has asked for yet. Its methods may be called concurrently.
type log struct {
	who string

	mu      sync.Mutex
	events  []event       // guarded by mu
	changed chan struct{} // guarded by mu: closed at the next change
}

func newLog(who string) *log { return &log{who: who, changed: make(chan struct{})} }

func (l *log) add(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// take waits for an event for which last is true and returns what was heard up to it, which it forgets.
func (l *log) take(last func(event) bool) ([]event, error) {
	return l.wait(func(heard []event) int { return slices.IndexFunc(heard, last) + 1 })
}

// next waits for the next n events and returns them.
func (l *log) next(n int) ([]event, error) {
	return l.wait(func(heard []event) int {
		if len(heard) < n {
			return 0
		}
		return n
	})
}

// rest returns what was heard so far.
func (l *log) rest() []event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.events
	l.events = nil
	return events
}

// wait waits until enough says that the beginning of what was heard is long enough, and how long.
func (l *log) wait(enough func(heard []event) int) ([]event, error) {
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		if n := enough(l.events); n > 0 {
			taken := l.events[:n]
			l.events = slices.Clone(l.events[n:])
			l.mu.Unlock()
			return taken, nil
		}
		changed, heard := l.changed, slices.Clone(l.events)
		l.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			return nil, fmt.Errorf("%s: waited in vain for %v; heard %s", l.who, patience, list(heard))
		}
	}
}

// await waits for the next event of a name, whatever came before.
func (l *log) await(t *testing.T, name string) event {
	t.Helper()
	events, err := l.take(func(e event) bool { return e.name == name })
	if err != nil {
		t.Fatalf("for %q: %v", name, err)
	}
	return events[len(events)-1]
}

// canonical makes values comparable with reflect.DeepEqual: numbers are float64, as they arrive, and no slice is nil.
func canonical(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = canonical(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = canonical(v[key])
		}
		return out
	}
	return v
}

func equal(a, b any) bool { return reflect.DeepEqual(canonical(a), canonical(b)) }

func sameEvents(got, want []event) bool {
	return slices.EqualFunc(got, want, func(a, b event) bool { return a.name == b.name && equal(a.args, b.args) })
}

func list(events []event) string {
	if len(events) == 0 {
		return "nothing"
	}
	texts := make([]string, len(events))
	for i, e := range events {
		texts[i] = e.String()
	}
	return strings.Join(texts, ", ")
}

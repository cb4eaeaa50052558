package crosscast_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/crosscast/crosscast"
)

// A countingFramer counts its calls, of which one message may see only one.
type countingFramer struct {
	name  string
	calls int // unguarded: the race detector sees calls that overlap
	err   error
}

func (f *countingFramer) Frame(m *crosscast.Message) ([]byte, error) {
	f.calls++
	return []byte(f.name + m.Event), f.err
}

func TestMessageIsFramedOncePerFramer(t *testing.T) {
	framers := []*countingFramer{{name: "a"}, {name: "b"}, {name: "c", err: errors.New("c fails")}}
	m := &crosscast.Message{Event: "event"}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			f := framers[i%len(framers)]
			for range 10 {
				frame, err := m.Frame(f)
				if got, want := fmt.Sprint(string(frame), err), fmt.Sprint(f.name+"event", f.err); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
	wg.Wait()
	for _, f := range framers {
		if f.calls != 1 {
			t.Errorf("framer %s was called %d times", f.name, f.calls)
		}
	}
}

// partFramer returns a part of the payload.
type partFramer struct{}

func (partFramer) Frame(m *crosscast.Message) ([]byte, error) { return m.Payload.Data[1:3:3], nil }

// TestAFrameThatIsPartOfThePayload: whoever emitted the payload may change it afterwards.
func TestAFrameThatIsPartOfThePayload(t *testing.T) {
	payload := []byte("0123")
	m := &crosscast.Message{Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: payload}}
	frame, err := m.Frame(partFramer{})
	clear(payload)
	if string(frame) != "12" || err != nil {
		t.Errorf("got %q, %v", frame, err)
	}
}

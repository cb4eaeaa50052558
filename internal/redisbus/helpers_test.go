package redisbus_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

func newBus(rdb redis.UniversalClient) wire.Bus {
	return redisbus.New(rdb, redisbus.Config{
		Anchor: "cc", Needs: "+publish +subscribe +unsubscribe +ping and the channels &cc:*",
		Timeout: time.Second,
	})
}

// listener reads everything that arrives on a link.
type listener struct {
	link   wire.Link
	events chan wire.Event
	ended  chan struct{} // closed when Receive returned an error
	err    error         // set before ended is closed
}

func listen(t testing.TB, bus wire.Bus, topics ...string) *listener {
	t.Helper()
	link, err := bus.Dial(redistest.Within(t, redistest.Patience))
	if err != nil {
		t.Fatal(err)
	}
	l := read(t, link)
	if len(topics) > 0 {
		l.subscribe(t, topics...)
	}
	return l
}

func read(t testing.TB, link wire.Link) *listener {
	l := &listener{link: link, events: make(chan wire.Event, 1<<16), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for {
			ev, err := link.Receive()
			if err != nil {
				l.err = err
				return
			}
			ev.Data = bytes.Clone(ev.Data)
			l.events <- ev
		}
	}()
	t.Cleanup(func() {
		_ = link.Close()
		<-l.ended
	})
	return l
}

// subscribe subscribes and expects the confirmations next.
func (l *listener) subscribe(t testing.TB, topics ...string) {
	t.Helper()
	if err := l.link.Subscribe(topics); err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics {
		l.expect(t, wire.Subscribed, topic)
	}
}

func (l *listener) next(t testing.TB) wire.Event {
	t.Helper()
	timeout := time.NewTimer(redistest.Patience)
	defer timeout.Stop()
	select {
	case ev := <-l.events:
		return ev
	case <-l.ended:
		select {
		case ev := <-l.events:
			return ev
		default:
		}
		t.Fatalf("the link ended: %v", l.err)
	case <-timeout.C:
		t.Fatal("nothing arrives")
	}
	panic("unreachable")
}

func (l *listener) expect(t testing.TB, kind wire.EventKind, topic string) {
	t.Helper()
	if ev := l.next(t); ev.Kind != kind || ev.Topic != topic {
		t.Fatalf("got event %d of %q (%v), want %d of %q", ev.Kind, ev.Topic, ev.Err, kind, topic)
	}
}

func (l *listener) expectData(t testing.TB, topic, data string) {
	t.Helper()
	if ev := l.next(t); ev.Kind != wire.Message || ev.Topic != topic || string(ev.Data) != data {
		t.Fatalf("got event %d of %q, %d bytes; want %d bytes on %q", ev.Kind, ev.Topic, len(ev.Data), len(data), topic)
	}
}

func (l *listener) expectEnd(t testing.TB) error {
	t.Helper()
	select {
	case <-l.ended:
	case <-time.After(redistest.Patience):
		t.Fatal("the link does not end")
	}
	return l.err
}

// until collects what arrives before the message end.
func (l *listener) until(t testing.TB, end string) (data []string) {
	t.Helper()
	for {
		ev := l.next(t)
		if string(ev.Data) == end {
			return data
		}
		data = append(data, string(ev.Data))
	}
}

// frames makes one frame for each text, all to one topic.
func frames(topic string, texts ...string) []wire.Frame {
	all := make([]wire.Frame, len(texts))
	for i, s := range texts {
		all[i] = wire.Frame{Topic: topic, Data: []byte(s)}
	}
	return all
}

func numbered(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%06d", i)
	}
	return all
}

// mustPublish publishes frames that must be accepted.
func mustPublish(t testing.TB, bus wire.Bus, all []wire.Frame) {
	t.Helper()
	bus.Publish(redistest.Within(t, redistest.Patience), all)
	for i := range all {
		if all[i].Err != nil {
			t.Fatalf("frame %d: %v", i, all[i].Err)
		}
	}
}

func mustContain(t testing.TB, err error, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not mention %q", err, s)
		}
	}
}

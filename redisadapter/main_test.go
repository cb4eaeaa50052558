package redisadapter_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/wire"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // every fault that a test makes is a line or more
	goleak.VerifyTestMain(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// patience is for what must happen. It is never waited for in a test that passes.
const patience = 20 * time.Second

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// onEachServer runs a test on miniredis and on a real server, with both protocols. options makes client options that
// the test may change.
func onEachServer(t *testing.T, run func(t *testing.T, options func() *redis.Options)) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("miniredis/RESP%d", protocol), func(t *testing.T) {
			m := miniredis.NewMiniRedis()
			if err := m.StartAddr("127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.Close)
			addr := m.Addr()
			run(t, func() *redis.Options {
				return &redis.Options{
					Addr: addr, Protocol: protocol, ContextTimeoutEnabled: true,
					MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
				}
			})
		})
		t.Run(fmt.Sprintf("redis/RESP%d", protocol), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			run(t, func() *redis.Options {
				o := s.Options()
				o.Protocol = protocol
				return o
			})
		})
	}
}

func client(t testing.TB, o *redis.Options) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func newBus(rdb redis.UniversalClient) wire.Bus { return redisadapter.NewBus(rdb, "cc") }

// listener reads everything that arrives on a link.
type listener struct {
	link   wire.Link
	events chan wire.Event
	ended  chan struct{} // closed when Receive returned an error
	err    error         // set before ended is closed
}

func listen(t testing.TB, bus wire.Bus, topics ...string) *listener {
	t.Helper()
	link, err := bus.Dial(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{link: link, events: make(chan wire.Event, 1<<16), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for {
			ev, err := link.Receive()
			if err != nil {
				l.err = err
				return
			}
			l.events <- ev
		}
	}()
	t.Cleanup(func() {
		_ = link.Close()
		<-l.ended
	})
	if len(topics) > 0 {
		l.subscribe(t, topics...)
	}
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
	timeout := time.NewTimer(patience)
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
	case <-time.After(patience):
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
	bus.Publish(within(t, patience), all)
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

package redisadapter_test

import (
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
)

// TestAnIdleEmitter: a server closes the connection of an emitter that has nothing to send. Over TLS nothing shows that
// before the next message, which arrives all the same.
func TestAnIdleEmitter(t *testing.T) {
	s := redistest.Start(t, redistest.Strict)
	a := join(t, "a", s.Client())
	e := startEmitter(t, s.Options())
	ctx := redistest.Within(t, redistest.Patience)
	if err := e.To("room").Emit(ctx, "first", nil); err != nil {
		t.Fatal(err)
	}
	a.expect(t, "first ")
	admin := s.Client()
	a.eventually(t, "the idle connection is closed", func() bool {
		list, err := admin.ClientList(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		publishers := 0
		for line := range strings.Lines(list) {
			if strings.Contains(line, "cmd=publish") {
				publishers++
			}
		}
		return publishers == 1 // that of a, which has heartbeats
	})
	if err := e.To("room").Emit(ctx, "second", nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Flush(ctx); err != nil {
		t.Error(err)
	}
	a.expect(t, "second ")
}

// TestASmallOutputBuffer: a node does not read for a while, and the server ends its subscription because it is more than
// 256 KiB behind. The node reports the gap, and hears again.
func TestASmallOutputBuffer(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Args: []string{"--client-output-buffer-limit", "pubsub", "256kb", "0", "0"}})
	a, b := join(t, "a", s.Client()), join(t, "b", s.Client())
	ctx := redistest.Within(t, 2*redistest.Patience)
	release := make(blockingConn)
	if _, err := b.Connect(ctx, release, crosscast.ConnectOptions{Rooms: []string{"slow"}}); err != nil {
		t.Fatal(err)
	}
	hear(t, a, b)
	if err := a.To("slow").Emit(ctx, "slow", nil); err != nil {
		t.Fatal(err)
	}
	admin, large := s.Client(), strings.Repeat("x", 64<<10)
	for ended := false; !ended; { // on a slow machine, what waits too long is not published
		for range 100 {
			if err := a.To("room").Emit(ctx, "large", large); err != nil {
				t.Fatal(err)
			}
		}
		_ = a.Flush(ctx)
		list, err := admin.ClientList(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		ended = strings.Count(list, " flags=P ") == 1
	}
	close(release)
	b.expectGap(t, reasons.GapLinkLost)
	hear(t, a, b)
	hear(t, b, a)
}

// blockingConn takes no message until it is closed.
type blockingConn chan struct{}

func (c blockingConn) Send(*crosscast.Message) error {
	<-c
	return nil
}

func (blockingConn) Close(crosscast.Reason) {}

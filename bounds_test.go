package crosscast_test

import (
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// TestBoundsOfOptions: what is out of bounds fails, and the error names the option, its value and its bounds.
func TestBoundsOfOptions(t *testing.T) {
	for _, c := range []struct {
		o    crosscast.Options
		says string // empty: it starts
	}{
		{crosscast.Options{Heartbeat: 10 * time.Millisecond, Linger: 1, MaxPayload: 1}, ""},
		{crosscast.Options{Heartbeat: time.Minute, Linger: time.Hour, MaxPayload: 1 << 30}, ""},
		{crosscast.Options{Heartbeat: 5}, "Options.Heartbeat is 5ns: it must be at least 10ms, and at most 1m0s"},
		{crosscast.Options{Heartbeat: -1}, "Options.Heartbeat is -1ns"},
		{crosscast.Options{Heartbeat: time.Hour}, "Options.Heartbeat is 1h0m0s"},
		{crosscast.Options{Linger: -1}, "Options.Linger is -1ns: it must be above 0, and at most 1h0m0s"},
		{crosscast.Options{Linger: 2 * time.Hour}, "Options.Linger is 2h0m0s"},
		{crosscast.Options{MaxPayload: -1}, "Options.MaxPayload is -1 bytes: it must be at least 1, and at most 1073741824"},
		{crosscast.Options{MaxPayload: 1<<30 + 1}, "Options.MaxPayload is 1073741825 bytes"},
	} {
		n, err := crosscast.Start(ctx, c.o)
		if err == nil {
			ok(t, n.Close(ctx))
		}
		if c.says == "" {
			ok(t, err)
		} else if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: error %v, want one that says %q", c.o, err, c.says)
		}
	}
}

func TestBoundsOfQueueOptions(t *testing.T) {
	for says, o := range map[string]crosscast.QueueOptions{
		"QueueOptions.Limit is -1 bytes":         {Limit: -1},
		"QueueOptions.Limit is 1073741825 bytes": {Limit: 1<<30 + 1},
		"QueueOptions.CloseGrace is 2h0m0s":      {CloseGrace: 2 * time.Hour},
		"QueueOptions.Burst is 1048575 bytes":    {Burst: 1<<20 - 1},
		"QueueOptions.BurstTime is 2h0m0s":       {BurstTime: 2 * time.Hour},
		"QueueOptions.WriteTimeout is -1ns":      {WriteTimeout: -1},
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.Contains(s, says) {
					t.Errorf("panics with %q, want %q", s, says)
				}
			}()
			crosscast.NewQueue(func([]byte) error { return nil }, o)
		}()
	}
	crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{CloseGrace: -1, BurstTime: -1, Limit: 1 << 30})
	n := start(t, crosscast.Options{})
	r := crosscast.Receiver{OnMessage: ignore, QueueBytes: 1<<30 + 1}
	if _, err := n.Subscribe(ctx, r, "r"); err == nil || !strings.Contains(err.Error(), "Receiver.QueueBytes is 1073741825 bytes") {
		t.Error("a queue of more than 1 GiB:", err)
	}
}

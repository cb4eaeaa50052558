package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// startWith starts a node, or an emitter, with options, and returns the error.
func startWith(t *testing.T, o wire.Options, emitOnly bool) error {
	t.Helper()
	n, err := crosscast.Start(t.Context(), crosscast.Options{
		EmitOnly: emitOnly, Adapter: wire.New(membus.New().Port("p"), o),
	})
	if err == nil {
		_ = n.Close(t.Context())
	}
	return err
}

// TestBoundsOfOptions: an option out of bounds makes the start of nodes and emitters fail, and the error gives the
// reason.
func TestBoundsOfOptions(t *testing.T) {
	for _, c := range []struct {
		o    wire.Options
		says string // empty: it starts
	}{
		{wire.Options{QueueBytes: 4096, MaxFrame: 1 << 30, MaxAge: 1, PublishTimeout: time.Hour}, ""},
		{wire.Options{QueueBytes: 4095}, "Options.QueueBytes is 4095 bytes: it must be at least 4096, and at most 1073741824"},
		{wire.Options{QueueBytes: 1<<30 + 1}, "Options.QueueBytes is 1073741825 bytes"},
		{wire.Options{MaxFrame: 1023}, "Options.MaxFrame is 1023 bytes: it must be at least 1024"},
		{wire.Options{MaxFrame: 1<<30 + 1}, "Options.MaxFrame is 1073741825 bytes"},
		{wire.Options{MaxAge: -1}, "Options.MaxAge is -1ns: it must be above 0, and at most 1h0m0s"},
		{wire.Options{MaxAge: time.Hour + 1}, "Options.MaxAge is 1h0m0.000000001s"},
		{wire.Options{PublishTimeout: -1}, "Options.PublishTimeout is -1ns"},
		{wire.Options{PublishTimeout: 2 * time.Hour}, "Options.PublishTimeout is 2h0m0s"},
		{wire.Options{Prefix: "app:prod"}, ""},
		{wire.Options{Prefix: "r:n2:user:"}, ""},
		{wire.Options{Prefix: "app:r:/"}, `Options.Prefix is "app:r:/": it must not have "r" between its colons`},
		{wire.Options{Prefix: "app:x:u"}, `"u" between its colons`},
		{wire.Options{Prefix: "app:n"}, `"n" between its colons`},
		{wire.Options{Prefix: strings.Repeat("p", 101)}, "at most 100 bytes"},
		{wire.Options{Prefix: "a*"}, "*?[]{}"},
	} {
		for _, emitOnly := range []bool{false, true} {
			err := startWith(t, c.o, emitOnly)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%+v: error %v, want %q", c.o, err, c.says)
			}
		}
	}
}

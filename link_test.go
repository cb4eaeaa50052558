package crosscast_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// lines is a log of what is written to it.
func lines(b *strings.Builder) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// TestLinkIsLogged: a node without a Logger writes the first time that the link is down to slog.Default, with what to do.
// With one it leaves that to the adapter, which gets the same Logger: once is enough.
func TestLinkIsLogged(t *testing.T) {
	live := crosscast.LinkHalf{State: reasons.LinkLive}
	down := crosscast.LinkHalf{State: reasons.LinkDown, Err: errors.New("connection refused")}
	denied := crosscast.LinkHalf{State: reasons.LinkDenied, Err: errors.New("no permission")}
	was := slog.Default()
	defer slog.SetDefault(was)
	for _, own := range []bool{true, false} {
		var log, rest strings.Builder
		slog.SetDefault(lines(&rest))
		d := newDriver(t)
		o := crosscast.Options{Name: "n1", Adapter: d}
		if own {
			o.Logger = lines(&log)
		}
		n := start(t, o)
		for range 3 {
			d.h.Link(crosscast.LinkStatus{Publishing: live, Subscribing: live})
			d.h.Link(crosscast.LinkStatus{Publishing: down, Subscribing: live})
			d.h.Link(crosscast.LinkStatus{Publishing: down, Subscribing: denied})
		}
		ok(t, n.Close(context.Background()))
		d.h.Link(crosscast.LinkStatus{Publishing: down, Subscribing: down})
		if own {
			if log.String() != "" || rest.String() != "" || d.logger != o.Logger {
				t.Errorf("with a logger: %q, and elsewhere %q; the adapter got it: %v", log.String(), rest.String(), d.logger == o.Logger)
			}
			continue
		}
		got, silent := rest.String(), log.String()
		var warnings []string
		for line := range strings.Lines(got) {
			if strings.Contains(line, "level=WARN") {
				warnings = append(warnings, line)
			}
		}
		if len(warnings) != 2 || silent != "" ||
			!strings.Contains(warnings[0], `half=publishing state=down error="connection refused" cure=`) ||
			!strings.Contains(warnings[1], `half=subscribing state=denied error="no permission" cure=`) {
			t.Errorf("with a logger %v: warned %q, and elsewhere %q", own, warnings, silent)
		}
	}
}

package wire_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// TestAnOutageIsLoggedOnce: in the adapter's Logger; or, without one, in the node's; or, without any, in slog.Default.
func TestAnOutageIsLoggedOnce(t *testing.T) {
	was := slog.Default()
	defer slog.SetDefault(was)
	for i := range 4 {
		ofNode, ofAdapter := i&1 != 0, i&2 != 0
		t.Run(fmt.Sprint("node ", ofNode, " adapter ", ofAdapter), func(t *testing.T) {
			var node, adapter, rest lines
			slog.SetDefault(slog.New(&rest))
			synctest.Test(t, func(t *testing.T) {
				hub := membus.New()
				port := hub.Port("p")
				var wo wire.Options
				if ofAdapter {
					wo.Logger = slog.New(&adapter)
				}
				o := crosscast.Options{Adapter: wire.New(port, wo)}
				if ofNode {
					o.Logger = slog.New(&node)
				}
				n, err := crosscast.Start(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				port.Down()
				time.Sleep(time.Minute)
				_ = n.Close(t.Context()) // which says that its goodbye is lost
			})
			for name, log := range map[string]struct {
				*lines
				has bool
			}{"the node": {&node, ofNode && !ofAdapter}, "the adapter": {&adapter, ofAdapter}, "slog.Default": {&rest, !ofNode}} {
				down, want := 0, 0
				all := log.take()
				for _, line := range all {
					if strings.HasPrefix(line, "WARN ") && strings.Contains(line, "down") {
						down++
						if !strings.Contains(line, "look whether the bus runs") {
							t.Errorf("without a cure: %q", line)
						}
					}
				}
				if log.has {
					want = 1
				}
				if down != want {
					t.Errorf("%s: %d warnings that the link is down:\n%s", name, down, strings.Join(all, "\n"))
				}
			}
		})
	}
}

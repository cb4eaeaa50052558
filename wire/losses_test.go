package wire_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// Each loss has its reason, and frames of one batch that fared differently are losses apart: an error never says that
// nobody got what somebody may have.
func TestLossReasons(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		why := errors.New("why")
		a.port.SetLatency(time.Millisecond)
		a.port.SetFate(func(f wire.Frame) membus.Fate {
			switch {
			case strings.HasSuffix(f.Topic, ":refused"):
				return membus.Fate{Err: fmt.Errorf("%w: %w", crosscast.ErrRefused, why)}
			case strings.HasSuffix(f.Topic, ":denied"):
				return membus.Fate{Err: fmt.Errorf("%w: %w: %w", crosscast.ErrRefused, crosscast.ErrDenied, why)}
			case strings.HasSuffix(f.Topic, ":uncertain"):
				return membus.Fate{Err: why}
			}
			return membus.Fate{}
		})
		publish := func(rooms ...string) {
			for _, room := range rooms {
				if err := a.a.Publish(t.Context(), emitTo(room)); err != nil {
					t.Fatal(err)
				}
			}
		}
		publish("fine") // under way while the others become one batch
		synctest.Wait()
		publish("uncertain", "refused", "denied", "denied")
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.port.Down()
		synctest.Wait()
		publish("late")
		time.Sleep(6 * time.Second)
		publish("last")
		if err := a.a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range a.lost() {
			got = append(got, fmt.Sprintf("%s %d", l.Reason, l.Instructions))
			if errors.Is(l.Err, crosscast.ErrUncertain) != (l.Reason == reasons.LossUncertain) {
				t.Errorf("%s: %v", l.Reason, l.Err)
			}
		}
		const want = "uncertain 1; refused 1; denied 2; expired 1; closed 1"
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("losses: %s, want %s", s, want)
		}
	})
}

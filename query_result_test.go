package crosscast_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// Collect reads all, and says what is missing; Close ends a question that somebody reads, or nobody.
func TestCollectAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		sockets := crowd(t, nodes)
		all, err := nodes[0].Everyone().Rooms(ctx).Collect()
		ok(t, err)
		if len(all) < 3 {
			t.Errorf("got %d rooms", len(all))
		}
		taps[1].lose(func(inst *crosscast.Instruction) bool { return inst.Kind == kind.Answer })
		rest, err := nodes[0].Everyone().Sockets(ctx, crosscast.Fields{ID: true}).Collect()
		incomplete(t, err, context.DeadlineExceeded, nodes[1])
		if len(rest) == 0 || len(rest) >= len(sockets) {
			t.Errorf("got %d of %d", len(rest), len(sockets))
		}

		start := time.Now()
		read := nodes[0].Everyone().Sockets(ctx, crosscast.Fields{ID: true})
		time.AfterFunc(time.Second, read.Close)
		_, err = read.Collect()
		incomplete(t, err, context.Canceled, nodes[1])
		equal(t, "took", time.Since(start), time.Second)
		read.Close()

		late := nodes[0].Stats().Dropped["answer"]
		unread := nodes[0].Everyone().Sockets(ctx, crosscast.Fields{ID: true})
		unread.Close()
		synctest.Wait()
		equal(t, "answers of others", nodes[0].Stats().Dropped["answer"], late+1)
		refused := nodes[0].To("").Sockets(ctx, crosscast.Fields{ID: true})
		refused.Close()
		if _, err := refused.Collect(); !errors.Is(err, crosscast.ErrInvalidName) {
			t.Error(err)
		}
	})
}

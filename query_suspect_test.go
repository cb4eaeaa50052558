package crosscast_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// TestSuspectedPeersAreNotWaitedForLong: a question to one that hangs ends long before its deadline, and names it.
func TestSuspectedPeersAreNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		node := crosscast.NodeInfo{ID: "peer0000", Name: "server-2", Heartbeat: time.Second}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: node.ID, Node: node})
		time.Sleep(4500 * time.Millisecond) // more than three heartbeats are missing
		began := time.Now()
		_, err := n.ToUser("ann").Has(timeout(t, 30*time.Second))
		if d := time.Since(began); d > time.Second {
			t.Errorf("waited for %v", d)
		}
		var e *crosscast.IncompleteError
		if !errors.As(err, &e) || len(e.Missing) != 1 || e.Missing[0].Name != "server-2" ||
			!strings.Contains(err.Error(), `node "server-2" (peer0000): it has missed heartbeats`) {
			t.Error(err)
		}
	})
}

func TestAPeerThatCannotBeAsked(t *testing.T) {
	d := newDriver(t)
	n := start(t, crosscast.Options{Adapter: d})
	d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: "aaaaaaaa"})
	connect(t, n.Namespace, new(recorder), "r")
	d.mu.Lock()
	d.publishErr = crosscast.ErrNotConnected
	d.mu.Unlock()
	count, err := n.To("r").Count(ctx)
	equal(t, "count", count, 1)
	var e *crosscast.IncompleteError
	if !errors.As(err, &e) || !errors.Is(err, crosscast.ErrNotConnected) || e.Missing[0].ID != "aaaaaaaa" {
		t.Error(err)
	}
}

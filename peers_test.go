package crosscast_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

func nodeLog(l *log, name string) func(*crosscast.Node, crosscast.NodeEvent) {
	return func(_ *crosscast.Node, e crosscast.NodeEvent) {
		kind := [...]string{1: "joined", "suspect", "alive", "left", "expired"}[e.Kind]
		l.add("%s: %s %s", name, e.Peer.Name, kind)
	}
}

func TestNodesAndTheirHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		var l log
		a := start(t, crosscast.Options{Name: "a", Adapter: cluster.Adapter(), OnNode: nodeLog(&l, "a")})
		meta := []crosscast.KeyValue{{Key: "zone", Value: "west"}}
		b := start(t, crosscast.Options{Name: "b", Adapter: cluster.Adapter(), Meta: meta})
		start(t, crosscast.Options{Name: "c", Adapter: cluster.Adapter()})
		synctest.Wait()
		equal(t, "events", l.take(), "a: b joined; a: c joined")
		time.Sleep(time.Minute)
		var names string
		for _, p := range a.Nodes() {
			names += p.Name
			if p.Name == "b" {
				equal(t, "ID", p.ID, b.ID())
				equal(t, "meta", fmt.Sprint(p.Meta), "[{zone west}]")
				equal(t, "since", time.Since(p.Since), time.Minute)
				p.Meta[0].Value = "changed" // it is a copy
			}
		}
		equal(t, "number of nodes", len(names), 2)
		ok(t, b.Close(ctx))
		synctest.Wait()
		equal(t, "events", l.take(), "a: b left")
		equal(t, "nodes", len(a.Nodes()), 1)
	})
}

// provable is a cluster's adapter that a test cuts off: what it publishes goes nowhere, and it hears nothing.
type provable struct {
	*tap
	unproven atomic.Bool
}

func (p *provable) Proven() bool                      { return !p.unproven.Load() }
func (*provable) Heard(crosscast.NodeID) time.Time    { return time.Time{} }
func (*provable) Suspect(crosscast.NodeID, time.Time) {}
func (*provable) Expire(crosscast.NodeID)             {}

func TestSilentAndUnproven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		var l log
		pa := &provable{tap: newTap(cluster)}
		start(t, crosscast.Options{Name: "a", Adapter: pa, OnNode: nodeLog(&l, "a")})
		start(t, crosscast.Options{Name: "b", Adapter: cluster.Adapter(), OnNode: nodeLog(&l, "b")})
		synctest.Wait()
		l.take()
		// a's link is deaf and dumb, and a knows it: b expires a, and a nobody.
		pa.unproven.Store(true)
		pa.lose(func(*crosscast.Instruction) bool { return true })
		pa.miss(func(*crosscast.Instruction) bool { return true })
		time.Sleep(20 * time.Second)
		equal(t, "events", l.take(), "b: a suspect; b: a expired")
		pa.unproven.Store(false)
		pa.lose(nil)
		pa.miss(nil)
		time.Sleep(20 * time.Second)
		equal(t, "events", l.take(), "b: a joined")
	})
}

// A process that stood still is taken for dead, and comes back once, with a gap.
func TestPausedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		var l, gaps log
		pa := newTap(cluster)
		start(t, crosscast.Options{
			Name: "a", Adapter: pa, OnNode: nodeLog(&l, "a"),
			OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
				gaps.add("gap %s, long %v", g.Reason, g.Until.Sub(g.Since) >= 30*time.Second)
			},
		})
		start(t, crosscast.Options{Name: "b", Adapter: cluster.Adapter(), OnNode: nodeLog(&l, "b")})
		synctest.Wait()
		l.take()
		for range 3 {
			time.Sleep(10*time.Second + time.Second/2) // between two heartbeats
			pause := make(chan struct{})
			pa.miss(func(*crosscast.Instruction) bool { <-pause; return false })
			pa.lose(func(*crosscast.Instruction) bool { <-pause; return false })
			time.Sleep(31 * time.Second)
			close(pause)
			pa.lose(nil)
			pa.miss(nil)
			time.Sleep(10 * time.Second)
			equal(t, "events", l.take(), "b: a suspect; b: a expired; b: a joined")
			equal(t, "gaps", gaps.take(), "gap paused, long true")
		}
	})
}

func TestQuietNodes(t *testing.T) {
	nodes, span := 100, 15*time.Minute
	if testing.Short() || raceEnabled {
		nodes, span = 30, 10*time.Minute
	}
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		var joined, others atomic.Int64
		for range nodes {
			start(t, crosscast.Options{Adapter: cluster.Adapter(), OnNode: func(_ *crosscast.Node, e crosscast.NodeEvent) {
				if e.Kind == crosscast.NodeJoined {
					joined.Add(1)
				} else {
					others.Add(1)
				}
			}})
		}
		began := time.Now()
		time.Sleep(span)
		equal(t, "joined", joined.Load(), int64(nodes*(nodes-1)))
		equal(t, "false events", others.Load(), 0)
		equal(t, "fake time", time.Since(began), span)
	})
}

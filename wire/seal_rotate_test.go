package wire_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// TestRotation: three restarts of each node change the key, under load, and nothing is dropped or missed. The counts of
// opened frames then say that the old key is not used any more.
func TestRotation(t *testing.T) {
	before, after := sealKey(1), sealKey(2)
	with := func(keys ...[]byte) wire.Options { return wire.Options{Seal: wire.Seal{Keys: keys, Require: true}} }
	onSealedBus(t, 3, with(before), func(t *testing.T, b *sealedBus) {
		for _, n := range b.nodes {
			b.subscribe(n, "A")
		}
		for _, o := range []wire.Options{with(before, after), with(after, before), with(after)} {
			for i := range b.nodes {
				b.rolling(i, o)
			}
		}
		opened := b.nodes[0].a.AdapterStats().Opened
		if want := wire.KeyName(after); len(opened) != 1 || opened[want] == 0 {
			t.Errorf("opened %v, with %s", opened, want)
		}
	})
}

// rolling replaces a node, while all emit.
func (b *sealedBus) rolling(i int, o wire.Options) {
	b.t.Helper()
	old := b.nodes[i]
	fresh := &sealedNode{id: crosscast.NodeID(fmt.Sprintf("new%05d", time.Now().Unix()%100000))}
	fresh.port = b.hub.Port(string(fresh.id))
	fresh.a = wire.New(fresh.port, o)
	if err := fresh.a.Start(b.t.Context(), starting(crosscast.NodeInfo{ID: fresh.id, Heartbeat: time.Second}, fresh)); err != nil {
		b.t.Fatal(err)
	}
	b.nodes = append(b.nodes, fresh)
	b.publish(fresh, &crosscast.Instruction{Kind: kind.Hello, Target: crosscast.Target{Everyone: true}})
	b.subscribe(fresh, "A")
	b.works("A") // all four
	for range 100 {
		for _, n := range b.nodes {
			if err := n.a.Publish(b.t.Context(), emitTo("A")); err != nil {
				b.t.Error(err)
			}
		}
	}
	b.publish(old, &crosscast.Instruction{Kind: kind.Goodbye, Target: crosscast.Target{Everyone: true}})
	if err := old.a.Close(context.Background()); err != nil {
		b.t.Error(err)
	}
	synctest.Wait()
	for _, n := range b.nodes {
		got := 0
		for _, s := range n.took() {
			if s[len(s)-1] == 'A' {
				got++
			}
		}
		if gaps := n.tookGaps(); got != 300 || len(gaps) > 0 {
			b.t.Errorf("%s hears %d emissions of 3 others, and reports %+v", n.id, got, gaps)
		}
		for _, reason := range []string{"unsealed", "unknown key", "broken seal", "stale", "runs"} {
			if c := n.dropped(reason); c > 0 {
				b.t.Errorf("%s has dropped %d as %q", n.id, c, reason)
			}
		}
	}
	b.nodes[i] = fresh
	b.nodes = b.nodes[:len(b.nodes)-1]
}

// TestNonces: in all that nodes over three parts have handed to their buses, while batches fail, are uncertain, are
// repeated and expire, no key has sealed two texts with one nonce. The parts of a node share its run and its counter.
func TestNonces(t *testing.T) {
	eachMode(t, func(t *testing.T, seal wire.Seal) {
		var mu sync.Mutex
		texts := map[string]string{}         // by key, run and number
		runs := map[string]map[string]bool{} // parts, by run
		repeated := 0
		inPartBubble(t, 2, wire.Options{Seal: seal, MaxAge: 3 * time.Second}, func(t *testing.T, c *partCluster) {
			for _, n := range c.nodes {
				for part, port := range n.ports {
					count := 0
					port.SetFate(func(f wire.Frame) membus.Fate {
						mu.Lock()
						defer mu.Unlock()
						run := string(f.Data[wire.SealRunAt:wire.SealNumberAt])
						nonce := run + fmt.Sprint(binary.BigEndian.Uint64(f.Data[wire.SealNumberAt:]))
						if before, ok := texts[nonce]; ok && before != string(f.Data) {
							t.Errorf("number %s of a run has two texts", nonce[16:])
						}
						texts[nonce] = string(f.Data)
						if runs[run] == nil {
							runs[run] = map[string]bool{}
						}
						runs[run][part] = true
						switch count++; count % 5 {
						case 1:
							return membus.Fate{Err: errtext.Errorf("%w: no", crosscast.ErrRefused), Lost: true}
						case 2:
							repeated++
							return membus.Fate{Err: errors.New("nobody knows"), Repeat: 1}
						case 3:
							repeated++
							return membus.Fate{Again: time.Second}
						}
						return membus.Fate{}
					})
				}
			}
			for i := range 40 {
				for _, n := range c.nodes {
					for _, port := range n.ports {
						if i%10 == 5 {
							port.Down()
						}
						if i%10 == 9 {
							port.Up()
						}
					}
					c.emit(n)
				}
				time.Sleep(700 * time.Millisecond)
			}
		})
		if len(runs) != 2 || len(texts) < 300 || repeated < 100 {
			t.Errorf("%d runs, %d texts, %d repeated", len(runs), len(texts), repeated)
		}
		for run, parts := range runs {
			if len(parts) != 3 {
				t.Errorf("run %x is on the parts %v", run, slices.Sorted(maps.Keys(parts)))
			}
		}
	})
}

// TestMovedToAnotherPart: what was captured on one part is nothing on another.
func TestMovedToAnotherPart(t *testing.T) {
	seal := wire.Seal{Keys: [][]byte{sealKey(1)}, Require: true}
	inPartBubble(t, 3, wire.Options{Seal: seal}, func(t *testing.T, c *partCluster) {
		var mu sync.Mutex
		captured := map[string][]wire.Frame{}
		for part, hub := range c.hubs {
			hub.OnExecute(func(f wire.Frame) {
				mu.Lock()
				defer mu.Unlock()
				captured[part] = append(captured[part], wire.Frame{Topic: f.Topic, Data: slices.Clone(f.Data)})
			})
		}
		c.emit(c.nodes[0])
		time.Sleep(2 * time.Second)
		for _, hub := range c.hubs {
			hub.OnExecute(nil)
		}
		c.knowEachOther("before")
		for _, n := range c.nodes {
			n.took()
		}
		before := c.nodes[1].Stats().Adapter.Dropped["broken seal"]
		moved := uint64(0)
		for from, frames := range captured {
			for to, hub := range c.hubs {
				if to != from {
					hub.Port("stranger").Publish(t.Context(), frames)
					moved += uint64(len(frames))
				}
			}
		}
		synctest.Wait()
		for _, n := range c.nodes {
			if got, gaps := n.took(), n.tookGaps(); len(got)+len(gaps) > 0 {
				t.Errorf("%s got %v, and reports %+v", n.Name(), got, gaps)
			}
		}
		if got := c.nodes[1].Stats().Adapter.Dropped["broken seal"] - before; got == 0 || got > moved {
			t.Errorf("of %d moved frames, %d were dropped", moved, got)
		}
		c.emit(c.nodes[0])
		if got := c.nodes[1].took(); len(got) != 4 {
			t.Error("then it got", got)
		}
	})
}

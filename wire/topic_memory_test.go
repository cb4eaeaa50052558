package wire_test

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// A subscription takes little memory where nothing has arrived: beside its name and its place in a map, 176 bytes.
func TestBytesOfATopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := wire.New(membus.New().Port("a"), wire.Options{})
		if err := a.Start(t.Context(), starting(crosscast.NodeInfo{ID: "receiver"}, &receiver{})); err != nil {
			t.Fatal(err)
		}
		defer a.Close(context.Background())
		// With 24,000 names the tables of a map are three quarters full. With 30,000, chance decides how many of them split.
		names := make([]crosscast.Address, 24_000)
		for i := range names {
			names[i] = room(strconv.Itoa(100_000 + i))
		}
		heap := func() int {
			synctest.Wait()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		before := heap()
		if err := a.Subscribe(t.Context(), names...); err != nil {
			t.Fatal(err)
		}
		used := (heap() - before) / len(names)
		t.Logf("%d bytes a topic", used)
		if used > 380 {
			t.Errorf("%d bytes a topic", used)
		}
		runtime.KeepAlive(names)
	})
}

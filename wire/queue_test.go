package wire_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// cutOff returns a peer whose link is down.
func cutOff(tb testing.TB, o wire.Options) *peer {
	tb.Helper()
	p := &peer{id: "node0000", port: membus.New().Port("a")}
	p.a = wire.New(p.port, o)
	if err := p.a.Start(context.Background(), starting(crosscast.NodeInfo{ID: p.id, Heartbeat: time.Minute}, p)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { p.a.Close(context.Background()) })
	p.port.Down()
	for p.a.AdapterStats().Connected {
		time.Sleep(time.Millisecond) // poll
	}
	return p
}

// toFresh returns a small emission to a user that nothing was emitted to before.
func toFresh(i int) *crosscast.Instruction {
	return &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", Event: "e",
		Target:  crosscast.Target{Users: []string{"u" + strconv.Itoa(i)}},
		Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"n":1}`)}}
}

// TestQueueBytesAreABound: the last instruction that is accepted does not make the queue hold more than its bound.
func TestQueueBytesAreABound(t *testing.T) {
	ended, end := context.WithCancel(t.Context()) // nobody waits for an outcome, but the queue remembers that somebody might
	end()
	long := strings.Repeat(" ", 240) // a topic has three bytes for each
	for name, load := range map[string]struct {
		inst func(i int) *crosscast.Instruction
		most int // bytes an instruction
	}{
		"one user": {func(int) *crosscast.Instruction { return toFresh(0) }, 400},
		"long names": {func(i int) *crosscast.Instruction {
			inst := toFresh(i)
			inst.Target.Users[0] += long
			return inst
		}, 2 << 10},
	} {
		for limit := 8 << 10; limit < 24<<10; limit += 77 {
			p := cutOff(t, wire.Options{QueueBytes: limit, MaxAge: time.Minute})
			n := 0
			for ; ; n++ {
				if _, err := p.a.Deliver(ended, load.inst(n)); !errors.Is(err, context.Canceled) {
					break
				}
			}
			if held := p.a.AdapterStats().QueueBytes; held > limit || n < limit/load.most {
				t.Errorf("%s: a queue of %d bytes holds %d instructions, %d bytes", name, limit, n, held)
			}
		}
	}
}

// TestQueueBytesAreWhatIsHeld: a full queue takes as much memory as its bound says, whatever waits in it, also when
// buffers are there for reuse that are much larger than what waits.
func TestQueueBytesAreWhatIsHeld(t *testing.T) {
	const limit = 8 << 20
	ended, end := context.WithCancel(context.Background())
	end()
	sized := func(n int) func(i int) *crosscast.Instruction {
		return func(i int) *crosscast.Instruction {
			inst := toFresh(i % 100)
			inst.Payload.Data = append(make([]byte, n), '1')
			return inst
		}
	}
	for _, load := range []struct {
		name    string
		inst    func(i int) *crosscast.Instruction
		deliver bool
	}{
		{"fresh users", toFresh, false},
		{"one user", func(int) *crosscast.Instruction { return toFresh(0) }, false},
		{"in turn", func(i int) *crosscast.Instruction {
			inst := toFresh(0)
			if i%2 == 0 {
				inst.Target = crosscast.Target{Rooms: []string{"r"}}
			}
			return inst
		}, false},
		{"long names", func(i int) *crosscast.Instruction {
			inst := toFresh(i)
			inst.Target.Users[0] += string(make([]byte, 240))
			return inst
		}, false},
		{"1 KiB", sized(1 << 10), false},
		{"100 KiB", sized(100 << 10), false},
		{"deliveries that were given up", func(int) *crosscast.Instruction { return toFresh(0) }, true},
	} {
		t.Run(load.name, func(t *testing.T) {
			p := cutOff(t, wire.Options{QueueBytes: limit, MaxAge: time.Minute})
			before := memtest.Heap()
			var err error
			n := 0
			for ; err == nil; n++ {
				if load.deliver {
					if _, err = p.a.Deliver(ended, load.inst(n)); errors.Is(err, context.Canceled) {
						err = nil
					}
				} else {
					err = p.a.Publish(context.Background(), load.inst(n))
				}
			}
			if !errors.Is(err, crosscast.ErrNotConnected) {
				t.Fatal(err)
			}
			held, counted := memtest.Heap()-before, p.a.AdapterStats().QueueBytes
			t.Logf("%d instructions, counted %d, held %d: %d for each", n, counted, held, held/n)
			if counted > limit || counted < limit*9/10 {
				t.Errorf("a full queue counts %d of %d bytes", counted, limit)
			}
			if held > limit*5/4 {
				t.Errorf("a queue of %d bytes holds %d", limit, held)
			}
		})
	}
}

// TestAnOutageOfManyUsers: with default options 80,000 small emissions, each to somebody else, wait through an outage.
func TestAnOutageOfManyUsers(t *testing.T) {
	p := cutOff(t, wire.Options{MaxAge: time.Minute})
	for i := range 80_000 {
		if err := p.a.Publish(t.Context(), toFresh(i)); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
	t.Logf("they take %d bytes", p.a.AdapterStats().QueueBytes)
	p.port.Up()
	if err := p.a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l := p.lost(); len(l) > 0 {
		t.Errorf("losses %+v", l)
	}
}

// TestManyNamesWait: a call costs the same however many names wait. Where it walks all of them this takes half an hour.
func TestManyNamesWait(t *testing.T) {
	p := cutOff(t, wire.Options{QueueBytes: 256 << 20, MaxAge: time.Minute})
	begin := time.Now()
	for i := range 200_000 {
		if err := p.a.Publish(t.Context(), toFresh(i)); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		if i%1000 == 0 && time.Since(begin) > 30*time.Second {
			t.Fatalf("%d emissions took %v", i, time.Since(begin))
		}
	}
	t.Logf("200,000 emissions took %v", time.Since(begin))
}

// TestVolatileWaitsForNothing: neither for room in the queue, nor for the link.
func TestVolatileWaitsForNothing(t *testing.T) {
	inBubble(t, 2, wire.Options{QueueBytes: 4096}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		a.port.SetLatency(time.Hour)
		for i := 0; a.a.AdapterStats().QueueBytes < 3000; i++ {
			if err := a.a.Publish(t.Context(), toFresh(i)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the first is under way, and the others wait for it
		}
		begin := time.Now()
		v := toFresh(0)
		v.Volatile, v.Payload.Data = true, make([]byte, 4000)
		if err := a.a.Publish(t.Context(), v); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("Publish:", err)
		}
		if _, err := a.a.Deliver(t.Context(), v); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("Deliver:", err)
		}
		if n := a.a.AdapterStats().Dropped["volatile"]; n != 2 || time.Since(begin) > 0 {
			t.Errorf("counted %d, after %v", n, time.Since(begin))
		}
		a.port.SetLatency(0)
	})
}

// While the queue has room, no emission waits for a bus that does not answer. With a full queue it waits until its
// context ends, or until the link is found down.
func TestEmissionsWaitOnlyForRoom(t *testing.T) {
	inBubble(t, 1, wire.Options{QueueBytes: 64 << 10, PublishTimeout: time.Hour}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		a.port.SetLatency(time.Hour)
		publish := func(size int) (took time.Duration, err error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			inst := emitTo("A")
			inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, size)}
			began := time.Now()
			err = a.a.Publish(ctx, inst)
			return time.Since(began), err
		}
		for _, size := range []int{10, 20 << 10} { // a large one has a frame of its own
			accepted := 0
			for {
				synctest.Wait() // the sender has taken what it takes
				took, err := publish(size)
				if err == nil && took == 0 {
					accepted++
					continue
				}
				if !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
					t.Errorf("%d bytes: after %d emissions one took %v: %v", size, accepted, took, err)
				}
				break
			}
			if size == 10 && accepted < 100 {
				t.Errorf("%d emissions were accepted", accepted)
			}
		}
		refused := make(chan error, 1)
		go func() { refused <- a.a.Publish(context.Background(), emitTo("A")) }()
		synctest.Wait()
		if len(refused) != 0 {
			t.Fatalf("with a full queue: %v", <-refused)
		}
		a.port.Down()
		synctest.Wait()
		select {
		case err := <-refused:
			if !errors.Is(err, crosscast.ErrNotConnected) {
				t.Error(err)
			}
		default:
			t.Error("an emission waits for a link that is down")
		}
		a.port.SetLatency(0)
	})
}

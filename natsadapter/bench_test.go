package natsadapter_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/natsadapter"
	"github.com/crosscast/crosscast/redisadapter"
)

// serverVariable makes the test's binary a NATS server, until its standard input ends. A benchmark's server is a process
// of its own, as redis-server is.
const serverVariable = "CROSSCAST_TEST_NATS_SERVER"

func runServer() {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.Start()
	fmt.Println(s.ClientURL())
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
}

// processURL starts a server in a process of its own, until the benchmark ends.
func processURL(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// onBoth runs a benchmark over a redis-server and a NATS server, each a process.
func onBoth(b *testing.B, f func(b *testing.B, adapter func() crosscast.Adapter)) {
	redis := "redis://" + redistest.Start(b, redistest.Config{}).Addr()
	nats := processURL(b)
	b.Run("redis", func(b *testing.B) {
		f(b, func() crosscast.Adapter { return redisadapter.Dial(redis, redisadapter.Options{}) })
	})
	b.Run("nats", func(b *testing.B) {
		f(b, func() crosscast.Adapter { return natsadapter.Dial(nats, natsadapter.Options{}) })
	})
}

func startNode(b *testing.B, a crosscast.Adapter) *crosscast.Node {
	b.Helper()
	n, err := crosscast.Start(within(b), crosscast.Options{Adapter: a, MaxRooms: 1 << 20, OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
		b.Errorf("gap %+v", g)
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = n.Close(within(b)) })
	return n
}

// BenchmarkHotRoom: one node emits 100 bytes to a room, another one has a member there.
func BenchmarkHotRoom(b *testing.B) {
	onBoth(b, func(b *testing.B, adapter func() crosscast.Adapter) {
		from, to := startNode(b, adapter()), startNode(b, adapter())
		c := &counting{want: make(chan int, 1), all: make(chan struct{}, 1)}
		if _, err := to.Connect(within(b), c, crosscast.ConnectOptions{Rooms: []string{"hot"}}); err != nil {
			b.Fatal(err)
		}
		payload := crosscast.Bytes(make([]byte, 100))
		b.ResetTimer()
		c.want <- b.N
		for range b.N {
			if err := from.To("hot").Emit(context.Background(), "event", payload); err != nil {
				b.Fatal(err)
			}
		}
		<-c.all
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
}

// counting is a conn that says when it has got all messages.
type counting struct {
	want   chan int
	all    chan struct{}
	expect int
	got    int
}

func (c *counting) Send(*crosscast.Message) error {
	if c.got == 0 {
		c.expect = <-c.want
	}
	if c.got++; c.got == c.expect {
		c.got = 0
		c.all <- struct{}{}
	}
	return nil
}

func (*counting) Close(crosscast.Reason) {}

// BenchmarkIdleLatency: one message at a time, from Emit to the other node's conn.
func BenchmarkIdleLatency(b *testing.B) {
	onBoth(b, func(b *testing.B, adapter func() crosscast.Adapter) {
		from, to := startNode(b, adapter()), startNode(b, adapter())
		c := &counting{want: make(chan int, 1), all: make(chan struct{}, 1)}
		if _, err := to.Connect(within(b), c, crosscast.ConnectOptions{Rooms: []string{"r"}}); err != nil {
			b.Fatal(err)
		}
		var took []time.Duration
		for b.Loop() {
			c.want <- 1
			began := time.Now()
			if err := from.To("r").Emit(context.Background(), "event", nil); err != nil {
				b.Fatal(err)
			}
			<-c.all
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "µs-median")
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "µs-p99")
	})
}

// BenchmarkRooms: one socket joins 100,000 rooms.
func BenchmarkRooms(b *testing.B) {
	rooms := make([]string, 100_000)
	for i := range rooms {
		rooms[i] = fmt.Sprint("room-", i)
	}
	onBoth(b, func(b *testing.B, adapter func() crosscast.Adapter) {
		for range b.N {
			n := startNode(b, adapter())
			s, err := n.Connect(within(b), &counting{}, crosscast.ConnectOptions{})
			if err != nil {
				b.Fatal(err)
			}
			before, began := heap(), time.Now()
			if err := s.Join(within(b), rooms...); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(began).Seconds(), "s")
			b.ReportMetric(float64(heap()-before)/float64(len(rooms)), "B/room")
		}
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

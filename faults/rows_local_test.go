package faults_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
)

// Rows about one process, which run in that of the test.

var _ = register(
	&row{
		number: 20, fault: "one of 1,000 clients reads nothing",
		expect: "the others' 99th percentile is within 20 % or 20 ms; it is closed as too slow after the time for a write",
		alone:  true, run: slowClient, not: otherwise("no server is involved"),
	},
	&row{
		number: 21, fault: "all of 1,000 clients read nothing",
		expect: "the node goes on to receive; memory is at most that of the queues", alone: true,
		kinds: []kind{resp2, cluster, sharded, shards, natsOne}, run: slowClients,
	},
	&row{
		number: 31, fault: "64 goroutines join, leave and emit, 10 s",
		expect: "a socket that has joined gets what is emitted then; in the end both nodes' rooms are those of a model",
		kinds:  single, run: race,
	},
	&row{
		number: 32, fault: "10,000 rooms are joined and half are left again, while Redis is down",
		expect: "99 of 100 calls take 1 ms at most; the subscriptions are right 2 s after Redis is back; at most 512 in a command",
		kinds:  []kind{resp2, resp3, cluster, sharded, shards, natsOne}, alone: true, run: storm,
	},
	&row{
		number: 33, fault: "Close, four times at once, while Redis is down or stands still; calls after Close",
		expect: "Close returns by its context; ErrClosed; no goroutine is left", kinds: single, run: closing,
	},
)

// member is a node in the test's own process.
func (b *bed) member(name string, change ...func(*crosscast.Options)) *crosscast.Node {
	b.Helper()
	o := crosscast.Options{Name: name, Heartbeat: b.heartbeat, Logger: slog.New(slog.DiscardHandler)}
	if b.site != nil {
		var hangUp func()
		o.Adapter, hangUp = b.site.dial(0, nil).adapter(redisadapter.Options{})
		b.Cleanup(hangUp)
	}
	for _, f := range change {
		f(&o)
	}
	n, err := crosscast.Start(redistest.Within(b, patience), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil && !errors.As(err, new(*crosscast.LossError)) {
			b.Errorf("close %s: %v", name, err)
		}
	})
	return n
}

// slowClient compares how late messages are for the others.
func slowClient(b *bed) {
	const slow = time.Second // that a write may take
	n := b.member("n1")
	type ending struct {
		reason crosscast.Reason
		at     time.Time
	}
	ended := make(chan ending, 1<<10)
	s, err := ws.New(n.Namespace, ws.Options{
		WriteTimeout: slow,
		OnConnect:    func(ctx context.Context, c *crosscast.Socket) { _ = c.Join(ctx, room) },
		OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) { ended <- ending{r, time.Now()} },
	})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s)
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10) // so that a client that reads nothing is soon slow
		}
	}
	server.Start()
	b.Cleanup(server.Close)
	var readers sync.WaitGroup
	b.Cleanup(readers.Wait)
	small := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		}
		return c, err
	}}}
	dial := func() *websocket.Conn {
		c, _, err := websocket.Dial(redistest.Within(b, patience), server.URL, &websocket.DialOptions{HTTPClient: small})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.CloseNow() })
		return c
	}
	clients := pick(b, 200, 999)
	var mu sync.Mutex // guards late
	var late []time.Duration
	for range clients {
		c := dial()
		readers.Go(func() {
			for {
				_, data, err := c.Read(context.Background())
				if err != nil {
					return
				}
				_, rest, _ := strings.Cut(string(data), "sent ")
				took := time.Duration(time.Now().UnixNano() - parse(rest))
				mu.Lock()
				late = append(late, took)
				mu.Unlock()
			}
		})
	}
	wait := func(want int, what string) {
		b.Helper()
		for until := time.Now().Add(patience); ; b.last(5 * time.Millisecond) {
			mu.Lock()
			got := len(late)
			mu.Unlock()
			switch {
			case got >= want && n.Stats().Sockets >= clients:
				return
			case time.Now().After(until):
				b.Fatalf("%s: %d of %d messages", what, got, want)
			}
		}
	}
	for len(n.Members(room)) < clients {
		b.last(5 * time.Millisecond)
	}
	// percentile emits for a while, and returns how late the slowest message of a hundred was.
	percentile := func(messages int) time.Duration {
		mu.Lock()
		late = late[:0]
		mu.Unlock()
		for range messages {
			payload := fmt.Sprint("sent ", time.Now().UnixNano(), strings.Repeat(" ", 4<<10))
			if err := n.To(room).Emit(b.Context(), "m", payload); err != nil {
				b.Fatal(err)
			}
			b.last(40 * time.Millisecond)
		}
		wait(messages*clients, "reading")
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(late)
		return late[len(late)*99/100]
	}
	percentile(20)
	messages := pick(b, 75, 300)
	without := percentile(messages)
	began := time.Now()
	slowest := dial()
	for len(n.Members(room)) < clients+1 {
		b.last(5 * time.Millisecond)
	}
	with := percentile(messages)
	b.note = fmt.Sprintf("%s instead of %s", figure(with), figure(without))
	if with > without*6/5 && with > without+20*time.Millisecond {
		b.Errorf("with a slow client the others' 99th percentile is %v, and without it %v", with, without)
	}
	select {
	case e := <-ended:
		if e.reason != crosscast.ReasonSlow {
			b.Errorf("the slow client was closed as %q", e.reason)
		}
		b.recovery = e.at.Sub(began)
	case <-time.After(patience):
		b.Error("the slow client was not closed")
	}
	if n.Stats().Sockets != clients {
		b.Errorf("there are %d sockets", n.Stats().Sockets)
	}
	_ = slowest.CloseNow()
}

// slowClients measures the memory of clients whose writes never end.
func slowClients(b *bed) {
	b.startSite(siteConfig{})
	const limit = 64 << 10
	n1, n2 := b.member("n1"), b.member("n2")
	clients := pick(b, 200, 1000)
	release := make(chan struct{})
	defer close(release)
	for range clients {
		q := crosscast.NewQueue(func([]byte) error { <-release; return net.ErrClosed }, crosscast.QueueOptions{
			Limit: limit, BurstTime: -1, Policy: crosscast.QueueDropOldest,
		})
		if _, err := n1.Connect(b.Context(), q, crosscast.ConnectOptions{Rooms: []string{room}}); err != nil {
			b.Fatal(err)
		}
	}
	var received atomic.Int64
	if _, err := n1.Subscribe(b.Context(), crosscast.Receiver{
		OnMessage: func(*crosscast.Subscription, *crosscast.Message) { received.Add(1) },
	}, room); err != nil {
		b.Fatal(err)
	}
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	messages := pick(b, 2000, 10_000)
	began := time.Now()
	for i := range messages {
		if err := n2.To(room).Emit(b.Context(), "m", strings.Repeat("x", 1<<10)); err != nil {
			b.Fatal(err)
		}
		if i%100 == 0 {
			b.last(10 * time.Millisecond)
		}
	}
	for until := began.Add(patience); received.Load() < int64(messages) && time.Now().Before(until); {
		b.last(5 * time.Millisecond)
	}
	b.recovery = time.Since(began)
	if got := received.Load(); got != int64(messages) {
		b.Errorf("of %d messages %d arrived", messages, got)
	}
	took := heap() - before
	b.note = fmt.Sprintf("%d KiB for each client's queue of %d KiB", took/clients>>10, limit>>10)
	if took > clients*(limit+4<<10) {
		b.Errorf("%d clients, which may queue %d bytes each, take %d bytes", clients, limit, took)
	}
}

// events is a crosscast.Conn that counts its messages by event.
type events struct {
	mu sync.Mutex // guards m
	m  map[string]int
}

func (c *events) Send(m *crosscast.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]int{}
	}
	c.m[m.Event]++
	return nil
}

func (c *events) Close(crosscast.Reason) {}

func (c *events) got(event string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[event]
}

// race has goroutines work on one node each other's rooms.
func race(b *bed) {
	b.startSite(siteConfig{})
	n1, n2 := b.member("n1"), b.member("n2")
	rooms := make([]string, 20)
	for i := range rooms {
		rooms[i] = fmt.Sprint("room", i)
	}
	end := time.Now().Add(pick(b, 2*time.Second, 10*time.Second))
	var members [64]map[string]bool
	var workers sync.WaitGroup
	var emissions atomic.Int64
	for w := range members {
		r, n := rand.New(rand.NewPCG(b.rand.Uint64(), 0)), n1
		if w%8 == 7 {
			n = n2
		}
		members[w] = map[string]bool{}
		workers.Go(func() {
			c := &events{}
			s, err := n.Connect(context.Background(), c, crosscast.ConnectOptions{})
			if err != nil {
				b.Errorf("connect: %v", err)
				return
			}
			for i := 0; time.Now().Before(end); i++ {
				room := rooms[r.IntN(len(rooms))]
				switch r.IntN(3) {
				case 0:
					if err := s.Join(context.Background(), room); err != nil {
						b.Errorf("join: %v", err)
					}
					members[w][room] = true
				case 1:
					s.Leave(room)
					delete(members[w], room)
				case 2:
					event := fmt.Sprint(w, " ", i)
					if err := n.To(room).Emit(context.Background(), event, nil); err != nil {
						b.Errorf("emit: %v", err)
					}
					emissions.Add(1)
					want := 0
					if members[w][room] {
						want = 1
					}
					if got := c.got(event); got != want {
						b.Errorf("a socket, which is in the room: %v, got %d", members[w][room], got)
					}
				}
			}
		})
	}
	workers.Wait()
	for _, room := range rooms {
		want := 0
		for _, in := range members {
			if in[room] {
				want++
			}
		}
		for _, n := range []*crosscast.Node{n1, n2} {
			if got, err := n.To(room).Count(redistest.Within(b, patience)); err != nil || got != want {
				b.Errorf("%s counts %d in %s instead of %d: %v", n.Name(), got, room, want, err)
			}
		}
	}
	b.note = fmt.Sprintf("%d emissions", emissions.Load())
}

// storm joins rooms without Redis.
func storm(b *bed) {
	// All commands are in the log, with their numbers of arguments.
	b.startSite(siteConfig{redis: redistest.Config{Args: []string{"--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000"}}})
	n := b.member("n1", func(o *crosscast.Options) { o.Linger = 10 * time.Millisecond })
	var sockets []*crosscast.Socket
	for range 10 {
		s, err := n.Connect(b.Context(), &events{}, crosscast.ConnectOptions{})
		if err != nil {
			b.Fatal(err)
		}
		sockets = append(sockets, s)
	}
	b.site.kill()
	for n.Link().Live() {
		b.last(time.Millisecond)
	}
	const rooms = 10_000
	var all []time.Duration
	for i := range rooms {
		s, room := sockets[i%len(sockets)], fmt.Sprint("room", i)
		began := time.Now()
		if err := s.Join(b.Context(), room); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
		if i%2 == 0 {
			s.Leave(room)
		}
	}
	slices.Sort(all)
	if slowest := all[rooms*99/100]; slowest > time.Millisecond { // the machine has other things to do, too
		b.Errorf("of a hundred calls of Join one takes %v", slowest)
	}
	b.site.restart()
	began := time.Now()
	channels := 0
	for until := began.Add(patience); time.Now().Before(until); b.last(10 * time.Millisecond) {
		if channels = b.site.rooms(); channels == rooms/2 {
			break
		}
	}
	b.recovery = time.Since(began)
	if channels != rooms/2 {
		b.Errorf("%d rooms are subscribed", channels)
	}
	if b.recovery > 2*time.Second {
		b.Errorf("the subscriptions are right after %v", b.recovery)
	}
	for _, admins := range (redisBus{b.site}).linked() { // with NATS each room is a command
		b.checkSubscribes(admins)
	}
}

// checkSubscribes looks into the logs of Redises for commands with too many rooms.
func (b *bed) checkSubscribes(admins []*redis.Client) {
	b.Helper()
	var log []redis.SlowLog
	for _, admin := range admins {
		of, err := admin.SlowLogGet(b.Context(), -1).Result()
		if err != nil {
			b.Fatal(err)
		}
		log = append(log, of...)
	}
	commands, most := 0, 0
	for _, l := range log {
		if name := strings.ToLower(l.Args[0]); name != "subscribe" && name != "ssubscribe" {
			continue
		}
		commands++
		topics := len(l.Args) - 1
		var more int
		if _, err := fmt.Sscanf(l.Args[topics], "... (%d more arguments)", &more); err == nil {
			topics += more - 1
		}
		most = max(most, topics)
	}
	if commands == 0 || most > 512 {
		b.Errorf("%d commands subscribe to up to %d channels", commands, most)
	}
}

// closing closes nodes whose Redis does not help.
func closing(b *bed) {
	b.startSite(siteConfig{})
	b.allowRestart()
	node := b.process("n1")
	for what, fault := range map[string][2]func(){
		"is down": {b.site.kill, b.site.restart}, "stands still": {b.site.pause, b.site.resume},
	} {
		node := b.process("n " + what)
		before := node.stats()
		node.start()
		node.do(command{Do: "stream", Room: room, Time: b.every})
		b.last(200 * time.Millisecond)
		fault[0]()
		b.last(300 * time.Millisecond)
		r, err := node.try(command{Do: "close", Time: time.Second})
		if r.Took > 1500*time.Millisecond {
			b.Errorf("Redis %s: Close, given 1 s, returned after %v: %v", what, r.Took, err)
		}
		b.recovery = max(b.recovery, r.Took)
		fault[1]()
		var after *childStats
		for until := time.Now().Add(baseWithin); time.Now().Before(until); b.last(50 * time.Millisecond) {
			if after = node.stats(); after.Goroutines <= before.Goroutines+1 {
				break
			}
		}
		if after.Goroutines > before.Goroutines+1 {
			b.Errorf("Redis %s: %d goroutines are left, and there were %d", what, after.Goroutines, before.Goroutines)
		}
		node.end()
	}
	node.end()

	n := b.member("n3")
	s, err := n.Connect(b.Context(), &events{}, crosscast.ConnectOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := n.Close(redistest.Within(b, patience)); err != nil {
				b.Errorf("close: %v", err)
			}
		})
	}
	all.Wait()
	_, connected := n.Connect(b.Context(), &events{}, crosscast.ConnectOptions{})
	for what, err := range map[string]error{
		"emit": n.To(room).Emit(b.Context(), "m", nil), "join": s.Join(b.Context(), room), "connect": connected,
		"ready": n.Ready(),
	} {
		if !errors.Is(err, crosscast.ErrClosed) {
			b.Errorf("%s after Close: %v", what, err)
		}
	}
	s.Leave(room)
}

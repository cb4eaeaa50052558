package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/wire"
)

// A child is the process of one node. Its parent runs this test binary again, with a childConfig in the environment, and
// writes a command a line. The child writes lines, too: replies, and the entries of its journal. It ends with its input.

// childVariable makes a process a child.
const childVariable = "CROSSCAST_FAULTS_NODE"

// A childConfig is how a node is started, by the command "start".
type childConfig struct {
	Program        string `json:"-"` // default: this test binary
	Name           string
	Heartbeat      time.Duration
	Rooms          []string // of its client
	Dial           dialConfig
	Prefix         string
	QueueBytes     int
	MaxAge         time.Duration
	PublishTimeout time.Duration
	StartOffline   bool
	Keys           [][]byte // of the seal
}

// A command is a line of a child's input.
type command struct {
	ID   int
	Do   string
	Room string        `json:",omitempty"`
	N    int           `json:",omitempty"`
	Size int           `json:",omitempty"` // of a payload
	Text string        `json:",omitempty"`
	Time time.Duration `json:",omitempty"`
}

// A reply answers the command with its ID.
type reply struct {
	ID    int
	Err   string        `json:",omitempty"`
	Text  string        `json:",omitempty"`
	N     int64         `json:",omitempty"`
	Took  time.Duration `json:",omitempty"`
	Stats *childStats   `json:",omitempty"`
}

// childStats are a child's state.
type childStats struct {
	Goroutines, FDs int
	Heap            uint64
	Queue           int
	Peers           []string // names; "?" follows those that are suspected
	Live, Ready     bool
	Slowest         time.Duration // the longest call of Emit so far
	Panics          uint64
	Reconnects      uint64
	Worked          int64             // requests that it has executed
	Strange         int64             // messages that no node of the matrix has emitted
	Allocated       uint64            // bytes, so far
	CPU             time.Duration     // so far
	Dropped         map[string]uint64 // by the adapter, by reason
}

// A line is one of a child's output.
type line struct {
	Reply *reply       `json:",omitempty"`
	Entry *books.Entry `json:",omitempty"`
}

type child struct {
	config  childConfig
	journal *journal
	hangUp  func() // ends the connections that the adapter does not
	node    *crosscast.Node
	socket  *crosscast.Socket
	stalled sync.RWMutex // locked while the client's Send must block
	slowest atomic.Int64
	worked  atomic.Int64
	strange atomic.Int64

	mu      sync.Mutex // guards what follows
	next    map[string]int64
	emitMu  map[string]*sync.Mutex // by room: one emission at a time
	streams map[string]*stream
}

// stream emits to a room until it is stopped.
type stream struct {
	stop, stopped chan struct{}
}

// play is the main function of a child.
func play(config string) {
	redis.SetLogger(silent{})
	c := &child{
		journal: newJournal(os.Stdout), next: map[string]int64{}, emitMu: map[string]*sync.Mutex{},
		streams: map[string]*stream{},
	}
	if err := json.Unmarshal([]byte(config), &c.config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var cmd command
		if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		go func() {
			began := time.Now()
			r, err := c.do(&cmd)
			r.ID = cmd.ID
			if r.Took == 0 {
				r.Took = time.Since(began)
			}
			if err != nil {
				r.Err = err.Error()
			}
			c.journal.reply(r)
		}()
	}
	os.Exit(0)
}

func (c *child) do(cmd *command) (r reply, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), max(cmd.Time, time.Minute))
	defer cancel()
	switch cmd.Do {
	case "start":
		return c.start(cmd.Time)
	case "emit": // N emissions at once
		return c.emitMany(ctx, cmd)
	case "stream": // one each Time, until "stop"
		c.stream(cmd)
	case "stop":
		c.stop()
	case "join":
		if err = c.socket.Join(ctx, cmd.Room); err == nil {
			c.journal.add(books.Entry{Is: books.Join, Room: cmd.Room})
		}
	case "leave":
		c.journal.add(books.Entry{Is: books.Leave, Room: cmd.Room})
		c.socket.Leave(cmd.Room)
	case "stall":
		c.stalled.Lock()
	case "go on":
		c.stalled.Unlock()
	case "ask":
		return c.ask(cmd.Time)
	case "count":
		within, cancel := context.WithTimeout(context.Background(), cmd.Time)
		defer cancel()
		n, err := c.node.To(cmd.Room).Count(within)
		return reply{N: int64(n)}, err
	case "flush":
		err = c.node.Flush(ctx)
	case "redirect": // new connections to the address Room lead to Text
		redirects.Store(cmd.Room, cmd.Text)
	case "password": // of new connections
		present.Store(&cmd.Text)
	case "clock": // is off by N seconds from now on
		if clock == nil {
			return r, errors.New("this process has the machine's clock")
		}
		clock.Store(int64(cmd.N))
		return reply{N: time.Now().UnixNano()}, nil
	case "stats":
		return reply{Stats: c.stats()}, nil
	case "close":
		return c.close(cmd.Time)
	default:
		err = errors.New("no command " + cmd.Do)
	}
	return r, err
}

// start starts the node, in which it is given a time.
func (c *child) start(within time.Duration) (reply, error) {
	o := c.config
	var adapter crosscast.Adapter
	adapter, c.hangUp = o.Dial.adapter(redisadapter.Options{
		Prefix: o.Prefix, QueueBytes: o.QueueBytes, MaxAge: o.MaxAge, PublishTimeout: o.PublishTimeout,
		Seal: wire.Seal{Keys: o.Keys, Require: len(o.Keys) > 0},
	})
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	began := time.Now()
	n, err := crosscast.Start(ctx, crosscast.Options{
		Name: o.Name, Heartbeat: o.Heartbeat, StartOffline: o.StartOffline, Logger: slog.New(slog.DiscardHandler),
		Adapter: adapter,
		OnGap:   func(n *crosscast.Node, g crosscast.Gap) { c.journal.gap(n, g) },
		OnLoss:  func(n *crosscast.Node, l crosscast.Loss) { c.journal.loss(n, l) },
		OnLink:  func(n *crosscast.Node, s crosscast.LinkStatus) { c.journal.link(n, s) },
		OnNode:  func(n *crosscast.Node, e crosscast.NodeEvent) { c.journal.peer(n, e) },
	})
	took := time.Since(began)
	if err != nil {
		c.hangUp()
		return reply{Took: took}, err
	}
	c.node = n
	c.journal.begin(n)
	if err := n.OnRequest("work", func(context.Context, *crosscast.Request) (any, error) {
		c.worked.Add(1)
		return n.Name(), nil
	}); err != nil {
		return reply{}, err
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c.socket, err = n.Connect(ctx, conn{c}, crosscast.ConnectOptions{Rooms: o.Rooms})
	if err != nil {
		return reply{}, err
	}
	for _, room := range o.Rooms {
		c.journal.add(books.Entry{Is: books.Join, Room: room})
	}
	return reply{Text: string(n.ID()), Took: took}, nil
}

// conn is the child's only client.
type conn struct{ *child }

func (c conn) Send(m *crosscast.Message) error {
	c.stalled.RLock()
	defer c.stalled.RUnlock()
	room, number, ours := strings.Cut(m.Event, " ")
	if !ours {
		c.strange.Add(1)
		return nil
	}
	c.journal.got(room, string(m.From), parse(number))
	return nil
}

func (c conn) Close(r crosscast.Reason) {
	c.journal.add(books.Entry{Is: books.Shut, Text: string(r)})
}

func parse(number string) (n int64) {
	_, _ = fmt.Sscan(number, &n)
	return n
}

// emit makes a room's next emission.
func (c *child) emit(ctx context.Context, room string, payload any) error {
	c.mu.Lock()
	turn := c.emitMu[room]
	if turn == nil {
		turn = new(sync.Mutex)
		c.emitMu[room] = turn
	}
	c.mu.Unlock()
	turn.Lock()
	defer turn.Unlock()
	c.mu.Lock()
	c.next[room]++
	number := c.next[room]
	c.mu.Unlock()
	began := time.Now()
	c.journal.sent(room, number, began)
	err := c.node.To(room).Emit(ctx, fmt.Sprint(room, " ", number), payload)
	if took := int64(time.Since(began)); took > c.slowest.Load() {
		c.slowest.Store(took)
	}
	if err != nil {
		c.journal.refused(room, number, err)
	}
	return err
}

// payload is Size bytes that would be protocol for whoever reads from the wrong place.
func (cmd *command) payload() any {
	if cmd.Size == 0 {
		return nil
	}
	const forged = "+++\r\n*3\r\n$7\r\nmessage\r\n$6\r\ncc:all\r\n$3\r\n+++\r\n"
	return crosscast.Bytes(strings.Repeat(forged, cmd.Size/len(forged)+1)[:cmd.Size])
}

func (c *child) emitMany(ctx context.Context, cmd *command) (r reply, err error) {
	for range cmd.N {
		within, cancel := ctx, context.CancelFunc(func() {})
		if cmd.Time > 0 {
			within, cancel = context.WithTimeout(ctx, cmd.Time)
		}
		if e := c.emit(within, cmd.Room, cmd.payload()); e != nil {
			err = e
		}
		cancel()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return reply{N: c.next[cmd.Room]}, err
}

func (c *child) stream(cmd *command) {
	s := &stream{make(chan struct{}), make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[cmd.Room] != nil {
		return
	}
	c.streams[cmd.Room] = s
	payload := cmd.payload()
	go func() {
		defer close(s.stopped)
		tick := time.NewTicker(cmd.Time)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = c.emit(context.Background(), cmd.Room, payload) // the journal has the error
			case <-s.stop:
				return
			}
		}
	}()
}

func (c *child) stop() {
	c.mu.Lock()
	all := c.streams
	c.streams = map[string]*stream{}
	c.mu.Unlock()
	for _, s := range all {
		close(s.stop)
		<-s.stopped
	}
}

func (c *child) ask(within time.Duration) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	answers := c.node.Servers().Ask(ctx, "work", c.config.Name)
	n := int64(0)
	for range answers.All() {
		n++
	}
	return reply{N: n}, answers.Err()
}

// close closes the node, which it is given a time for, and the client.
func (c *child) close(within time.Duration) (reply, error) {
	c.stop()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	began := time.Now()
	err := c.node.Close(ctx)
	took := time.Since(began)
	c.journal.add(books.Entry{Is: books.End})
	c.hangUp()
	if errors.As(err, new(*crosscast.LossError)) {
		return reply{Took: took, Text: err.Error()}, nil // that it ends is what counts here
	}
	return reply{Took: took}, err
}

func (c *child) stats() *childStats {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	s := &childStats{
		Goroutines: runtime.NumGoroutine(), FDs: len(fds), Heap: m.HeapAlloc,
		Slowest: time.Duration(c.slowest.Load()), Worked: c.worked.Load(), Strange: c.strange.Load(),
		Allocated: m.TotalAlloc, CPU: cpu(),
	}
	if c.node == nil {
		return s
	}
	now := c.node.Stats()
	s.Queue, s.Live, s.Ready = now.QueueBytes, c.node.Link().Live(), c.node.Ready() == nil
	s.Panics, s.Reconnects, s.Dropped = now.Panics, now.Adapter.Reconnects, now.Adapter.Dropped
	for _, p := range c.node.Nodes() {
		name := p.Name
		if p.Suspect {
			name += "?"
		}
		s.Peers = append(s.Peers, name)
	}
	slices.Sort(s.Peers)
	return s
}

// cpu is the time that this process has computed for.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// A journal collects what a child has to tell. It never waits for the parent.
type journal struct {
	w io.Writer

	mu    sync.Mutex // guards what follows
	node  string     // ID
	lines []line
	runs  []*books.Entry // of Got, since the last other entry; one for each origin and room
	out   map[string]*books.Entry
}

// flushes is how often a journal is written.
const flushes = 10 * time.Millisecond

func newJournal(w io.Writer) *journal {
	j := &journal{w: w, out: map[string]*books.Entry{}}
	go func() {
		for range time.Tick(flushes) {
			j.flush()
		}
	}()
	return j
}

func (j *journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settleLocked()
	if len(j.lines) == 0 {
		return
	}
	var text []byte
	for i := range j.lines {
		one, err := json.Marshal(&j.lines[i])
		if err != nil {
			panic(err)
		}
		text = append(append(text, one...), '\n')
	}
	j.lines = j.lines[:0]
	_, _ = j.w.Write(text)
}

// settleLocked makes lines of what is collected.
func (j *journal) settleLocked() {
	for room, e := range j.out {
		e.Node = j.node
		j.lines = append(j.lines, line{Entry: e})
		delete(j.out, room)
	}
	for _, e := range j.runs {
		e.Node = j.node
		j.lines = append(j.lines, line{Entry: e})
	}
	j.runs = nil
}

func (j *journal) add(e books.Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.addLocked(e)
}

func (j *journal) addLocked(e books.Entry) {
	if e.At == 0 {
		e.At = unixNano(time.Now())
	}
	j.settleLocked()
	e.Node = j.node
	j.lines = append(j.lines, line{Entry: &e})
}

func (j *journal) reply(r reply) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settleLocked()
	j.lines = append(j.lines, line{Reply: &r})
}

// begin adds the entry that a node has started, unless one of its callbacks has.
func (j *journal) begin(n *crosscast.Node) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beginLocked(n)
}

// beginLocked is begin. A node whose start has failed might have been before.
func (j *journal) beginLocked(n *crosscast.Node) {
	if j.node != string(n.ID()) {
		j.node = string(n.ID())
		j.addLocked(books.Entry{Is: books.Start, Text: n.Name()})
	}
}

func (j *journal) got(room, origin string, number int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.runs {
		if e.Room == room && e.Origin == origin && e.To == number-1 {
			e.To = number
			return
		}
	}
	j.runs = append(j.runs, &books.Entry{
		At: unixNano(time.Now()), Is: books.Got, Room: room, Origin: origin, From: number, To: number,
	})
}

func (j *journal) sent(room string, number int64, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.out[room]
	if e == nil {
		e = &books.Entry{At: unixNano(at), Is: books.Sent, Room: room, From: number}
		j.out[room] = e
	}
	e.To = number
	e.Times = append(e.Times, unixNano(at))
}

func (j *journal) refused(room string, number int64, err error) {
	j.add(books.Entry{Is: books.Sent, Room: room, From: number, To: number, Failed: []int64{number}, Text: err.Error()})
}

func (j *journal) gap(n *crosscast.Node, g crosscast.Gap) {
	e := &books.Gap{Origin: string(g.Origin), All: g.Names == nil, Since: unixNano(g.Since), Reason: string(g.Reason)}
	if !g.Until.IsZero() {
		e.Until = unixNano(g.Until)
	}
	for _, a := range g.Names {
		switch a.Space {
		case crosscast.SpaceNamespace:
			e.All = true
		case crosscast.SpaceRoom:
			e.Rooms = append(e.Rooms, a.Name)
		}
	}
	j.of(n, books.Entry{Is: books.GapOf, Gap: e})
}

func (j *journal) loss(n *crosscast.Node, l crosscast.Loss) {
	j.of(n, books.Entry{Is: books.Lost, Text: l.Err.Error(), Loss: &books.Loss{
		Instructions: l.Instructions, Uncertain: errors.Is(l.Err, crosscast.ErrUncertain), Reason: string(l.Reason),
	}})
}

func (j *journal) link(n *crosscast.Node, s crosscast.LinkStatus) {
	text := "live"
	if !s.Live() {
		text = fmt.Sprintf("publishing %s (%v), subscribing %s (%v)", s.Publishing.State, s.Publishing.Err,
			s.Subscribing.State, s.Subscribing.Err)
	}
	j.of(n, books.Entry{Is: books.Link, Text: text})
}

var peerEvents = map[crosscast.NodeEventKind]string{
	crosscast.NodeJoined: "joined", crosscast.NodeSuspect: "suspect", crosscast.NodeAlive: "alive",
	crosscast.NodeLeft: "left", crosscast.NodeExpired: "expired",
}

func (j *journal) peer(n *crosscast.Node, e crosscast.NodeEvent) {
	j.of(n, books.Entry{Is: books.Peer, Origin: string(e.Peer.ID), Text: peerEvents[e.Kind]})
}

// of adds an entry of a callback, which might come before Start returns.
func (j *journal) of(n *crosscast.Node, e books.Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beginLocked(n)
	j.addLocked(e)
}

// silent is go-redis's log, in which every fault is a line or more.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Most workloads are a stream: a publisher sends messages, and another process counts what arrives, which it tells to the
// publisher, so that never more than a window's messages are under way. Between them there may be a server.

// stream measures the time between two samples. The rate is that of the counter. CPU, allocations and bytes are a message
// that it counted, of the processes that are charged.
func stream(counter string, charged ...string) func(ctx context.Context, r *run) (values, error) {
	return func(ctx context.Context, r *run) (values, error) {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer read.Close()
		defer write.Close()
		if counter == "clients" {
			server, err := r.start("server", nil)
			if err != nil {
				return nil, err
			}
			r.config.Server = server.ready.Addr
		}
		receiver, err := r.start(counter, write)
		if err != nil {
			return nil, err
		}
		write.Close() // the publisher is to learn when the counter ends
		publisher, err := r.start("publisher", read)
		if err != nil {
			return nil, err
		}
		if _, err := publisher.call("go"); err != nil {
			return nil, err
		}
		warm := r.workload.warm
		if warm == 0 {
			warm = r.bench.span / 2
		}
		pass(ctx, warm)
		before, err := r.sample()
		if err != nil {
			return nil, err
		}
		after := before
		for end := time.Now().Add(10 * time.Second); after[counter].Count == before[counter].Count && time.Now().Before(end); {
			pass(ctx, r.bench.span)
			if after, err = r.sample(); err != nil {
				return nil, err
			}
		}
		last, err := publisher.call("stop")
		if err != nil {
			return nil, err
		}
		due := last.Count * int64(max(r.config.Clients-r.config.Stalled, 1))
		if err := arrive(ctx, receiver, due); err != nil {
			return nil, err
		}
		return difference(before, after, counter, charged)
	}
}

// arrive returns when all messages have arrived.
func arrive(ctx context.Context, receiver *process, due int64) error {
	last := int64(-1)
	for news := time.Now(); ctx.Err() == nil; pass(ctx, 10*time.Millisecond) {
		s, err := receiver.call("sample")
		if err != nil {
			return err
		}
		if s.Count == due {
			return nil
		}
		if s.Count != last {
			last, news = s.Count, time.Now()
		}
		if s.Count > due || time.Since(news) > 10*time.Second {
			return fmt.Errorf("%d messages arrived, and %d were due", s.Count, due)
		}
	}
	return ctx.Err()
}

// difference is what happened between two samples.
func difference(before, after map[string]reply, counter string, charged []string) (values, error) {
	n := float64(after[counter].Count - before[counter].Count)
	if n <= 0 {
		return nil, errors.New("nothing arrived")
	}
	v := values{"rate": n / (float64(after[counter].At-before[counter].At) / 1e9)}
	for _, role := range charged {
		b, a := before[role], after[role]
		v["cpu"] += (a.CPU - b.CPU) * 1e6 / n
		v["allocs"] += float64(a.Allocs-b.Allocs) / n
		v["bytes"] += float64(a.Bytes-b.Bytes) / n
	}
	for key, value := range after[counter].Values {
		v[key] = value
	}
	return v, nil
}

// A tally counts what arrives, and tells the publisher.
type tally struct {
	members int64 // each message is counted so often
	every   int64 // counts between two lines
	count   atomic.Int64
	due     atomic.Int64
	news    chan struct{}
}

// newTally counts for the process.
func newTally(p *proc, members int) *tally {
	t := &tally{members: int64(members), every: int64(max(p.Window/8, 1) * members), news: make(chan struct{}, 1)}
	t.due.Store(t.every)
	p.count = t.count.Load
	go t.tell(p, os.NewFile(progressFile, "progress"))
	return t
}

// add may be called concurrently.
func (t *tally) add(n int) {
	if t.count.Add(int64(n)) >= t.due.Load() {
		select {
		case t.news <- struct{}{}:
		default:
		}
	}
}

func (t *tally) tell(p *proc, out io.Writer) {
	for range t.news {
		n := t.count.Load()
		t.due.Store(n + t.every)
		if _, err := fmt.Fprintln(out, n/t.members); err != nil {
			p.fail(err)
			return
		}
	}
}

// latencies are times from sending to arrival, since the last sample.
type latencies struct {
	mu  sync.Mutex
	all []int64 // nanoseconds
}

func (l *latencies) add(sent int64) {
	d := time.Now().UnixNano() - sent
	l.mu.Lock()
	l.all = append(l.all, d)
	l.mu.Unlock()
}

// figures returns the median and the 99th percentile in microseconds.
func (l *latencies) figures() values {
	l.mu.Lock()
	all := l.all
	l.all = make([]int64, 0, len(all)) // the next sample is about as long
	l.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	at := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))]) / 1e3 }
	return values{"p50": at(0.5), "p99": at(0.99)}
}

// A receiver checks and counts the messages of a process that has no clients.
type receiver struct {
	*proc
	*tally
	latencies latencies
	unordered bool
	next      []uint64 // by room: the number that is due
}

// receive is the role of such a process. listen returns when it hears the rooms; it calls got with each payload, which
// stands for k messages with consecutive numbers, from one goroutine.
func receive(unordered bool, listen func(p *proc, got func(payload []byte, k int)) error) role {
	return func(p *proc) error {
		r := &receiver{proc: p, tally: newTally(p, 1), unordered: unordered}
		for room := range max(p.Rooms, 1) {
			r.next = append(r.next, uint64(room))
		}
		if p.Stamp {
			p.figures = r.latencies.figures
		}
		return listen(p, r.got)
	}
}

func (r *receiver) got(payload []byte, k int) {
	m := readStamp(payload, r.JSON)
	if !r.unordered {
		next := &r.next[m.number%uint64(len(r.next))]
		if m.number != *next {
			r.fail(fmt.Errorf("message %d came where %d was due", m.number, *next))
		}
		*next += uint64(k * len(r.next))
	}
	if r.Stamp {
		r.latencies.add(m.sent)
	}
	r.add(k)
}

// A stamp is what a message says of itself.
type stamp struct {
	number uint64
	sent   int64
}

// The stamp of a text are two numbers of 16 hexadecimal digits behind a mark.
const (
	mark      = "~~"
	stampSize = len(mark) + 32
)

// write writes the stamp to a payload: bytes, or the JSON of a string.
func (m stamp) write(payload []byte, isJSON bool) {
	if !isJSON {
		binary.LittleEndian.PutUint64(payload, m.number)
		binary.LittleEndian.PutUint64(payload[8:], uint64(m.sent))
		return
	}
	copy(payload[1:], mark)
	for i, v := range []uint64{m.number, uint64(m.sent)} {
		for j := range 16 {
			payload[1+len(mark)+16*i+j] = "0123456789abcdef"[v>>(60-4*j)&15]
		}
	}
}

func readStamp(payload []byte, isJSON bool) (m stamp) {
	if !isJSON {
		return stamp{binary.LittleEndian.Uint64(payload), int64(binary.LittleEndian.Uint64(payload[8:]))}
	}
	digits := payload[1+len(mark):]
	return stamp{hex(digits[:16]), int64(hex(digits[16:32]))}
}

func hex(digits []byte) (v uint64) {
	for _, c := range digits {
		v = v<<4 | uint64(c&15+c>>6*9)
	}
	return v
}

// newPayload returns a payload without a stamp.
func (p *proc) newPayload() []byte {
	if !p.JSON {
		return make([]byte, p.Size)
	}
	payload := make([]byte, p.Size+2)
	for i := range payload {
		payload[i] = 'x'
	}
	payload[0], payload[p.Size+1] = '"', '"'
	return payload
}

func (p *proc) stamp(payload []byte, number int) {
	m := stamp{number: uint64(number)}
	if p.Stamp {
		m.sent = p.sentAt(number, time.Now().UnixNano())
	}
	m.write(payload, p.JSON)
}

// sentAt is the time from which the latency of a message counts. A message that was due while the publisher was still
// busy with another one counts from then: otherwise a contestant that waits for replies would have no latency meanwhile.
func (p *proc) sentAt(number int, now int64) int64 {
	if p.Rate == 0 {
		return now
	}
	due := p.began + int64(float64(number)/p.Rate*1e9)
	return min(now, max(due, p.woke))
}

// roomNames are the rooms, or channels, of this run.
func (p *proc) roomNames() []string {
	names := make([]string, max(p.Rooms, 1))
	for i := range names {
		names[i] = fmt.Sprintf("%s-%06d", p.Run, i)
	}
	return names
}

// A sender is how a contestant publishes.
type sender struct {
	batch int                      // messages that send takes at most
	send  func(first, n int) error // sends n messages, of which the first has this number
	flush func() error             // returns when nothing waits; may be nil
}

// publish is the role of the publisher.
func publish(open func(p *proc) (sender, error)) role {
	return func(p *proc) error {
		s, err := open(p)
		if err != nil {
			return err
		}
		pace := newPace(os.NewFile(progressFile, "progress"), p.Window)
		var sent atomic.Int64
		p.count = sent.Load
		driveOnDemand(p, s, pace, &sent)
		return nil
	}
}

// driveOnDemand begins to send at the command go, and ends at the command stop.
func driveOnDemand(p *proc, s sender, pace *pace, sent *atomic.Int64) {
	ended := make(chan error, 1)
	p.on["go"] = func() (reply, error) {
		go func() { ended <- drive(p, s, pace, sent) }()
		return reply{}, nil
	}
	p.on["stop"] = func() (reply, error) {
		pace.stop()
		err := <-ended
		if err == nil && s.flush != nil {
			err = s.flush()
		}
		return reply{Count: sent.Load()}, err
	}
}

// drive sends messages until pace stops it.
func drive(p *proc, s sender, pace *pace, sent *atomic.Int64) error {
	began := time.Now()
	p.began = began.UnixNano()
	p.woke = p.began
	for first := 0; ; {
		n := s.batch
		if p.Rate > 0 {
			due := int(time.Since(began).Seconds() * p.Rate)
			if n = min(n, due+1-first); n <= 0 {
				next := began.Add(time.Duration(float64(first) / p.Rate * 1e9))
				select {
				case <-time.After(max(time.Until(next), p.Tick)):
				case <-pace.stopped:
					return nil
				}
				p.woke = time.Now().UnixNano()
				continue
			}
		}
		if err := pace.ready(first + n); err != nil {
			if errors.Is(err, errStopped) {
				return nil
			}
			p.fail(err)
			return err
		}
		if err := s.send(first, n); err != nil {
			p.fail(err)
			return err
		}
		first += n
		sent.Store(int64(first))
	}
}

// A pace is what the publisher knows of the counter.
type pace struct {
	window  int
	known   int // the arrivals last seen by ready; saves the atomic
	seen    atomic.Int64
	news    chan struct{}
	stopped chan struct{}
	ended   chan struct{} // closed when the counter says nothing more
}

var errStopped = errors.New("stopped")

func newPace(r io.Reader, window int) *pace {
	p := &pace{window: window, news: make(chan struct{}, 1), stopped: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			n, err := strconv.ParseInt(sc.Text(), 10, 64)
			if err != nil {
				return
			}
			p.seen.Store(n)
			select {
			case p.news <- struct{}{}:
			default:
			}
		}
	}()
	return p
}

func (p *pace) stop() { close(p.stopped) }

// ready returns when there is room in the window to send up to message n. Only one goroutine calls it.
func (p *pace) ready(n int) error {
	select {
	case <-p.stopped:
		return errStopped
	default:
	}
	for n-p.known > p.window {
		p.known = int(p.seen.Load())
		if n-p.known <= p.window {
			break
		}
		select {
		case <-p.news:
		case <-p.stopped:
			return errStopped
		case <-p.ended:
			if p.known = int(p.seen.Load()); n-p.known > p.window {
				return fmt.Errorf("the counter ended after %d messages", p.known)
			}
		}
	}
	return nil
}

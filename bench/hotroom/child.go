//go:build unix

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// child is the main function of the publisher and the receiver.
func child(role string) {
	if err := runChild(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runChild(role string) error {
	var c config
	if err := json.Unmarshal([]byte(os.Getenv(configVariable)), &c); err != nil {
		return err
	}
	contestant := find(c.Contestant)
	if c.Profile != "" {
		f, err := os.Create(filepath.Join(c.Profile, c.Contestant+"-"+role+".pprof"))
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	var u usage
	var err error
	if role == "receiver" {
		u, err = receive(c, contestant)
	} else {
		u, err = publish(c, contestant)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.NewFile(resultFile, "result")).Encode(u)
}

// receive counts messages until the last one has arrived.
func receive(c config, contestant *contestant) (usage, error) {
	t := &tally{
		total: c.WarmUp + c.Messages, warmUp: c.WarmUp, ordered: !contestant.unordered, out: os.Stdout,
		// Often enough that the publisher never runs dry, seldom enough that telling it costs nothing.
		every: c.Window / 8, failed: make(chan error, 1), done: make(chan struct{}),
	}
	stop, err := contestant.receive(c, t)
	if err != nil {
		return usage{}, err
	}
	defer stop()
	t.tell(0) // ready
	select {
	case <-t.done:
		return t.usage, nil
	case err := <-t.failed:
		return usage{}, err
	}
}

// A tally counts the messages of a run. One goroutine at a time adds to it.
type tally struct {
	total, warmUp int
	ordered       bool // message n must come after n-1
	every         int
	out           io.Writer

	count  int
	told   int
	began  usage
	usage  usage
	failed chan error
	done   chan struct{} // closed when all messages have arrived; usage is set
}

// add counts the n messages of a payload, which begins with the number of the first.
func (t *tally) add(payload []byte, n int) {
	if t.ordered {
		if first := binary.LittleEndian.Uint64(payload); first != uint64(t.count) {
			t.fail(fmt.Errorf("message %d came where %d was due", first, t.count))
			return
		}
	}
	before := t.count
	t.count += n
	if before < t.warmUp && t.count >= t.warmUp {
		t.began = used()
	}
	switch {
	case t.count > t.total:
		t.fail(fmt.Errorf("%d messages, not %d: some came twice", t.count, t.total))
	case t.count == t.total:
		t.usage = used().since(t.began)
		t.tell(t.count)
		close(t.done)
	case t.count-t.told >= t.every || t.count == t.warmUp:
		t.tell(t.count)
	}
}

func (t *tally) tell(n int) {
	t.told = n
	if _, err := fmt.Fprintln(t.out, n); err != nil {
		t.fail(err)
	}
}

func (t *tally) fail(err error) {
	select {
	case t.failed <- err:
	default: // the first error is enough
	}
}

// publish sends the messages of a run, in step with what the receiver says has arrived.
func publish(c config, contestant *contestant) (usage, error) {
	w := newPace(os.Stdin, c.Window)
	if err := w.await(0); err != nil { // ready
		return usage{}, err
	}
	send, stop, err := contestant.publish(c, w)
	if err != nil {
		return usage{}, err
	}
	if err := send(0, c.WarmUp); err != nil {
		return usage{}, err
	}
	if err := w.await(c.WarmUp); err != nil {
		return usage{}, err
	}
	began := used()
	if err := send(c.WarmUp, c.WarmUp+c.Messages); err != nil {
		return usage{}, err
	}
	if err := w.await(c.WarmUp + c.Messages); err != nil {
		return usage{}, err
	}
	return used().since(began), stop()
}

// A pace is what the publisher knows of the receiver.
type pace struct {
	window int
	known  int // the arrivals last seen by a caller of ready; saves the atomic
	seen   atomic.Int64
	news   chan struct{}
	ended  chan struct{} // closed when the receiver says nothing more
}

func newPace(r io.Reader, window int) *pace {
	p := &pace{window: window, news: make(chan struct{}, 1), ended: make(chan struct{})}
	p.seen.Store(-1)
	go func() {
		defer close(p.ended)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			n, err := strconv.Atoi(sc.Text())
			if err != nil {
				return
			}
			p.seen.Store(int64(n))
			select {
			case p.news <- struct{}{}:
			default:
			}
		}
	}()
	return p
}

// await returns when n messages have arrived.
func (p *pace) await(n int) error {
	stalled := time.NewTimer(20 * time.Second)
	defer stalled.Stop()
	for p.seen.Load() < int64(n) {
		select {
		case <-p.news:
		case <-p.ended:
			if p.seen.Load() < int64(n) {
				return fmt.Errorf("the receiver ended after %d messages", p.seen.Load())
			}
		case <-stalled.C:
			return fmt.Errorf("no news for 20 s: %d messages have arrived, and %d are due", p.seen.Load(), n)
		}
	}
	return nil
}

// ready returns when there is room in the window to send up to message n. Only one goroutine calls it.
func (p *pace) ready(n int) error {
	if n-p.known <= p.window {
		return nil
	}
	err := p.await(n - p.window)
	p.known = int(p.seen.Load())
	return err
}

var started = time.Now()

// used is what this process has used so far.
func used() usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // there is no reason for it to fail
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{
		Seconds: time.Since(started).Seconds(),
		CPU:     float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9,
		Mallocs: m.Mallocs,
	}
}

func (u usage) since(began usage) usage {
	return usage{u.Seconds - began.Seconds, u.CPU - began.CPU, u.Mallocs - began.Mallocs}
}

// number marks buf as message n.
func number(buf []byte, n int) { binary.LittleEndian.PutUint64(buf, uint64(n)) }

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func requireRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func newProc(c config) *proc { return &proc{config: c, failures: make(chan error, 1)} }

// failure is the first one, or "".
func (p *proc) failure() string {
	select {
	case err := <-p.failures:
		return err.Error()
	default:
		return ""
	}
}

func TestMissingMessage(t *testing.T) {
	for _, test := range []struct {
		name      string
		rooms     int
		unordered bool
		numbers   []int
		want      string
	}{
		{"all", 1, false, []int{0, 1, 2, 3}, ""},
		{"missing", 1, false, []int{0, 1, 3}, "message 3 came where 2 was due"},
		{"twice", 1, false, []int{0, 1, 1}, "message 1 came where 2 was due"},
		{"swapped", 1, false, []int{1}, "message 1 came where 0 was due"},
		{"unordered", 1, true, []int{1, 0}, ""},
		{"rooms overtake each other", 2, false, []int{1, 3, 0, 2}, ""},
		{"missing in a room", 2, false, []int{0, 1, 4}, "message 4 came where 2 was due"},
	} {
		for _, isJSON := range []bool{false, true} {
			p := newProc(config{Size: 64, Window: 100, Rooms: test.rooms, JSON: isJSON})
			listen := func(p *proc, got func(payload []byte, k int)) error {
				for _, n := range test.numbers {
					payload := p.newPayload()
					p.stamp(payload, n)
					got(payload, 1)
				}
				return nil
			}
			if err := receive(test.unordered, listen)(p); err != nil {
				t.Fatal(err)
			}
			if got := p.failure(); got != test.want {
				t.Errorf("%s, JSON %v: %q, want %q", test.name, isJSON, got, test.want)
			}
			if got := p.count(); got != int64(len(test.numbers)) {
				t.Errorf("%s: %d messages", test.name, got)
			}
		}
	}
}

func TestStamp(t *testing.T) {
	for _, isJSON := range []bool{false, true} {
		p := newProc(config{Size: 40, JSON: isJSON})
		payload := p.newPayload()
		want := stamp{0x0123456789abcdef, 0x7edcba9876543210}
		want.write(payload, isJSON)
		if got := readStamp(payload, isJSON); got != want {
			t.Errorf("JSON %v: %x, want %x: %s", isJSON, got, want, payload)
		}
	}
}

// TestWindow checks that a publisher does not run ahead, nor wait for ever when the counter has ended, or it is stopped.
// TestSentAt: what a busy publisher sends late counts from the time at which it was due, and what a publisher that has
// slept too long sends late does not.
func TestSentAt(t *testing.T) {
	const ms = 1_000_000
	p := newProc(config{Rate: 1000})
	p.began, p.woke = 100*ms, 105*ms+10
	for number, want := range map[int]int64{4: 105*ms + 10, 5: 105*ms + 10, 6: 106 * ms, 7: 107 * ms, 9: 108 * ms} {
		if got := p.sentAt(number, 108*ms); got != want {
			t.Errorf("message %d: %d, want %d", number, got, want)
		}
	}
	p.Rate = 0
	if got := p.sentAt(3, 108*ms); got != 108*ms {
		t.Errorf("without a rate: %d", got)
	}
}

func TestWindow(t *testing.T) {
	r, w := io.Pipe()
	p := newPace(r, 10)
	if err := p.ready(10); err != nil {
		t.Fatal(err)
	}
	ready := make(chan error)
	go func() { ready <- p.ready(11) }()
	select {
	case err := <-ready:
		t.Fatalf("ready for message 11 of a window of 10: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	fmt.Fprintln(w, 1)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := p.ready(12); err == nil || err == errStopped {
		t.Fatalf("the counter has ended: %v", err)
	}

	r, _ = io.Pipe()
	p = newPace(r, 10)
	go func() { ready <- p.ready(11) }()
	p.stop()
	if err := <-ready; err != errStopped {
		t.Fatalf("stopped: %v", err)
	}
}

// TestTally checks that the publisher learns of an eighth of a window at the latest, as messages and not as deliveries.
func TestTally(t *testing.T) {
	r, w := io.Pipe()
	tally := &tally{members: 3, every: 30, news: make(chan struct{}, 1)}
	tally.due.Store(tally.every)
	go tally.tell(newProc(config{}), w)
	lines := bufio.NewReader(r)
	tally.add(29)
	tally.add(2)
	if line, _ := lines.ReadString('\n'); line != "10\n" {
		t.Errorf("after 31 deliveries to 3 members: %q", line)
	}
}

// TestClient reads frames of all lengths, several messages in a frame, and a ping, and finds the last arrival of each
// message.
func TestClient(t *testing.T) {
	p := newProc(config{Size: 40, JSON: true, Window: 100, Stamp: true, Each: mark})
	c := &crowd{proc: p, tally: &tally{members: 2, every: 100, news: make(chan struct{}, 1)}}
	c.arrivals = newArrivals(p)
	ours, theirs := net.Pipe()
	message := func(n int) string {
		payload := p.newPayload()
		p.stamp(payload, n)
		return string(payload)
	}
	long := strings.Repeat("y", 70_000) + message(3)
	go func() {
		frame := func(first byte, payload string) {
			head := []byte{first, byte(len(payload))}
			if n := len(payload); n > 65535 {
				head = []byte{first, 127, 0, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
			} else if n > 125 {
				head = []byte{first, 126, byte(n >> 8), byte(n)}
			}
			theirs.Write(append(head, payload...))
		}
		for range 2 { // each of two members
			frame(0x81, message(0))
			frame(0x81, message(1)+"\n"+message(2)+"\n"+message(4))
			frame(0x81, long)
			frame(0x81, "{}")
			frame(0x81, message(200)) // the first that has the place of message 0
		}
		frame(0x89, "ping")
		pong := make([]byte, 10)
		if _, err := io.ReadFull(theirs, pong); err != nil || pong[0] != 0x8a || string(pong[6:]) != "ping" {
			t.Errorf("a pong %x, %v", pong, err)
		}
		frame(0x88, "\x03\xe8bye")
	}()
	err := c.read(&client{Conn: ours, r: bufio.NewReader(ours)})
	if err == nil || !strings.Contains(err.Error(), "bye") {
		t.Errorf("at the end: %v", err)
	}
	if got := c.tally.count.Load(); got != 12 {
		t.Errorf("%d messages, want 12", got)
	}
	if n := len(c.latencies.all); n != 6 {
		t.Errorf("%d messages have reached both members, want 6", n)
	}
}

func TestLatencies(t *testing.T) {
	l := &latencies{}
	for i := range 100 {
		l.all = append(l.all, int64(100-i)*1000)
	}
	if v := l.figures(); v["p50"] != 50 || v["p99"] != 99 {
		t.Errorf("%v", v)
	}
	if v := l.figures(); v != nil {
		t.Errorf("of nothing: %v", v)
	}
	for range 20 {
		l.figures()
	}
	if cap(l.all) > 0 {
		t.Errorf("samples of nothing keep memory for %d", cap(l.all))
	}
}

// TestRate checks that messages are as many as their rate, whatever the publisher sleeps at least, and that a stop ends
// the sleep.
func TestRate(t *testing.T) {
	for _, tick := range []time.Duration{0, 20 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			p := newProc(config{Rate: 1000, Tick: tick})
			var sends, messages int
			var sent atomic.Int64
			s := sender{batch: 32, send: func(first, n int) error {
				if first != messages {
					t.Errorf("message %d after %d", first, messages)
				}
				sends, messages = sends+1, messages+n
				return nil
			}}
			r, w := io.Pipe()
			defer w.Close()
			pace := newPace(r, 10_000)
			ended := make(chan error)
			go func() { ended <- drive(p, s, pace, &sent) }()
			time.Sleep(time.Second)
			pace.stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if messages < 980 || messages > 1001 || int64(messages) != sent.Load() {
				t.Errorf("tick %v: %d messages in a second", tick, messages)
			}
			if want := 990; tick == 0 && sends < want || tick > 0 && sends > 51 {
				t.Errorf("tick %v: %d sends", tick, sends)
			}
		})
	}
}

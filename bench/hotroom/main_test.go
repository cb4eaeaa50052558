//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		child(role)
		return
	}
	os.Exit(m.Run())
}

// TestRun lets every contestant send a few messages.
func TestRun(t *testing.T) {
	t.Setenv("REDIS_URL", "redis://"+redistest.Start(t, redistest.Config{}).Addr())
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	var out bytes.Buffer
	if err := parent(t.Context(), []string{"-rounds", "2", "-scale", "0.01", "-window", "1024"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, c := range contestants {
		if c.named {
			continue
		}
		if n := strings.Count(out.String(), "  "+c.name+" "); n != 2 { // the lines "round 1  crosscast …"
			t.Errorf("%d runs of %s:\n%s", n, c.name, out.String())
		}
		if !strings.Contains(out.String(), "| "+c.what) {
			t.Errorf("no result of %s:\n%s", c.name, out.String())
		}
	}
}

func TestMissingMessage(t *testing.T) {
	for _, test := range []struct {
		name    string
		numbers []int
		want    string
	}{
		{"all", []int{0, 1, 2, 3}, ""},
		{"missing", []int{0, 1, 3}, "message 3 came where 2 was due"},
		{"twice", []int{0, 1, 1}, "message 1 came where 2 was due"},
		{"swapped", []int{1}, "message 1 came where 0 was due"},
	} {
		c := &tally{
			total: 4, warmUp: 1, ordered: true, every: 100, out: io.Discard,
			failed: make(chan error, 1), done: make(chan struct{}),
		}
		for _, n := range test.numbers {
			buf := make([]byte, 8)
			number(buf, n)
			c.add(buf, 1)
		}
		got := "neither done nor failed"
		select {
		case <-c.done:
			got = ""
		case err := <-c.failed:
			got = err.Error()
		default:
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestWindow checks that a publisher does not run ahead, nor wait for ever when the receiver has ended.
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
	default:
	}
	fmt.Fprintln(w, 1)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := p.ready(12); err == nil {
		t.Fatal("ready, though the receiver has ended")
	}
}

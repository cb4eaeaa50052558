package faults_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/faults/books"
)

// Nothing changes the wall clock of one process of Go: it asks the kernel without a library that could be replaced, and a
// time namespace has only the other clocks. So row 19 builds this test binary with a package time of which Now adds a number
// of seconds to the wall clock.

// clock is that number; nil: this process has the machine's clock. See clock_skewed_test.go.
var clock *atomic.Int64

// unixNano is t in nanoseconds, on the clock of the other processes.
func unixNano(t time.Time) int64 {
	if clock == nil {
		return t.UnixNano()
	}
	return t.Add(-time.Duration(clock.Load()) * time.Second).UnixNano()
}

const (
	readsClock = "sec, nsec, mono := runtimeNow()\n"
	addsSkew   = "sec += skew.Load()\n"
	skewSource = `package time

import (
	"sync/atomic"
	_ "unsafe"
)

//go:linkname skew
var skew atomic.Int64
`
)

// skewedProgram builds the binary.
func skewedProgram(b *bed) (program string) {
	b.Helper()
	list, err := exec.CommandContext(b.Context(), "go", "list", "-f", "{{.Dir}}", "time").Output()
	if err != nil {
		b.Fatal(err)
	}
	dir, timeDir := b.TempDir(), strings.TrimSpace(string(list))
	source, err := os.ReadFile(filepath.Join(timeDir, "time.go"))
	if err != nil {
		b.Fatal(err)
	}
	if strings.Count(string(source), readsClock) != 1 {
		b.Fatal("this version of Go reads the clock elsewhere: see clock_test.go")
	}
	replace := map[string]string{}
	for name, text := range map[string]string{
		"time.go": strings.Replace(string(source), readsClock, readsClock+addsSkew, 1), "skew.go": skewSource,
	} {
		replace[filepath.Join(timeDir, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		b.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		b.Fatal(err)
	}
	program = filepath.Join(dir, "skewed.test")
	build := exec.CommandContext(b.Context(), "go", "test", "-c", "-tags", "skewed", "-overlay", overlayFile, "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return program
}

// wrongClock has n1 an hour ahead and n2 an hour behind from the start. Then the clock of n3 steps ahead, and back.
func wrongClock(b *bed) {
	program := skewedProgram(b)
	b.start(func(c *childConfig) { c.Program = program })
	b.skew(b.nodes[0], time.Hour)
	b.skew(b.nodes[1], -time.Hour)
	b.last(4 * b.heartbeat) // the books allow no gap, and the peers are checked below
	from := b.ledger.Len()
	for _, step := range []time.Duration{time.Hour, -time.Hour, 0} {
		b.skew(b.nodes[2], step)
		b.last(2 * b.heartbeat)
		for _, n := range b.nodes {
			if r, err := n.try(command{Do: "ask", Time: 5 * time.Second}); err != nil || r.N != 2 {
				b.Errorf("%v after the clock of n3 is off by %v, the request of %s has %d answers: %v", 2*b.heartbeat, step, n, r.N, err)
			}
		}
		b.last(6 * b.heartbeat) // a peer would be taken for dead
	}
	if n := b.count(func(e *books.Entry) bool { return e.Is == books.Peer && e.Text != "joined" }); n > 0 {
		b.Errorf("%d times the state of a peer changed", n)
	}
	b.meet(from)
	b.settle()
}

// skew makes a node's clock be off by d.
func (b *bed) skew(n *node, d time.Duration) {
	b.Helper()
	mended := b.fault("the clock of %s is off by %v", n, d)
	r := n.do(command{Do: "clock", N: int(d / time.Second)})
	mended()
	if off := time.Until(time.Unix(0, r.N)); (off - d).Abs() > time.Minute {
		b.Fatalf("the clock of %s is off by %v, not by %v", n, off, d)
	}
}

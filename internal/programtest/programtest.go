// Package programtest builds and runs programs of this repository for tests.
package programtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// Patience is how long a program may take for what it must do.
const Patience = 30 * time.Second

// Output collects what is written to it. Its methods may be called concurrently; the zero value is empty.
type Output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Build builds the program in the directory dir, and returns its path.
func Build(tb testing.TB, dir string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "program")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("go build %s: %v\n%s", dir, err, out)
	}
	return path
}

// A Program is one that runs. Its methods are for the test's goroutine.
type Program struct {
	Out *Output // what it prints and complains about

	tb    testing.TB
	cmd   *exec.Cmd
	ended bool
}

// Start starts a program, with env beside the environment of the test. When the test ends before the program does, the
// program is interrupted.
func Start(tb testing.TB, cmd *exec.Cmd, env ...string) *Program {
	tb.Helper()
	p := &Program{Out: &Output{}, tb: tb, cmd: cmd}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if !p.ended {
			p.Stop(os.Interrupt)
		}
		if tb.Failed() {
			tb.Logf("%s printed:\n%s", cmd, p.Out)
		}
	})
	return p
}

// Pid is the number of the process.
func (p *Program) Pid() int { return p.cmd.Process.Pid }

// Printed waits until the program has printed a match of pattern, and returns the last group.
func (p *Program) Printed(pattern string) string {
	p.tb.Helper()
	re := regexp.MustCompile(pattern)
	for begin := time.Now(); time.Since(begin) < Patience; time.Sleep(time.Millisecond) {
		if m := re.FindStringSubmatch(p.Out.String()); m != nil {
			return m[len(m)-1]
		}
	}
	p.tb.Fatalf("%s did not print %s", p.cmd, pattern)
	return ""
}

// Stop sends the program a signal, and expects it to end well.
func (p *Program) Stop(sig os.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Errorf("%s: %v", p.cmd, err)
	}
	if err := p.Wait(); err != nil {
		p.tb.Errorf("%s: %v", p.cmd, err)
	}
}

// Wait waits until the program has ended by itself, which it is given [Patience] for.
func (p *Program) Wait() error {
	p.ended = true
	kill := time.AfterFunc(Patience, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	return p.cmd.Wait()
}

// Kill ends the program, however that may be, unless it has ended.
func (p *Program) Kill() {
	if !p.ended {
		_ = p.cmd.Process.Kill()
		_ = p.Wait()
	}
}

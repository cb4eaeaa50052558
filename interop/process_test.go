package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// needNode skips the test when there is no Node.js or its packages are not installed, loudly; where CI is set it fails,
// because a green run must mean that the test ran.
func needNode(t testing.TB) {
	t.Helper()
	lacks := ""
	if _, err := exec.LookPath("node"); err != nil {
		lacks = "no node on the PATH"
	} else if _, err := os.Stat("node_modules"); err != nil {
		lacks = "no node_modules: npm ci --prefix interop"
	}
	if lacks == "" {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("interop: CI is set, and there is %s", lacks)
	}
	fmt.Fprintf(os.Stderr, "\n*** interop: SKIPPING %s: %s ***\n", t.Name(), lacks)
	t.Skip("SKIPPED: " + lacks)
}

// process is a Node.js process that speaks the protocol of control.mjs. Its methods may be called concurrently.
type process struct {
	name string
	cmd  *exec.Cmd

	mu      sync.Mutex
	in      io.WriteCloser         // guarded by mu
	last    int                    // guarded by mu: the latest call's ID
	calls   map[int]chan<- outcome // guarded by mu: those without an answer
	crashes []string               // guarded by mu
	onPush  func(pushed)           // guarded by mu; called one at a time, in order
	ended   error                  // guarded by mu: why nothing is read any more
	killed  bool                   // guarded by mu
}

type outcome struct {
	result json.RawMessage
	err    error
}

// pushed is a line that a process writes by itself.
type pushed struct {
	Push   string          `json:"push"`
	Client string          `json:"client"` // of a client: its name
	Nsp    string          `json:"nsp"`    // of a server
	ID     string          `json:"id"`     // of a server: the socket's
	Event  string          `json:"event"`
	Args   json.RawMessage `json:"args"`
	Reason string          `json:"reason"`
	Error  string          `json:"error"`
}

// startProcess runs a script until the test ends, which fails when an exception was not caught in the script.
func startProcess(t testing.TB, name, script string) *process {
	t.Helper()
	needNode(t)
	p := &process{name: name, cmd: exec.Command("node", script), calls: map[int]chan<- outcome{}}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(out)
	}()
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		<-read
		if err := p.cmd.Wait(); err != nil && !p.wasKilled() {
			t.Errorf("%s: %v", name, err)
		}
		for _, crash := range p.takeCrashes() {
			t.Errorf("%s: %s", name, crash)
		}
	})
	return p
}

// signal stops the process, lets it go on, or kills it.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	p.mu.Lock()
	p.killed = p.killed || s == syscall.SIGKILL
	p.mu.Unlock()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (p *process) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			p.end(fmt.Errorf("%s has ended: %w", p.name, err))
			return
		}
		var answer struct {
			pushed
			ID     json.RawMessage `json:"id"` // a number; of a push, what the process likes
			Result json.RawMessage `json:"result"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			p.end(fmt.Errorf("%s wrote %q: %w", p.name, line, err))
			return
		}
		if answer.Push != "" {
			_ = json.Unmarshal(answer.ID, &answer.pushed.ID)
			p.push(answer.pushed)
			continue
		}
		var id int
		_ = json.Unmarshal(answer.ID, &id)
		p.mu.Lock()
		call := p.calls[id]
		delete(p.calls, id)
		p.mu.Unlock()
		if call == nil {
			continue // nobody waits any more
		}
		o := outcome{result: answer.Result}
		if answer.Error != "" {
			o.err = errors.New(answer.Error)
		}
		call <- o
	}
}

func (p *process) push(line pushed) {
	p.mu.Lock()
	f := p.onPush
	if line.Push == "crash" {
		p.crashes = append(p.crashes, line.Error)
	}
	p.mu.Unlock()
	if f != nil {
		f(line)
	}
}

func (p *process) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = err
	for id, call := range p.calls {
		call <- outcome{err: err}
		delete(p.calls, id)
	}
}

// listen makes f hear what the process pushes from now on.
func (p *process) listen(f func(pushed)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onPush = f
}

// takeCrashes returns the exceptions that the script did not catch since the last look.
func (p *process) takeCrashes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	crashes := p.crashes
	p.crashes = nil
	return crashes
}

func (p *process) wasKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// call runs an operation of the script and reads its result into result, which may be nil.
func (p *process) call(op string, args map[string]any, result any) error {
	answer := make(chan outcome, 1)
	p.mu.Lock()
	p.last++
	id := p.last
	line, err := json.Marshal(map[string]any{"id": id, "op": op, "args": encodeValue(args)})
	if err == nil {
		err = p.ended
	}
	if err == nil {
		p.calls[id] = answer
		_, err = p.in.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %s: %w", p.name, op, err)
	}
	select {
	case o := <-answer:
		if o.err != nil {
			return fmt.Errorf("%s: %s: %w", p.name, op, o.err)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(o.result, result)
	case <-time.After(patience):
		return fmt.Errorf("%s: %s: no answer after %v", p.name, op, patience)
	}
}

// must is call where only success will do.
func (p *process) must(t testing.TB, op string, args map[string]any, result any) {
	t.Helper()
	if err := p.call(op, args, result); err != nil {
		t.Fatal(err)
	}
}

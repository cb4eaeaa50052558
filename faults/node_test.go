package faults_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/programtest"
)

// patience is for what must happen. It is never waited for in a run that passes.
const patience = 30 * time.Second

// A node is a node's process, as its parent sees it.
type node struct {
	*process
	config childConfig
	id     string // of the started node
	base   *childStats
}

// A process is this test binary again, which obeys commands. Its methods fail the test when it does not answer.
type process struct {
	tb   testing.TB
	name string

	cmd    *exec.Cmd
	in     io.WriteCloser
	exited chan struct{} // closed when the process has ended

	mu      sync.Mutex // guards what follows
	asked   int
	waiting map[int]chan reply
	ended   bool // killed, or closed
}

// startNode starts the process of a node, which is started by the command "start". entry is called with what the process
// tells, in order.
func startNode(tb testing.TB, c childConfig, entry func(books.Entry)) *node {
	tb.Helper()
	return &node{config: c, process: startProcess(tb, c.Name, c.Program, childVariable, c, entry)}
}

// startProcess starts a process, of which the variable is a configuration. program is by default this test binary.
func startProcess(
	tb testing.TB, name, program, variable string, config any, entry func(books.Entry),
) *process {
	tb.Helper()
	n := &process{tb: tb, name: name, exited: make(chan struct{}), waiting: map[int]chan reply{}}
	text, err := json.Marshal(config)
	if err != nil {
		tb.Fatal(err)
	}
	if program == "" {
		if program, err = os.Executable(); err != nil {
			tb.Fatal(err)
		}
	}
	n.cmd = exec.Command(program)
	n.cmd.Env = append(os.Environ(), variable+"="+string(text))
	n.cmd.Stderr = os.Stderr
	endWithParent(n.cmd)
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	started := make(chan error)
	go func() {
		// Where the kernel is asked to end the process with its parent, it means the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(n.exited)
		err := n.cmd.Start()
		started <- err
		if err == nil {
			n.read(out, entry)
			_ = n.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = n.in.Close()
		_ = n.cmd.Process.Kill()
		<-n.exited
	})
	return n
}

// read reads what the process tells, until it ends.
func (n *process) read(out io.Reader, entry func(books.Entry)) {
	for lines := json.NewDecoder(bufio.NewReaderSize(out, 1<<20)); ; {
		var l line
		if err := lines.Decode(&l); err != nil {
			break
		}
		if l.Entry != nil {
			entry(*l.Entry)
			continue
		}
		n.mu.Lock()
		waiting := n.waiting[l.Reply.ID]
		delete(n.waiting, l.Reply.ID)
		n.mu.Unlock()
		waiting <- *l.Reply
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, waiting := range n.waiting {
		waiting <- reply{ID: id, Err: errEnded.Error()}
		delete(n.waiting, id)
	}
	n.waiting = nil
}

var errEnded = errors.New("the process has ended")

// send sends a command, and returns where the reply comes.
func (n *process) send(c command) <-chan reply {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	c.ID = n.asked
	r := make(chan reply, 1)
	if n.waiting == nil {
		r <- reply{Err: errEnded.Error()}
		return r
	}
	n.waiting[c.ID] = r
	text, err := json.Marshal(c)
	if err == nil {
		_, err = n.in.Write(append(text, '\n'))
	}
	if err != nil {
		delete(n.waiting, c.ID)
		r <- reply{Err: err.Error()}
	}
	return r
}

// try sends a command, and returns the reply. The error is the command's.
func (n *process) try(c command) (reply, error) {
	n.tb.Helper()
	select {
	case r := <-n.send(c):
		if r.Err != "" {
			return r, errors.New(r.Err)
		}
		return r, nil
	case <-time.After(patience + c.Time):
		n.tb.Fatalf("%s does not answer %q", n.name, c.Do)
		return reply{}, nil
	}
}

// do sends a command that must succeed.
func (n *process) do(c command) reply {
	n.tb.Helper()
	r, err := n.try(c)
	if err != nil {
		n.tb.Fatalf("%s: %s: %v", n.name, c.Do, err)
	}
	return r
}

func (n *node) stats() *childStats {
	n.tb.Helper()
	return n.do(command{Do: "stats"}).Stats
}

// start starts the node in the process.
func (n *node) start() *node {
	n.tb.Helper()
	n.id = n.do(command{Do: "start", Time: patience}).Text
	return n
}

func (n *process) signal(s os.Signal) {
	if err := n.cmd.Process.Signal(s); err != nil {
		n.tb.Errorf("%s: %v: %v", n.name, s, err)
	}
}

// pause stops the process: its connections stand, and it does nothing.
func (n *process) pause() { programtest.Pause(n.tb, n.cmd.Process.Pid) }

func (n *process) resume() { n.signal(syscall.SIGCONT) }

// kill ends the process with SIGKILL, and returns when all that it has told is read.
func (n *process) kill() {
	n.end()
	n.signal(syscall.SIGKILL)
	<-n.exited
}

func (n *process) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
}

func (n *process) hasEnded() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}

func (n *node) String() string { return fmt.Sprintf("%s (%s)", n.config.Name, n.id) }

// ports are the addresses of the process's ends of its connections, on a machine with /proc.
func (n *process) ports() map[string]bool {
	n.tb.Helper()
	proc := fmt.Sprintf("/proc/%d", n.cmd.Process.Pid)
	files, err := os.ReadDir(proc + "/fd")
	if err != nil {
		n.tb.Fatal(err)
	}
	own := map[string]bool{}
	for _, f := range files {
		if to, err := os.Readlink(proc + "/fd/" + f.Name()); err == nil {
			own[to] = true
		}
	}
	table, err := os.ReadFile(proc + "/net/tcp")
	if err != nil {
		n.tb.Fatal(err)
	}
	ports := map[string]bool{}
	for entry := range strings.Lines(string(table)) {
		fields := strings.Fields(entry)
		if len(fields) < 10 || !own["socket:["+fields[9]+"]"] {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
			ports[fmt.Sprint("127.0.0.1:", port)] = true
		}
	}
	return ports
}

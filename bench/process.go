package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// A process is a child as its parent sees it. It is this program again, or another that speaks the same protocol: it finds
// its config in the environment, and answers each line of its input with a reply, after a first one that says that it is
// ready. It ends with its input.
type process struct {
	role  string
	ready reply
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

// configVariable makes a child of a program.
const configVariable = "CROSSCAST_BENCH"

// progressFile is a child's descriptor of the pipe, if it has one, by which publishers learn what has arrived.
const progressFile = 3

// A reply is a line of a child's output.
type reply struct {
	Error  string
	Addr   string  // of a server that is ready
	At     int64   // nanoseconds
	Count  int64   // messages sent, or received
	CPU    float64 // seconds, user and system
	Allocs uint64  // of the heap, so far
	Bytes  uint64  // of the heap that were allocated, so far
	Values values  // the role's own
}

// startProcess returns when the child is ready. progress may be nil. The end of ctx kills the child.
func startProcess(ctx context.Context, command []string, c config, progress *os.File) (*process, error) {
	told, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p := &process{role: c.Role, cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	p.cmd.Env = append(os.Environ(), configVariable+"="+string(told))
	p.cmd.Stderr = os.Stderr
	if progress != nil {
		p.cmd.ExtraFiles = []*os.File{progress}
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if p.ready, err = p.reply(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// call sends a command, and returns the reply.
func (p *process) call(command string) (reply, error) {
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return reply{}, fmt.Errorf("%s: %w", p.role, err)
	}
	return p.reply()
}

func (p *process) reply() (r reply, err error) {
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", p.role, err)
	}
	return r, err
}

// stop ends the process, and waits for its end: 5 seconds, then it is killed.
func (p *process) stop() {
	_ = p.in.Close()
	kill := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	kill.Stop()
}

// Package child runs the processes of a benchmark, each of which ends when its standard input does.
package child

import (
	"io"
	"os"
	"os/exec"
	"time"
)

// A Process is a child as its parent sees it.
type Process struct {
	In  io.WriteCloser
	Out io.Reader
	cmd *exec.Cmd
}

// Start starts a program with more environment variables.
func Start(binary string, env ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(binary)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.In, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.Out, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, p.cmd.Start()
}

// Stop ends the process, and waits for its end: 10 seconds, then it is killed.
func (p *Process) Stop() {
	_ = p.In.Close()
	kill := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	kill.Stop()
}

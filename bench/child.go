package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/metrics"
	"runtime/pprof"
	"syscall"
	"time"
)

// A role is what one process does in a run. It returns when the process is ready. What it has started runs on until the
// process ends.
type role func(p *proc) error

// A proc is this process, if it plays a role.
type proc struct {
	config
	addr     string                           // that a server says when it is ready
	on       map[string]func() (reply, error) // commands of the role
	count    func() int64                     // what a sample tells, if set
	figures  func() values                    // the same
	atEnd    func()                           // what is called before the process ends, if set
	failures chan error

	// Of a publisher with a rate: when it began, and when it last slept. Nanoseconds.
	began, woke int64
}

// child is the main function of a process that plays a role.
func child(told string) error {
	signal.Ignore(os.Interrupt) // of the terminal: the parent ends us
	p := &proc{on: make(map[string]func() (reply, error)), failures: make(chan error, 1)}
	if err := json.Unmarshal([]byte(told), &p.config); err != nil {
		return err
	}
	if p.Profile != "" {
		f, err := os.Create(filepath.Join(p.Profile, fmt.Sprintf("%s-%s-%s.pprof", p.Workload, p.Contestant, p.Role)))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	commands := make(chan string)
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			commands <- lines.Text()
		}
		close(commands)
		time.AfterFunc(5*time.Second, func() { os.Exit(1) }) // whatever the role does: the parent has ended
	}()
	out := json.NewEncoder(os.Stdout)
	if err := p.play(); err != nil {
		return out.Encode(reply{Error: err.Error()})
	}
	if err := out.Encode(reply{Addr: p.addr}); err != nil {
		return err
	}
	if p.atEnd != nil {
		defer p.atEnd()
	}
	for command := range commands {
		r, err := p.answer(command)
		if err != nil {
			r = reply{Error: err.Error()}
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func (p *proc) play() error {
	switch p.Role {
	case redisRole:
		return playRedis(p)
	case natsRole:
		return playNATS(p)
	}
	w := named(p.Workload)
	if w == nil {
		return fmt.Errorf("no workload %q", p.Workload)
	}
	c := w.contestant(p.Contestant)
	if c == nil || c.roles[p.Role] == nil {
		return fmt.Errorf("workload %s has no contestant %q with the role %q", p.Workload, p.Contestant, p.Role)
	}
	return c.roles[p.Role](p)
}

func (p *proc) answer(command string) (reply, error) {
	select {
	case err := <-p.failures:
		p.fail(err) // for the next command, too
		return reply{}, err
	default:
	}
	if command == "sample" {
		return p.sample(), nil
	}
	f := p.on[command]
	if f == nil {
		return reply{}, errors.New("no command " + command)
	}
	return f()
}

// fail reports an error that occurs while the role is played.
func (p *proc) fail(err error) {
	select {
	case p.failures <- err:
	default: // the first error is enough
	}
}

func (p *proc) sample() reply {
	r := reply{At: time.Now().UnixNano(), CPU: cpu()}
	if p.count != nil {
		r.Count = p.count()
	}
	if p.figures != nil {
		r.Values = p.figures()
	}
	s := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	r.Allocs, r.Bytes = s[0].Value.Uint64(), s[1].Value.Uint64()
	return r
}

// cpu is what this process has used so far, in seconds.
func cpu() float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // there is no reason for it to fail
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

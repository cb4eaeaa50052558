package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

// A bench is one call of this program.
type bench struct {
	workloads []workload
	rounds    int
	exactly   bool          // the rounds of each workload, even of one that has fewer otherwise
	span      time.Duration // that a run measures
	quick     bool
	profile   string
	redis     string // address
	log       io.Writer
	terminal  bool    // log is one
	runs      int     // so far
	total     int     // runs that are planned
	highest   float64 // see highestRate
}

// outcome is what the rounds of a workload have shown.
type outcome struct {
	workload *workload
	results  map[string][]values // by contestant, round by round
}

// run lets the contestants of each workload take turns, in a new order in each round, so that all see the same machine.
func (b *bench) run(ctx context.Context) ([]outcome, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	redis, err := startProcess(context.Background(), []string{self}, config{Role: redisRole}, nil)
	if err != nil {
		return nil, err
	}
	defer redis.stop()
	b.redis = redis.ready.Addr
	var outcomes []outcome
	for i := range b.workloads {
		b.total += b.workloads[i].rounds(b) * len(b.workloads[i].contestants)
	}
	for i := range b.workloads {
		w := &b.workloads[i]
		b.progress("%s: %s", w.name, w.title)
		c := w.config
		if w.prepare != nil {
			if err := w.prepare(ctx, b, &c); err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
		}
		o := outcome{workload: w, results: make(map[string][]values)}
		for round := range w.rounds(b) {
			for _, i := range rand.Perm(len(w.contestants)) {
				contestant := &w.contestants[i]
				b.runs++
				b.progress("%d/%d  %s, round %d, %s", b.runs, b.total, w.name, round+1, contestant.name)
				v, err := b.one(ctx, w, contestant, c)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", w.name, contestant.name, err)
				}
				b.result(w, round, contestant.name, v)
				o.results[contestant.name] = append(o.results[contestant.name], v)
			}
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

func (w *workload) rounds(b *bench) int {
	if w.most > 0 && !b.exactly {
		return min(b.rounds, w.most)
	}
	return b.rounds
}

// one makes one run of one contestant.
func (b *bench) one(ctx context.Context, w *workload, contestant *contestant, c config) (values, error) {
	if contestant.set != nil {
		contestant.set(&c)
	}
	c.Workload, c.Contestant = w.name, contestant.name
	if contestant.as != "" {
		c.Contestant = contestant.as
	}
	c.Run = fmt.Sprintf("%x", rand.Uint64())
	c.Redis, c.Profile = b.redis, b.profile
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+10*b.span)
	defer cancel()
	if c.OverNATS {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		nats, err := startProcess(ctx, []string{self}, config{Role: natsRole}, nil)
		if err != nil {
			return nil, err
		}
		defer nats.stop()
		c.NATS = nats.ready.Addr
	}
	r := &run{ctx: ctx, bench: b, workload: w, command: contestant.command, config: c, processes: make(map[string]*process)}
	defer r.stop()
	v, err := w.measure(ctx, r)
	if err == nil {
		err = ctx.Err()
	}
	return v, err
}

// progress says what is going on: on a terminal in one line.
func (b *bench) progress(format string, args ...any) {
	if b.terminal {
		fmt.Fprintf(b.log, "\r\x1b[K"+format, args...)
	}
}

func (b *bench) result(w *workload, round int, contestant string, v values) {
	if b.terminal {
		fmt.Fprint(b.log, "\r\x1b[K")
	}
	fmt.Fprintf(b.log, "%-12s round %d  %-22s", w.name, round+1, contestant)
	for _, m := range w.metrics {
		fmt.Fprintf(b.log, "  %s %s", number(v[m.key], m.digits), m.title)
	}
	fmt.Fprintln(b.log)
}

// A run is one run of one contestant: the processes that it consists of.
type run struct {
	ctx       context.Context // of the processes
	bench     *bench
	workload  *workload
	command   []string
	config    config
	processes map[string]*process // by role; further ones of the same role with a number
}

// start starts the process of a role. progress may be nil.
func (r *run) start(role string, progress *os.File) (*process, error) {
	command := r.command
	if command == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command = []string{self}
	}
	c := r.config
	c.Role = role
	p, err := startProcess(r.ctx, command, c, progress)
	if err != nil {
		return nil, err
	}
	for n := 2; r.processes[role] != nil; n++ {
		role = fmt.Sprintf("%s %d", c.Role, n)
	}
	r.processes[role] = p
	return p, nil
}

// end ends one of the processes.
func (r *run) end(role string) {
	r.processes[role].stop()
	delete(r.processes, role)
}

// stop ends all processes.
func (r *run) stop() {
	for _, p := range r.processes {
		p.stop()
	}
}

// sample takes a sample of each process.
func (r *run) sample() (map[string]reply, error) {
	samples := make(map[string]reply)
	var errs []error
	for role, p := range r.processes {
		s, err := p.call("sample")
		samples[role] = s
		errs = append(errs, err)
	}
	return samples, errors.Join(errs...)
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Program firstnight is an exercise for operators. It runs a cluster of examples/production: a Redis, three nodes, and
// clients that talk. Then it breaks one thing after the other, in random order, and does not say which. The operator finds
// the cause from the metrics, the logs, the page and the command crosscast:
//
//	cd examples/production && go run ./firstnight
//
// It needs redis-server. docs/first-night.md describes the procedure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	seed    uint64
	extra   int
	faults  int
	quiet   time.Duration
	late    lateness
	clients int
	control string
	dir     string
	answers string
	open    string
}

func main() {
	s := settings{}
	flag.Uint64Var(&s.seed, "seed", 0, "makes the same night again; 0: a random one")
	flag.IntVar(&s.extra, "extra", 2, "so many faults happen twice, so that the last one cannot be found by elimination")
	flag.IntVar(&s.faults, "faults", 0, "ends after so many faults; 0: after all")
	flag.DurationVar(&s.quiet, "quiet", 10*time.Second, "between two faults, once everything is well again")
	flag.Var(&s.late, "late", "a time, or random for 1 to 5 minutes: a fault is announced only so long after it began, so that you come late, as at night")
	flag.IntVar(&s.clients, "clients", 10, "clients of each node")
	flag.StringVar(&s.control, "control", "127.0.0.1:0", "where to listen for POST /next and POST /guess")
	flag.StringVar(&s.dir, "dir", "", "directory for logs, programs and the answers; default: a new one, which stays")
	flag.StringVar(&s.answers, "answers", "", "file for the answers; default: answers in the directory")
	flag.StringVar(&s.open, "open", "", "prints the answers in this file, and runs nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, s, os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "firstnight:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, in io.Reader, out io.Writer) (err error) {
	if s.open != "" {
		return printAnswers(s.open, out)
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "firstnight"); err != nil {
			return err
		}
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if s.answers == "" {
		s.answers = filepath.Join(s.dir, "answers")
	}
	answers, err := newAnswers(s.answers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answers.close()) }()
	fmt.Fprintln(out, "building the programs, and starting the cluster …")
	b, err := startBed(ctx, s.dir)
	if err != nil {
		return err
	}
	defer b.stop()
	crowd, err := startCrowd(ctx, b, s.clients)
	if err != nil {
		return err
	}
	defer crowd.stop()
	if err := b.healthy(ctx); err != nil {
		return err
	}
	n := &night{bed: b, answers: answers, out: out, quiet: s.quiet, late: s.late, plan: plan(s.seed, s.extra), over: make(chan struct{})}
	if s.faults > 0 {
		n.plan = n.plan[:min(s.faults, len(n.plan))]
	}
	return n.run(ctx, s.control, in)
}

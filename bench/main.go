// Program bench measures crosscast, what limits it, and its peers, around a redis-server of its own:
//
//	go run . [-quick] [-only W0,W1] [-contestants crosscast,by-hand] [-rounds N] [-json FILE]
//
// Contestants take turns, in a new order in each round. Each role of a contestant is a process of its own: publisher,
// server, clients. So figures of one round have seen the same machine, and ratios are medians of the rounds' ratios. It
// needs a Unix and redis-server; Socket.IO takes part after: npm ci --prefix ../interop
//
// -only NATS runs crosscast over NATS beside Redis, with a NATS server in a child.
//
// To compare commits, build this program in the other one, and name it: -before BINARY. Or run two binaries in turn, each
// with -contestants crosscast -rounds 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	var err error
	if told := os.Getenv(configVariable); told != "" {
		err = child(told)
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = parent(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	bench  bench
	json   string   // file
	charts string   // directory
	from   []string // files to show, without measuring
}

func parent(ctx context.Context, args []string, out, log io.Writer) error {
	o, err := parse(args, log)
	if err != nil {
		return err
	}
	var r *report
	if o.from != nil {
		r, err = load(o.from)
	} else {
		o.bench.log = log
		o.bench.terminal = isTerminal(log)
		var outcomes []outcome
		outcomes, err = o.bench.run(ctx)
		r = newReport(&o.bench, outcomes)
	}
	if err != nil {
		return err
	}
	r.write(out)
	if o.json != "" {
		err = r.save(o.json)
	}
	if o.charts != "" {
		err = errors.Join(err, r.charts(o.charts))
	}
	return err
}

func parse(args []string, usage io.Writer) (*options, error) {
	o := &options{}
	b := &o.bench
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.BoolVar(&b.quick, "quick", false, "take at most three minutes: fewer workloads, contestants and rounds")
	only := flags.String("only", "", "run only these `workloads`, with commas between: W0 has all variants, W0-100 is one")
	who := flags.String("contestants", "", "run only these `contestants`, with commas between")
	flags.IntVar(&b.rounds, "rounds", 0, "`number` of rounds; each contestant runs once in each (default 5, of some workloads fewer; quick: 3)")
	flags.DurationVar(&b.span, "for", 0, "how long a run measures (default 2s; quick: 1s)")
	before := flags.String("before", "", "`binary` of this program, built in another commit: its crosscast takes part as \"before\"")
	flags.StringVar(&b.profile, "profile", "", "write CPU profiles of all processes into this `directory`")
	flags.StringVar(&o.json, "json", "", "write the results to this `file`")
	flags.StringVar(&o.charts, "charts", "", "write charts as SVG into this `directory`")
	from := flags.String("from", "", "measure nothing, and show what -json has written to these `files`, with commas between")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected %q", flags.Arg(0))
	}
	if *from != "" {
		o.from = strings.Split(*from, ",")
	}
	rounds, span := 5, 2*time.Second
	if b.quick {
		rounds, span = 3, time.Second
	}
	b.exactly = b.rounds != 0
	if b.rounds == 0 {
		b.rounds = rounds
	}
	if b.span == 0 {
		b.span = span
	}
	if b.rounds < 1 || b.span < 10*time.Millisecond {
		return nil, errors.New("at least one round, and 10ms")
	}
	var err error
	if b.workloads, err = choose(*only, *who, b.quick); err != nil {
		return nil, err
	}
	if *before != "" {
		for i := range b.workloads {
			b.workloads[i].addBefore(*before)
		}
	}
	return o, nil
}

// addBefore adds crosscast as another binary has it, if crosscast takes part.
func (w *workload) addBefore(binary string) {
	if own := w.contestant(ownName); own != nil {
		before := *own
		before.name, before.what, before.as, before.command = "before", "crosscast, as "+binary+" has it", ownName, []string{binary}
		w.contestants = append(w.contestants, before)
	}
}

// choose returns the workloads of a call, with their contestants.
func choose(only, who string, quick bool) ([]workload, error) {
	var chosen []workload
	if only == "" {
		chosen = slices.DeleteFunc(workloads(), func(w workload) bool { return quick && !w.quick })
	} else {
		for _, name := range strings.Split(only, ",") {
			found := slices.DeleteFunc(workloads(), func(w workload) bool { return w.name != name && w.family() != name })
			if len(found) == 0 {
				return nil, fmt.Errorf("no workload %q; there are %s", name, strings.Join(workloadNames(), ", "))
			}
			chosen = append(chosen, found...)
		}
	}
	_, err := os.Stat("../interop/node_modules")
	for i := range chosen {
		w := &chosen[i]
		if err != nil { // there is no Socket.IO
			w.contestants = slices.DeleteFunc(w.contestants, func(c contestant) bool { return len(c.command) > 0 })
		}
		if who == "" {
			w.contestants = slices.DeleteFunc(w.contestants, func(c contestant) bool { return quick && c.slow })
			continue
		}
		wanted := strings.Split(who, ",")
		w.contestants = slices.DeleteFunc(w.contestants, func(c contestant) bool { return !slices.Contains(wanted, c.name) })
	}
	chosen = slices.DeleteFunc(chosen, func(w workload) bool { return len(w.contestants) == 0 })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no workload has a contestant of %q", who)
	}
	return chosen, nil
}

func workloadNames() (names []string) {
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return names
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

//go:build unix

// Program hotroom measures one hot room: a publisher process, a real Redis, and a receiver process with one member of
// the room. It compares crosscast with go-redis used by hand and with what plain connections can do.
//
//	go run ./bench/hotroom
//	go run ./bench/hotroom -only socketio,nodejs
//
// The second is crosscast over the Redis adapter's wire of Socket.IO, and Socket.IO on Node.js itself, after
// npm ci --prefix interop.
//
// It starts a redis-server of its own, or uses REDIS_URL. The contestants take turns, round by round, because machines
// drift: compare within one run. The publisher keeps at most a window of messages under way and learns from the
// receiver, over a pipe, how many have arrived, so nobody is measured by what was lost; a message that is missing,
// doubled or out of order fails the run.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/crosscast/crosscast/bench/internal/redisserver"
)

// config is what both processes of a run are told.
type config struct {
	Contestant string
	URL        string
	Messages   int // that are measured
	WarmUp     int // messages before those
	Window     int // messages under way, at most
	Size       int // bytes of a payload
	Profile    string
}

// usage is what one process needed for the measured messages.
type usage struct {
	Seconds float64 // the publisher's: from the first message to the last one's arrival
	CPU     float64 // seconds, user and system
	Mallocs uint64
}

// result is one run of one contestant.
type result struct {
	rate   float64 // messages a second, end to end
	cpu    float64 // µs a message, of both processes
	allocs float64 // a message, of both processes
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		child(role)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := parent(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hotroom:", err)
		os.Exit(1)
	}
}

func parent(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("hotroom", flag.ContinueOnError)
	rounds := flags.Int("rounds", 5, "`number` of rounds; each contestant runs once in each")
	scale := flags.Float64("scale", 1, "messages a run, as a `multiple` of the default")
	only := flags.String("only", "", "run only these `contestants` (comma-separated)")
	window := flags.Int("window", 16<<10, "`messages` under way, at most")
	size := flags.Int("size", 128, "`bytes` of a payload")
	profile := flags.String("profile", "", "write CPU profiles of both processes into this `directory`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(contestants), func(c contestant) bool { return c.named })
	if *only != "" {
		chosen = nil
		for _, name := range strings.Split(*only, ",") {
			c := find(name)
			if c == nil {
				return fmt.Errorf("no contestant %q; there are %s", name, strings.Join(names(contestants), ", "))
			}
			chosen = append(chosen, *c)
		}
	}
	if *rounds < 1 || *scale <= 0 || *window < 2*batch || *size < 8 {
		return fmt.Errorf("at least one round, a positive scale, a window of %d, and 8 bytes", 2*batch)
	}
	url := os.Getenv("REDIS_URL")
	if url == "" {
		server, err := redisserver.Start()
		if err != nil {
			return fmt.Errorf("%w (or set REDIS_URL)", err)
		}
		defer server.Stop()
		url = "redis://" + server.Addr
	}

	results := make(map[string][]result)
	for round := range *rounds {
		for i := range chosen {
			c := chosen[(i+round)%len(chosen)]
			n := max(int(float64(c.messages)**scale), 10*packed)
			n -= n % (10 * packed) // whole frames, also in the warm-up
			r, err := run(ctx, config{
				Contestant: c.name, URL: url, Messages: n, WarmUp: n / 10, Window: *window, Size: *size, Profile: *profile,
			})
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(out, "round %d  %-22s %12.0f msgs/s  %6.2f µs CPU/msg  %6.2f allocs/msg\n",
				round+1, c.name, r.rate, r.cpu, r.allocs)
			results[c.name] = append(results[c.name], r)
		}
	}
	report(out, chosen, results, *size)
	return nil
}

// report prints the medians, and what the first contestant is worth in terms of the others.
func report(out io.Writer, chosen []contestant, results map[string][]result, size int) {
	rate := func(r result) float64 { return r.rate }
	first := chosen[0].name
	own := median(results[first], rate)
	fmt.Fprintf(out, "\nOne hot room, %d-byte payloads, end to end: medians of %d rounds (lowest to highest)\n",
		size, len(results[chosen[0].name]))
	fmt.Fprintf(out, "| %-50s | %-32s | %8s | %10s | %12s |\n|%s|%s|%s|%s|%s|\n", "what", "messages/s", "CPU, µs", "allocs/msg",
		first+"/it", strings.Repeat("-", 52), strings.Repeat("-", 34), strings.Repeat("-", 10), strings.Repeat("-", 12),
		strings.Repeat("-", 14))
	for _, c := range chosen {
		rs := results[c.name]
		ratio := ""
		if own > 0 && c.name != first {
			ratio = fmt.Sprintf("%.2f ×", own/median(rs, rate))
		}
		lowest := slices.MinFunc(rs, func(a, b result) int { return cmp.Compare(a.rate, b.rate) })
		highest := slices.MaxFunc(rs, func(a, b result) int { return cmp.Compare(a.rate, b.rate) })
		rates := fmt.Sprintf("%.0f (%.0f to %.0f)", median(rs, rate), lowest.rate, highest.rate)
		fmt.Fprintf(out, "| %-50s | %-32s | %8.2f | %10.2f | %12s |\n", c.what, rates,
			median(rs, func(r result) float64 { return r.cpu }), median(rs, func(r result) float64 { return r.allocs }), ratio)
	}
}

func median(rs []result, of func(result) float64) float64 {
	if len(rs) == 0 {
		return 0
	}
	var v []float64
	for _, r := range rs {
		v = append(v, of(r))
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Children are this program again: they find their role and their config in these variables, and write their usage to
// the descriptor resultFile.
const (
	roleVariable   = "HOTROOM_ROLE"
	configVariable = "HOTROOM_CONFIG"
	resultFile     = 3
)

// run starts a receiver and a publisher; the receiver's standard output, which says how much has arrived, is the
// publisher's standard input.
func run(ctx context.Context, c config) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	arrivals, reports, err := os.Pipe()
	if err != nil {
		return result{}, err
	}
	receiver, err := startChild(ctx, "receiver", c, func(cmd *exec.Cmd) { cmd.Stdout = reports })
	reports.Close()
	if err != nil {
		arrivals.Close()
		return result{}, err
	}
	publisher, err := startChild(ctx, "publisher", c, func(cmd *exec.Cmd) { cmd.Stdin = arrivals })
	arrivals.Close()
	if err != nil {
		cancel()
		_, _ = receiver.wait()
		return result{}, err
	}
	p, errP := publisher.wait()
	r, errR := receiver.wait()
	if err := errors.Join(errP, errR); err != nil {
		return result{}, err
	}
	n := float64(c.Messages)
	return result{
		rate:   n / p.Seconds,
		cpu:    (p.CPU + r.CPU) * 1e6 / n,
		allocs: float64(p.Mallocs+r.Mallocs) / n,
	}, nil
}

type process struct {
	role   string
	cmd    *exec.Cmd
	result *os.File
	stderr *bytes.Buffer
}

// commandOf makes a process of a contestant.
func commandOf(ctx context.Context, name string) (*exec.Cmd, error) {
	if c := find(name); c.command != nil {
		return c.command(ctx), nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, self), nil
}

func startChild(ctx context.Context, role string, c config, set func(*exec.Cmd)) (*process, error) {
	command, err := commandOf(ctx, c.Contestant)
	if err != nil {
		return nil, err
	}
	told, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	p := &process{role, command, read, new(bytes.Buffer)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, configVariable+"="+string(told))
	p.cmd.ExtraFiles = []*os.File{write}
	p.cmd.Stderr = p.stderr
	set(p.cmd)
	if err := p.cmd.Start(); err != nil {
		read.Close()
		return nil, err
	}
	return p, nil
}

func (p *process) wait() (usage, error) {
	defer p.result.Close()
	var u usage
	errResult := json.NewDecoder(p.result).Decode(&u)
	if err := p.cmd.Wait(); err != nil {
		return u, fmt.Errorf("%s: %w: %s", p.role, err, bytes.TrimSpace(p.stderr.Bytes()))
	}
	if errResult != nil {
		return u, fmt.Errorf("%s: no result: %w", p.role, errResult)
	}
	return u, nil
}

//go:build unix

// Program quiet measures what nodes cost that have nothing to do: processes on one Redis, each a node, whose heartbeats
// every other one hears.
//
//	REDIS_URL=redis://localhost:6379 go run ./bench/quiet -nodes 16 -for 10s
//
// It fails when a node does not know all others, or reports a gap.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/bench/internal/child"
	"github.com/crosscast/crosscast/redisadapter"
)

const childVariable = "CROSSCAST_QUIET_CHILD"

func main() {
	nodes := flag.Int("nodes", 16, "processes")
	span := flag.Duration("for", 10*time.Second, "how long they are measured")
	flag.Parse()
	url := os.Getenv("REDIS_URL")
	if url == "" {
		url = "redis://localhost:6379"
	}
	var err error
	if os.Getenv(childVariable) != "" {
		err = serve(url)
	} else {
		err = run(url, *nodes, *span)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quiet:", err)
		os.Exit(1)
	}
}

// sample is what a process says of itself each time it is asked.
type sample struct {
	CPU   time.Duration
	Peers int
	Gaps  uint64
}

// serve runs one node. It takes a sample for each line of its input.
func serve(url string) error {
	o, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	rdb := redis.NewClient(o)
	defer rdb.Close()
	ctx := context.Background()
	n, err := crosscast.Start(ctx, crosscast.Options{Adapter: redisadapter.New(rdb, redisadapter.Options{})})
	if err != nil {
		return err
	}
	defer n.Close(ctx)
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			return err
		}
		s := sample{time.Duration(r.Utime.Nano() + r.Stime.Nano()), len(n.Nodes()), n.Stats().Gaps}
		if err := out.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

// A process is a child that answers each line with a sample.
type process struct {
	*child.Process
	out *json.Decoder
}

func start(self string) (*process, error) {
	p, err := child.Start(self, childVariable+"=1")
	if err != nil {
		return nil, err
	}
	return &process{p, json.NewDecoder(p.Out)}, nil
}

func (p *process) sample() (s sample, err error) {
	if _, err = fmt.Fprintln(p.In); err == nil {
		err = p.out.Decode(&s)
	}
	return s, err
}

func run(url string, nodes int, span time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	all := make([]*process, nodes)
	for i := range all {
		if all[i], err = start(self); err != nil {
			return err
		}
		defer all[i].Stop()
		if _, err := all[i].sample(); err != nil { // it has started
			return err
		}
	}
	before := make([]sample, nodes)
	for i, p := range all {
		if before[i], err = p.sample(); err != nil {
			return err
		}
	}
	time.Sleep(span)
	var total, most time.Duration
	for i, p := range all {
		after, err := p.sample()
		if err != nil {
			return err
		}
		if after.Peers != nodes-1 || after.Gaps != 0 {
			return fmt.Errorf("a node knows %d of %d peers, and has reported %d gaps", after.Peers, nodes-1, after.Gaps)
		}
		used := after.CPU - before[i].CPU
		total, most = total+used, max(most, used)
	}
	percent := func(d time.Duration) float64 { return 100 * float64(d) / float64(span) }
	fmt.Printf("%d quiet nodes: %.2f %% of a core each, %.2f %% at most\n", nodes, percent(total)/float64(nodes), percent(most))
	return nil
}

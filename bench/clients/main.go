//go:build unix

// Program clients measures the way of a message to the last client: a publisher, a server with real websocket clients in
// one hot room, and the clients are a process each, around a redis-server of the program's own. Contestants take turns,
// so that all see the same machine.
//
//	go run ./bench/clients [-clients 100] [-rounds 5] [-tls] [-before BINARY]
//
// BINARY is this program, built in another commit: its crosscast takes part as "before".
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/crosscast/crosscast/bench/internal/child"
	"github.com/crosscast/crosscast/bench/internal/redisserver"
)

const roleVariable, configVariable = "CLIENTS_ROLE", "CLIENTS_CONFIG"

type config struct {
	Contestant string
	Redis      string // address
	Server     string // address
	TLS        bool
	Clients    int
	Messages   int // of a run, for each client
	WarmUp     int // of Messages
	Profile    string
}

const (
	window  = 2048 // messages under way, at most
	payload = 128  // characters
)

func main() {
	err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

func run() error {
	var c config
	role := os.Getenv(roleVariable)
	if role == "" {
		return parent()
	}
	if err := json.Unmarshal([]byte(os.Getenv(configVariable)), &c); err != nil {
		return err
	}
	switch role {
	case "server":
		return serve(c)
	case "clients":
		return receive(c)
	}
	return publish(c)
}

func parent() error {
	clients := flag.Int("clients", 100, "`number` of websocket clients")
	rounds := flag.Int("rounds", 5, "`number` of rounds")
	messages := flag.Int("messages", 0, "`messages` a run; 0: about two seconds' worth")
	secure := flag.Bool("tls", false, "connect the clients over TLS")
	before := flag.String("before", "", "`binary` of another commit")
	only := flag.String("only", "", "run only these `contestants`, with commas between")
	profile := flag.String("profile", "", "write CPU profiles of the servers with this `prefix`")
	flag.Parse()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	binaries := map[string]string{"crosscast": self, "by-hand": self}
	names := []string{"crosscast", "by-hand"}
	if *before != "" {
		binaries["before"] = *before
		names = append(names, "before")
	}
	if *only != "" {
		names = strings.Split(*only, ",")
	}
	redis, err := redisserver.Start()
	if err != nil {
		return err
	}
	defer redis.Stop()
	rates, costs := map[string][]float64{}, map[string][]float64{}
	for round := range *rounds {
		for i := range names {
			name := names[(i+round)%len(names)]
			n := *messages
			if n == 0 {
				n = map[string]int{"before": 10_000, "crosscast": 60_000, "by-hand": 60_000}[name]
				if *clients < 10 {
					n *= 5
				}
			}
			c := config{Contestant: name, Redis: redis.Addr, TLS: *secure, Clients: *clients, Messages: n + n/4, WarmUp: n / 4}
			if name == "before" {
				c.Contestant = "crosscast"
			}
			if *profile != "" {
				c.Profile = *profile + name + ".pprof"
			}
			rate, cost, err := measure(c, binaries[name])
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Printf("round %d  %-10s %12.0f deliveries/s  %7.3f µs of the server's CPU each\n", round+1, name, rate, cost)
			rates[name], costs[name] = append(rates[name], rate), append(costs[name], cost)
		}
	}
	fmt.Printf("\nmedians, %d clients, TLS %v; ratios are medians of the rounds' ratios\n", *clients, *secure)
	for _, name := range names {
		fmt.Printf("%-10s %12.0f deliveries/s %7.3f µs; %.2f of by-hand's rate, %.2f of its CPU\n", name, median(rates[name]),
			median(costs[name]), median(ratios(rates[name], rates["by-hand"])), median(ratios(costs[name], costs["by-hand"])))
	}
	return nil
}

func ratios(a, b []float64) (r []float64) {
	for i := range min(len(a), len(b)) {
		r = append(r, a[i]/b[i])
	}
	return r
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// A process is one of the three, which talk in lines.
type process struct {
	*child.Process
	out *bufio.Reader
}

func start(binary, role string, c config) (*process, error) {
	encoded, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p, err := child.Start(binary, roleVariable+"="+role, configVariable+"="+string(encoded))
	if err != nil {
		return nil, err
	}
	return &process{p, bufio.NewReader(p.Out)}, nil
}

func (p *process) line() (string, error) {
	line, err := p.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

// measure makes one run. It returns the deliveries in a second, and the microseconds of the server's CPU for each.
func measure(c config, binary string) (rate, cost float64, err error) {
	server, err := start(binary, "server", c)
	if err != nil {
		return 0, 0, err
	}
	defer server.Stop()
	if c.Server, err = server.line(); err != nil {
		return 0, 0, err
	}
	clients, err := start(binary, "clients", c)
	if err != nil {
		return 0, 0, err
	}
	defer clients.Stop()
	if _, err := clients.line(); err != nil { // all are connected
		return 0, 0, err
	}
	publisher, err := start(binary, "publisher", c)
	if err != nil {
		return 0, 0, err
	}
	defer publisher.Stop()
	usage := func() (cpu float64, err error) {
		if _, err := fmt.Fprintln(server.In); err != nil {
			return 0, err
		}
		line, err := server.line()
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(line, 64)
	}
	var began time.Time
	var before float64
	for {
		line, err := clients.line()
		if err != nil {
			return 0, 0, err
		}
		n, err := strconv.Atoi(line)
		if err != nil {
			return 0, 0, fmt.Errorf("a client: %s", line)
		}
		if began.IsZero() && n >= c.WarmUp {
			c.WarmUp = n
			began = time.Now()
			if before, err = usage(); err != nil {
				return 0, 0, err
			}
		}
		if n == c.Messages {
			deliveries := float64((n - c.WarmUp) * c.Clients)
			rate = deliveries / time.Since(began).Seconds()
			after, err := usage()
			return rate, (after - before) / deliveries * 1e6, err
		}
		if _, err := fmt.Fprintln(publisher.In, n); err != nil {
			return 0, 0, err
		}
	}
}

// cpu is what this process has used so far, in seconds.
func cpu() float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // there is no reason for it to fail
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

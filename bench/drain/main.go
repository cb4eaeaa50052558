//go:build unix

// Program drain has 10,000 websocket clients on three servers and a redis-server of its own, drains one of the servers,
// and prints how its clients come back to the others, and whether any of them misses a message without a gap. Each step of
// a client's way is printed apart, with as many random times for comparison, and how long the two processes stood still:
//
//	go run ./drain [-clients N] [-window D] [-every D]
//
// The servers are a process of their own. A client's connections go to one server after the other, as long as that is
// ready: a load balancer, which looks every 200 ms.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/bench/internal/redisserver"
	"github.com/crosscast/crosscast/ws/client"
)

const (
	notice = 2 * time.Second
	rooms  = 10 // in turn. All clients at once would hold up those that come back, in this process
	event  = "n"
)

func roomOf(i int) string { return fmt.Sprint("room", i%rooms) }

func main() {
	clients := flag.Int("clients", 10_000, "clients of all servers together")
	window := flag.Duration("window", 20*time.Second, "the time over which the clients of one server are sent away")
	every := flag.Duration("every", 50*time.Millisecond, "the time between two messages, each to the clients of one room")
	redis := flag.String("servers", "", "the address of a Redis: be the process of the servers")
	flag.Parse()
	go watchStalls()
	var err error
	if *redis != "" {
		err = servers(*redis, *window, *every)
	} else {
		err = run(*clients, *window, *every)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
		os.Exit(1)
	}
}

func run(clients int, window, every time.Duration) error {
	redis, err := redisserver.Start()
	if err != nil {
		return err
	}
	defer redis.Stop()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(program, "-servers", redis.Addr, "-window", window.String(), "-every", every.String())
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	defer func() { _, _ = in.Close(), child.Wait() }()
	lines := bufio.NewReader(out)
	var addrs []string
	if err := readLine(lines, &addrs); err != nil {
		return err
	}

	b := &balancer{addrs: addrs, ready: make([]atomic.Bool, len(addrs))}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.look()
	go b.watch(ctx)
	crowd, err := b.connect(ctx, clients)
	if err != nil {
		return err
	}
	defer crowd.close()

	fmt.Printf("%d clients on %d servers; one of them drains for %v after a notice of %v\n", clients, len(addrs), window, notice)
	began := time.Now().Add(notice)
	if _, err := fmt.Fprintln(in, "drain"); err != nil {
		return err
	}
	var o outcome // after the drain, and some seconds more
	if err := readLine(lines, &o); err != nil {
		return err
	}
	return crowd.report(began, window, &o)
}

// readLine reads a line of JSON of the servers.
func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the servers have ended: %w", err)
	}
	return json.Unmarshal(line, v)
}

// A balancer chooses the server of a connection.
type balancer struct {
	addrs []string
	ready []atomic.Bool
	next  atomic.Uint64
}

func (b *balancer) watch(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(200 * time.Millisecond)
		b.look()
	}
}

func (b *balancer) look() {
	for i, addr := range b.addrs {
		resp, err := http.Get("http://" + addr + "/ready")
		b.ready[i].Store(err == nil && resp.StatusCode == http.StatusOK)
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}

func (b *balancer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	for range b.addrs {
		if i := b.next.Add(1) % uint64(len(b.addrs)); b.ready[i].Load() {
			return d.DialContext(ctx, network, b.addrs[i])
		}
	}
	return nil, errors.New("no server is ready")
}

// A crowd is all clients.
type crowd []*member

// A member is one client, and what it has heard.
type member struct {
	c     *client.Client
	mu    sync.Mutex
	heard map[int]bool
	gaps  []client.Gap
	left  time.Time   // when its connection was lost
	dials []time.Time // attempts to connect
	shook time.Time   // when the latest handshake was done
	came  time.Time   // when it was in its room again
}

func (b *balancer) connect(ctx context.Context, clients int) (crowd, error) {
	all := make(crowd, clients)
	for i := range all {
		m := &member{heard: make(map[int]bool)}
		all[i] = m
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			m.mu.Lock()
			m.dials = append(m.dials, time.Now())
			m.mu.Unlock()
			return b.dial(ctx, network, addr)
		}
		h := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
		var err error
		m.c, err = client.Dial(ctx, "ws://balancer/", client.Options{
			HTTPClient: h, PingInterval: time.Minute,
			Events: client.Events{event: client.Typed(func(_ context.Context, _ *client.Client, id int) error {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.heard[id] = true
				return nil
			})},
			OnConnect: func(context.Context, *client.Client) error {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.shook = time.Now()
				return nil
			},
			OnDisconnect: func(*client.Client, error) {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.left = time.Now()
			},
			OnGap: func(_ *client.Client, g client.Gap) {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.gaps = append(m.gaps, g)
				if g.Away {
					m.came = time.Now()
				}
			},
		})
		if err != nil {
			all[:i].close()
			return nil, err
		}
		if err := m.c.Join(ctx, roomOf(i)); err != nil {
			all[:i+1].close()
			return nil, err
		}
	}
	return all, nil
}

func (c crowd) close() {
	for _, m := range c {
		_ = m.c.Close(context.Background())
	}
}

// printBursts prints the fullest second and the fullest 100 ms of events, compared with the mean.
func printBursts(what string, at []time.Duration, window time.Duration) {
	fmt.Printf("%-22s", what)
	for _, unit := range []time.Duration{time.Second, 100 * time.Millisecond} {
		counts := make(map[time.Duration]int)
		most, when := 0, time.Duration(0)
		for _, at := range at {
			if counts[at/unit]++; counts[at/unit] > most {
				most, when = counts[at/unit], at/unit*unit
			}
		}
		mean := float64(len(at)) * float64(unit) / float64(window)
		fmt.Printf("  at most %3d in %5v, %.2f times the mean (after %.1f s)", most, unit, float64(most)/mean, when.Seconds())
	}
	fmt.Println()
}

// report prints how the clients that were sent away came back, and fails if one misses a message without a gap.
func (c crowd) report(began time.Time, window time.Duration, o *outcome) error {
	sent := o.Sent // the servers have the same clock
	var left, dials, shook, came, away, shaking, joining []time.Duration
	missing, silent, lost := 0, 0, 0
	for i, m := range c {
		m.mu.Lock()
		switch {
		case !m.came.IsZero():
			came, away = append(came, m.came.Sub(began)), append(away, m.came.Sub(m.left))
			left, shook = append(left, m.left.Sub(began)), append(shook, m.shook.Sub(began))
			shaking, joining = append(shaking, m.shook.Sub(m.dials[len(m.dials)-1])), append(joining, m.came.Sub(m.shook))
			for _, at := range m.dials[1:] {
				dials = append(dials, at.Sub(began))
			}
		case !m.left.IsZero():
			lost++
		}
		for id, at := range sent {
			if m.heard[id] || roomOf(id) != roomOf(i) {
				continue
			}
			missing++
			if !slices.ContainsFunc(m.gaps, func(g client.Gap) bool { return !at.Before(g.Since) && !at.After(g.Until) }) {
				silent++
			}
		}
		m.mu.Unlock()
	}
	if len(came) == 0 {
		return errors.New("no client was sent away")
	}
	fmt.Printf("%d clients came back; the last one %.1f s after the window began, the longest absence %.2f s\n",
		len(came), slices.Max(came).Seconds(), slices.Max(away).Seconds())
	var closed []time.Duration
	for _, at := range o.Closed {
		closed = append(closed, at.Sub(began))
	}
	printBursts("closed by the server", closed, window)
	printBursts("lost by the client", left, window)
	printBursts("attempts to connect", dials, window)
	printBursts("handshake done", shook, window)
	printBursts("back in the room", came, window)
	even := make([]time.Duration, len(came))
	for i := range even {
		even[i] = rand.N(window)
	}
	printBursts("as many random times", even, window)
	fmt.Printf("the longest handshake took %v, and the longest join %v\n",
		slices.Max(shaking).Round(time.Millisecond), slices.Max(joining).Round(time.Millisecond))
	printStalls("the process of the servers", o.Stalls, began)
	printStalls("the process of the clients", stalls(), began)
	fmt.Printf("of %d messages to each client, %d were missing, %d of them without a gap\n", len(sent)/rooms, missing, silent)
	if silent > 0 || lost > 0 {
		return fmt.Errorf("%d clients did not come back, and %d messages are missing without a gap", lost, silent)
	}
	return nil
}

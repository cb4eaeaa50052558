package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// W0-10000: what 10,000 connections cost that have nothing to do, after one message each way and two rounds of pings. Then
// messages to all of them: the server's CPU a member, without that of pings.
func manyConnections() []workload {
	w := workload{
		name: "W0-10000", title: "10,000 websocket clients: memory while idle, and a broadcast to all",
		most: 3,
		config: config{Window: 256, Size: 128, JSON: true, Clients: 10_000, Rate: 4, Ping: 2 * time.Second,
			Hello: `{"event":"hello","data":"hi"}`},
		metrics: []metric{
			{"rss", "KB each, resident", 1, true}, {"released", "KB each after a release", 1, true}, {"heap", "KB of heap each", 1, true},
			{"goroutines", "goroutines each", 2, true}, {"cpu", "µs of the server's CPU a member", 1, true},
		},
		contestants: append(websocketServers(), bareServer()),
		goals: append(beside("bare", goal{"rss", "", true, 10, ""}, goal{"released", "", true, 9, ""}, goal{"heap", "", true, 4, ""}),
			goal{"cpu", "by-hand", true, 1.1, ""}),
		measure: idle,
	}
	overTLS := w
	overTLS.name, overTLS.title = "W0-10000-tls", "10,000 websocket clients over TLS"
	overTLS.config.TLS = true
	overTLS.goals = []goal{{"cpu", "by-hand", true, 1.1, ""}}
	return []workload{w, overTLS}
}

const idleRest = 5 * time.Second

// memory is a command of servers: what the process has now, and what of it is needed.
func memory() (reply, error) {
	v := values{"rss": resident(), "goroutines": float64(runtime.NumGoroutine())}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	v["heap"], v["released"] = float64(m.HeapAlloc), resident()
	return reply{Values: v}, nil
}

// resident is the memory of this process, in bytes; 0 where there is no /proc.
func resident() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	var size, pages float64
	if err == nil {
		_, _ = fmt.Sscan(string(b), &size, &pages)
	}
	return pages * float64(os.Getpagesize())
}

func idle(ctx context.Context, r *run) (values, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	defer write.Close()
	server, err := r.start("server", nil)
	if err != nil {
		return nil, err
	}
	r.config.Server = server.ready.Addr
	before, err := server.call("memory")
	if err != nil {
		return nil, err
	}
	clients, err := r.start("clients", write)
	if err != nil {
		return nil, err
	}
	due := int64(0)
	send := func(span time.Duration) error { // messages for a while, at least one
		publisher, err := r.start("publisher", read)
		if err != nil {
			return err
		}
		defer r.end("publisher")
		if _, err := publisher.call("go"); err != nil {
			return err
		}
		pass(ctx, span)
		last, err := publisher.call("stop")
		if err != nil {
			return err
		}
		due += last.Count * int64(r.config.Clients)
		return arrive(ctx, clients, due)
	}
	if err := send(100 * time.Millisecond); err != nil {
		return nil, err
	}
	pass(ctx, 2*r.config.Ping+idleRest)
	after, err := server.call("memory")
	if err != nil {
		return nil, err
	}
	v := values{}
	for key, value := range after.Values {
		v[key] = (value - before.Values[key]) / float64(r.config.Clients)
		if key != "goroutines" {
			v[key] /= 1 << 10
		}
	}
	pings, err := r.idleCPU(ctx)
	if err != nil {
		return nil, err
	}
	began, err := r.sample()
	if err != nil {
		return nil, err
	}
	if err := send(r.bench.span); err != nil {
		return nil, err
	}
	ended, err := r.sample()
	if err != nil {
		return nil, err
	}
	d, err := difference(began, ended, "clients", []string{"server"})
	if err != nil {
		return nil, err
	}
	deliveries := float64(ended["clients"].Count - began["clients"].Count)
	v["cpu"] = d["cpu"] - pings*float64(ended["server"].At-began["server"].At)/1e3/deliveries
	return v, nil
}

// idleCPU is how many processors the server keeps busy while nothing is sent: with pings, which not all servers have.
func (r *run) idleCPU(ctx context.Context) (float64, error) {
	began, err := r.sample()
	if err != nil {
		return 0, err
	}
	pass(ctx, r.config.Ping)
	ended, err := r.sample()
	if err != nil {
		return 0, err
	}
	b, e := began["server"], ended["server"]
	return (e.CPU - b.CPU) * 1e9 / float64(e.At-b.At), nil
}

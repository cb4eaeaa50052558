//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
)

// servers is the process of the servers. It prints their addresses, and drains the first one when it reads a line. Then it
// prints what it knows of that, and ends with its input.
func servers(addr string, window, every time.Duration) error {
	ctx := context.Background()
	var nodes []*crosscast.Node
	var addrs []string
	var mu sync.Mutex
	var closed []time.Time // guarded by mu
	for range 3 {
		n, err := crosscast.Start(ctx, crosscast.Options{Adapter: redisadapter.Dial("redis://"+addr, redisadapter.Options{})})
		if err != nil {
			return err
		}
		defer n.Close(ctx)
		nodes = append(nodes, n)
		s, err := ws.New(n.Namespace, ws.Options{
			AllowJoin: func(context.Context, *crosscast.Socket, string) error { return nil },
			OnDisconnect: func(_ context.Context, _ *crosscast.Socket, reason crosscast.Reason) {
				if reason == crosscast.ReasonDrained {
					mu.Lock()
					defer mu.Unlock()
					closed = append(closed, time.Now())
				}
			},
		})
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr().String())
		mux := http.NewServeMux()
		mux.Handle("/", s)
		mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
			if err := n.Ready(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
			}
		})
		go func() { _ = http.Serve(l, mux) }()
	}
	if err := printLine(addrs); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return in.Err()
	}
	emitted, stop := make(chan []time.Time, 1), make(chan struct{})
	go func() { emitted <- emit(nodes[1], every, stop) }()
	err := nodes[0].Drain(ctx, crosscast.DrainOptions{Notice: notice, Window: window})
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // the last clients come back
	close(stop)
	sent := <-emitted
	time.Sleep(2 * time.Second) // the last messages arrive
	mu.Lock()
	defer mu.Unlock()
	if err := printLine(outcome{sent, closed, stalls()}); err != nil {
		return err
	}
	in.Scan()
	return in.Err()
}

// outcome is what the servers know of the drain.
type outcome struct {
	Sent   []time.Time // messages, by their ID
	Closed []time.Time // connections
	Stalls []stall
}

// emit emits to one room after the other until stop is closed. It returns the times.
func emit(n *crosscast.Node, every time.Duration, stop <-chan struct{}) (sent []time.Time) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return sent
		case <-ticker.C:
			sent = append(sent, time.Now())
			id := len(sent) - 1
			_ = n.To(roomOf(id)).Emit(context.Background(), event, id) // an error: no peer gets it
		}
	}
}

func printLine(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", line)
	return err
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
)

type benchCommand struct {
	Messages int `help:"How many are emitted as fast as possible." default:"50000"`
	Size     int `help:"Bytes of a payload." default:"100"`
	Trips    int `help:"How many are emitted one after the other." default:"500"`
}

// Help is shown by bench --help.
func (benchCommand) Help() string {
	return "Two nodes of this process, with a prefix of their own below --prefix, emit through Redis. The nodes of the " +
		"cluster hear nothing of it, but Redis has the work."
}

// measured is the result.
type measured struct {
	Messages   int           `json:"messages"`
	Size       int           `json:"size"`
	Received   int64         `json:"received"`
	Seconds    float64       `json:"seconds"`
	PerSecond  float64       `json:"perSecond"`
	Gaps       int64         `json:"gaps"`
	RoundTrips int           `json:"roundTrips"`
	Median     time.Duration `json:"medianNanoseconds"`
	P99        time.Duration `json:"p99Nanoseconds"`
}

// Run measures.
func (c *benchCommand) Run(ctx context.Context, s *session) error {
	if c.Messages < 1 || c.Size < 0 || c.Size > 1<<20 || c.Trips < 1 {
		return fail(exitUsage, "--messages and --trips are at least 1, and --size is at most 1 MiB")
	}
	if s.Mode != modeCrosscast {
		return fail(exitUsage, "bench is for the mode crosscast")
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	b := &bench{c: c, arrived: make(chan struct{}, 1), over: make(chan struct{})}
	prefix := s.Prefix + ":bench-" + rand.Text()[:8]
	var nodes [2]*crosscast.Node
	for i := range nodes {
		n, err := crosscast.Start(ctx, crosscast.Options{
			Name: "bench", Adapter: redisadapter.New(s.rdb, redisadapter.Options{Prefix: prefix}),
			Logger: slog.New(slog.DiscardHandler),
			OnGap:  func(*crosscast.Node, crosscast.Gap) { b.gaps.Add(1) },
		})
		if err != nil {
			return &failure{exitUnreachable, err}
		}
		defer func() {
			closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = n.Close(closing)
		}()
		nodes[i] = n
	}
	m, err := b.measure(ctx, s, nodes[0], nodes[1])
	if err != nil {
		return err
	}
	if s.JSON {
		err = s.json(m)
	} else {
		_, err = fmt.Fprintf(s.out, "%d messages of %d bytes in %.2f s: %.0f a second, from node to node\n"+
			"one at a time: %v, 99 of 100 within %v\n", m.Messages, m.Size, m.Seconds, m.PerSecond, m.Median, m.P99)
	}
	if lost := int64(m.Messages) - m.Received; err == nil && (lost > 0 || m.Gaps > 0) {
		err = fail(exitFault, "%d messages did not arrive; %s", lost, counted(int(m.Gaps), "gap"))
	}
	return err
}

type bench struct {
	c        *benchCommand
	arrived  chan struct{} // capacity 1: one of the trips has ended
	over     chan struct{} // closed by the last of the messages
	received atomic.Int64
	gaps     atomic.Int64
}

func (b *bench) measure(ctx context.Context, s *session, from, to *crosscast.Node) (*measured, error) {
	_, err := to.Subscribe(ctx, crosscast.Receiver{QueueBytes: 256 << 20, OnMessage: b.handleMessage}, "bench")
	if err != nil {
		return nil, err
	}
	stop := s.progress(func() string {
		return fmt.Sprintf("%d of %d messages", b.received.Load(), b.c.Messages)
	})
	defer stop()
	payload := strings.Repeat("x", b.c.Size)
	target := from.To("bench")
	times := make([]time.Duration, 0, b.c.Trips)
	for range b.c.Trips {
		began := time.Now()
		if err := target.Emit(ctx, "trip", payload); err != nil {
			return nil, err
		}
		select {
		case <-b.arrived:
			times = append(times, time.Since(began))
		case <-time.After(s.Timeout):
			return nil, errors.New("a message does not arrive")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	slices.Sort(times)
	began := time.Now()
	for range b.c.Messages {
		if err := target.Emit(ctx, "message", payload); err != nil {
			return nil, err
		}
	}
	if err := from.Flush(ctx); err != nil {
		return nil, err
	}
	select {
	case <-b.over:
	case <-time.After(s.Timeout): // some were lost
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	seconds := time.Since(began).Seconds()
	return &measured{
		Messages: b.c.Messages, Size: b.c.Size, Received: b.received.Load(), Seconds: seconds,
		PerSecond: float64(b.received.Load()) / seconds, Gaps: b.gaps.Load(), RoundTrips: len(times),
		Median: rounded(times[len(times)/2]), P99: rounded(times[len(times)*99/100]),
	}, nil
}

func (b *bench) handleMessage(_ *crosscast.Subscription, m *crosscast.Message) {
	if m.Event == "trip" {
		b.arrived <- struct{}{}
		return
	}
	if b.received.Add(1) == int64(b.c.Messages) {
		close(b.over)
	}
}

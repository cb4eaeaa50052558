package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// go-redis by hand: what a program does that has no library above it.

// publishPipeline sends pipelines of 250 messages.
func publishPipeline(p *proc) (sender, error) {
	return pipelineTo(p, newRedis(p), p.roomNames()...), nil
}

func pipelineTo(p *proc, rdb *redis.Client, channels ...string) sender {
	ctx := context.Background()
	payloads := make([][]byte, min(250, max(p.Window/2, 1)))
	for i := range payloads {
		payloads[i] = p.newPayload()
	}
	pipe := rdb.Pipeline()
	return sender{
		batch: len(payloads),
		send: func(first, n int) error {
			for i, payload := range payloads[:n] {
				p.stamp(payload, first+i)
				pipe.Publish(ctx, channels[(first+i)%len(channels)], payload)
			}
			_, err := pipe.Exec(ctx)
			return err
		},
	}
}

// publishMarshalled is publishPipeline, which marshals each message from a string of Go, as Emit does.
func publishMarshalled(p *proc) (sender, error) {
	rdb, channel, payload := newRedis(p), p.roomNames()[0], p.newPayload()
	ctx := context.Background()
	pipe := rdb.Pipeline()
	return sender{
		batch: min(250, max(p.Window/2, 1)),
		send: func(first, n int) error {
			for i := range n {
				p.stamp(payload, first+i)
				text, err := json.Marshal(string(payload[1 : len(payload)-1]))
				if err != nil {
					return err
				}
				pipe.Publish(ctx, channel, text)
			}
			_, err := pipe.Exec(ctx)
			return err
		},
	}, nil
}

// publishNaive calls Publish from so many goroutines.
func publishNaive(goroutines int) func(p *proc) (sender, error) {
	return func(p *proc) (sender, error) {
		rdb := newRedis(p)
		return concurrently(p, goroutines, func(channel string, payload []byte) error {
			return rdb.Publish(context.Background(), channel, payload).Err()
		}), nil
	}
}

// publishQueued hands messages to a goroutine, which publishes what waits: no caller waits for Redis, as none of Emit does.
func publishQueued(p *proc) (sender, error) {
	rdb, channel := newRedis(p), p.roomNames()[0]
	ctx := context.Background()
	var mu sync.Mutex
	var waiting [][]byte
	wake := make(chan struct{}, 1)
	go func() {
		for range wake {
			mu.Lock()
			batch := waiting
			waiting = nil
			mu.Unlock()
			pipe := rdb.Pipeline()
			for _, payload := range batch {
				pipe.Publish(ctx, channel, payload)
			}
			if _, err := pipe.Exec(ctx); err != nil {
				p.fail(err)
			}
		}
	}()
	return sender{
		batch: 1,
		send: func(first, _ int) error {
			payload := p.newPayload() // Emit copies, too
			p.stamp(payload, first)
			mu.Lock()
			defer mu.Unlock()
			waiting = append(waiting, payload)
			select {
			case wake <- struct{}{}:
			default:
			}
			return nil
		},
	}, nil
}

// concurrently sends with a function that waits, in so many goroutines.
func concurrently(p *proc, goroutines int, publish func(channel string, payload []byte) error) sender {
	channels := p.roomNames()
	payloads := make([][]byte, goroutines)
	for i := range payloads {
		payloads[i] = p.newPayload()
	}
	one := func(payload []byte, i int) error {
		p.stamp(payload, i)
		return publish(channels[i%len(channels)], payload)
	}
	return sender{
		batch: max(p.Window/2, 1), // so that the room for the next comes in time
		send: func(first, n int) error {
			if n == 1 || goroutines == 1 {
				for i := first; i < first+n; i++ {
					if err := one(payloads[0], i); err != nil {
						return err
					}
				}
				return nil
			}
			next, end := atomic.Int64{}, int64(first+n)
			next.Store(int64(first))
			errs := make([]error, min(goroutines, n))
			var wg sync.WaitGroup
			for g := range errs {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < end && errs[g] == nil; i = next.Add(1) - 1 {
						errs[g] = one(payloads[g], int(i))
					}
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		},
	}
}

func receiveGoRedis(p *proc, got func(payload []byte, k int)) error {
	return receiveChannels(p, p.roomNames(), got)
}

func receiveChannels(p *proc, channels []string, got func(payload []byte, k int)) error {
	ctx := context.Background()
	sub := newRedis(p).Subscribe(ctx, channels...)
	for range channels {
		if _, err := sub.Receive(ctx); err != nil { // the confirmation
			return err
		}
	}
	go func() {
		for {
			v, err := sub.Receive(ctx)
			if err != nil {
				p.fail(err)
				return
			}
			m, ok := v.(*redis.Message)
			if !ok {
				p.fail(fmt.Errorf("received %v", v))
				return
			}
			got(unsafe.Slice(unsafe.StringData(m.Payload), len(m.Payload)), 1) // got only reads it
		}
	}()
	return nil
}

// envelope is what servers by hand send to a client for a payload.
func envelope(dst, payload []byte) []byte {
	dst = append(dst, `{"event":"roomMessage","data":`...)
	return append(append(dst, payload...), '}')
}

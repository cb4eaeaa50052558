package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/crosscast/crosscast/ws/client"
)

// A crowd is clients that talk in the lobby. Each has its own goroutine, which ends with stop.
type crowd struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startCrowd returns when so many clients of each node are connected.
func startCrowd(ctx context.Context, b *bed, each int) (*crowd, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &crowd{cancel: cancel}
	connected := make(chan error, nodes*each)
	for i := range nodes * each {
		address := b.nodes[i%nodes].address
		c.wg.Go(func() { talk(ctx, address, i, connected) })
	}
	for range nodes * each {
		if err := <-connected; err != nil {
			c.stop()
			return nil, err
		}
	}
	return c, nil
}

func (c *crowd) stop() {
	c.cancel()
	c.wg.Wait()
}

// talk is one client.
func talk(ctx context.Context, address string, number int, connected chan<- error) {
	c, err := client.Dial(ctx, "ws://"+address+"/ws", client.Options{
		Header:      http.Header{"Origin": {"http://" + address}},
		Events:      client.Events{"said": client.Typed(func(context.Context, *client.Client, string) error { return nil })},
		GiveUp:      func(error) bool { return false },
		OnJoinError: func(*client.Client, string, error) {}, // a fault might refuse it; see below
	})
	if err == nil {
		err = c.Join(ctx, "lobby")
	}
	connected <- err
	if c == nil {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.Close(ctx)
	}()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second + rand.N(time.Second)):
		}
		_ = c.Emit(ctx, "say", fmt.Sprintf("client %d, message %d", number, n)) // without a connection nobody hears it
		if n%5 == 0 {
			trying, cancel := context.WithTimeout(ctx, time.Second)
			_ = c.Join(trying, "lobby") // again, if it was refused
			cancel()
		}
	}
}

//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
)

// A contestant is one way of getting messages from one process to another through Redis.
type contestant struct {
	name      string
	what      string
	messages  int  // a run, about a second's worth
	unordered bool // its messages may overtake each other
	named     bool // it runs only when it is named

	// receive returns when it hears the room; it adds to t until stop is called.
	receive func(c config, t *tally) (stop func(), err error)
	// publish returns a function that sends messages from (included) to to (excluded).
	publish func(c config, p *pace) (send func(from, to int) error, stop func() error, err error)
	// command, if set, makes the process of a role, in the place of this program with the two functions above.
	command func(ctx context.Context) *exec.Cmd
}

const (
	ownName = "crosscast"
	room    = "hot"
	channel = "hotroom:hot" // of the contestants that have no rooms
	batch   = 256           // messages in a pipeline
	packed  = 32            // messages in a PUBLISH of the limit that packs
)

var contestants = []contestant{
	{name: ownName, what: "crosscast: Emit, to a socket's conn that counts", messages: 3_000_000,
		receive: receiveOwn, publish: publishOwn},
	{name: "goredis-pipeline", what: "go-redis by hand: Pipeline(250) and Receive", messages: 1_000_000,
		receive: receiveGoRedis, publish: publishPipeline},
	{name: "goredis-64", what: "go-redis, naive: Publish from 64 goroutines", messages: 100_000, unordered: true,
		receive: receiveGoRedis, publish: publishNaive},
	{name: "limit-a", what: "limit A: plain connections, a PUBLISH a message", messages: 2_000_000,
		receive: receivePlain(1), publish: publishPlain(1)},
	{name: "limit-b", what: "limit B: plain connections, 32 messages a PUBLISH", messages: 10_000_000,
		receive: receivePlain(packed), publish: publishPlain(packed)},
	{name: "socketio", what: "crosscast, over Socket.IO's classic wire", messages: 500_000, named: true,
		receive: receiveForeign, publish: publishForeign},
	{name: "nodejs", what: "Socket.IO on Node.js, classic Redis adapter", messages: 300_000, named: true,
		command: nodeJS},
}

func find(name string) *contestant {
	i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &contestants[i]
}

func names(cs []contestant) []string {
	var all []string
	for _, c := range cs {
		all = append(all, c.name)
	}
	return all
}

// client has the settings that package redisadapter recommends.
func client(url string) (*redis.Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	o.Protocol = 2
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}

// countingConn is a socket's connection that only counts.
type countingConn struct{ t *tally }

func (c countingConn) Send(m *crosscast.Message) error {
	c.t.add(m.Payload.Data, 1)
	return nil
}

func (countingConn) Close(crosscast.Reason) {}

func startNode(c config, o crosscast.Options) (*crosscast.Node, *redis.Client, error) {
	rdb, err := client(c.URL)
	if err != nil {
		return nil, nil, err
	}
	o.Adapter = redisadapter.New(rdb, redisadapter.Options{Prefix: "hotroom"})
	node, err := crosscast.Start(context.Background(), o)
	if err != nil {
		return nil, nil, errors.Join(err, rdb.Close())
	}
	return node, rdb, nil
}

func receiveOwn(c config, t *tally) (func(), error) {
	ctx := context.Background()
	node, rdb, err := startNode(c, crosscast.Options{
		Name:  "receiver",
		OnGap: func(_ *crosscast.Node, g crosscast.Gap) { t.fail(fmt.Errorf("gap: %+v", g)) },
	})
	if err != nil {
		return nil, err
	}
	_, err = node.Connect(ctx, countingConn{t}, crosscast.ConnectOptions{Rooms: []string{room}})
	return func() {
		_ = node.Close(ctx)
		_ = rdb.Close()
	}, err
}

func publishOwn(c config, p *pace) (func(from, to int) error, func() error, error) {
	ctx := context.Background()
	node, rdb, err := startNode(c, crosscast.Options{Name: "publisher"})
	if err != nil {
		return nil, nil, err
	}
	target := node.To(room)
	buf := make([]byte, c.Size)
	var payload any = crosscast.Bytes(buf) // Emit keeps nothing of it, so one will do
	send := func(from, to int) error {
		for i := from; i < to; i++ {
			if err := p.ready(i + 1); err != nil {
				return err
			}
			number(buf, i)
			if err := target.Emit(ctx, "roomMessage", payload); err != nil {
				return err
			}
		}
		return node.Flush(ctx) // reports losses
	}
	return send, func() error { return errors.Join(node.Close(ctx), rdb.Close()) }, nil
}

func receiveGoRedis(c config, t *tally) (func(), error) {
	ctx := context.Background()
	rdb, err := client(c.URL)
	if err != nil {
		return nil, err
	}
	ps := rdb.Subscribe(ctx, channel)
	if _, err := ps.Receive(ctx); err != nil { // the confirmation
		return nil, err
	}
	go func() {
		for {
			v, err := ps.Receive(ctx)
			if err != nil {
				t.fail(err)
				return
			}
			m, ok := v.(*redis.Message)
			if !ok {
				t.fail(fmt.Errorf("received %v", v))
				return
			}
			t.add([]byte(m.Payload[:8]), 1)
		}
	}()
	return func() {
		_ = ps.Close()
		_ = rdb.Close()
	}, nil
}

func publishPipeline(c config, p *pace) (func(from, to int) error, func() error, error) {
	ctx := context.Background()
	rdb, err := client(c.URL)
	if err != nil {
		return nil, nil, err
	}
	const pipeline = 250
	bufs := make([][]byte, pipeline)
	for i := range bufs {
		bufs[i] = make([]byte, c.Size)
	}
	send := func(from, to int) error {
		pipe := rdb.Pipeline()
		for from < to {
			n := min(pipeline, to-from)
			if err := p.ready(from + n); err != nil {
				return err
			}
			for i, buf := range bufs[:n] {
				number(buf, from+i)
				pipe.Publish(ctx, channel, buf)
			}
			if _, err := pipe.Exec(ctx); err != nil {
				return err
			}
			from += n
		}
		return nil
	}
	return send, rdb.Close, nil
}

func publishNaive(c config, p *pace) (func(from, to int) error, func() error, error) {
	ctx := context.Background()
	rdb, err := client(c.URL)
	if err != nil {
		return nil, nil, err
	}
	const goroutines = 64
	send := func(from, to int) error {
		for from < to { // half a window at a time, so that the room for the next half comes in time
			end := min(from+c.Window/2, to)
			if err := p.ready(end); err != nil {
				return err
			}
			var next atomic.Int64
			next.Store(int64(from))
			errs := make([]error, goroutines)
			var wg sync.WaitGroup
			for g := range errs {
				wg.Go(func() {
					buf := make([]byte, c.Size)
					for i := next.Add(1) - 1; i < int64(end) && errs[g] == nil; i = next.Add(1) - 1 {
						number(buf, int(i))
						errs[g] = rdb.Publish(ctx, channel, buf).Err()
					}
				})
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				return err
			}
			from = end
		}
		return nil
	}
	return send, rdb.Close, nil
}

// plain opens a connection without a client library.
func plain(url string) (net.Conn, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	if o.Password != "" || o.TLSConfig != nil {
		return nil, errors.New("plain connections: REDIS_URL with a password or TLS")
	}
	return net.Dial("tcp", o.Addr)
}

// receivePlain reads messages that are k to a PUBLISH. Only their number is looked at.
func receivePlain(k int) func(c config, t *tally) (func(), error) {
	return func(c config, t *tally) (func(), error) {
		conn, err := plain(c.URL)
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Fprintf(conn, "SUBSCRIBE %s\r\n", channel); err != nil {
			return nil, err
		}
		br := bufio.NewReaderSize(conn, 256<<10)
		confirmation := fmt.Sprintf("*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n", len(channel), channel)
		if got := make([]byte, len(confirmation)); true {
			if _, err := io.ReadFull(br, got); err != nil || string(got) != confirmation {
				return nil, fmt.Errorf("subscribe: %q, %v", got, err)
			}
		}
		size := k * c.Size
		head := fmt.Appendf(nil, "*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n", len(channel), channel, size)
		go func() {
			for {
				b, err := br.Peek(len(head) + size + 2)
				if err != nil || !bytes.HasPrefix(b, head) {
					t.fail(fmt.Errorf("receive: %.40q, %v", b, err))
					return
				}
				t.add(b[len(head):], k)
				_, _ = br.Discard(len(b))
			}
		}()
		return func() { _ = conn.Close() }, nil
	}
}

// publishPlain pipelines messages, k to a PUBLISH, and ignores the replies.
func publishPlain(k int) func(c config, p *pace) (func(from, to int) error, func() error, error) {
	return func(c config, p *pace) (func(from, to int) error, func() error, error) {
		conn, err := plain(c.URL)
		if err != nil {
			return nil, nil, err
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }() // until the connection is closed
		bw := bufio.NewWriterSize(conn, 64<<10)
		size := k * c.Size
		head := fmt.Appendf(nil, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n", len(channel), channel, size)
		body := append(make([]byte, size), "\r\n"...)
		send := func(from, to int) error {
			for from < to {
				end := min(from+batch, to)
				if err := p.ready(end); err != nil {
					return err
				}
				for ; from < end; from += k {
					number(body, from)
					_, _ = bw.Write(head) // an error sticks, and Flush returns it
					_, _ = bw.Write(body)
				}
				if err := bw.Flush(); err != nil {
					return err
				}
			}
			return nil
		}
		return send, conn.Close, nil
	}
}

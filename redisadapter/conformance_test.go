package redisadapter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/redisadapter"
)

// TestConformance runs the rules of a driver, with a client for each node.
func TestConformance(t *testing.T) {
	onEachServer(t, func(t *testing.T, options func() *redis.Options) {
		var clusters atomic.Int64
		adaptertest.Run(t, adaptertest.Harness{New: func(tb testing.TB) adaptertest.Cluster {
			prefix := fmt.Sprintf("cluster%d", clusters.Add(1))
			var all []*lines
			seen := observe(tb, options(), prefix)
			stranger := client(tb, options())
			return adaptertest.Cluster{
				Adapter: func() crosscast.Adapter {
					o, l := options(), &lines{open: make(map[*line]struct{})}
					o.Dialer = l.dial
					all = append(all, l)
					return redisadapter.New(client(tb, o), redisadapter.Options{Prefix: prefix})
				},
				Cut:     func(i int) { all[i].cut(true) },
				Restore: func(i int) { all[i].cut(false) },
				Deafen:  func(i int) { all[i].deafen() },
				Peek:    seen,
				Inject: func(p adaptertest.Packet) {
					if err := stranger.Publish(within(tb, patience), p.Topic, p.Data).Err(); err != nil {
						tb.Errorf("publishing as a stranger: %v", err)
					}
				},
			}
		}})
	})
}

// observe listens to all channels of a prefix. The function that it returns tells what was published so far.
func observe(tb testing.TB, o *redis.Options, prefix string) (seen func() []adaptertest.Packet) {
	tb.Helper()
	rdb := client(tb, o)
	ps := rdb.PSubscribe(within(tb, patience), prefix+":*")
	if _, err := ps.Receive(within(tb, patience)); err != nil {
		tb.Fatal(err)
	}
	var mu sync.Mutex // guards what follows
	var packets []adaptertest.Packet
	marks := make(chan string)
	ended := make(chan struct{})
	quit := make(chan struct{})
	mark := prefix + ":mark"
	go func() {
		defer close(ended)
		for {
			m, err := ps.ReceiveMessage(context.Background())
			switch {
			case err != nil:
				return
			case m.Channel == mark:
				select {
				case marks <- m.Payload:
				case <-quit:
					return
				}
			default:
				mu.Lock()
				packets = append(packets, adaptertest.Packet{Topic: m.Channel, Data: []byte(m.Payload)})
				mu.Unlock()
			}
		}
	}()
	tb.Cleanup(func() {
		close(quit)
		ps.Close()
		<-ended
	})
	return func() []adaptertest.Packet {
		if err := rdb.Publish(within(tb, patience), mark, "").Err(); err != nil {
			tb.Errorf("publishing a mark: %v", err)
			return nil
		}
		select {
		case <-marks: // what was published before it has been seen
		case <-within(tb, patience).Done():
			tb.Errorf("the observer did not see its mark")
		}
		mu.Lock()
		defer mu.Unlock()
		return packets[:len(packets):len(packets)]
	}
}

// lines are the connections of one client, which can be cut and deafened.
type lines struct {
	mu   sync.Mutex // guards what follows
	open map[*line]struct{}
	down bool
}

var errCut = errors.New("the line is cut")

func (l *lines) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		c.Close()
		return nil, errCut
	}
	n := &line{Conn: c, of: l}
	l.open[n] = struct{}{}
	return n, nil
}

// cut ends all connections and refuses new ones, or takes new ones again.
func (l *lines) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for n := range l.open {
		if down {
			n.Conn.Close()
		}
	}
}

// deafen makes the connections that subscribe receive nothing more.
func (l *lines) deafen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.open {
		n.deaf.Store(n.subscribes.Load())
	}
}

type line struct {
	net.Conn
	of               *lines
	subscribes, deaf atomic.Bool
}

func (n *line) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("\r\nsubscribe\r\n")) {
		n.subscribes.Store(true)
	}
	return n.Conn.Write(p)
}

func (n *line) Read(p []byte) (int, error) {
	for {
		k, err := n.Conn.Read(p)
		if err != nil || !n.deaf.Load() {
			return k, err
		}
	}
}

func (n *line) Close() error {
	n.of.mu.Lock()
	delete(n.of.open, n)
	n.of.mu.Unlock()
	return n.Conn.Close()
}

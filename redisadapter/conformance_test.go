package redisadapter_test

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// TestConformance runs the rules of a driver, with a client for each node.
func TestConformance(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		var clusters atomic.Int64
		adaptertest.Run(t, adaptertest.Harness{New: func(tb testing.TB) adaptertest.Cluster {
			prefix := fmt.Sprintf("cluster%d", clusters.Add(1))
			var all []*lines
			published := new(publications)
			stranger := redistest.Client(tb, options())
			return adaptertest.Cluster{
				Adapter: func() crosscast.Adapter {
					o, l := options(), &lines{open: make(map[*line]struct{})}
					o.Dialer = l.dial
					all = append(all, l)
					rdb := redistest.Client(tb, o)
					rdb.AddHook(published)
					return redisadapter.New(rdb, redisadapter.Options{Prefix: prefix})
				},
				Cut:     func(i int) { all[i].cut(true) },
				Restore: func(i int) { all[i].cut(false) },
				Deafen:  func(i int) { all[i].deafen() },
				Peek:    published.seen,
				Inject: func(p adaptertest.Packet) {
					if err := stranger.Publish(redistest.Within(tb, redistest.Patience), p.Topic, p.Data).Err(); err != nil {
						tb.Errorf("publishing as a stranger: %v", err)
					}
				},
			}
		}})
	})
}

// publications records what clients publish. It is a hook, because a subscriber that is no node would count in
// PUBLISH's reply.
type publications struct {
	mu  sync.Mutex // guards what follows
	all []adaptertest.Packet
}

func (p *publications) seen() []adaptertest.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[:len(p.all):len(p.all)]
}

func (p *publications) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (p *publications) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (p *publications) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range cmds {
			if args := c.Args(); c.Name() == "publish" && c.Err() == nil {
				data, _ := args[2].(encoding.BinaryMarshaler).MarshalBinary() // it only returns what it holds
				p.all = append(p.all, adaptertest.Packet{Topic: args[1].(string), Data: bytes.Clone(data)})
			}
		}
		return err
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

package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Lines are the connections of one client whose Dialer is Dial; they can be cut and deafened. The zero value is ready.
type Lines struct {
	TLS *tls.Config // nil: they are plain; must not be changed after the first connection

	mu   sync.Mutex // guards what follows
	open map[*line]struct{}
	down bool
}

var errCut = errors.New("the line is cut")

// Dial is for redis.Options.Dialer.
func (l *Lines) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d interface {
		DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	} = new(net.Dialer)
	if l.TLS != nil {
		d = &tls.Dialer{Config: l.TLS}
	}
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
	if l.open == nil {
		l.open = make(map[*line]struct{})
	}
	l.open[n] = struct{}{}
	return n, nil
}

// Cut ends all connections and refuses new ones, or, with false, takes new ones again.
func (l *Lines) Cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for n := range l.open {
		if down {
			n.Conn.Close()
		}
	}
}

// Deafen makes the connections that subscribe receive nothing more.
func (l *Lines) Deafen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.open {
		n.deaf.Store(n.subscribes.Load())
	}
}

type line struct {
	net.Conn
	of               *Lines
	subscribes, deaf atomic.Bool
}

func (n *line) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("subscribe\r\n")) {
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

// Publications records what clients publish in pipelines. It is a hook of theirs, because a subscriber would count in
// PUBLISH's reply. The zero value is ready.
type Publications struct {
	underWay sync.RWMutex // held for reading by pipelines

	mu  sync.Mutex // guards what follows
	all []Published
}

// Published is one message.
type Published struct {
	Channel string
	Data    []byte
}

// Seen returns all that was published so far. Who has heard something finds it, because it waits for pipelines that are
// under way.
func (p *Publications) Seen() []Published {
	p.underWay.Lock()
	defer p.underWay.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[:len(p.all):len(p.all)]
}

// DialHook implements redis.Hook.
func (p *Publications) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (p *Publications) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (p *Publications) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.underWay.RLock()
		defer p.underWay.RUnlock()
		err := next(ctx, cmds)
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range cmds {
			if args := c.Args(); (c.Name() == "publish" || c.Name() == "spublish") && c.Err() == nil {
				data, _ := args[2].(encoding.BinaryMarshaler).MarshalBinary() // it only returns what it holds
				p.all = append(p.all, Published{args[1].(string), bytes.Clone(data)})
			}
		}
		return err
	}
}

// Package faultproxy is a TCP proxy, for tests and trials, that does to connections what networks do to them: it delays, holds, slows,
// splits, cuts, resets and silently swallows, each direction by itself.
package faultproxy

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Direction is one of the two ways through a connection.
type Direction int

const (
	Up   Direction = iota // from the client to the server
	Down                  // from the server to the client
)

// Faults is what happens to the bytes of one direction. The zero value passes them on.
type Faults struct {
	Delay   time.Duration // bytes arrive so much later; how many a second is not affected
	Rate    int           // bytes a second; 0: as fast as they come
	Split   int           // written in pieces of at most so many bytes; 0: as they come
	Hold    bool          // bytes are kept, and passed on once that ends
	Swallow bool          // bytes, and the end of the stream, are taken and never passed on: the connection stands, dead
	// CutAfter n > 0 closes the connection that carries the n-th byte from now, right after that byte. It happens
	// once: other connections, and later ones, go on.
	CutAfter int
	Reset    bool // the cut is a RST instead of a FIN
	// Change returns what is passed on instead of what was read at once. It may keep nothing of it. One call at a time
	// for each connection.
	Change func(read []byte) []byte
}

// Proxy passes connections on to a target. Its goroutines (one accepts, four serve each connection) end with Close.
type Proxy struct {
	addr string
	wg   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	ln     net.Listener
	target string
	faults [2]Faults
	pairs  map[*pair]struct{} // nil: closed
}

// pair is the two halves of one connection.
type pair struct {
	client, server *net.TCPConn
	once           sync.Once
	done           chan struct{}
	own            [2]*Faults // of this connection alone; nil: the proxy's; guarded by the proxy's mu
}

// Start listens on a free port of 127.0.0.1 until the test ends.
func Start(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := Listen(target)
	if err != nil {
		tb.Fatalf("faultproxy: %v", err)
	}
	tb.Cleanup(p.Close)
	return p
}

// Listen listens on a free port of 127.0.0.1 until Close.
func Listen(target string) (*Proxy, error) {
	p := &Proxy{target: target, addr: "127.0.0.1:0", pairs: map[*pair]struct{}{}}
	return p, p.Admit()
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.addr }

// Set replaces the faults of a direction, for the connections that stand and for those to come.
func (p *Proxy) Set(d Direction, f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[d] = f
}

// SetOn replaces the faults of a direction for the connections that stand and that the target knows by one of the given
// addresses. Set does not reach them any more. It returns how many there are.
func (p *Proxy) SetOn(addrs []string, d Direction, f Faults) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		if slices.Contains(addrs, c.server.LocalAddr().String()) {
			c.own[d] = &f
			n++
		}
	}
	return n
}

// Carries counts the connections that stand and that the target knows by one of the given addresses.
func (p *Proxy) Carries(addrs []string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		if slices.Contains(addrs, c.server.LocalAddr().String()) {
			n++
		}
	}
	return n
}

// Lead makes new connections lead to another target. Those that stand go on.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Reset ends all connections that stand with a RST to both sides.
func (p *Proxy) Reset() {
	for _, c := range p.standing() {
		c.close(true)
	}
}

// Refuse makes new connections be refused from now on. Those that stand go on.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.ln.Close()
}

// Admit ends Refuse.
func (p *Proxy) Admit() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.ln, p.addr = ln, ln.Addr().String()
	p.wg.Go(func() { p.accept(ln) })
	return nil
}

// Conns is how many connections stand.
func (p *Proxy) Conns() int { return len(p.standing()) }

func (p *Proxy) standing() []*pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*pair, 0, len(p.pairs))
	for c := range p.pairs {
		all = append(all, c)
	}
	return all
}

// Close ends all connections, refuses new ones, and waits for the goroutines.
func (p *Proxy) Close() {
	all := p.standing()
	p.mu.Lock()
	p.pairs = nil
	p.mu.Unlock()
	p.Refuse()
	for _, c := range all {
		c.close(true)
	}
	p.wg.Wait()
}

func (p *Proxy) accept(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	c := &pair{client: client, server: server.(*net.TCPConn), done: make(chan struct{})}
	defer c.close(false)

	p.mu.Lock()
	if p.pairs == nil {
		p.mu.Unlock()
		return
	}
	p.pairs[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.pairs, c)
		p.mu.Unlock()
	}()

	var ways sync.WaitGroup
	ways.Go(func() { p.pump(c, Up, c.client, c.server) })
	ways.Go(func() { p.pump(c, Down, c.server, c.client) })
	ways.Wait()
}

func (c *pair) close(reset bool) {
	c.once.Do(func() {
		close(c.done)
		for _, conn := range []*net.TCPConn{c.client, c.server} {
			if reset {
				_ = conn.SetLinger(0)
			}
			_ = conn.Close()
		}
	})
}

// wait pauses until d has passed, and reports false when the connection ended before.
func (c *pair) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}

// pump carries one direction of c. Reading and writing are two goroutines, so that a delay holds bytes back without
// limiting how many are under way.
func (p *Proxy) pump(c *pair, d Direction, src, dst *net.TCPConn) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	chunks := make(chan chunk, 1024)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(chunks)
		for {
			data := make([]byte, 32<<10)
			n, err := src.Read(data)
			if n > 0 {
				f, _, _ := p.take(c, d, 0)
				select {
				case chunks <- chunk{data[:n], time.Now().Add(f.Delay)}:
				case <-c.done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer reader.Wait()

	for ch := range chunks {
		if !c.wait(time.Until(ch.due)) || !p.forward(c, d, dst, ch.data) {
			c.close(true)
			return
		}
	}
	if f, _, _ := p.take(c, d, 0); f.Swallow {
		<-c.done // the end of the stream is swallowed too
		return
	}
	_ = dst.CloseWrite()
}

// forward writes data to dst as the faults have it. It reports false when the connection is of no use any more.
func (p *Proxy) forward(c *pair, d Direction, dst *net.TCPConn, data []byte) bool {
	if f, _, _ := p.take(c, d, 0); f.Change != nil {
		data = f.Change(data)
	}
	for len(data) > 0 {
		f, n, cut := p.take(c, d, len(data))
		if f.Hold {
			if !c.wait(time.Millisecond) {
				return false
			}
			continue
		}
		if f.Swallow {
			return true
		}
		if _, err := dst.Write(data[:n]); err != nil {
			return false
		}
		data = data[n:]
		if cut {
			c.close(f.Reset)
			return false
		}
		if f.Rate > 0 && !c.wait(time.Duration(n)*time.Second/time.Duration(f.Rate)) {
			return false
		}
	}
	return true
}

// take says how many of n bytes may be written to c now, and whether it is to be cut after them.
func (p *Proxy) take(c *pair, d Direction, n int) (f Faults, allowed int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	faults := &p.faults[d]
	if c.own[d] != nil {
		faults = c.own[d]
	}
	f = *faults
	if f.Split > 0 {
		n = min(n, f.Split)
	}
	if f.Rate > 0 {
		n = min(n, max(1, f.Rate/50))
	}
	if f.CutAfter > 0 && !f.Swallow && !f.Hold && n > 0 {
		n = min(n, f.CutAfter)
		faults.CutAfter -= n
		cut = faults.CutAfter == 0
	}
	return f, n, cut
}

package natsadapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast/internal/errtext"
)

// line is one connection of nats.go to a server. It never reconnects: it ends at the first error.
//
// The server does not answer PUB and SUB. Only what it refuses has an answer, which does not name its request. So
// whoever has written requests sends a PING behind them. At its answer the server has done all of them, and the
// refusals have arrived; settle then waits until nats.go has passed these on.
type line struct {
	bus    *bus
	nc     *nats.Conn
	server string // a short name of the server's ID
	reply  string // subject for questions to the server; empty: this line does not answer them

	began time.Time
	heard atomic.Int64 // when the last byte arrived, after began
	flow  *flow        // slows the reading; nil: it is never slow
	done  chan struct{}

	mu     sync.Mutex // guards the fields below
	raw    net.Conn   // the connection below nc
	dead   bool       // raw is closed, and so is any later one
	cause  error      // why a connection could not be made, or why this one has ended
	latest error      // the last error that nats.go has passed on
	passed chan struct{}
	denied []denial // refusals that nobody has taken
}

// denial is the server's refusal to subscribe, or to publish on, a subject.
type denial struct {
	subscribe bool
	subject   string
	err       error
}

var denialText = regexp.MustCompile(`(Subscription|Publish|Publish with Reply) (?:to|of) "(\S+)"`)

// connect makes a line, first to the server at the preferred URL if there is one.
func (b *bus) connect(ctx context.Context, preferred string, f *flow) (*line, error) {
	l := &line{bus: b, began: time.Now(), flow: f, done: make(chan struct{}), passed: make(chan struct{})}
	stop := context.AfterFunc(ctx, l.kill)
	o := b.client
	l.prepare(&o)
	o.Url, o.Servers = preferred, b.servers()
	var err error
	if l.nc, err = o.Connect(); err == nil {
		l.server = shortName(l.nc.ConnectedServerId())
		if most := l.nc.MaxPayload(); most < int64(b.o.MaxMessage) {
			err = fmt.Errorf("the server carries messages of at most %d bytes (max_payload), and Options.MaxMessage is %d", most, b.o.MaxMessage)
		}
	}
	if !stop() {
		err = fmt.Errorf("no answer: %w", ctx.Err())
	}
	if err != nil {
		err = l.explainConnect(err)
		l.close()
		return nil, err
	}
	return l, nil
}

// prepare changes options of nats.go for a line.
func (l *line) prepare(o *nats.Options) {
	o.AllowReconnect, o.RetryOnFailedConnect, o.NoEcho, o.Verbose = false, false, false, false
	o.ReconnectOnFlusherError = true // ends the connection, because it must not reconnect
	o.FlusherTimeout = l.bus.o.PublishTimeout
	if p := o.InProcessServer; p != nil {
		o.InProcessServer = inProcess{p, l}
	}
	d := dialer{l, o.CustomDialer, o.Timeout}
	if d.inner == nil {
		d.inner = o.Dialer
		if o.Dialer == nil {
			d.inner = &net.Dialer{Timeout: o.Timeout}
		}
	}
	o.CustomDialer = d
	onError, onClosed := o.AsyncErrorCB, o.ClosedCB
	o.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
		l.noteError(err)
		if onError != nil {
			onError(nc, sub, err)
		}
	}
	o.NoCallbacksAfterClientClose = false
	o.ClosedCB = func(nc *nats.Conn) {
		l.noteClosed(nc.LastError())
		if onClosed != nil {
			onClosed(nc)
		}
	}
}

// shortName returns a token of a server's ID, which is a public key. Its beginning is the same for all servers.
func shortName(id string) string { return id[max(0, len(id)-12):] }

// noteError notes an error that leaves the connection open.
func (l *line) noteError(err error) {
	l.mu.Lock()
	l.latest = err
	close(l.passed)
	l.passed = make(chan struct{})
	found := denialText.FindStringSubmatch(err.Error())
	if errors.Is(err, nats.ErrPermissionViolation) && found != nil {
		l.denied = append(l.denied, denial{found[1] == "Subscription", found[2], l.bus.explain(err)})
	} else if l.cause == nil {
		l.cause = err
	}
	l.mu.Unlock()
	switch {
	case errors.Is(err, nats.ErrSlowConsumer), errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		l.kill() // something was dropped, or is not subscribed
	case l.flow != nil:
		l.flow.refused()
	}
}

func (l *line) noteClosed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = err
	}
	select {
	case <-l.done:
	default:
		close(l.done)
	}
}

// ended reports whether the line is of no use any more.
func (l *line) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.dead || l.nc.IsClosed() // nats.go says so before it calls noteClosed
	}
}

// why returns the error that has ended the line.
func (l *line) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		return nats.ErrConnectionClosed
	}
	return l.cause
}

// kill ends the connection at once, even while nats.go is blocked in a write.
func (l *line) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	if l.raw != nil {
		_ = l.raw.Close()
	}
}

// close ends the line, and everything that nats.go runs for it.
func (l *line) close() {
	l.kill()
	if l.nc != nil {
		l.nc.Close()
	}
}

// flushNow returns when the server has done what was written. nats.go wants a deadline.
func (l *line) flushNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	return l.nc.FlushWithContext(ctx)
}

// settle returns when the refusals that came before the last answered PING can be taken.
func (l *line) settle(ctx context.Context) {
	for {
		l.mu.Lock()
		want, passed := l.nc.LastError(), l.passed
		settled := !errors.Is(want, nats.ErrPermissionViolation) || l.latest == want
		l.mu.Unlock()
		if settled {
			return
		}
		select {
		case <-passed:
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// take removes some refusals, and returns them.
func (l *line) take(which func(denial) bool) (taken []denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.denied = slices.DeleteFunc(l.denied, func(d denial) bool {
		if which(d) {
			taken = append(taken, d)
			return true
		}
		return false
	})
	return taken
}

// enter makes c the connection below the line.
func (l *line) enter(c net.Conn, err error) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.cause = err
		return nil, err
	}
	if l.dead {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	l.raw, l.cause = c, nil
	return &rawConn{c, l}, nil
}

// explainConnect adds to err what nats.go leaves out: why no server could be reached.
func (l *line) explainConnect(err error) error {
	l.mu.Lock()
	cause := l.cause
	l.mu.Unlock()
	if errors.Is(err, nats.ErrNoServers) && cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return errtext.Errorf("cannot connect to %w", l.bus.explain(err))
}

// dialer is a dialer of nats.go whose connections are those of a line.
type dialer struct {
	l       *line
	inner   nats.CustomDialer
	timeout time.Duration
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	if inner, ok := d.inner.(*net.Dialer); ok {
		own := *inner
		own.Timeout = d.timeout
		d.inner = &own
	}
	return d.l.enter(d.inner.Dial(network, address))
}

// SkipTLSHandshake tells nats.go whether the user's dialer speaks TLS itself.
func (d dialer) SkipTLSHandshake() bool {
	own, ok := d.inner.(interface{ SkipTLSHandshake() bool })
	return ok && own.SkipTLSHandshake()
}

// inProcess makes connections to a server in this process.
type inProcess struct {
	server nats.InProcessConnProvider
	l      *line
}

func (p inProcess) InProcessConn() (net.Conn, error) { return p.l.enter(p.server.InProcessConn()) }

// rawConn is a connection below nats.go. Bytes count when they arrive, even those of an incomplete message.
type rawConn struct {
	net.Conn
	l *line
}

func (c *rawConn) Read(p []byte) (int, error) {
	if c.l.flow != nil {
		c.l.flow.wait(c.l.done)
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.l.heard.Store(int64(time.Since(c.l.began)))
		if c.l.flow != nil {
			c.l.flow.bytes.Add(int64(n))
		}
	}
	return n, err
}

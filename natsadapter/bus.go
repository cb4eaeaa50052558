package natsadapter

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// bus implements wire.Bus over NATS.
//
// It publishes on a connection of its own, to the server of its link. So what a node publishes comes behind what that
// server has told the node: see spread.go.
type bus struct {
	o      Options
	client nats.Options
	seeds  []string // the URLs of client
	name   string   // of the servers, in errors
	err    error    // why the bus cannot be used

	mu    sync.Mutex      // guards the fields below
	pub   *line           // publishes; nil: none was needed
	link  *link           // the last one that was dialled
	known map[string]bool // subjects for questions to servers from which something has arrived
}

func newBus(client nats.Options, o Options, err error) *bus {
	b := &bus{o: o, client: client, err: err, known: map[string]bool{}}
	var hosts []string
	for _, seed := range append(slices.Clone(client.Servers), client.Url) {
		if seed = strings.TrimSpace(seed); seed == "" {
			continue
		}
		host, err := hostOf(seed)
		if err != nil && b.err == nil {
			b.err = err
		}
		b.seeds, hosts = append(b.seeds, seed), append(hosts, host)
	}
	b.name = "nats at " + strings.Join(hosts, ",")
	switch {
	case client.InProcessServer != nil:
		b.name = "nats in this process"
	case len(hosts) == 0:
		b.name = "nats at " + nats.DefaultURL
	}
	if b.err == nil {
		b.err = checkPrefix(o.Prefix)
	}
	return b
}

// hostOf returns the host of a server's URL. Its errors contain no part of the URL, which might have a password.
func hostOf(server string) (string, error) {
	if !strings.Contains(server, "://") {
		server = "nats://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return "", errors.New("crosscast/natsadapter: a URL is invalid: it must be like nats://user:password@host:4222, and " +
			"special characters of a password must be escaped")
	}
	return u.Host, nil
}

// Check implements wire.Checked.
func (b *bus) Check() error { return b.err }

// MaxMessage implements wire.Limited.
func (b *bus) MaxMessage() int { return b.o.MaxMessage }

// Patchy implements wire.Patchy. Messages are lost if a connection between two servers breaks. A server might join a
// cluster at any time.
func (b *bus) Patchy() bool { return true }

// Close implements io.Closer.
func (b *bus) Close() error {
	b.mu.Lock()
	pub := b.pub
	b.pub = nil
	b.mu.Unlock()
	if pub != nil {
		pub.close()
	}
	return nil
}

// servers returns the URLs to connect to: the seeds, and what the servers of the last connections have told.
func (b *bus) servers() []string {
	all := slices.Clone(b.seeds)
	add := func(l *line) {
		for _, u := range l.nc.DiscoveredServers() {
			if !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pub != nil {
		add(b.pub)
	}
	if b.link != nil {
		add(b.link.line)
	}
	return all
}

// Publish implements wire.Bus. The answer to the PING behind a batch shows that the server has accepted all of it.
func (b *bus) Publish(ctx context.Context, frames []wire.Frame) {
	l, err := b.write(ctx, frames)
	if errors.Is(err, nats.ErrConnectionClosed) { // since the batch before
		l, err = b.write(ctx, frames)
	}
	if err != nil {
		b.fail(frames, errtext.Errorf("%w: %w", crosscast.ErrRefused, err))
		return
	}
	stop := context.AfterFunc(ctx, l.kill)
	defer stop()
	if err := l.flushNow(ctx); err != nil {
		l.kill()
		b.fail(frames, b.explain(err))
		return
	}
	l.settle(ctx)
	b.refuse(frames, l.take(func(d denial) bool { return !d.subscribe }))
}

// write passes a batch to nats.go. After an error nothing is written.
func (b *bus) write(ctx context.Context, frames []wire.Frame) (*line, error) {
	l, err := b.publisher(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, l.kill)
	defer stop()
	for i := range frames {
		f := &frames[i]
		f.Receivers = -1
		err := l.nc.PublishMsg(&nats.Msg{Subject: b.subject(f.Topic), Reply: l.reply, Data: f.Data})
		switch {
		case i == 0 && errors.Is(err, nats.ErrConnectionClosed):
			return nil, b.explain(err)
		case err != nil:
			f.Err = errtext.Errorf("%w: %w", crosscast.ErrRefused, b.explain(err))
		}
	}
	return l, nil
}

// fail enters the outcome of a batch whose connection has failed.
func (b *bus) fail(frames []wire.Frame, err error) {
	for i := range frames {
		f := &frames[i]
		if f.Err == nil {
			f.Err = err
		}
		f.Down = true
	}
}

// refuse enters what the server has refused.
func (b *bus) refuse(frames []wire.Frame, denied []denial) {
	for _, d := range denied {
		for i := range frames {
			if b.subject(frames[i].Topic) == d.subject {
				frames[i].Err = errtext.Errorf("%w: %w", crosscast.ErrRefused, d.err)
			}
		}
	}
}

// publisher returns the line that publishes: one to the server of the link, if there is a link. If that server takes no
// new connection, as before it shuts down, or another server answers at its address, the link's line publishes.
func (b *bus) publisher(ctx context.Context) (*line, error) {
	b.mu.Lock()
	pub, link := b.pub, b.link
	b.mu.Unlock()
	preferred := ""
	if link != nil && link.ended() {
		link = nil
	}
	switch {
	case link == nil:
	case link.shares:
		return link.line, nil
	default:
		preferred = link.nc.ConnectedUrl()
	}
	if pub != nil && !pub.ended() && (link == nil || pub.server == link.server) {
		return pub, nil
	}
	l, err := b.connect(ctx, preferred, nil)
	if link != nil && (err != nil || l.server != link.server) {
		if err == nil {
			l.close()
		}
		link.shares, l, err = true, link.line, nil
	}
	if err != nil {
		return nil, err
	}
	if err := l.answer(ctx); err != nil && !errors.Is(err, crosscast.ErrDenied) { // an emitter may lack the permission
		return nil, err
	}
	if link != nil && l == link.line {
		return l, nil
	}
	b.mu.Lock()
	b.pub = l
	b.mu.Unlock()
	if pub != nil {
		pub.close()
	}
	return l, nil
}

// noteServer notes that something has arrived from a server.
func (b *bus) noteServer(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) < maxServers {
		b.known[strings.Clone(subject)] = true
	}
}

func (b *bus) forgetServer(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, subject)
}

// knownServers returns the servers to question, except one.
func (b *bus) knownServers(except string) map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]bool, len(b.known))
	for s := range b.known {
		if s != except {
			all[s] = true
		}
	}
	return all
}

// isLogin reports whether the server does not accept a login, or no longer.
func isLogin(err error) bool {
	return slices.ContainsFunc([]error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
	}, func(login error) bool { return errors.Is(err, login) })
}

// explain adds the servers' name to an error. It matches crosscast.ErrDenied if the server refuses the credentials, or
// the user lacks a permission.
func (b *bus) explain(err error) error {
	if isLogin(err) {
		return fmt.Errorf("%s: %w: %w", b.name, crosscast.ErrDenied, err)
	}
	if errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("%s: %w: %w (the user needs to publish and to subscribe %s.>)", b.name, crosscast.ErrDenied, err, b.o.Prefix)
	}
	return fmt.Errorf("%s: %w", b.name, err)
}

var (
	_ wire.Bus     = (*bus)(nil)
	_ wire.Limited = (*bus)(nil)
	_ wire.Patchy  = (*bus)(nil)
	_ wire.Checked = (*bus)(nil)
)

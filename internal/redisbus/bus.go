// Package redisbus implements wire.Bus over Redis Pub/Sub, plain or sharded.
package redisbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// Config configures a bus.
type Config struct {
	// Anchor is a name. On a Redis Cluster everything is published through the master of its slot, unless the bus is
	// sharded.
	Anchor string
	// Near makes a bus on a Redis Cluster subscribe at the master that it publishes through, so that no other master
	// concerns it.
	Near bool
	// Needs lists the permissions that the user needs, for the text of errors.
	Needs string
	// Sharded makes the bus use SPUBLISH and SSUBSCRIBE.
	Sharded bool
	// Once is for frames whose receivers cannot recognize copies: a frame that might have reached the server is not
	// sent again.
	Once bool
	// Timeout is how long the context of a batch allows beyond the time for its bytes: wire.Options.PublishTimeout.
	Timeout time.Duration
	// Owned is set if the client is the bus's own. Close closes it.
	Owned bool
	// Err is why there is no client, as Open returned it.
	Err error
}

// bus is Redis Pub/Sub through a client. It does not change the client, and closes it only if it owns it.
type bus struct {
	Config
	topology
	rdb  redis.UniversalClient
	name string // the server's name in errors
	tls  bool   // the client speaks TLS
	err  error  // why the client cannot be used; nothing is called then but Check and Close

	shard bool // rdb is one of the masters of a shards
}

// New returns a bus over rdb. Mistakes in rdb become the error of its Check.
func New(rdb redis.UniversalClient, c Config) wire.Bus {
	if cluster, ok := rdb.(*redis.ClusterClient); ok && c.Sharded {
		return &shards{Config: c, rdb: cluster}
	}
	return newBus(rdb, c)
}

func newBus(rdb redis.UniversalClient, c Config) *bus {
	b := &bus{Config: c, rdb: rdb, name: "redis", err: c.Err}
	if b.err != nil {
		return b
	}
	switch c := rdb.(type) {
	case nil:
		b.err = errors.New("crosscast: no Redis client")
	case *redis.Client:
		o := c.Options()
		b.name, b.tls = "redis at "+o.Addr, o.TLSConfig != nil
		if o.Addr == "FailoverClient" { // go-redis sets this instead of an address
			b.name = "the redis that Sentinel names"
		}
	case *redis.ClusterClient:
		o := c.Options()
		b.name, b.tls = "redis cluster at "+strings.Join(o.Addrs, ","), o.TLSConfig != nil
	case *redis.Ring:
		b.err = errors.New("crosscast: a redis.Ring spreads channels over servers that do not know each other; " +
			"give the adapter a redis.Client of one of them")
	case *redis.AutoPipeliner:
		b.err = errors.New("crosscast: a redis.AutoPipeliner would pack again what is packed already; " +
			"give the adapter the client that it was made from")
	}
	return b
}

// Check implements wire.Checked.
func (b *bus) Check() error { return b.err }

// Close implements io.Closer.
func (b *bus) Close() error {
	if !b.Owned || b.rdb == nil {
		return nil
	}
	return b.rdb.Close()
}

// attempts is how often a batch is sent if its connection breaks. The server might have closed a pooled connection while
// it was idle, which only its next use shows.
const attempts = 3

// Publish implements wire.Bus: one pipeline for a batch.
//
// The retries of go-redis are off for these commands. It would repeat the whole batch, even after a time-out, so one
// call would last as long as four, and every frame would go out four times. This method repeats only frames without a
// reply, and only if the connection was closed. A frame that was written to a connection once stays uncertain, whatever
// happens later.
func (b *bus) Publish(ctx context.Context, frames []wire.Frame) {
	pending := publishings(ctx, b.command("publish"), frames)
	for attempt := 1; ; attempt++ {
		err := b.send(ctx, pending)
		var anyWritten bool
		pending, anyWritten = b.settle(pending)
		if len(pending) == 0 {
			return
		}
		if b.Once || attempt == attempts || !anyWritten || !isBroken(err) || ctx.Err() != nil {
			b.fail(ctx, pending, err)
			return
		}
		for _, p := range pending {
			p.sentBefore = p.payload.written
		}
	}
}

// command returns this bus's name for a command of plain Pub/Sub.
func (b *bus) command(plain string) string {
	if b.Sharded {
		return "s" + plain
	}
	return plain
}

// send makes one attempt. All frames go through one connection to one server, because order would be lost otherwise.
func (b *bus) send(ctx context.Context, batch []*publishing) error {
	// PUBLISH has no key, so a ClusterClient would send each to any master. The cluster passes it on to all its nodes.
	c, err := b.publisher(ctx)
	if err != nil {
		return err
	}
	b.publishesThrough(ctx, c)
	size, longest := b.part(ctx, c, batch)
	for len(batch) > 0 {
		n, bytes := 1, len(batch[0].payload.data)
		for ; n < len(batch) && bytes+len(batch[n].payload.data) <= size; n++ {
			bytes += len(batch[n].payload.data)
		}
		through := c
		if bytes > size {
			through = c.(*redis.Client).WithTimeout(longest)
		}
		err = b.pipeline(ctx, through, batch[:n])
		for _, p := range batch[:n] {
			if !p.replied { // else the error, if there is one, is that of a frame
				return cmp.Or(p.Err(), err)
			}
		}
		batch = batch[n:]
	}
	return nil
}

// pipeline sends frames and waits for their replies.
func (b *bus) pipeline(ctx context.Context, c redis.UniversalClient, batch []*publishing) error {
	pipe := c.Pipeline()
	for _, p := range batch {
		_ = pipe.Process(ctx, p)
	}
	sent := b.withRole(ctx, pipe)
	_, err := pipe.Exec(ctx)
	sent()
	return err
}

// largeBatch is the size in bytes from which a batch may need more time than the client's time-outs allow.
const largeBatch = 64 << 10

// part returns how many bytes of a batch may go out in one pipeline, by the client's time-outs. go-redis applies each
// time-out to all commands of a pipeline together, and to all replies together, for any number of bytes. A larger
// single frame needs a client with the time-out longest. That client shares the pools, but lacks the hooks.
func (b *bus) part(ctx context.Context, c redis.UniversalClient, batch []*publishing) (size int, longest time.Duration) {
	node, ok := c.(*redis.Client)
	deadline, bounded := ctx.Deadline()
	if !ok || !bounded {
		return math.MaxInt, 0
	}
	longest = time.Until(deadline)
	need, n := longest-b.Timeout, 0 // the time for the bytes
	for _, p := range batch {
		n += len(p.payload.data)
	}
	if n < largeBatch {
		return n, longest
	}
	o := node.Options()
	size = n
	for _, timeout := range []time.Duration{o.ReadTimeout, o.WriteTimeout} {
		if 0 < timeout && timeout < need {
			size = min(size, int(float64(n)*timeout.Seconds()/need.Seconds()))
		}
	}
	return size, longest
}

// settle enters the outcomes of the frames with a reply. It returns the others, and whether any of them might have
// reached the server.
func (b *bus) settle(batch []*publishing) (pending []*publishing, anyWritten bool) {
	_, cluster := b.rdb.(*redis.ClusterClient)
	pending = batch[:0]
	for _, p := range batch {
		switch {
		case !p.replied:
			pending = append(pending, p)
			anyWritten = anyWritten || p.payload.written
		case p.Err() != nil:
			p.frame.Err, p.frame.Down = b.refusal(p.Err())
			if p.sentBefore { // the first attempt might have succeeded
				p.frame.Err = b.explain(p.Err())
			}
		case cluster:
			p.frame.Receivers = -1 // a master counts its own subscribers only
		default:
			p.frame.Receivers = int(p.Val())
		}
	}
	return pending, anyWritten
}

// fail enters the outcome of frames without a reply.
func (b *bus) fail(ctx context.Context, pending []*publishing, err error) {
	if err == nil {
		err = errors.New("no reply")
	}
	uncertain := b.explain(err)
	refused, _ := b.refusal(err)
	for _, p := range pending {
		p.frame.Err, p.frame.Down = refused, true
		if p.payload.written {
			p.frame.Err = uncertain
		}
	}
	b.reload(ctx)
}

// reload makes a ClusterClient fetch the cluster's present shape. By itself it does so once a minute, but not after it
// failed to reach a master.
func (b *bus) reload(ctx context.Context) {
	if c, ok := b.rdb.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
}

// publishing is the PUBLISH of one frame.
type publishing struct {
	redis.IntCmd
	frame   *wire.Frame
	payload payload
	args    [3]any

	replied    bool // the server accepted or refused it
	sentBefore bool // in an earlier attempt, whose reply never came
}

// NoRetry makes go-redis send the command once.
func (*publishing) NoRetry() bool { return true }

// SetErr is called by go-redis after each reply, with nil or the server's refusal. If the batch fails later, go-redis
// calls it for all commands, even those with a reply; a reply stays.
func (p *publishing) SetErr(err error) {
	if p.replied {
		return
	}
	p.replied = err == nil || isReply(err) && p.payload.written
	p.IntCmd.SetErr(err)
}

// publishings makes the commands of a batch.
func publishings(ctx context.Context, command string, frames []wire.Frame) []*publishing {
	all := make([]publishing, len(frames))
	batch := make([]*publishing, len(frames))
	verb, topic := any(command), any(nil) // one object for all, and one for neighbours with the same topic
	for i := range frames {
		p := &all[i]
		p.frame, p.payload.data = &frames[i], frames[i].Data
		if i == 0 || frames[i].Topic != frames[i-1].Topic {
			topic = frames[i].Topic
		}
		p.args = [3]any{verb, topic, &p.payload}
		p.IntCmd = *redis.NewIntCmd(ctx, p.args[:]...)
		batch[i] = p
	}
	return batch
}

// payload is the bytes of a frame. It records whether they were ever written to a connection. If not, nobody received
// them, whatever the error is.
type payload struct {
	data    []byte
	written bool
}

// MarshalBinary is called by go-redis when it writes the command. It returns the bytes without a copy.
func (p *payload) MarshalBinary() ([]byte, error) {
	p.written = true
	return p.data, nil
}

// String is shown by tracing hooks.
func (p *payload) String() string { return fmt.Sprintf("<%d bytes>", len(p.data)) }

// isReply reports whether err is an answer of the server.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// isBroken reports whether err means that an established connection was closed. A time-out does not.
func isBroken(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isDenied reports whether the server refuses the credentials, or the user lacks a permission.
func isDenied(err error) bool {
	return redis.IsPermissionError(err) || isDeniedLogin(err)
}

func isDeniedLogin(err error) bool {
	return redis.IsAuthError(err) ||
		redis.HasErrorPrefix(err, "DENIED ") || // protected mode
		redis.HasErrorPrefix(err, "AUTH ") // a password where the server has none
}

// isDown reports whether the server, and not one command, is the reason for its refusal.
func isDown(err error) bool {
	return redis.IsLoadingError(err) || redis.IsClusterDownError(err) || redis.IsMasterDownError(err) ||
		redis.IsReadOnlyError(err) || redis.IsTryAgainError(err) || redis.IsMaxClientsError(err) || isDeniedLogin(err)
}

// refusal returns the error of a frame that nobody received, and whether other frames would get the same error.
func (b *bus) refusal(err error) (wrapped error, down bool) {
	return errtext.Errorf("%w: %w", crosscast.ErrRefused, b.explain(err)), isDown(err)
}

// explain adds the server's name and a likely cause to an error. It matches crosscast.ErrDenied if a permission is
// missing.
func (b *bus) explain(err error) error {
	err = Discreet(err)
	switch {
	case redis.IsPermissionError(err):
		return errtext.Errorf("%s: %w: %w (the user needs %s)", b.name, crosscast.ErrDenied, err, b.Needs)
	case isDenied(err):
		return errtext.Errorf("%s: %w: %w", b.name, crosscast.ErrDenied, err)
	}
	return errtext.Errorf("%s: %w%s", b.name, err, b.hintMode(err))
}

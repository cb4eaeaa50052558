// Package redisbus is Redis Pub/Sub, plain or sharded, as a wire.Bus.
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
	"github.com/crosscast/crosscast/wire"
)

// Config says how a bus uses Redis.
type Config struct {
	// Anchor is a name whose slot decides through which master of a Redis Cluster everything is published, unless it is
	// sharded.
	Anchor string
	// Needs is what the user must be allowed to, for the text of errors.
	Needs string
	// Sharded makes it use SPUBLISH and SSUBSCRIBE.
	Sharded bool
	// Once is for frames of which receivers cannot tell copies: what may have reached the server is not sent again.
	Once bool
	// Timeout is what the context of a batch allows beyond what its bytes need: wire.Options.PublishTimeout.
	Timeout time.Duration
}

// bus is Redis Pub/Sub through a client of the user's, which it neither changes nor closes.
type bus struct {
	Config
	topology
	rdb  redis.UniversalClient
	name string // what errors call the server
	tls  bool   // the client speaks TLS
	err  error  // why the client cannot be used
}

// New returns a bus over rdb. Mistakes in rdb are errors of its methods.
func New(rdb redis.UniversalClient, c Config) wire.Bus {
	if cluster, ok := rdb.(*redis.ClusterClient); ok && c.Sharded {
		return &shards{Config: c, rdb: cluster}
	}
	return newBus(rdb, c)
}

func newBus(rdb redis.UniversalClient, c Config) *bus {
	b := &bus{Config: c, rdb: rdb, name: "redis"}
	switch c := rdb.(type) {
	case nil:
		b.err = errors.New("crosscast: no Redis client")
	case *redis.Client:
		o := c.Options()
		b.name, b.tls = "redis at "+o.Addr, o.TLSConfig != nil
		if o.Addr == "FailoverClient" { // what go-redis puts in the place of an address
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

// attempts is how often a batch is sent when the connection breaks under it. A pooled connection may have been closed
// by the server while it was idle, and its first use is when that shows.
const attempts = 3

// Publish implements wire.Bus: one pipeline for a batch.
//
// go-redis's own retries are off for these commands. It would repeat the whole batch, also after a time-out, so that
// one call lasts four and every frame goes out four times. Here only what has no reply is sent again, and only when the
// connection was closed; and what has been written to a connection once stays uncertain, whatever comes later.
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

// command is what Redis calls a command of plain Pub/Sub, for this bus.
func (b *bus) command(plain string) string {
	if b.Sharded {
		return "s" + plain
	}
	return plain
}

// send makes one attempt. All frames go through one connection of one server, or their order would be lost.
func (b *bus) send(ctx context.Context, batch []*publishing) error {
	if b.err != nil {
		return b.err
	}
	// PUBLISH has no key, so a ClusterClient sends each to any master. The cluster passes it on to all its nodes.
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

// largeBatch is the size in bytes from which a batch may need longer than the client's time-outs allow.
const largeBatch = 64 << 10

// part is how many bytes of a batch may go out in one pipeline, by the client's time-outs: go-redis would end the wait
// for all replies, and the writing of all commands, with those, however many bytes there are. A single frame above that
// needs a client with the time-out longest, which has the same pools, but lacks the hooks.
func (b *bus) part(ctx context.Context, c redis.UniversalClient, batch []*publishing) (size int, longest time.Duration) {
	node, ok := c.(*redis.Client)
	deadline, bounded := ctx.Deadline()
	if !ok || !bounded {
		return math.MaxInt, 0
	}
	longest = time.Until(deadline)
	need, n := longest-b.Timeout, 0 // what the bytes need
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

// settle enters the outcomes of the frames that were replied to. It returns the others, and whether any of them may
// have reached the server.
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
			if p.sentBefore { // then this says nothing of the first time
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

// reload makes a ClusterClient look for the cluster's present shape. By itself it does so once a minute, and not when
// a master cannot be reached.
func (b *bus) reload(ctx context.Context) {
	if c, ok := b.rdb.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
}

// publishing is the PUBLISH of one frame.
type publishing struct {
	*redis.IntCmd
	frame   *wire.Frame
	payload payload

	replied    bool // the server accepted or refused it
	sentBefore bool // in an earlier attempt, whose reply never came
}

// NoRetry makes go-redis send the command once.
func (*publishing) NoRetry() bool { return true }

// SetErr is what go-redis calls after it has read a reply, with nil or the server's refusal. When the batch fails later
// it enters the failure for all commands, those included that were replied to; a reply stays.
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
	args := make([]any, 0, 3*len(frames))
	batch := make([]*publishing, len(frames))
	for i := range frames {
		p := &all[i]
		p.frame, p.payload.data = &frames[i], frames[i].Data
		args = append(args, command, frames[i].Topic, &p.payload)
		p.IntCmd = redis.NewIntCmd(ctx, args[3*i:3*i+3:3*i+3]...)
		batch[i] = p
	}
	return batch
}

// payload is the bytes of a frame on their way into a connection. It knows whether they ever were: what failed before
// that was received by nobody, whatever the error says.
type payload struct {
	data    []byte
	written bool
}

// MarshalBinary is what go-redis calls when it writes the command. It writes the bytes as they are, without a copy.
func (p *payload) MarshalBinary() ([]byte, error) {
	p.written = true
	return p.data, nil
}

// String is what tracing hooks show.
func (p *payload) String() string { return fmt.Sprintf("<%d bytes>", len(p.data)) }

// isReply reports whether err is an answer of the server.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// isBroken reports whether err says that an established connection was closed. A time-out does not.
func isBroken(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isDenied reports whether the server refuses the credentials, or what their user may do.
func isDenied(err error) bool {
	return redis.IsPermissionError(err) || isDeniedLogin(err)
}

func isDeniedLogin(err error) bool {
	return redis.IsAuthError(err) ||
		redis.HasErrorPrefix(err, "DENIED ") || // protected mode
		redis.HasErrorPrefix(err, "AUTH ") // a password where the server has none
}

// isDown reports whether the server, rather than one command, is the reason of its refusal.
func isDown(err error) bool {
	return redis.IsLoadingError(err) || redis.IsClusterDownError(err) || redis.IsMasterDownError(err) ||
		redis.IsReadOnlyError(err) || redis.IsTryAgainError(err) || redis.IsMaxClientsError(err) || isDeniedLogin(err)
}

// refusal is the error of a frame that nobody received, and whether other frames would fare the same.
func (b *bus) refusal(err error) (wrapped error, down bool) {
	return fmt.Errorf("%w: %w", crosscast.ErrRefused, b.explain(err)), isDown(err)
}

// explain names the server in an error, and says in words what is likely to be wrong. It matches
// crosscast.ErrDenied where that is why.
func (b *bus) explain(err error) error {
	err = Discreet(err)
	switch {
	case redis.IsPermissionError(err):
		return fmt.Errorf("%s: %w: %w (the user needs %s)", b.name, crosscast.ErrDenied, err, b.Needs)
	case isDenied(err):
		return fmt.Errorf("%s: %w: %w", b.name, crosscast.ErrDenied, err)
	}
	return fmt.Errorf("%s: %w", b.name, err)
}

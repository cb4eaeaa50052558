package redisbus

import (
	"cmp"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// Remote is the address of the server that a link is connected to.
func Remote(l wire.Link) string { return l.(*link).remote() }

// SubscriberOptions are those of the client that a link of b would have.
func SubscriberOptions(ctx context.Context, b wire.Bus) (*redis.Options, error) {
	c, err := b.(*bus).subscriber(ctx, new(line))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Options(), nil
}

// MakeCommands makes the commands of a batch, and drops them.
func MakeCommands(ctx context.Context, frames []wire.Frame) int {
	return len(publishings(ctx, "publish", frames))
}

// Join makes one link of a link to each master.
func Join(rdb *redis.ClusterClient, links map[string]wire.Link) wire.Link {
	return (&shards{Config: Config{Sharded: true}, rdb: rdb}).join(links)
}

// Replies returns a function that reads what a server sends to a subscriber, from bytes.
func Replies(text []byte) func() (wire.Event, error) { return RepliesInParts(text, len(text)) }

// RepliesInParts is like Replies. A read brings at most size bytes.
func RepliesInParts(text []byte, size int) func() (wire.Event, error) {
	return receiver(newRespConn(&script{left: text, size: size}, 0, 0))
}

// OwnReplies is like Replies, of a part of a sharded link.
func OwnReplies(text []byte) func() (wire.Event, error) {
	c := newRespConn(&script{left: text}, 0, 0)
	c.own = true
	return receiver(c)
}

func receiver(c *respConn) func() (wire.Event, error) {
	return func() (wire.Event, error) {
		r, err := c.receive()
		return wire.Event{Kind: r.kind, Topic: c.topic(r.name), Data: r.data}, err
	}
}

// Answers returns a link that has requested topics, and gets the given bytes as answers.
func Answers(topics []string, text []byte) wire.Link {
	l := &link{bus: &bus{}, conn: newRespConn(&script{left: text}, 0, 0)}
	_ = l.Subscribe(topics)
	return l
}

// script is a connection that brings some bytes, and then ends.
type script struct {
	net.Conn
	left []byte
	size int // of the largest part; 0: no limit
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.left[:min(len(s.left), cmp.Or(s.size, len(s.left)))])
	s.left = s.left[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Close() error                     { return nil }

// HalfWriting returns a link on a connection that writes half of the first command, until the deadline. written returns
// all that was written.
func HalfWriting() (l wire.Link, written func() string) {
	c := &halfWriting{}
	return &link{bus: &bus{}, conn: newRespConn(c, 0, 0)}, c.written.String
}

type halfWriting struct {
	script
	written strings.Builder
	closed  bool
}

func (c *halfWriting) Write(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	if c.written.Len() == 0 {
		n, _ := c.written.Write(p[:len(p)/2])
		return n, os.ErrDeadlineExceeded
	}
	return c.written.Write(p)
}

func (c *halfWriting) Read(p []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.script.Read(p)
}

func (c *halfWriting) Close() error {
	c.closed = true
	return nil
}

// Tags returns the hash tags with their slots.
func Tags() (all []string, slots []int) {
	for _, tag := range tags() {
		all, slots = append(all, tag), append(slots, slotOf(strings.Trim(tag, "{}")))
	}
	return all, slots
}

// TagOf returns the index of the tag of a topic in a group. The topic lacks its prefix.
func TagOf(group int, rest string) int { return tagOf(group, rest) }

// SlotOf returns the slot of a hash tag without braces.
func SlotOf(tag string) int { return slotOf(tag) }

// DialLate is the part of a group's Dial that goes on after its context has ended.
func DialLate(ctx context.Context, bus wire.Bus) error {
	_, err := bus.(*group).dial(ctx)
	return err
}

// MastersOfTags finds the master of each tag, as far as the client knows, and returns the names of the buses that are kept.
func MastersOfTags(ctx context.Context, g wire.Bus) (names []string, err error) {
	h := g.(*group).hub
	for tag := range allTags {
		if _, err := h.master(ctx, tag); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := map[*bus]bool{}
	for _, b := range h.masters {
		if !kept[b] {
			names = append(names, b.name)
		}
		kept[b] = true
	}
	return names, nil
}

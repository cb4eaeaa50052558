package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

type tailCommand struct {
	Room  string        `arg:"" optional:"" help:"Only what is for this room, or for everyone. Default: all, if this user may hear it."`
	Count int           `help:"End after so many emissions; 0: never." default:"0"`
	For   time.Duration `help:"Listen for this time; 0: without end." default:"0s"`
	Width int           `help:"Print so many bytes of a payload at most; 0: all." default:"200"`
	Shard string        `help:"Name of this Redis, if it is one of several of redisadapter.NewShards, and the nodes have a seal."`
}

// Help is shown by tail --help.
func (tailCommand) Help() string {
	return "It shows what passes through Redis. Deliveries within a node do not: an emission of a node without peers, a Local " +
		"one, and one to a socket of the same node. It is in no room, so no query counts it. Redis counts it among those who " +
		"got a message. An emission to several rooms is shown for each of them. What Redis drops because this command does " +
		"not keep up is not noticed."
}

// An emission is what tail prints.
type emission struct {
	At        time.Time        `json:"at"`
	From      crosscast.NodeID `json:"from,omitempty"`
	To        string           `json:"to"`
	Namespace string           `json:"namespace"`
	Event     string           `json:"event"`
	Data      json.RawMessage  `json:"data,omitempty"`
}

// A dialect reads emissions from messages of one mode.
type dialect interface {
	// channels are those to hear for a room, and patterns those for all; of each, the second is a wish.
	channels(namespace, room string) (subscribe, patterns []string)
	read(channel string, message []byte, each func(emission))
}

// Run prints emissions until it is interrupted.
func (c *tailCommand) Run(ctx context.Context, s *session) error {
	if s.Mode == modeSharded {
		return fail(exitUsage, "tail does not work with --mode %s: Redis has no patterns for sharded channels, and the servers "+
			"take whoever subscribes to a channel of theirs for a server, and wait for its answers", modeSharded)
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.expectNodes(ctx); err != nil {
		return err
	}
	if c.Room != "" {
		if err := s.learnTopics(ctx, []crosscast.Address{{Namespace: s.Namespace, Space: crosscast.SpaceRoom, Name: c.Room}}); err != nil {
			return err
		}
	} else if s.Mode == modeCrosscast {
		if err := s.learnSharded(ctx); err != nil {
			return err
		}
	}
	if s.sharded {
		if c.Room != "" {
			return fail(exitUsage, "tail does not work with a room of nodes with Options.Sharded")
		}
		fmt.Fprintln(s.log, "emissions to rooms and users are not shown: the nodes have Options.Sharded, and Redis has no patterns for sharded channels")
	}
	own := &ownDialect{lens: wire.Lens{Prefix: s.Prefix, Seal: s.seal, Part: c.Shard}, topics: s.topics}
	if s.sharded {
		own.lens.Part = "sharded"
	}
	own.refused = func() {
		fmt.Fprintf(s.log, "messages are not shown, because of the seal%s%s\n", s.sealHint(), c.shardHint(s))
	}
	var d dialect = own
	if s.Mode == modeClassic {
		d = &classicDialect{s.Prefix}
	}
	heard, err := c.listen(ctx, s, d)
	if err != nil && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer heard.Close()
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, func() { heard.Close() }) // a context alone does not end a wait for a message
	defer stop()
	left := c.Count
	var printErr error
	for printErr == nil {
		v, err := heard.Receive(context.WithoutCancel(ctx))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fail(exitUnreachable, "%s: %w", s.where(), err)
		}
		m, ok := v.(*redis.Message)
		if !ok {
			continue
		}
		d.read(m.Channel, []byte(m.Payload), func(e emission) {
			if c.Room != "" && (e.Namespace != s.Namespace || e.To != c.Room && e.To != "everyone") || printErr != nil {
				return
			}
			printErr = c.print(s, e)
			if left--; left == 0 {
				printErr = errDone
			}
		})
	}
	if errors.Is(printErr, errDone) {
		return nil
	}
	return printErr
}

// shardHint says what else might be wrong if the keys are right.
func (c *tailCommand) shardHint(s *session) string {
	switch {
	case len(s.seal.Keys) == 0 || s.sharded:
		return ""
	case c.Shard == "":
		return " If they have, this is one of several Redises: say its name with --shard."
	}
	return fmt.Sprintf(" If they have, this is not their shard %q.", c.Shard)
}

var errDone = errors.New("done")

// listen subscribes to a room's channel, or to all by patterns.
func (c *tailCommand) listen(ctx context.Context, s *session, d dialect) (*redis.PubSub, error) {
	ctx, cancel := s.patient(ctx)
	defer cancel()
	subscribe, patterns := d.channels(s.Namespace, c.Room)
	ps := s.rdb.Subscribe(ctx)
	await := func(err error, n int) error {
		for err == nil && n > 0 {
			var v any
			if v, err = ps.ReceiveTimeout(ctx, s.Timeout); err == nil {
				if _, ok := v.(*redis.Subscription); ok {
					n--
				}
			}
		}
		return err
	}
	give := func(err error, forbidden string) (*redis.PubSub, error) {
		_ = ps.Close()
		if redis.IsPermissionError(err) {
			return nil, fail(exitUnreachable, "this user cannot hear %s: %w", forbidden, err)
		}
		return nil, fail(exitUnreachable, "%s: %w", s.where(), err)
	}
	if len(subscribe) > 0 {
		if err := await(ps.Subscribe(ctx, subscribe...), len(subscribe)); err != nil {
			return give(err, fmt.Sprintf("the room %q", c.Room))
		}
	}
	err := await(ps.PSubscribe(ctx, patterns...), len(patterns))
	switch {
	case err == nil:
	case c.Room != "" && redis.IsPermissionError(err):
		fmt.Fprintf(s.log, "what is for everyone, or for more than 8 rooms, is not shown: %s\n", clean(err))
	default:
		return give(err, fmt.Sprintf("all rooms, only one by its name (it needs +psubscribe, and the channels &%s written "+
			"exactly so)", strings.Join(patterns, " &")))
	}
	return ps, nil
}

func (c *tailCommand) print(s *session, e emission) error {
	if s.JSON {
		return json.NewEncoder(s.out).Encode(e)
	}
	data := string(e.Data)
	if c.Width > 0 && len(data) > c.Width {
		data = fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(data[:c.Width], ""), len(data))
	}
	from := string(e.From)
	if from == "" {
		from = "-"
	}
	line := fmt.Sprintf("%s  %s  %s  %s %s", e.At.Format("15:04:05.000"), shown(from), shown(e.To), shown(e.Event), shown(data))
	_, err := fmt.Fprintln(s.out, strings.TrimSuffix(line, " "))
	return err
}

// ownDialect is the frames of crosscast's nodes.
type ownDialect struct {
	lens   wire.Lens
	topics []int // see session.topics

	refused func() // is called for the first message that the seal refuses; then it is nil
}

func (d *ownDialect) channels(namespace, room string) (subscribe, patterns []string) {
	if room == "" {
		return nil, []string{d.lens.Prefix + ":*"}
	}
	// A pattern, so that whoever counts the nodes by their subscriptions does not count this command.
	address := crosscast.Address{Namespace: namespace, Space: crosscast.SpaceRoom, Name: room}
	everyone := d.lens.Topic(crosscast.Address{})
	for _, n := range d.topics {
		lens := wire.Lens{Prefix: d.lens.Prefix, Topics: n}
		if channel := lens.Topic(address); channel != everyone {
			subscribe = append(subscribe, channel)
		}
	}
	return subscribe, []string{everyone}
}

func (d *ownDialect) read(channel string, message []byte, each func(emission)) {
	at := time.Now()
	err := d.lens.Read(channel, message, func(inst *crosscast.Instruction) { // what nobody understands is not shown
		if inst.Kind != kind.Emit {
			return
		}
		e := emission{At: at, From: inst.From, Namespace: inst.Namespace, Event: inst.Event}
		if inst.Payload.Encoding != crosscast.EncodingNone {
			e.Data, _ = inst.Payload.AppendJSON(nil)
		}
		for _, to := range recipients(&inst.Target) {
			e.To = to
			each(e)
		}
	})
	if errors.Is(err, wire.ErrSealed) && d.refused != nil {
		d.refused()
		d.refused = nil
	}
}

// recipients lists whom an emission is for.
func recipients(t *crosscast.Target) []string {
	if t.Everyone {
		return []string{"everyone"}
	}
	all := slices.Clone(t.Rooms)
	for _, u := range t.Users {
		all = append(all, "user "+u)
	}
	for _, id := range t.Sockets {
		all = append(all, "socket "+string(id))
	}
	return all
}

// classicDialect is the messages of Socket.IO's servers.
type classicDialect struct{ key string }

func (d *classicDialect) channels(namespace, room string) (subscribe, patterns []string) {
	return nil, []string{d.key + "#*"} // as the servers do
}

func (d *classicDialect) read(channel string, message []byte, each func(emission)) {
	text, _, err := mpack.AppendJSON(nil, message, func(dst, b []byte) []byte {
		return mpack.AppendQuoted(dst, counted(len(b), "byte"))
	})
	var server string
	var packet struct {
		Data      []json.RawMessage `json:"data"`
		Namespace string            `json:"nsp"`
	}
	var options struct{ Rooms []string }
	parts := []any{&server, &packet, &options}
	if err != nil || json.Unmarshal(text, &parts) != nil || len(packet.Data) == 0 {
		return
	}
	e := emission{At: time.Now(), From: crosscast.NodeID(server), Namespace: packet.Namespace}
	if json.Unmarshal(packet.Data[0], &e.Event) != nil {
		return
	}
	if e.Namespace == "" {
		e.Namespace = "/"
	}
	switch rest := packet.Data[1:]; len(rest) {
	case 0:
	case 1:
		e.Data = rest[0]
	default:
		e.Data, _ = json.Marshal(rest)
	}
	to := options.Rooms
	if len(to) == 0 {
		to = []string{"everyone"}
	}
	for _, e.To = range to {
		each(e)
	}
}

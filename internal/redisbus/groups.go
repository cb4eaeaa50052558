package redisbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/wire"
)

// Groups returns the buses of sharded Pub/Sub for the frames of nodes, on a Redis Cluster: those of the groups of tags
// (tags.go), and home, which is plain Pub/Sub through the master of the anchor. c.Anchor is the prefix of topics.
//
// All groups share one subscribing connection to each master, and the client for publishing.
func Groups(rdb redis.UniversalClient, c Config) (home wire.Bus, groups []wire.Bus) {
	h := &hub{
		Config: c, client: rdb, err: c.Err, left: 1 + allGroups, conns: map[string]*groupConn{}, dialling: map[string]*dialling{},
	}
	h.Sharded = true
	cluster, ok := rdb.(*redis.ClusterClient)
	if h.rdb = cluster; !ok && h.err == nil {
		h.err = errors.New("crosscast: Options.Sharded is for a Redis Cluster: give the adapter a redis.ClusterClient, " +
			"or a URL that begins with redis+cluster or rediss+cluster")
	}
	c.Owned, c.Near, c.Err = false, true, h.err
	for i := range allGroups {
		groups = append(groups, &group{hub: h, number: i})
	}
	return &homeBus{newBus(rdb, c), h}, groups
}

// homeBus is the bus of what concerns no group.
type homeBus struct {
	*bus
	hub *hub
}

// Close implements io.Closer.
func (b *homeBus) Close() error { return b.hub.release() }

// hub is what all groups share.
type hub struct {
	Config
	client redis.UniversalClient // what Groups got, for Close
	rdb    *redis.ClusterClient  // nil: the client is another one
	err    error                 // why the client cannot be used

	loading  sync.Mutex
	loadedAt time.Time // when the shape of the cluster was loaded; guarded by loading

	mu       sync.Mutex // guards the fields below
	left     int        // buses that are not closed
	conns    map[string]*groupConn
	dialling map[string]*dialling
	masters  [allTags]*bus // the latest known master of each tag; tags of one master share the bus
	current  [allGroups]*groupLink
}

// dialling is an attempt to connect, which several groups might wait for.
type dialling struct {
	done chan struct{}
	conn *groupConn
	err  error // both are set before done is closed
}

// group is the bus of one group of tags.
type group struct {
	*hub
	number int
}

// Check implements wire.Checked.
func (h *hub) Check() error { return h.err }

// Scattered implements wire.Scattered. A group might be on two masters.
func (h *hub) Scattered() bool { return true }

// Patchy implements wire.Patchy. While the cluster is divided, two servers might take themselves for the master of a
// slot.
func (h *hub) Patchy() bool { return true }

// Close implements io.Closer.
func (h *hub) Close() error { return h.release() }

// release notes that one of the buses is closed.
func (h *hub) release() error {
	h.mu.Lock()
	h.left--
	last := h.left == 0
	h.mu.Unlock()
	if !last || !h.Owned || h.client == nil {
		return nil
	}
	return h.client.Close()
}

// freshLoad is for how long a loaded shape of the cluster is good enough for other attempts. There might be many while a
// master is down.
const freshLoad = 100 * time.Millisecond

// load loads the present shape of the cluster.
func (h *hub) load(ctx context.Context) {
	h.loading.Lock()
	defer h.loading.Unlock()
	if time.Since(h.loadedAt) < freshLoad {
		return
	}
	_ = h.rdb.ForEachMaster(ctx, func(context.Context, *redis.Client) error { return nil }) // loads it first
	h.loadedAt = time.Now()
}

// master returns the bus of the master of a tag.
func (h *hub) master(ctx context.Context, tag int) (*bus, error) {
	c, err := h.rdb.MasterForKey(ctx, tags()[tag])
	if err != nil {
		return nil, errtext.Errorf("redis cluster: %w", Discreet(err))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.masters[tag]
	if b == nil || b.rdb != c { // it is new, or go-redis has replaced a client that was not used for long
		b = h.busOfLocked(c)
		h.masters[tag] = b
	}
	return b, nil
}

// busOfLocked returns the bus of a master, which another tag might have already.
func (h *hub) busOfLocked(c *redis.Client) *bus {
	for _, b := range h.masters {
		if b != nil && b.rdb == c {
			return b
		}
	}
	b := newBus(c, h.Config)
	b.shard = true
	return b
}

// tagOf returns the index of a topic's tag.
func (g *group) tagOf(topic string) int {
	return tagOf(g.number, topic[min(len(g.Anchor), len(topic)):])
}

// While slots move, masters refuse what they do not have any more, or not yet. That is over when all know the new
// master.
const (
	movingTime  = 2 * time.Second
	movingPause = 10 * time.Millisecond
)

// Publish implements wire.Bus. It sends one pipeline to each master, concurrently. What a server refuses because its slots
// have moved is sent again, to the present master, for a while.
func (g *group) Publish(ctx context.Context, frames []wire.Frame) {
	todo := make([]int, len(frames))
	for i := range todo {
		todo[i] = i
	}
	began := time.Now()
	for pause := movingPause; ; pause *= 2 {
		g.publish(ctx, frames, todo)
		failed := false
		again := todo[:0]
		for _, i := range todo {
			failed = failed || frames[i].Err != nil
			if isElsewhere(frames[i].Err) {
				again = append(again, i)
			}
		}
		if failed {
			g.rdb.ReloadState(ctx)
		}
		if todo = again; len(todo) == 0 || time.Since(began)+pause > movingTime {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		g.load(ctx)
	}
}

// publish sends the frames with these indexes once.
func (g *group) publish(ctx context.Context, frames []wire.Frame, todo []int) {
	type part struct {
		bus    *bus
		frames []wire.Frame
		at     []int // their indexes in the argument frames
	}
	var parts []*part
	for _, i := range todo {
		f := &frames[i]
		tag := g.tagOf(f.Topic)
		b, err := g.master(ctx, tag)
		if err != nil {
			f.Err, f.Down = errtext.Errorf("%w: %w", crosscast.ErrRefused, err), true
			continue
		}
		var p *part
		for _, other := range parts {
			if other.bus == b {
				p = other
			}
		}
		if p == nil {
			p = &part{bus: b}
			parts = append(parts, p)
		}
		p.frames = append(p.frames, wire.Frame{Topic: f.Topic + tags()[tag], Data: f.Data})
		p.at = append(p.at, i)
	}
	var wg sync.WaitGroup
	for k, p := range parts {
		if k == len(parts)-1 { // often the only one
			p.bus.Publish(ctx, p.frames)
		} else {
			wg.Go(func() { p.bus.Publish(ctx, p.frames) })
		}
	}
	wg.Wait()
	for _, p := range parts {
		for k, i := range p.at {
			f := &frames[i]
			f.Receivers, f.Err, f.Down = p.frames[k].Receivers, p.frames[k].Err, p.frames[k].Down
			f.Down = f.Down || isElsewhere(f.Err)
		}
	}
}

// isElsewhere reports whether a server has refused a command because it does not have its slot, or not yet. Nobody got
// it then.
func isElsewhere(err error) bool {
	return errors.Is(err, crosscast.ErrRefused) && isMoving(err)
}

// isMoving reports whether a reply means that a slot is elsewhere, or on its way.
func isMoving(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, prefix := range [...]string{"MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN "} {
		if strings.HasPrefix(reply.Error(), prefix) {
			return true
		}
	}
	return false
}

// Dial implements wire.Bus. The link has the connections to all masters of the group's tags. Dial returns by the end of
// ctx.
func (g *group) Dial(ctx context.Context) (wire.Link, error) {
	type dialled struct {
		link *groupLink
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		link, err := g.dial(ctx)
		done <- dialled{link, err}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, d.err
		}
		return d.link, nil
	case <-ctx.Done():
		go func() {
			if d := <-done; d.err == nil {
				_ = d.link.Close()
			}
		}()
		return nil, errtext.Errorf("cannot connect to redis cluster: no answer: %w", ctx.Err())
	}
}

func (g *group) dial(ctx context.Context) (*groupLink, error) {
	g.mu.Lock()
	old := g.current[g.number]
	g.mu.Unlock()
	if old != nil {
		_ = old.Close() // before the new link requests the same topics on the same connections
	}
	g.load(ctx)
	l := &groupLink{
		g: g, channels: map[string]struct{}{}, events: make(chan wire.Event, maxWaiting), ended: make(chan struct{}),
	}
	for i := range groupTags {
		b, err := g.master(ctx, g.number*groupTags+i)
		if err == nil {
			l.conns[i], err = g.connect(ctx, b, l)
		}
		if err != nil {
			g.rdb.ReloadState(context.WithoutCancel(ctx))
			_ = l.Close()
			return nil, err
		}
	}
	if !g.use(ctx, l) {
		_ = l.Close()
		return nil, ctx.Err()
	}
	return l, nil
}

// use makes l the link of the group. It returns false if Dial has given l up: then another one might be in use already.
func (g *group) use(ctx context.Context, l *groupLink) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	g.current[g.number] = l
	for _, c := range l.distinct {
		c.attach(l)
	}
	return true
}

// connect returns the connection to a master, for l.
func (h *hub) connect(ctx context.Context, b *bus, l *groupLink) (*groupConn, error) {
	h.mu.Lock()
	if c := h.conns[b.name]; c != nil {
		h.useLocked(c, l)
		h.mu.Unlock()
		return c, nil
	}
	d := h.dialling[b.name]
	first := d == nil
	if first {
		d = &dialling{done: make(chan struct{})}
		h.dialling[b.name] = d
	}
	h.mu.Unlock()
	if first {
		d.conn, d.err = h.dialConn(ctx, b)
		h.mu.Lock()
		delete(h.dialling, b.name)
		if d.err == nil {
			h.conns[b.name] = d.conn
			h.useLocked(d.conn, l)
			d.conn.begin()
		}
		h.mu.Unlock()
		close(d.done)
		return d.conn, d.err
	}
	select {
	case <-d.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if d.err != nil {
		return nil, d.err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[b.name] != d.conn {
		return nil, fmt.Errorf("the link to %s has ended at once", b.name)
	}
	h.useLocked(d.conn, l)
	return d.conn, nil
}

// useLocked notes that l uses c.
func (h *hub) useLocked(c *groupConn, l *groupLink) {
	for _, known := range l.distinct {
		if known == c {
			return
		}
	}
	l.distinct = append(l.distinct, c)
	c.users++
}

// leave notes that a link does not use c any more. It reports whether no link does.
func (h *hub) leave(c *groupConn) (last bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.users--
	if c.users == 0 && h.conns[c.bus.name] == c {
		delete(h.conns, c.bus.name)
	}
	return c.users == 0
}

// forget takes a broken connection out of use.
func (h *hub) forget(c *groupConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[c.bus.name] == c {
		delete(h.conns, c.bus.name)
	}
}

func (h *hub) dialConn(ctx context.Context, b *bus) (*groupConn, error) {
	dialled, err := b.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &groupConn{hub: h, bus: b, link: dialled.(*link), broken: make(chan struct{})}
	c.proven.Store(time.Now().UnixNano())
	return c, nil
}

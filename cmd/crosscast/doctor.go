package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
)

type doctorCommand struct{}

// Help is shown by doctor --help.
func (doctorCommand) Help() string {
	return "It reads, and publishes nothing but to channels of its own and a query to the nodes. A fault is something to " +
		"mend, and makes the exit code 1. A note is something to know, or what the user may not look at."
}

// The verdicts.
const (
	ok    = "ok"
	note  = "note"
	fault = "FAULT"
)

// A finding is one result.
type finding struct {
	Verdict string `json:"verdict"`
	About   string `json:"about"`
	Text    string `json:"text"`
}

// An examination is one run of the doctor.
type examination struct {
	*session
	findings []finding
	unseen   []string // what the user may not look at
	clusters []cluster
	census   *census
	Likely   string        // the most likely cause; empty: there is none
	why      int           // how much it explains: see blame
	took     time.Duration // from publishing to Redis until it was back
}

func (e *examination) find(verdict, about, format string, args ...any) {
	e.findings = append(e.findings, finding{verdict, about, fmt.Sprintf(format, args...)})
}

// unknown notes what could not be looked at. What the user may not look at makes one note, at the end.
func (e *examination) unknown(about, what, permission string, err error) {
	if redis.IsPermissionError(err) {
		e.unseen = append(e.unseen, what+" ("+permission+")")
		return
	}
	e.find(note, about, "unknown: %s: %s", what, clean(err))
}

// Run examines Redis and the nodes.
func (doctorCommand) Run(ctx context.Context, s *session) error {
	e := &examination{session: s}
	err := e.run(ctx)
	e.conclude()
	faults := 0
	for _, f := range e.findings {
		if f.Verdict == fault {
			faults++
		}
	}
	if s.JSON {
		if err := s.json(map[string]any{"findings": e.findings, "clusters": e.clusters, "faults": faults, "mostLikely": e.Likely}); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case faults > 0:
		return fail(exitFault, "%s", counted(faults, "fault"))
	}
	return nil
}

func (e *examination) run(ctx context.Context) error {
	if err := e.connect(ctx); err != nil {
		if f := (*failure)(nil); errors.As(err, &f) && f.code == exitUnreachable {
			e.find(fault, "redis", "%s", clean(err))
			e.blame(4, "Redis is dead, hangs, or cannot be reached from here")
		}
		return err
	}
	if err := e.servers(ctx); err != nil {
		return err
	}
	e.buffers(ctx)
	e.slow(ctx)
	missing := e.prefixes(ctx)
	e.users(ctx)
	if err := e.start(ctx); err != nil {
		e.find(fault, "access", "%s", clean(err))
		return err
	}
	e.roundTrip(ctx)
	if missing != nil {
		return missing
	}
	if e.Mode != modeCrosscast {
		return e.foreign(ctx)
	}
	return e.nodes(ctx)
}

// servers looks at each Redis: who it is, and how long it takes to answer.
func (e *examination) servers(ctx context.Context) error {
	ctx, cancel := e.patient(ctx)
	defer cancel()
	var mu sync.Mutex
	versions := make(map[string]int)
	return e.eachServer(ctx, func(ctx context.Context, rdb *redis.Client) error {
		var times []time.Duration
		for range 11 {
			began := time.Now()
			if err := rdb.Ping(ctx).Err(); err != nil && !redis.IsPermissionError(err) {
				return fail(exitUnreachable, "redis at %s: %w", e.addr(rdb), err)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		latency := fmt.Sprintf("answers in %v, at most %v", rounded(times[5]), rounded(times[10]))
		text, err := rdb.Info(ctx, "server", "replication").Result()
		mu.Lock()
		defer mu.Unlock()
		info := fields(text)
		version := info["redis_version"]
		switch {
		case err != nil:
			e.find(ok, "redis", "%s: %s", e.addr(rdb), latency)
			e.unknown("redis", "the version", "+info", err)
		case info["role"] == "slave":
			e.find(fault, "redis", "%s is a replica of %s:%s: what is published here reaches only those who subscribe here",
				e.addr(rdb), info["master_host"], info["master_port"])
		default:
			e.find(ok, "redis", "%s: Redis %s, %s, %s, for %s", e.addr(rdb), version,
				cmp.Or(info["redis_mode"], "standalone"), latency, uptime(info["uptime_in_seconds"]))
		}
		if versions[version]++; len(versions) > 1 && versions[version] == 1 && version != "" {
			e.find(note, "redis", "the servers have different versions")
		}
		if e.Mode == modeSharded && version != "" && !atLeast(version, 7) {
			e.find(fault, "redis", "%s has no sharded Pub/Sub: that needs Redis 7", version)
		}
		return nil
	})
}

// buffers looks at the limits beyond which Redis disconnects a subscriber.
func (e *examination) buffers(ctx context.Context) {
	ctx, cancel := e.patient(ctx)
	defer cancel()
	err := e.eachServer(ctx, func(ctx context.Context, rdb *redis.Client) error {
		limits, err := rdb.ConfigGet(ctx, "client-output-buffer-limit").Result()
		if err != nil {
			return err
		}
		largest, err := rdb.ConfigGet(ctx, "proto-max-bulk-len").Result()
		if err != nil {
			return err
		}
		e.limits(limits["client-output-buffer-limit"], largest["proto-max-bulk-len"])
		return nil
	})
	if err != nil {
		e.unknown("buffers", "the limits", "+config|get", err)
	}
}

// slow looks for subscribers that do not read what Redis has for them.
func (e *examination) slow(ctx context.Context) {
	ctx, cancel := e.patient(ctx)
	defer cancel()
	behind := 0
	err := e.eachServer(ctx, func(ctx context.Context, rdb *redis.Client) error {
		text, err := rdb.Do(ctx, "client", "list", "type", "pubsub").Text()
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			c := pairs(line)
			if n := number(c["omem"]); n > 1<<20 {
				behind++
				e.find(fault, "subscribers", "%s %s does not read: %s wait for it at Redis, which disconnects it at the limit",
					c["addr"], c["name"], bytesText(n))
			}
		}
		return nil
	})
	switch {
	case err != nil:
		e.unknown("subscribers", "whether all read", "+client|list", err)
	case behind == 0:
		e.find(ok, "subscribers", "all read what Redis has for them")
	}
}

// prefixes looks at who is here, and returns the failure if nobody has the prefix and mode of the command line.
func (e *examination) prefixes(ctx context.Context) error {
	ctx, cancel := e.patient(ctx)
	defer cancel()
	var err error
	if e.clusters, err = e.survey(ctx); err != nil {
		e.unknown("prefixes", "who else is here", "+pubsub", err)
		return nil
	}
	for i := range e.clusters {
		c := &e.clusters[i]
		if c.Mode == modeCrosscast {
			c.Nodes = e.namesIn(ctx, c.Prefix)
		}
		mine := ""
		if c.Mode == e.Mode && c.Prefix == e.Prefix {
			mine = ", the one of this command"
		}
		e.find(ok, "prefixes", "in use: %s%s", c, mine)
	}
	missing := e.mismatch(e.clusters)
	if missing != nil {
		e.find(fault, "prefixes", "%s", clean(missing))
	}
	return missing
}

// namesIn lists the nodes of a prefix by name.
func (e *examination) namesIn(ctx context.Context, prefix string) []string {
	flags := *e.flags
	flags.Prefix, flags.Mode, flags.Timeout = prefix, modeCrosscast, min(flags.Timeout, 2*time.Second)
	s := &session{flags: &flags, rdb: e.rdb}
	if err := s.start(ctx); err != nil {
		return nil
	}
	defer s.node.Close(ctx)
	_, _ = s.ns.Everyone().Has(ctx)
	var names []string
	for _, p := range s.node.Nodes() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

// roundTrip publishes to a channel of its own.
func (e *examination) roundTrip(ctx context.Context) {
	ctx, cancel := e.patient(ctx)
	defer cancel()
	channel := e.Prefix + ":r:/:doctor-" + rand.Text()
	subscribe, publish := e.rdb.Subscribe, e.rdb.Publish
	switch e.Mode {
	case modeClassic:
		channel = e.Prefix + "#/#doctor-" + rand.Text() + "#"
	case modeSharded:
		channel = e.Prefix + "#/#doctor-" + rand.Text() + "#"
		subscribe, publish = e.rdb.SSubscribe, e.rdb.SPublish
	}
	ps := subscribe(ctx, channel)
	defer ps.Close()
	if _, err := ps.Receive(ctx); err != nil {
		e.find(fault, "access", "this user cannot subscribe to %s: %s", channel, clean(err))
		return
	}
	began := time.Now()
	if err := publish(ctx, channel, "").Err(); err != nil {
		e.find(fault, "access", "this user cannot publish to %s: %s", channel, clean(err))
		return
	}
	if _, err := ps.ReceiveMessage(ctx); err != nil {
		e.find(fault, "access", "what was published to %s does not arrive: %s", channel, clean(err))
		return
	}
	e.took = time.Since(began)
	who, err := e.rdb.Do(ctx, "acl", "whoami").Text()
	if err != nil {
		who = "this user"
	}
	e.find(ok, "access", "this command's user %s may publish and subscribe; a message is back after %v", who, rounded(e.took))
	for command, why := range map[string]string{
		"ping": "nothing is lost without it", "role": "without it nodes do not notice that their server became a replica",
	} {
		if err := e.rdb.Do(ctx, command).Err(); redis.IsPermissionError(err) {
			e.find(note, "access", "%s lacks +%s: %s", who, command, why)
		}
	}
}

// nodes has the nodes say how they are, and compares them with the subscribers that Redis knows.
func (e *examination) nodes(ctx context.Context) error {
	began := time.Now()
	stop := e.waiting("asking the nodes")
	c, err := e.takeCensus(ctx)
	stop()
	if err != nil {
		return e.unanswered(err)
	}
	e.census = c
	for _, m := range c.Missing {
		e.find(fault, "nodes", "no answer of %s", m)
	}
	for _, l := range c.Lost {
		e.lost(&l)
	}
	for i := range c.Nodes {
		e.node(&c.Nodes[i])
	}
	e.slowNodes()
	e.otherTopics()
	e.unopened()
	if len(c.Nodes) > 0 && len(c.Missing) == 0 {
		e.find(ok, "nodes", "all have answered in %v", rounded(time.Since(began)))
	}
	e.deaf(len(c.Nodes))
	return nil
}

// unanswered handles the failure of a census. Subscribers without an answer are nodes that cannot say anything.
func (e *examination) unanswered(err error) error {
	i := slices.IndexFunc(e.clusters, func(c cluster) bool { return c.Mode == e.Mode && c.Prefix == e.Prefix })
	if f := (*failure)(nil); !errors.As(err, &f) || f.code != exitNobody || i < 0 {
		return err
	}
	e.find(fault, "nodes", "%s to %s, and no answer: these nodes may not publish, or hang%s", counted(e.clusters[i].Subscribers, "connection"),
		everyone(e.Mode, e.Prefix), e.sealHint())
	return fail(exitNobody, "no node with the prefix %q has answered at %s", e.Prefix, e.where())
}

// slowEcho is a round trip through Redis that somebody should look at.
const slowEcho = 250 * time.Millisecond

// slowNodes compares the nodes' ways to Redis with each other, and with that of this command.
func (e *examination) slowNodes() {
	var slow []string
	fast := time.Duration(0) // the slowest of the others
	for i := range e.census.Nodes {
		n := &e.census.Nodes[i]
		switch d := n.Stats.Adapter.EchoRoundTrip; {
		case !n.Stats.Adapter.Link.Live(): // its round trip is of old
		case d > slowEcho:
			slow = append(slow, fmt.Sprintf("%s (%s) needs %v", n.Name, n.ID, rounded(d)))
		default:
			fast = max(fast, d)
		}
	}
	text := strings.Join(slow, ", ") + " to Redis and back"
	switch {
	case len(slow) == 0:
	case fast > 0:
		e.blame(1, "the network or the processor of %s", strings.Join(slow, ", "))
		e.find(fault, "nodes", "%s, the others at most %v, this command %v: look at the network of that server, and at its processor",
			text, rounded(fast), rounded(e.took))
	case e.took < slowEcho/5:
		e.find(fault, "nodes", "%s, this command %v: look at the network between the servers and Redis", text, rounded(e.took))
	default:
		e.find(fault, "nodes", "%s, this command %v: look at Redis", text, rounded(e.took))
	}
}

// lost reports a node that others remember. If it has answered, they do not hear it.
func (e *examination) lost(l *lost) {
	if slices.ContainsFunc(e.census.Nodes, func(n row) bool { return n.ID == l.ID }) {
		e.find(fault, "nodes", "%s has answered, and is lost for %s since %s: they do not hear each other",
			l.Name, strings.Join(l.By, " and "), l.Heard.Format("15:04:05"))
		return
	}
	e.find(fault, "nodes", "lost: %s; it said no goodbye, so it died, hangs, or is cut off from Redis", l)
}

// deaf compares the nodes that answered with the connections that hear what is for everyone.
func (e *examination) deaf(answered int) {
	for _, cl := range e.clusters {
		if cl.Mode != e.Mode || cl.Prefix != e.Prefix {
			continue
		}
		channel := everyone(cl.Mode, cl.Prefix)
		more := cl.Subscribers - answered
		e.silent(more)
		if more > 0 {
			e.find(fault, "subscribers", "%s to %s, and an answer of %s: the rest is deaf, hangs, or is no node",
				counted(cl.Subscribers, "connection"), channel, counted(answered, "node"))
		} else {
			e.find(ok, "subscribers", "%s to %s, as many as nodes answered", counted(cl.Subscribers, "connection"), channel)
		}
	}
}

// node looks at what one node says of itself.
func (e *examination) node(n *row) {
	s := &n.Stats
	name := fmt.Sprintf("%s (%s)", n.Name, n.ID)
	link := &s.Adapter.Link
	if !link.Live() && link.Publishing.State != "" {
		e.find(fault, "nodes", "%s: its link is not live: %s", name, n.State)
	}
	if s.Adapter.Denied > 0 {
		e.find(fault, "nodes", "%s: Redis denies it %s: its user needs the channels &%s:*", name,
			counted(s.Adapter.Denied, "channel"), e.Prefix)
	}
	if link.Busy {
		e.find(fault, "nodes", "%s: a function of the application keeps it from reading", name)
	}
	if n.Suspect {
		e.find(fault, "nodes", "%s: some of its heartbeats are missing", name)
	}
	if s.Gaps > 0 {
		e.find(note, "nodes", "%s: %s since it started: %s", name, counted(int(s.Gaps), "gap"), reasons(s.GapReasons))
	}
	if s.Losses > 0 {
		e.find(note, "nodes", "%s: %d losses since it started: %s", name, s.Losses, reasons(s.LossReasons))
	}
	if s.Panics > 0 {
		e.find(note, "nodes", "%s: %s of the application's functions", name, counted(int(s.Panics), "panic"))
	}
}

func reasons[R ~string](m map[R]uint64) string {
	var all []string
	for _, r := range sorted(m) {
		all = append(all, fmt.Sprintf("%s %d", r, m[r]))
	}
	return strings.Join(all, ", ")
}

// foreign asks servers of Socket.IO for their sockets.
func (e *examination) foreign(ctx context.Context) error {
	ctx, cancel := e.patient(ctx)
	defer cancel()
	began := time.Now()
	sockets, err := e.ns.Everyone().Count(ctx)
	var incomplete *crosscast.IncompleteError
	switch {
	case errors.As(err, &incomplete):
		e.find(fault, "nodes", "%s did not answer; the others have %s",
			counted(len(incomplete.Missing), "server"), counted(sockets, "socket"))
	case err != nil:
		return err
	default:
		e.find(ok, "nodes", "all have answered in %v; they have %s", rounded(time.Since(began)), counted(sockets, "socket"))
	}
	return nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// What an operator may see of other users: what Redis has refused them, and what they may do. The users of nodes are those
// of the connections that subscribe.

// users looks at the users of others. Whoever may not see them finds nothing here.
func (e *examination) users(ctx context.Context) {
	ctx, cancel := e.patient(ctx)
	defer cancel()
	var mu sync.Mutex
	_ = e.eachServer(ctx, func(ctx context.Context, rdb *redis.Client) error {
		log, err := rdb.ACLLog(ctx, 128).Result()
		users := subscribed(ctx, rdb)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			e.refusals(log)
		}
		for _, user := range users {
			e.permissions(ctx, rdb, user)
		}
		return nil
	})
}

// subscribed returns the users of the connections that subscribe.
func subscribed(ctx context.Context, rdb *redis.Client) (users []string) {
	text, err := rdb.Do(ctx, "client", "list", "type", "pubsub").Text()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		if user := pairs(line)["user"]; user != "" {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// permissions asks Redis what a user may do. Redis 6 cannot tell.
func (e *examination) permissions(ctx context.Context, rdb *redis.Client, user string) {
	if e.Mode != modeCrosscast {
		return
	}
	for _, command := range [][]any{
		{"publish", everyone(e.Mode, e.Prefix), ""}, {"subscribe", everyone(e.Mode, e.Prefix)}, {"subscribe", e.Prefix + ":r:/:doctor"},
	} {
		if text, err := rdb.ACLDryRun(ctx, user, command...).Result(); err == nil && text != "OK" {
			e.find(fault, "users", "%s may not %s %s: %s", user, command[0], command[1], text)
			e.blame(2, "the user %s lacks permissions", user)
			return
		}
	}
}

// refusals finds what Redis has refused in the last minute, by user and reason.
func (e *examination) refusals(log []*redis.ACLLogEntry) {
	counts := make(map[string]int64)
	for _, r := range log {
		if r.AgeSeconds > 60 {
			continue
		}
		what := fmt.Sprintf("commands of %s refused: %s", r.Username, cmp.Or(r.Object, r.Reason))
		if r.Reason == "auth" {
			what = fmt.Sprintf("logins of %s refused: wrong password, or no such user", r.Username)
			e.blame(3, "the password of %s was changed", r.Username)
		} else {
			e.blame(2, "the user %s lacks permissions", r.Username)
		}
		counts[what] += r.Count
	}
	for _, what := range sorted(counts) {
		e.find(fault, "users", "in the last minute: %d %s", counts[what], what)
	}
}

// blame notes what is the most likely cause. Of several, the one that explains more (why) stays.
func (e *examination) blame(why int, format string, args ...any) {
	if why > e.why {
		e.why, e.Likely = why, fmt.Sprintf(format, args...)
	}
}

// conclude prints the findings, faults first, and what is their most likely cause.
func (e *examination) conclude() {
	if len(e.unseen) > 0 {
		slices.Sort(e.unseen) // of several servers
		e.find(note, "access", "this user may not look at: %s; run doctor as an operator, too", strings.Join(slices.Compact(e.unseen), ", "))
	}
	order := []string{fault, ok, note}
	slices.SortStableFunc(e.findings, func(a, b finding) int {
		return slices.Index(order, a.Verdict) - slices.Index(order, b.Verdict)
	})
	for _, f := range e.findings {
		if !e.JSON {
			fmt.Fprintf(e.out, "%-5s  %-11s  %s\n", f.Verdict, f.About, shown(f.Text))
		}
	}
	if e.Likely != "" && !e.JSON {
		fmt.Fprintf(e.out, "most likely: %s\n", shown(e.Likely))
	}
}

// silent says of the nodes that are lost or do not answer whether their connections to Redis stand.
func (e *examination) silent(more int) {
	var names []string
	for _, l := range e.census.Lost {
		names = append(names, l.Name)
	}
	for _, m := range e.census.Missing {
		if m.Name != "" && !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	switch who := strings.Join(names, " and "); {
	case who == "":
	case more > 0:
		e.blame(1, "%s hangs: the connection to Redis stands, and nothing answers on it", who)
	default:
		e.blame(1, "%s has died, or was cut off: the connection to Redis is gone", who)
	}
}

// unreachable is the failure of a connection to Redis.
func (s *session) unreachable(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op != "dial" && op.Timeout() || err != nil && errors.Is(err, context.DeadlineExceeded) && s.accepts() {
		return fail(exitUnreachable, "connected to %s, and it does not answer: Redis hangs, or the network swallows packets: %w", s.where(), err)
	}
	return fail(exitUnreachable, "cannot connect to %s: %w", s.where(), err)
}

// accepts reports whether the address takes connections.
func (s *session) accepts() bool {
	c, ok := s.rdb.(*redis.Client)
	if !ok {
		return false
	}
	conn, err := net.DialTimeout("tcp", c.Options().Addr, s.Timeout)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

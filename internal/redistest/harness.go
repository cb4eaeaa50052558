package redistest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
)

// A Driver is what a conformance suite needs to know of a driver.
type Driver struct {
	// Sharded is whether it uses sharded Pub/Sub.
	Sharded bool
	// Rules are the permissions that its documentation grants the user of a node of a cluster, as in an access control
	// list. Each node has a user with these and no others. Nil: nodes log in with the options.
	Rules func(cluster string) string
	// Adapter makes the adapter of one node over a client of its own.
	Adapter func(rdb *redis.Client, cluster string) crosscast.Adapter
}

// Harness makes clusters for package adaptertest, which share the server of options. On a server without access control
// lists nodes log in with options.
//
// A machine that is slow must not look like a server that does not answer: then what is published is lost, and a fence
// with it. So no rule needs a time-out of the client's, and those of the adapter should be [Patience], too.
func Harness(options func() *redis.Options, d Driver) adaptertest.Harness {
	var clusters atomic.Int64
	return adaptertest.Harness{Patience: 3 * Patience / 2, New: func(tb testing.TB) adaptertest.Cluster {
		name := fmt.Sprintf("cluster%d", clusters.Add(1))
		var all []*Lines
		published := new(Publications)
		stranger := Client(tb, options())
		publish := stranger.Publish
		if d.Sharded {
			publish = stranger.SPublish
		}
		users := users{tb: tb, admin: stranger, name: name}
		if d.Rules != nil {
			users.rules = strings.Fields(d.Rules(name))
		}
		c := adaptertest.Cluster{
			Adapter: func() crosscast.Adapter {
				o := options()
				l := &Lines{TLS: o.TLSConfig}
				o.Dialer, o.ReadTimeout, o.WriteTimeout = l.Dial, Patience, Patience
				if users.any() {
					o.Username, o.Password = users.add(len(all)), "pw"
				}
				all = append(all, l)
				rdb := Client(tb, o)
				rdb.AddHook(published)
				return d.Adapter(rdb, name)
			},
			Cut:     func(i int) { all[i].Cut(true) },
			Restore: func(i int) { all[i].Cut(false) },
			Deafen:  func(i int) { all[i].Deafen() },
			Peek: func() (packets []adaptertest.Packet) {
				for _, p := range published.Seen() {
					packets = append(packets, adaptertest.Packet{Topic: p.Channel, Data: p.Data})
				}
				return packets
			},
			Inject: func(p adaptertest.Packet) {
				if err := publish(Within(tb, Patience), p.Topic, p.Data).Err(); err != nil {
					tb.Errorf("publishing as a stranger: %v", err)
				}
			},
		}
		if users.any() {
			c.Deny = func(i int, name crosscast.Address, denied bool) { users.deny(i, name.Name, denied) }
		}
		return c
	}}
}

// users are those of a cluster's nodes, one for each.
type users struct {
	tb    testing.TB
	admin *redis.Client
	name  string
	rules []string
}

// any reports whether nodes have users of their own.
func (u users) any() bool { return u.rules != nil && u.acl("whoami") == nil }

// set gives the i-th user its permissions, with other channels if there are any.
func (u users) set(i int, channels []string) error {
	args := []any{"setuser", u.of(i), "reset", "on", ">pw"}
	for _, rule := range u.rules {
		if channels == nil || rule[0] != '&' {
			args = append(args, rule)
		}
	}
	for _, channel := range channels {
		args = append(args, "&"+channel)
	}
	return u.acl(args...)
}

func (u users) acl(args ...any) error {
	return u.admin.Do(Within(u.tb, Patience), append([]any{"acl"}, args...)...).Err()
}

func (u users) must(err error) {
	if err != nil {
		u.tb.Errorf("redistest: users: %v", err)
	}
}

func (u users) of(i int) string { return fmt.Sprint(u.name, "-", i) }

func (u users) add(i int) string {
	u.must(u.set(i, nil))
	u.tb.Cleanup(func() { u.must(u.acl("deluser", u.of(i))) })
	return u.of(i)
}

// deny allows the i-th user all channels that anybody has subscribed to, but those of a room; or, with false, all that
// its rules name.
func (u users) deny(i int, room string, denied bool) {
	var allowed []string
	if denied {
		ctx := Within(u.tb, Patience)
		channels, err := u.admin.PubSubChannels(ctx, "*").Result()
		sharded, shardedErr := u.admin.PubSubShardChannels(ctx, "*").Result()
		u.must(errors.Join(err, shardedErr))
		for _, channel := range append(channels, sharded...) {
			if !strings.HasSuffix(strings.TrimSuffix(channel, "#"), room) {
				allowed = append(allowed, channel)
			}
		}
	}
	u.must(u.set(i, allowed))
}

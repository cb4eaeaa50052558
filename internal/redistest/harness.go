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

// Harness makes clusters for package adaptertest, which share the server of options. adapter makes the adapter of one
// node over a client of its own; name is the cluster's. sharded is whether it uses sharded Pub/Sub.
//
// A machine that is slow must not look like a server that does not answer: then what is published is lost, and a fence
// with it. So no rule needs a time-out of the client's, and those of the adapter should be [Patience], too.
func Harness(
	options func() *redis.Options, sharded bool, adapter func(rdb *redis.Client, name string) crosscast.Adapter,
) adaptertest.Harness {
	var clusters atomic.Int64
	return adaptertest.Harness{Patience: 3 * Patience / 2, New: func(tb testing.TB) adaptertest.Cluster {
		name := fmt.Sprintf("cluster%d", clusters.Add(1))
		var all []*Lines
		published := new(Publications)
		stranger := Client(tb, options())
		publish := stranger.Publish
		if sharded {
			publish = stranger.SPublish
		}
		users := users{tb, stranger, name}
		c := adaptertest.Cluster{
			Adapter: func() crosscast.Adapter {
				o, l := options(), new(Lines)
				o.Dialer, o.ReadTimeout, o.WriteTimeout = l.Dial, Patience, Patience
				if users.any() {
					o.Username, o.Password = users.add(len(all)), "pw"
				}
				all = append(all, l)
				rdb := Client(tb, o)
				rdb.AddHook(published)
				return adapter(rdb, name)
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
}

// any reports whether the server has users.
func (u users) any() bool { return u.acl("whoami") == nil }

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
	u.must(u.acl("setuser", u.of(i), "on", ">pw", "allchannels", "allkeys", "+@all"))
	u.tb.Cleanup(func() { u.must(u.acl("deluser", u.of(i))) })
	return u.of(i)
}

// deny allows the i-th user all channels that anybody has subscribed to, but those of a room; or, with false, all.
func (u users) deny(i int, room string, denied bool) {
	rules := []any{"setuser", u.of(i), "allchannels"}
	if denied {
		rules[2] = "resetchannels"
		ctx := Within(u.tb, Patience)
		channels, err := u.admin.PubSubChannels(ctx, "*").Result()
		sharded, sharedErr := u.admin.PubSubShardChannels(ctx, "*").Result()
		u.must(errors.Join(err, sharedErr))
		for _, channel := range append(channels, sharded...) {
			if !strings.HasSuffix(strings.TrimSuffix(channel, "#"), room) {
				rules = append(rules, "&"+channel)
			}
		}
	}
	u.must(u.acl(rules...))
}

package redisbus

import (
	"regexp"

	"github.com/redis/go-redis/v9"
)

// This file names what a server lacks. Its own answers name a command only.

// lacking matches the answers of servers and proxies to a command that they do not have.
var lacking = regexp.MustCompile(`(?i)unknown command|unsupported command|command.* not supported|not supported.* command|command.* disabled`)

// hintMode returns a hint for the error text if the server seems to lack what the bus needs, or to be of a kind that
// the client is not made for.
func (b *bus) hintMode(err error) string {
	switch {
	case !isReply(err):
	case redis.HasErrorPrefix(err, "This instance has cluster support disabled"):
		return " (the server is not part of a Redis Cluster: give the adapter a redis.Client)"
	case b.Sharded && !b.shard && redis.HasErrorPrefix(err, "MOVED "):
		return " (the server is part of a Redis Cluster: sharded Pub/Sub there needs a redis.ClusterClient)"
	case lacking.MatchString(err.Error()):
		return " (the server, or a proxy before it, lacks " + b.mode() + ")"
	}
	return ""
}

// hintClosed returns a hint for the error text if a server answered a PING, and closed the connection when it got the
// first subscription.
func (b *bus) hintClosed() string {
	return " (at the first " + b.command("subscribe") + ": does a proxy before the server lack " + b.mode() + "?)"
}

// mode returns the name of what the bus needs.
func (b *bus) mode() string {
	if b.Sharded {
		return "sharded Pub/Sub, which Redis has since 7.0"
	}
	return "Pub/Sub"
}

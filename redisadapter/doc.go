// Package redisadapter connects crosscast nodes through Redis Pub/Sub.
//
//	adapter := redisadapter.Dial("redis://localhost:6379", redisadapter.Options{})
//	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: adapter})
//
// [Dial] also has URLs of a Redis Cluster and of Sentinels. [New] takes a client of yours in the place of a URL: a
// *redis.Client, also one that finds its master through Sentinel, or a *redis.ClusterClient. Tested with Redis 7.0, over
// RESP2 and RESP3, and with Valkey 8.0. Other servers are listed in docs/redis.md. [NewShards] spreads rooms over several
// Redises, for more than one can carry: see docs/scale.md.
//
// A node uses two connections. It publishes through the client's pool, one pipeline at a time. It subscribes on a
// connection of its own, which it makes from the client's options. So the client's hooks see every PUBLISH, and nothing
// of the subscribing connection.
//
// # Settings of the client
//
// [Dial] uses the settings below. A client of yours stays yours: [New] neither changes nor closes it. The defaults of
// go-redis are correct, but with them some faults are noticed late. Recommended:
//
//	&redis.Options{
//		ContextTimeoutEnabled: true,            // else ReadTimeout counts for small batches, and not Options.PublishTimeout
//		DialTimeout:           2 * time.Second, // default 5 s
//		ReadTimeout:           2 * time.Second, // default 5 s; how long a batch waits for its replies
//		WriteTimeout:          2 * time.Second,
//		DialerRetries:         1,               // the adapter has a back-off of its own
//		ConnMaxIdleTime:       4 * time.Minute, // default 30 min; shorter than the time-outs of servers and load balancers
//		Protocol:              2,               // nothing here gains from RESP3
//		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
//	}
//
// [ParseURL] returns them for a URL. For a ClusterClient also set ClusterStateReloadInterval: 2 * time.Second.
// MaxRetries does not matter: go-redis does not repeat the adapter's commands.
//
// A batch may take Options.PublishTimeout, and in addition a time for its bytes: four times as long as the link needs
// for them by the latest measurement, and at least one second per MiB. If that is longer than ReadTimeout or
// WriteTimeout, the batch goes out in parts. A single frame that needs longer is sent with a longer time-out; the
// client's hooks do not see that frame.
//
// go-redis logs through a global logger of its own (redis.SetLogger). This package does not touch it.
//
// # Settings of the server
//
// With access control lists, the user needs five commands and the channels of the prefix:
//
//	ACL SETUSER crosscast on >… resetchannels &cc:* +publish +subscribe +unsubscribe +ping +role
//
// On a Redis Cluster the client also needs +cluster|slots, and with Options.Sharded +spublish +ssubscribe +sunsubscribe.
//
// Anyone who may publish on these channels can speak for every node, and anyone who may subscribe reads everything.
// Options.Seal prevents both: see docs/security.md.
//
// Two of the commands are optional. Without ping nothing is lost, because an error is an answer too. Without role, a node
// does not notice that its server became a replica at the same address.
//
// Options.Credentials, and CredentialsProviderContext of a client of yours, are called for each new connection of both
// halves, so a password that changes needs no restart. See docs/redis.md for the steps of a rotation. After a refused
// login the node tries again every 5 s.
//
// A channel that the server denies is an open gap (reason "denied"), and each Join of its room returns an error. The
// node requests denied channels again every 5 s, 256 at a time. Once one is allowed, it requests all of them at once.
// Stats().Adapter.Denied is their present number. The log names one of them, and the missing permission.
//
// An emitter (crosscast.Options.EmitOnly) without queries needs less:
//
//	ACL SETUSER cron on >… resetchannels &cc:* +publish
//
// On a Redis Cluster it also needs +cluster|slots, and with Options.Sharded +spublish.
//
// Redis disconnects a subscriber that is too far behind (client-output-buffer-limit pubsub, 32 MiB by default). So one
// message of that size, from anyone, disconnects all nodes at once, and each reports a gap. This package publishes
// nothing larger than Options.MaxFrame. Only the server can limit other publishers: proto-max-bulk-len 4mb.
//
// # From other languages
//
// Nodes with Options.Ingress also receive the channel "in" of their prefix. Programs without crosscast publish JSON
// there:
//
//	redis-cli PUBLISH cc:in '{"rooms":["room1"],"event":"roomMessage","data":{"text":"hi"}}'
//
//	namespace  a name; without it "/"
//	rooms      a list of names
//	users      a list of names
//	everyone   true, in the place of rooms and users
//	except     a list of rooms, whose members are left out
//	event      a name; required
//	data       any JSON; without it the event has no payload
//
// Each node serves only its own sockets, so set the option on all nodes or on none. A name has 1 to 255 bytes of UTF-8.
// The lists have at most 1,024 names together. A message has at most 1 MiB, or MaxFrame if that is less. Anything else
// is refused, even one misspelt member. Stats counts refusals by their reason (the reasons that begin with "ingress");
// the first refusal for each reason is logged.
//
// PUBLISH replies with the number of nodes that received the message. There is no queue. A missed message is not reported,
// except as part of a node's own outage. Messages keep the order of the publisher's connection, but have no order with
// the emissions of nodes. Use an emitter if you need more.
//
// A program with permission to publish there reaches every client, unless messages must be signed (Options.Seal with
// Require and IngressKeys): see docs/languages.md. It cannot speak for a node: it cannot send commands,
// queries, or the messages between nodes. It needs one permission:
//
//	ACL SETUSER web on >… resetchannels &cc:in +publish
//
// # Limits of Redis Pub/Sub
//
// Redis Pub/Sub stores nothing, and confirms nothing but a number of receivers. A node reports messages that it might
// have missed as a gap, and its own emissions that might not have gone out as a loss; see packages crosscast and wire.
//
// On Redis Cluster, without Options.Sharded, all nodes publish through one master, the one of the prefix's slot, because
// order between rooms would be lost otherwise. With or without it, the number of receivers is unknown there. Masters can
// lose messages that they pass on to each other. So a node's heartbeats name the rooms that have become quiet, and even a
// lost last message is reported as a gap.
//
// With Options.Sharded, rooms and users use sharded Pub/Sub. Each of their channels ends with one of 256 hash tags, whose
// slots lie evenly over the cluster, and only the master of the slot has the channel. The tags are in 16 groups of
// neighbours, and each group is a part of the adapter (see wire.NewParts), with its own queue, heartbeats and gaps. All
// groups share one subscribing connection to each master, and the client for publishing. If a slot moves, or a master dies,
// only the groups concerned subscribe again: that is a gap of their rooms and users. Everyone's channel and those of
// single nodes stay on plain Pub/Sub, published and subscribed at the master of the prefix's slot. A node without Sharded
// hears them, too, so both report each other.
//
// # At a failover
//
// While peers are silent, a node checks whether the server has changed. It queries Sentinel for the master, or the
// cluster for the master of the slot, or resolves the server's name again. A server that calls itself a replica counts
// as changed, too. If the node then finds a replica again, it stays there, so that you can use one on purpose.
//
// If the server has changed, the node reconnects, for publishing and for subscribing. It reports one loss, with its
// emissions to the old server since the peers left it, and one gap for the same time. Both have the reason "moved". For
// each pooled connection that is closed then, the client's hooks see one failed PING.
//
// Give the adapter the master. PUBLISH on a replica reaches only the subscribers of that replica.
package redisadapter

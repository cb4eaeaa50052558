// Package redisadapter connects crosscast nodes through Redis Pub/Sub.
//
//	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: redisadapter.New(rdb, redisadapter.Options{})})
//
// A node needs two connections: it publishes through the client's pool, one pipeline at a time, and has one
// subscribing connection. That one belongs to a client of its own, made from the options of the given client. So hooks
// of the given client see every PUBLISH, and nothing of the subscribing connection. The client may be a *redis.Client,
// also one that finds its master through Sentinel, or a *redis.ClusterClient. Tested with Redis 7.0, over RESP2 and RESP3.
//
// # Settings of the client
//
// The client stays the user's: the adapter neither changes nor closes it. With go-redis's defaults everything is
// correct, but some faults take longer to be noticed than they need. These settings are recommended:
//
//	&redis.Options{
//		ContextTimeoutEnabled: true,            // else ReadTimeout counts for small batches, and not Options.PublishTimeout
//		DialTimeout:           2 * time.Second, // default 5 s
//		ReadTimeout:           2 * time.Second, // default 5 s; how long a batch waits for its replies
//		WriteTimeout:          2 * time.Second,
//		DialerRetries:         1,               // the adapter has a back-off of its own
//		Protocol:              2,               // nothing here gains from RESP3
//		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
//	}
//
// [ParseURL] returns them for a URL. A batch has Options.PublishTimeout, and beyond that four times what its bytes need at
// the rate that was measured last, at least a second for each MiB. Where that is more than ReadTimeout or WriteTimeout,
// the batch goes out in parts. A single frame that needs more goes out with a longer time-out, and only then do hooks of
// the client not see it.
//
// For a ClusterClient also ClusterStateReloadInterval: 2 * time.Second. MaxRetries does not matter: the adapter's
// commands are not repeated by go-redis. go-redis logs through a global logger of its own (redis.SetLogger), which
// this package leaves alone.
//
// # Settings of the server
//
// With access control lists the user needs five commands, and the channels of the prefix:
//
//	ACL SETUSER crosscast on >… resetchannels &cc:* +publish +subscribe +unsubscribe +ping +role
//
// Two of the commands may be left out. Without ping nothing is lost: Redis answers it with an error, which is an answer
// too. Without role a node does not notice that its server became a replica while the address stayed the same.
//
// A channel that the server denies is an open gap (crosscast.GapDenied), and an error of each Join of its room. Denied
// channels are asked for again every 5 s, 256 of them at a time, and all of them in a moment once one is allowed.
// Stats().Adapter.Denied is how many there are now; the log names one of them, and the permission that is missing.
//
// An emitter (crosscast.Options.EmitOnly) that asks nothing needs less:
//
//	ACL SETUSER cron on >… resetchannels &cc:* +publish
//
// Redis disconnects a subscriber that is too far behind (client-output-buffer-limit pubsub, 32 MiB by default), so one
// message of that size from anyone disconnects all nodes at once; each then reports a gap. This package publishes
// nothing larger than Options.MaxFrame, and only the server can hold others to it: proto-max-bulk-len 4mb.
//
// # From other languages
//
// Nodes with Options.Ingress also hear the channel "in" of their prefix, which takes JSON from programs that are no
// nodes:
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
// Every node that hears it serves its own sockets, so all should have the option, or none. Names have 1 to 255 bytes of
// UTF-8, and are 1,024 at most; the whole has at most 1 MiB, or MaxFrame if that is less. Anything else, be it a
// misspelt member, is refused: it is counted in Stats by the reason (those that begin with "ingress"), and the first
// for each reason is logged. PUBLISH replies how many nodes heard it. Nobody is told when one missed it, there is no
// queue, and the order is that of the publisher's connection, and has nothing to do with what nodes emit. For all of
// that, use an emitter.
//
// Who may publish there reaches every client, but cannot speak for a node: no commands, no questions, nothing that
// nodes tell each other. It needs one permission:
//
//	ACL SETUSER web on >… resetchannels &cc:in +publish
//
// # What Redis Pub/Sub does not do
//
// It keeps nothing and confirms nothing to the publisher but a number of connections. What a node may have missed
// becomes a gap, and what may not have gone out a loss; see packages crosscast and wire. On Redis Cluster all nodes
// publish through the master that holds the prefix's slot, because order would be lost otherwise, and the number of
// receivers is unknown. Masters can lose messages that they pass on to each other; a node's heartbeats therefore name the
// rooms that have become quiet, so that a lost last message is a gap, too.
//
// # At a failover
//
// While peers are silent a node looks up whether the bus has another server. It asks Sentinel for the master, the cluster
// for the master of the slot, or resolves the server's name anew; and a server that calls itself a replica counts as
// another one (once: a replica that is used on purpose is kept). Only when there is another server does the node
// reconnect, with both halves. What it had emitted to the old server since then is one loss, and what it has missed is
// one gap, both with the reason "moved". The client's hooks see one failed PING for each pooled connection that is closed
// for that.
//
// PUBLISH on a replica reaches only those who are subscribed at that replica: give the adapter the master.
package redisadapter

// Package natsadapter connects crosscast nodes through NATS. It uses core NATS only: no JetStream.
//
//	adapter := natsadapter.Dial("nats://localhost:4222", natsadapter.Options{})
//	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: adapter})
//
// [Dial] takes the URL and the options of nats.Connect, with credentials and TLS. [New] takes a nats.Options, such as the
// Opts of a connection of yours. A server in the same process needs no port: nats.InProcessServer(s). Tested with
// nats-server 2.15, one server and a cluster of three.
//
// A node uses two connections, one that publishes and one that subscribes, to the same server. They never reconnect by
// themselves, so options of nats.go about reconnecting have no effect: package wire connects again, to any server of the
// URL or any other one that the servers have told of, and reports what might be missing. If a second connection to that
// server cannot be made, the node has one for both.
//
// # What this package promises
//
//   - A batch is accepted when the PING behind it is answered: then the server has done all of it. If the connection
//     breaks before that, the batch is uncertain. What the server denies is refused.
//   - NATS does not tell how many clients got a message, so the number of a Deliver is unknown.
//   - A subscription is confirmed by the answer to a PING. In a cluster the servers tell each other what their clients
//     want, and confirm nothing. So a link then asks each other server from which something has arrived, behind its
//     subscription, and waits for the answer. So Join returns nil when every server with a known peer passes on what is
//     emitted there. If a server does not answer within two seconds, or cannot be reached, Join returns nil, too: what
//     might be missing from that server's nodes is reported as a gap once they are heard again.
//   - If the connection between two servers breaks, messages are lost although every link stands. The nodes' heartbeats
//     name the rooms that have become quiet, so even a lost last message is a gap.
//   - nats.go drops messages of a slow consumer. This package stops reading instead, while more than 16 MiB or 4,096
//     messages wait. A server that cannot send for too long ends the connection (max_pending, write_deadline), which is
//     a gap. Publishing does not wait for that.
//   - Before a server shuts down in lame duck mode, it closes its connections in turn. The node then connects to another
//     server, and reports a gap. Until then it stays.
//   - Close publishes the queue, and waits until the server has answered. So there is nothing to drain.
//
// # Settings of the servers
//
// The user of a node needs the subjects of the prefix, and no others:
//
//	permissions: { publish: "cc.>", subscribe: "cc.>" }
//
// An emitter (crosscast.Options.EmitOnly) without queries needs only to publish. If it may also subscribe "cc.s" and
// "cc.s.>", a Join waits until its emissions arrive, too.
//
// Anyone who may publish there reaches every client, and can speak for every node, unless Options.Seal is set: see
// docs/security.md. With or without it, somebody who publishes messages with an invented server as the
// subject for replies, "cc.s.…", makes each Join slower, by up to two seconds.
//
// A subject that the server denies is an open gap (reason "denied"), and each Join of its room returns an error. The node
// requests it again every 5 s.
//
// A message is at most as large as the servers' max_payload, which Options.MaxMessage repeats. A server with less is
// refused. Without crosscast.Options.MaxPayload, a payload may have what fits, about 890 KiB.
//
// # Subjects
//
//	cc.all                       everyone
//	cc.n.<node>                  the inbox of one node
//	cc.r.<namespace>.<room>      a room
//	cc.u.<namespace>.<user>      a user
//	cc.hr.<topics>.<number>      the rooms with one hash, and cc.hu those of users: Options.Topics
//	cc.in                        JSON of programs that are no nodes: Options.Ingress
//	cc.s, cc.s.<server>          questions of links
//
// In a name every byte is escaped that is not an ASCII letter or digit, or one of -_/:@=~!$&'(),; so a room named "a.>"
// is the token a%2E%3E. A message is a frame of package wire, in a binary format. Whoever may subscribe can read it, unless
// Options.Seal encrypts it.
package natsadapter

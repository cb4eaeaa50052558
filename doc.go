// Package crosscast makes many websocket servers behave like one.
//
// A server imports the package and hands it its connections. Then node.To("room1").Emit reaches every client in the
// room, whichever server holds the connection. One server needs nothing else. Several servers share an adapter: Redis
// Pub/Sub (package redisadapter) in production, [Cluster] in tests.
//
//	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: redisadapter.Dial(url, redisadapter.Options{})})
//	...
//	socket, err := node.Connect(ctx, conn, crosscast.ConnectOptions{User: "u9"}) // conn is a Conn: see below
//	err = socket.Join(ctx, "room1")                          // nil: subscribed, or made up for after an outage
//	err = node.To("room1").Emit(ctx, "roomMessage", message) // to the room, on all servers
//	err = node.ToUser("u9").Emit(ctx, "done", job)           // to all connections of a user, on all servers
//	err = socket.To("room1").Emit(ctx, "typing", nil)        // to everyone in the room but the sender
//	err = node.Close(ctx)
//
// The Example below is a whole program.
//
// # Words
//
//   - A node is one running instance of the library. Usually a server process has one. Its ID is minted at each
//     start. The other nodes of its cluster are its peers.
//   - A [Conn] is how bytes reach one client. A [Socket] wraps a Conn. Exactly one node holds it.
//   - A room is a name that sockets join. A user is the owner of a socket, if the application names one. Rooms, users
//     and sockets are separate spaces: a socket in a room that is called like a user's ID gets nothing of that user.
//   - A target is the receiver of an emission: rooms, users, sockets or everyone, minus exceptions ([BoundTarget]).
//   - A [Namespace] is an independent set of sockets, users and rooms over the same cluster. The default is "/".
//   - A [Subscription] passes the messages of rooms and users to a function. It is no socket, and no member.
//   - A node has interest in a room or user while it has a socket or a [Subscription] of it.
//   - An [Adapter] carries instructions between nodes.
//   - A [Gap] is a stretch of time in which a node might have missed instructions.
//   - A [Loss] is a set of the node's own instructions that did not go out, or might not have.
//
// # Layers
//
// Imports point down only:
//
//	examples/                   programs
//	bench/                      speed, beside the limits and other projects
//	health/                     handlers for probes, and details for people
//	prometheus/                 metrics for Prometheus, with a board and alerts; a module of its own
//	otel/                       traces and metrics for OpenTelemetry; a module of its own
//	faults/                     a matrix of faults, on real servers and processes
//	interop/                    checks socketio and socketioadapter against Socket.IO's own packages
//	ws/                         websocket connections
//	ws/client/                  a client for them, which imports nothing else of crosscast
//	sse/                        clients of package ws by server-sent events
//	socketio/                   clients of Socket.IO, over websocket
//	redisadapter/               Redis Pub/Sub as a wire.Bus
//	socketioadapter/            the wires of Socket.IO's Redis adapters, for one cluster with servers on Node.js
//	crosscasttest/              for applications' tests: recording clients, and clusters in one process, with faults
//	wire/                       makes an Adapter of anything that carries bytes by topic
//	adaptertest/                checks a driver
//	crosscast                   this package: sockets, rooms, targets, codec; never a Redis client
//	kind/                       the kinds of instructions and queries, for drivers that translate them
//
// # Two groups of names
//
// Applications use [Start], [Options], [Node], [Namespace], [BoundTarget], [Socket], [Conn], [Queue], [Subscription],
// [Watch], [Servers], [Answers], [Message], [Observer], and the types that their methods take and return.
//
// Drivers use [Adapter], [AdapterStart], [AdapterHandler], the optional interfaces ([AdapterSubscriber],
// [AdapterDeliverer], [AdapterSizer], [AdapterObserver], [AdapterMeter], [ForeignAdapter]), [Instruction] with its
// parts ([Target], [NodeInfo], [Question], [Answer], [Presence]), and the codec ([AppendInstruction],
// [InstructionReader]). Their comments begin with "For drivers:". An application needs none of them. Gaps, losses, errors
// and [Address] belong to both groups.
//
// # Connections
//
// A [Conn] has a Send that never blocks, and a Close. Package ws has one. Other connections have only a write that
// blocks, such as gorilla/websocket's or an HTTP response's: wrap them in a [Queue], which is bounded in bytes and
// has a policy for slow clients. A server with a hub of its own, or a worker without clients, calls
// [Namespace.Subscribe] instead: it passes the messages of rooms and users, and gaps, to a function. A hub has one
// [Subscription], and adds and removes rooms and users as its clients come and go.
//
// # Shutdown
//
// A server ends in this order:
//
//	err := node.Drain(ctx, DrainOptions{}) // not Ready, 5 s later no new clients, 20 s for the others, then node.Close
//	err = server.Shutdown(ctx)             // http.Server's: the requests that are left
//
// ctx leaves time for both. The other way round Shutdown would close the listener while the load balancer still sends
// clients, and wait for streams of events, which only the node ends. An orchestrator must wait as long before it kills
// the process: on Kubernetes, terminationGracePeriodSeconds is more than Notice and Window. [Node.Close] instead of
// Drain ends all clients at once, which is right for tests and for the only server.
//
// # Queries and commands
//
// Everything that can be emitted to can also be queried, commanded and watched, on all nodes:
//
//	n, err := node.To("room1").Count(ctx)                  // also CountUsers, Rooms, Sockets
//	changed, err := node.ToUser("u9").Do(ctx, Command{…})  // join, leave or disconnect; nil: it was done
//	err = node.ToUser("u9").Disconnect(ctx, "signed out")  // the same, without waiting
//	replies := node.To("room1").EmitAck(ctx, "ready?", v)  // collects each client's reply; ws carries them
//	answers := node.Servers().Ask(ctx, "reload", v)        // calls the other nodes' handlers: see OnRequest
//	stats := node.Servers().Stats(ctx)                     // the other nodes' Stats
//	watch, err := node.Watch(ctx, "room1", WatchOptions{}) // who is in a room, and who comes and goes
//	err = socket.SetPresence("away")                       // what a watch shows of the socket
//	peers := node.Nodes()                                  // the other nodes: see Options.OnNode
//
// One rule tells this node from the cluster: a method without a context looks only at this node's memory, and never
// waits. So [Namespace.Rooms] are the rooms with a socket on this node, and [BoundTarget.Rooms], which takes a context,
// queries all nodes. [Node.Nodes] and [Watch.Members] return what this node knows of the others.
//
// Each query has a deadline: the context's, or five seconds. Answers arrive one by one as nodes reply ([Answers]).
//
// A process without clients, such as a cron job, starts with Options.EmitOnly. It emits, commands and queries. It
// subscribes to nothing for that, and is nobody's peer. Programs in other languages publish JSON on a topic, if the
// nodes accept it: see wire.Options.Ingress.
//
// # Guarantees
//
// In brackets stand the names of rules of package adaptertest, which checks them on the in-process adapter, on an
// embedded Redis and on a real one, or the names of tests.
//
// 1. Once. A socket gets an emission at most once. This holds when the socket is in several of the target's rooms,
// while it joins and leaves them, and when a client library repeats a write after a broken connection. (once-…, echo)
//
// 2. Joined means subscribed. After [Socket.Join], Connect, Subscribe or [Subscription.Add] has returned nil, every
// emission that begins later, on any node, reaches the socket or the subscription, unless a gap is reported. (joined-…,
// outage-join, outage-synced)
//
//   - The socket is added at once, so it might get messages before Join returns.
//   - An error means that no membership changed: all memberships that the call added are taken back, and no others.
//     When two calls wait for one membership, it is taken back only if both fail.
//   - After an error of Connect the conn is the caller's. It is neither closed nor called any more.
//   - A link that is down, or whose login is refused, is no error. The call returns nil at once, the subscription is
//     made on recovery, and the gap of the outage includes the room. [Socket.Synced] waits for the subscription.
//   - A room that the bus denies is [ErrDenied] for each call that names it, while the denial lasts. A socket that is
//     in the room already stays there.
//   - After Leave, one message already under way might still arrive. After [Subscription.Remove] has returned, no call of
//     OnMessage begins for the room.
//
// (leave…, TestJoinsThatFailUnderConcurrency, TestConnectUnderConcurrency)
//
// 3. Order. One goroutine emits to a socket, to the socket's user, and to one room of the socket: these emissions
// arrive at the socket in the order of the calls. There is no order between two rooms, two users or two sockets, also
// within one subscription. An
// emission to several names or to everyone keeps its place among all emissions of its node. (order-…)
//
// 4. Never silent. An instruction that a node missed, or might have missed, becomes a [Gap] before anything later of
// the same origin is delivered. An instruction that Publish accepted and that did not reach the bus, or might not
// have, becomes a [Loss] at its node and a gap at the peers. It is never sent again. An emission that Emit refuses
// with an error goes to no peer, and is no gap there. (outage-…, gap-in-place, TestBooksBalance in package wire)
//
//   - Package ws tells the clients that a gap concerns, and socketio does with an event of the application's choice.
//     They fetch again. Other bindings do it in [Namespace.OnGap], with [Namespace.Affected].
//   - An instruction for one node alone, such as an answer or an emission to a socket, is a gap at that node only.
//   - Bindings also hear of the beginning of an outage, so that a client that leaves the node meanwhile knows what it
//     might miss: [Namespace.OnGap]. (outage-begins)
//   - Each cause is one gap, with two exceptions. Names that the bus begins to deny are a gap at once, without an Until
//     because it goes on, and another gap with the same Since when they are allowed again. A peer that is taken for
//     dead without a goodbye is a gap of that origin, from its last message on. If it returns, that is a second gap,
//     unless the numbers of its frames show that it sent nothing meanwhile.
//   - Emissions of OnGap to sockets of its own node arrive before anything later of that origin. [Node.EmitAffected]
//     reaches the affected ones.
//
// 5. Interest. A node without a member or subscriber of a room receives nothing for it. Interest outlives the last
// member by Options.Linger, so that coming and going costs no subscriptions. An emission to more than eight rooms and
// users together goes to every node. (interest…)
//
// 6. Bounded. Every queue has a limit: in bytes for the adapter, a subscription and a [Queue]; in calls for hooks.
// Hooks above their limit are merged, and nothing is left out. Every wait ends with a context. Close ends every
// goroutine within its own context. Only Flush, Deliver and Synced wait for a link that is down. A slow link slows
// down emitters: Emit waits for room in the queue. (outage-nothing-waits, outage-close, close-…,
// TestASlowLinkEndsInBackPressure in package wire)
//
// 7. Partial, not nothing. Nodes know their peers by heartbeats. A peer is suspected after three missing heartbeats,
// and taken for dead after six. A node takes peers for dead only while its own link surely works. A query returns the
// answers that came, and an [*IncompleteError] with the nodes that did not answer. A query waits for a suspected node
// no longer than one heartbeat, and then lists it in the error. It does not query or list a node that has left or is
// taken for dead. (questions, commands, acknowledgements, requests, presence, emitter-…)
//
// 8. Suspicious. Bytes from the bus are hostile until decoded. Frames of foreign publishers or other versions,
// truncated frames, giant lengths and deep nesting are counted and dropped. They cause no panic, and no allocation
// beyond their size. Kinds and fields of later versions are skipped, so that versions can be mixed during a rollout.
// A frame carries at most 2,049 items: its instructions, and the names in them. The rest of a larger frame is a
// gap. (driver-hostile-bytes; FuzzFrameReader and TestFrameItems in package wire)
//
// 9. Valid. A payload is JSON in UTF-8, or bytes. Emit refuses anything else. An invalid payload from the bus is
// dropped before a client gets it, counted ("invalid"), and reported as a gap of its names with the same reason.
// (TestPayloadsOfPeersThatAreNotJSONAreDropped)
//
// 10. One meaning. [ErrTooLarge] and [ErrInvalidName] mean that nobody got the message, this node's own sockets
// included. (TestTooLargeMeansNobody)
//
// An adapter for a wire that others have defined ([ForeignAdapter]) might be unable to keep some of these guarantees.
// Its documentation lists them.
//
// # No guarantees
//
//   - Arrival is not guaranteed. Emit returning nil does not mean that a message arrives: a client's connection might
//     break, and nobody might be in the room. Later failures are reported to Options.OnLoss. No message is stored or
//     sent again. Only EmitAck asks clients for a reply.
//   - The queue of a process that dies is lost. Peers report a gap of that node, unless it was an emitter. Nobody can
//     tell what was in the queue.
//   - There is no order between two nodes, or between two goroutines of one node. Local sockets are served first, so
//     two nodes that emit at once might be seen in different order on different nodes.
//   - Receipt.Nodes counts nodes, not clients. It is an upper bound, and unknown on Redis Cluster.
//   - The bus is not private. Everybody who may publish on its channels can emit to every client and command every
//     node: see the access control list in package redisadapter. Stats.Commands counts the commands of peers, and the
//     log names them. A forged goodbye is believed until the next heartbeat. Forged frame numbers become a gap of the
//     node in whose name they came (reason "forged"), after two of its heartbeats. Two forgeries go unnoticed: a frame
//     number that the node itself reaches within this time, and a frame in the name of an emitter.
//   - Late queries are not acted on. A node that stood still, or whose bus did, answers [ErrExpired] to queries,
//     requests and commands whose sender might not wait any more. It does not notice a standstill of less than about
//     one and a half heartbeats.
//
// # When the link is down
//
// The node's own sockets are served as before. Other calls behave as follows:
//
//	Start                  fails. The error names the address and the cause. With Options.StartOffline it returns a node.
//	Emit                   queues, and returns nil. With a full queue it returns ErrNotConnected.
//	Emit, volatile         drops the message for the peers, and returns nil. Stats.Adapter.Dropped["volatile"]
//	                       counts it. OnLoss is not called.
//	Deliver, Flush         wait until the messages went out or were given up, or until their context ends.
//	Deliver, volatile      returns ErrNotConnected.
//	Join, Connect,         take effect on this node and return nil at once. The subscription is made on recovery, and the
//	Subscribe, Add         gap of the outage covers the names.
//	Synced                 waits until the link is back and everything is subscribed, or until its context ends.
//	Watch                  returns at once. Missing lists the peers that it could not reach. They are asked on recovery.
//	queries                answer for this node. An *IncompleteError names the other nodes.
//	Close                  gives up the queue, and returns it as a *LossError.
//
// The queue is sent once the link is back and the peers are heard again. The wait for the peers lasts at most two
// heartbeats, and at most half of redisadapter.Options.MaxAge. A message that has waited for MaxAge (default 5 s) while
// the link is down is given up at that moment, and becomes a Loss with the reason "expired". No message is given up
// while the link stands.
//
// OnLoss and Flush report the messages that were given up. errors.Is tells two cases apart: [ErrRefused], no peer got
// them; [ErrUncertain], some peers might have got them. OnGap and Receiver.OnGap are called once the link is back,
// before anything later is delivered. That is the time to have clients fetch again, with [Node.EmitAffected]. Package ws
// also tells its clients when the outage begins.
//
// Start that has failed because of the link can be called again with the same Options. With Options.StartOffline it does
// not fail: the outage begins at Start, for all calls of the table. The first link reports a gap since Start with the
// reason "link lost". [Node.Ready] returns an error until then.
//
// [Node.Link] returns the state of both halves of the link. Options.OnLink is called when it changes. Stats.Connected
// is true only while both halves are live.
//
// A connection can also stand and deliver nothing. Therefore each node's heartbeat must come back to itself. If it
// does not, the node tells three cases apart:
//
//   - The link is dead: no byte arrives. It is replaced. The gap's reason is "link lost".
//   - The link is deaf: the bus answers pings on it, but the heartbeat does not come. It is replaced. The gap's
//     reason is "link deaf".
//   - The link is slow, or a function of the application keeps it from being read. Nothing is replaced. Incoming
//     bytes wait in the connection.
//
// The first two verdicts take at most two heartbeats. (A shorter heartbeat than 250 ms counts as 250 ms.) The verdict
// about a deaf link also takes the time in which the bytes before the answer to the ping arrive. The gap begins when
// the last heartbeat that came back was sent.
//
// # When the bus denies something
//
// A bus with access control can refuse a login, a channel or a command, from the start or at any later moment:
//
//	a login                is an outage with the state "denied". Only Start fails, with ErrDenied, unless
//	                       Options.StartOffline is set.
//	hearing a room         is ErrDenied for each Join, Connect, Subscribe and Add that names it, while the denial lasts.
//	                       Sockets that are in the room stay there. OnGap is called twice: see below.
//	publishing             makes a Loss with the reason "denied". If the bus refuses the channel of messages to everyone,
//	                       Node.Link().Publishing has the state "denied" and the cause.
//
// A room becomes two gaps with the reason "denied" if it is denied after a Join of it has returned nil:
//
//   - The first [Gap] has no Until. From now on this node's clients miss the emissions of peers to the room. Tell
//     them, or let them connect to another node. Fetching helps only for earlier messages.
//   - The second one has an Until. The room is heard again. Have the clients fetch everything since Since. Nobody
//     needs to join again.
//
// Stats.Adapter.Denied counts the channels that are denied now.
//
// # When the servers of the bus disagree
//
// A failover can leave a node at a server that its peers have left, without an error. The node looks up which server
// the bus has now while a peer is silent, and while the bus passes its messages on to fewer nodes than it has peers. If
// that is another server, the node replaces both halves of its link. Its emissions since the last proof of the peers
// become one Loss (reason "moved", uncertain, of all names). The gap's reason is "moved".
//
// On a bus of several servers that pass messages on to each other, such as a Redis Cluster, single messages can be lost
// while every link stands. There two heartbeats also name each topic that has become quiet, so that a lost last message is
// found within two heartbeats, or within four if both of these are lost, too. One loss goes unnoticed: a lost message to a
// room, if nothing of its node has arrived since the first subscription to that room.
//
// # Callbacks
//
// The library calls no function of the application while it holds a lock of the node. Each hook gets the node, watch
// or subscription that it is about, because its first call might come before the call that made that one returns. The
// functions, and their limits:
//
//	Conn.Send              Concurrent, but for one conn one at a time for one emitting peer. It must not block, and must
//	                       not keep the message (Message.Clone does).
//	Conn.Close             Called once. It must not block.
//	Framer.Frame           Called once for each message, on the goroutine that needs it first. Others wait for it.
//	Receiver.OnMessage,    One at a time for one subscription, in order, on its own goroutine. They may block, and may
//	Receiver.OnGap         keep the message. Waiting messages are bounded by QueueBytes.
//	WatchOptions.OnChange  One at a time for one watch, on its own goroutine. It may block: later changes are merged. It
//	                       may call anything but Node.Close.
//	Watch.Follow           One at a time for one watch. It should not block, because the watch's other followers wait.
//	Options.OnGap,         On the goroutine that delivers, before anything later of that origin. They must not block: no
//	Namespace.OnGap        Join, Flush or Deliver inside, and no Emit to peers. EmitAffected is made for them.
//	Options.OnRoom,        One at a time for each hook, in order, each on its own goroutine. They may call anything but
//	OnNode, OnLoss, OnLink Node.Close.
//	Options.Observer       Concurrent, on the goroutines that emit, deliver and handle. It must not block, and must not
//	                       emit. No lock is held.
//	Node.OnRequest         Concurrent, each on its own goroutine. It may block until its context ends.
//	ConnectOptions.OnClose Called once, on the goroutine that closes the socket, or after a command to disconnect or a
//	                       drain, on its own. It may still emit. Node.Close waits for it.
//	Node.OnClose           Called once, on its own goroutine. It may still emit. Node.Close waits for it.
//
// A function of the application that panics ends neither the program nor its caller. The panic is counted
// (Stats.Panics) and logged once with its stack, to slog.Default if there is no Logger. The next call is made as
// usual.
//
//   - A panic in a Framer drops the message for all conns that share the frame.
//   - A panic in Conn.Send closes that connection, with [ReasonInternal].
//   - A panic of a payload that Emit marshals goes to the caller of Emit.
package crosscast

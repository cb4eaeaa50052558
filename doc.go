// Package crosscast makes many websocket servers behave like one.
//
// A server imports it and hands it its connections. Then node.To("room1").Emit reaches every client in the room,
// whichever server holds the connection. A single server needs nothing else; several share an adapter, which is Redis
// Pub/Sub (package redisadapter) in production and [Cluster] in tests.
//
//	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: redisadapter.New(rdb, redisadapter.Options{})})
//	...
//	socket, err := node.Connect(ctx, conn, crosscast.ConnectOptions{User: "u9"}) // conn is a Conn: see below
//	err = socket.Join(ctx, "room1")                          // when it returns nil, nothing emitted later is missed
//	err = node.To("room1").Emit(ctx, "roomMessage", message) // to the room, on all nodes
//	err = node.ToUser("u9").Emit(ctx, "done", job)           // to all connections of a user, on all nodes
//	err = socket.To("room1").Emit(ctx, "typing", nil)        // to everyone in the room but the sender
//	err = node.Close(ctx)
//
// The Example below is a whole program.
//
// # Words
//
//   - A node is one running instance of the library, usually one in a server process. It has an ID, minted at each
//     start. The other nodes of its cluster are its peers.
//   - A [Conn] is how bytes reach one client. A [Socket] wraps one; exactly one node holds it.
//   - A room is a name that sockets join. A user is whom a socket belongs to, if the application says so. Rooms, users
//     and sockets are separate spaces: who joins a room named like somebody's ID hears nothing of theirs.
//   - A target is whom an emission is for: rooms, users, sockets or everyone, minus exceptions ([BoundTarget]).
//   - A [Namespace] is an independent set of all of these over the same connections; the default is "/".
//   - A node has interest in the rooms and users that it has a socket or a [Subscription] of.
//   - An [Adapter] carries instructions between nodes. A [Gap] is a stretch in which a node may have missed some; a
//     [Loss] is some of a node's own that did not go out, or may not have.
//
// # Layers
//
// Imports point down only:
//
//	examples/  bench/           programs
//	interop/                    checks socketio and socketioadapter with Socket.IO's own packages
//	ws/                         websocket connections, over coder/websocket
//	ws/client/                  their client, which depends on nothing above or below
//	socketio/                   clients of Socket.IO, over coder/websocket
//	redisadapter/               Redis Pub/Sub as a wire.Bus
//	socketioadapter/            the wires of Socket.IO's Redis adapters, for one cluster with servers on Node.js
//	wire/                       makes an Adapter of anything that carries bytes by topic
//	adaptertest/                checks a driver
//	crosscasttest/              for applications' tests: clients that record, and clusters in process
//	crosscast                   this package: sockets, rooms, targets, codec; never a Redis client
//
// # Connections
//
// A [Conn] has a Send that never blocks, and a Close. Package ws has one. Whoever has only a write that blocks, such as
// gorilla/websocket's or an HTTP response's, wraps it in a [Queue], which is bounded in bytes and has a policy for slow
// clients. A server with a hub of its own, or a worker without clients, uses [Namespace.Subscribe] instead: a room's
// messages, and gaps, for a function.
//
// # Beyond emissions
//
// What can be emitted to can also be asked about, commanded and watched, on all nodes:
//
//	n, err := node.To("room1").Count(ctx)                  // also CountUsers, Has, Rooms, Sockets
//	changed, err := node.ToUser("u9").Do(ctx, Command{…})  // join, leave, disconnect, and know that it was done
//	err = node.ToUser("u9").Disconnect(ctx, "signed out")  // the same without waiting for anybody
//	replies := node.To("room1").EmitAck(ctx, "ready?", v)  // and each client's reply; ws carries them
//	answers := node.Servers().Ask(ctx, "reload", v)        // the other nodes' handlers, see OnRequest
//	watch, err := node.Watch(ctx, "room1", WatchOptions{}) // who is in a room, and who comes and goes
//	peers := node.Nodes()                                  // who else there is, see Options.OnNode
//
// Each question has a deadline: the context's, or five seconds. Answers stream as nodes reply ([Answers]). A process
// without sockets of its own, such as a cron job, starts with Options.EmitOnly: it emits, commands and asks, subscribes
// to nothing for that, and is nobody's peer. Programs in other languages publish JSON on a topic, if the nodes take it:
// wire.Options.Ingress.
//
// # Guarantees
//
// The names are those of rules of package adaptertest, which check them on the in-process adapter, on an embedded Redis
// and on a real one, or of tests of this package.
//
// 1. Once. A socket gets an emission at most once: when it is in several of the target's rooms, while it joins and
// leaves them, and when a driver sends a batch again after a broken connection. (once-…, echo)
//
// 2. Joined means subscribed, and an error means that nothing happened. After [Socket.Join], Connect or Subscribe
// returned nil, every emission that begins later, on any node, reaches the socket, unless a gap is reported. The
// socket is added at once. An error takes back what the call has added, all of its rooms; where another call waits for
// the same membership, the last one that fails. No membership is taken back that another call was told of by nil.
// After an error of Connect the conn is the caller's: neither closed nor called any more. A link that is down, or
// refuses the login, is no error: the call returns nil at once, the subscription is made up for on recovery, and the
// gap of that outage includes the room; Synced waits for that. A room that the bus refuses is [ErrDenied] for each
// call that names it, as long as that lasts. After Leave, one message already under way may still arrive. (joined-…,
// leave…, outage-join, outage-synced, TestJoinsThatFailUnderConcurrency, TestConnectUnderConcurrency)
//
// 3. Order. What one goroutine emits to a socket, to its user and to a room it is in reaches the socket in that order.
// There is no order between two rooms, two users or two sockets. An emission to several names or to everyone keeps its
// place among all that its node emits. (order-…)
//
// 4. Never silent. What a node missed, or may have missed, becomes a [Gap] before anything later of that origin is
// delivered. What was emitted and not handed to the bus, or perhaps not, becomes an error or a [Loss] at the emitting
// node, and a gap at its peers; what was for one node alone, such as an answer or an emission to a socket, is a gap at
// that node only. There is one gap for each cause, with one exception: names that the bus denies after
// it had allowed them are a gap at once, whose Until is zero because it goes on, and another one with the same Since
// when they are allowed again (see "When the bus denies something"). A peer that is taken for dead without a goodbye
// is a gap of that origin, from its last message on. Its return is another one, unless its numbers show that it sent
// nothing. What OnGap emits to sockets of its node, most simply with [Node.EmitAffected], arrives before anything later
// of that origin.
// (outage-…, gap-in-place, TestBooksBalance in package wire)
//
// 5. Interest. A node without a member or subscriber of a room receives nothing for it. Interest outlives the last
// member by Options.Linger, so that coming and going costs no subscriptions. An emission to more than eight rooms and
// users together goes to every node. (interest…)
//
// 6. Bounded. Every queue has a limit: of the adapter, of a subscription and of a [Queue] in bytes, of hooks in calls.
// Where calls of a hook would exceed theirs they are merged, so that nothing is left untold. Every wait ends with a
// context, and Close ends every goroutine within its own. While the link is down only Flush and Deliver wait for it. What
// is sent at once follows what the link carries; whoever emits more waits for room. (outage-nothing-waits, outage-close,
// close-…, TestASlowLinkEndsInBackPressure in package wire)
//
// 7. Partial, not nothing. Nodes know their peers by heartbeats: one whose heartbeats are missing is suspected after
// three, and taken for dead after six, unless this node's own link is not proven. A question to the cluster returns
// what was answered, and an [*IncompleteError] that names the nodes that did not answer; who left or died is not
// waited for. (questions, commands, acknowledgements, requests, presence, emitter-…)
//
// 8. Suspicious. Bytes from the bus are hostile until decoded: a foreign publisher, another version, truncation, giant
// lengths and deep nesting are counted and dropped, without a panic, or an allocation that the input did not pay for.
// Kinds and fields of later versions are skipped, so that versions can be mixed during a rollout. A frame carries at
// most 2,049 instructions, names of targets and rooms together, so that no frame is more work than one instruction may
// be; the rest of one that has more is a gap. (driver-hostile-bytes, FuzzFrameReader, TestFrameItems)
//
// 9. Valid. A payload is JSON in UTF-8, or bytes. Anything else is refused where it is emitted. From the bus it is
// dropped before a client gets it, counted ("invalid"), and a gap of its names ([GapInvalid]).
// (TestPayloadsOfPeersThatAreNotJSONAreDropped)
//
// 10. One meaning. [ErrTooLarge] and [ErrInvalidName] mean that nobody got it, this node's own sockets included.
// (TestTooLargeMeansNobody)
//
// These are the guarantees with an adapter that can do all of that. One that speaks a wire which others have defined
// may be unable to: see [ForeignAdapter] and the driver's documentation, which says what it lacks.
//
// # What may not be assumed
//
//   - That a message arrives because Emit returned nil: a client's connection may break, nobody may be in the room, and
//     what fails later is told to Options.OnLoss. There is no acknowledgement, retry or storage of messages.
//   - That a process that dies has sent what it had queued. Its peers cannot know of that.
//   - An order between two nodes. Local sockets are served first, so two nodes that emit at once may be seen in
//     different order on different nodes. The same holds for two goroutines of one node.
//   - That [Reach] counts clients: it is a number of nodes, an upper bound, and unknown on Redis Cluster.
//   - That the bus is private. Whoever may publish on its channels can emit to anybody: see the access control list in
//     package redisadapter. Stats.Commands counts what peers command, and the log says who did. A forged goodbye is
//     believed until the next heartbeat. Forged numbers are a gap of all of the node in whose name they come
//     ([GapForged]), after two heartbeats of its own. A number that the node itself overtakes before them is not noticed,
//     and neither is one in the name of an emitter.
//   - That a question is acted on late. A node that stood still, or whose bus did, answers [ErrExpired] to questions,
//     requests and commands whose asker might not wait any more. It does not notice a standstill that is shorter than
//     about one and a half heartbeats.
//
// # When the link is down
//
// Sockets of the node are served as before. What else happens:
//
//	Start                  fails, with an error that names the address and the cause
//	Emit                   queues, and returns nil; ErrNotConnected when the queue is full. A volatile emission is dropped
//	                       for the peers and counted, and Emit returns nil; Deliver returns ErrNotConnected
//	Deliver, Flush         wait until the message went out or was given up, or for the end of their context
//	Join, Connect,         take effect here, return nil at once, and are made up for on recovery; the gap of the outage
//	Subscribe              covers their names
//	Synced                 waits until the link is back and everything is heard again, or for the end of its context
//	Watch                  returns at once; the peers that it could not ask are in Missing, and asked on recovery
//	the queue              is sent once the link is back and the peers are heard again, or after two heartbeats, at most
//	                       half of redisadapter.Options.MaxAge (5 s); what is older than MaxAge before the link is back
//	                       is given up, and becomes a Loss; nothing is given up while the link stands
//	OnLoss, Flush          report what was given up; errors.Is says whether ErrRefused (no peer got it) or
//	                       ErrUncertain (some may have)
//	OnGap,                 report, once the link is back and before anything later is delivered, that anything may have
//	Receiver.OnGap         been missed meanwhile: the time to have clients fetch again, with [Node.EmitAffected]
//
// Start can be called again with the same Options after it has failed. Node.Close during an outage gives the queue up,
// and returns that as a [*LossError]. Questions meanwhile answer for this node, with an [*IncompleteError] that names
// the others.
//
// [Node.Link] is the state of each half of the link, Options.OnLink is called when it changes, and Stats.Connected is
// true only while both are live. After an outage Synced, of a [Socket], a [Subscription] or a [Watch], waits until
// everything is heard again.
//
// A connection can also stand and deliver nothing. Each node's heartbeat must come back to itself. Three cases are told
// apart when it does not:
//
//   - The link is dead: no byte arrives. It is replaced, and the gap's reason is [GapLinkLost].
//   - The link is deaf: the bus answers on it, and the heartbeat does not come. It is replaced, and the reason is
//     [GapDeaf].
//   - The link is slow, or a call of the application's keeps it from being read. Nothing is concluded, and what arrives
//     waits in the connection.
//
// Either verdict takes at most two heartbeats, which count as at least 250 ms each, and for a deaf link the time that
// the bytes before the answer take. The gap begins when the last heartbeat that came back was sent.
//
// # When the bus denies something
//
// A bus with access control can refuse credentials, a channel or a command, from the start or at any later moment:
//
//	the login              the same as an outage, with the state [LinkDenied]; only Start fails, with ErrDenied
//	hearing a room         ErrDenied for each Join, Connect and Subscribe that names it, as long as that lasts; sockets
//	                       that are in the room stay there, and OnGap is told twice, see below
//	publishing             what was refused becomes a Loss with [LossDenied]; when that is what goes to everyone,
//	                       Node.Link().Publishing has the state [LinkDenied] and the cause
//
// Of a room that was heard and is denied, the first [Gap] (with [GapDenied], without an Until) says that from now on
// this node's clients miss what peers emit to the room. Tell them, or let them connect to another node; fetching helps
// only for what was emitted until now. The second one, with an Until, says that the room is heard again: have them
// fetch what was emitted since Since. Nobody needs to join again. Stats.Adapter.Denied counts the channels that are
// denied now.
//
// # When the servers of the bus disagree
//
// A failover can leave a node at a server that its peers have left, without an error. While a peer is silent, or fewer
// links hear a node than it knows peers, the node looks up which server the bus has now. Only when that is another one
// are both halves of the link replaced. What was emitted since the peers were there is one Loss ([LossMoved],
// uncertain, of all names), and the gap's reason is [GapMoved].
//
// On a bus of several servers that pass messages on to each other, such as a Redis Cluster, single messages can be lost
// while every link stands. There heartbeats also name the topics that have become quiet, so that a lost last message is
// found within two heartbeats. One case is not noticed: a message that is lost before anything of its node was heard
// since the room was subscribed for the first time.
//
// # Callbacks
//
// None is called with a lock of the node held. Each gets what it is about, such as the node, the watch or the
// subscription, because the first call might come before the call that made it returns. What each may do:
//
//	Conn.Send              concurrently, but one at a time for one emitting peer; must not block, and not keep the
//	                       message (Message.Clone does)
//	Conn.Close             once; must not block
//	Framer.Frame           once for each message, on whichever goroutine comes first; others wait for it
//	Receiver.OnMessage,    one at a time for one subscription, in order, on its own goroutine; may block, and may keep
//	Receiver.OnGap         the message; what waits meanwhile is bounded by QueueBytes
//	WatchOptions.OnChange  one at a time for one watch, on its own goroutine; may block: what changes meanwhile is summed
//	                       up; may call anything but Node.Close
//	Watch.Follow's         one at a time for one watch; should not block, because the watch's other followers wait
//	Options.OnGap,         on the goroutine that delivers, before anything later of that origin; must not block: no Join,
//	Namespace.OnGap        Flush or Deliver inside
//	Options.OnRoom,        one at a time for each, in the order of what they report, each on a goroutine of its own; may
//	OnNode, OnLoss, OnLink call anything but Node.Close
//	OnRequest's handler    concurrently, each on its own goroutine; may block until its context ends
//	ConnectOptions.OnClose once, on the goroutine that closes the socket; may still emit; Node.Close waits for it
//	Node.OnClose           once, on a goroutine of its own; may still emit; Node.Close waits for it
//
// A function of the application's that panics ends neither the program nor what calls it. The panic is counted
// (Stats.Panics) and logged once with its stack, to slog.Default without a Logger, and the next call is made. A panic in a
// Framer drops that message for all whose frame it would have been. One in Conn.Send closes that connection, with
// [ReasonInternal]. A panic of a payload that Emit marshals is the caller's.
//
// # Invariants
//
// For whoever changes the code: what must hold, and the tests that notice when it does not.
//
//   - Memberships are what a naive model says, and both sides of each agree: TestMembershipModel,
//     TestMembershipUnderConcurrency.
//   - No membership is lost that was promised, and none is left that was not: TestJoinsThatFailUnderConcurrency,
//     TestJoinsThatShareAMembership. A conn whose Connect has failed is not called: TestConnectUnderConcurrency.
//   - The adapter hears exactly the names in use once everything has settled, and for one name Subscribe and
//     Unsubscribe never overlap: TestInterestEndsUpRight.
//   - A delivery allocates nothing: TestBroadcastAllocatesNothing, TestSteadyStateAllocatesNothing.
//   - No hook runs under a lock: TestHooksAreOrderedAndReentrant.
//   - What is written is what the specification in codec.go says, and another msgpack reads it: TestGoldenFrames,
//     TestDocumentedBytes, TestRefereeReadsWhatWeWrite.
//   - What a node packs is what its peers take: TestFramesKeepToTheirItems in package wire.
//   - For any schedule of faults, what was delivered, reported as a gap and reported as a loss adds up to what was
//     emitted, nothing comes twice, and order holds: TestBooksBalance in package wire.
//   - A watcher has each node's members as they were at some version, whatever arrives in whatever order, and its
//     events balance: TestPresenceConverges, and TestPresenceBalances in package wire.
//   - Who watches nothing pays nothing: TestUnwatchedRoomsCostNothing. Idle watches cost one small frame for each peer
//     and five heartbeats, however many rooms are watched: TestIdleWatchesCostOneDigest. Joins and emissions never wait
//     for a watch: TestReadingAWatchHoldsNothingUp.
//   - A namespace holds nothing while it is empty, unless [Namespace.Keep] was called, and its *Namespace stays valid:
//     TestEmptyNamespaces, TestKeptNamespaces.
//   - A queue's writer exists only while there is something to write: TestQueueIdleHasNoGoroutine.
//   - Where peers are known by number only, nobody waits for more answers than there are peers, and no answer or socket
//     counts twice: TestCensus, TestCensusIgnoresWhatIsRepeated, TestCensusIsTakenAgain, and adaptertest's TestForeign.
//   - Nothing is left running: every package's tests end with a look for goroutines.
package crosscast

// Package socketioadapter makes crosscast nodes and Socket.IO servers one cluster: it speaks what
// @socket.io/redis-adapter and @socket.io/redis-emitter speak over Redis, so that the servers need not change.
//
//	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: socketioadapter.New(rdb, socketioadapter.Options{})})
//	err = node.To("room1").Emit(ctx, "hello", "world") // as io.to("room1").emit("hello", "world") on a server
//
// The adapter is about servers. Clients of Socket.IO connect to a crosscast node through a binding that speaks their
// protocol; through any other binding, they hear the same events.
//
// There are two wires. [Classic] is that of createAdapter; redis-emitter speaks it, too. [Sharded] is that of
// createShardedAdapter, needs Redis 7, and has the subscriptionMode as an option. The two do not hear each other. All
// servers and nodes of a cluster need the same wire, the same key and the same subscriptionMode. Written after
// redis-adapter 8.3.0, redis-emitter 5.1.0 and socket.io 4.8.4.
//
// If all nodes are crosscast's, use package redisadapter: it can do more, and costs less.
//
// # Names
//
// Socket.IO has one space of names: rooms. Each socket is alone in a room that is named by its ID, and there are no
// users. crosscast has three spaces. This is how names are translated, in targets, exceptions and answers:
//
//	crosscast          Socket.IO             on the way in, a room named r also means
//	everyone           no rooms
//	room r             room r
//	user u             room "user:" + u      user u, if r is "user:" + u
//	socket s           room s                socket s, if r has 20 bytes
//
// So a server reaches a user's sockets on nodes with io.to("user:u9"), and a node reaches those of a server that joined
// them to that room with node.ToUser("u9"). The prefix is [Options.UserRooms]. On the way in a name means all that it
// may mean, as one space has it: who is in a room that is named by a user or a socket hears what is for these.
//
// Names of rooms often come from clients, so a node does not let them choose these: Join and Connect refuse, with
// ErrInvalidName, a room that begins with the prefix, but for that of the socket's own user, and one of 20 letters,
// digits, - and _, as the IDs of sockets are, but for the socket's own, whether or not there is such a user or socket.
// [Options.AllowNames] permits more. Commands of nodes, such as node.ToSocket(id).Join, the servers' socketsJoin, and
// subscriptions may use all names: these names come from the application. Servers check nothing. There the application
// must check a client's name before socket.join(name), or the client hears what nodes emit to users and sockets.
//
// A name that is not UTF-8 is something between nodes, and other text to servers. Of rooms that are numbers in
// JavaScript, the decimal text is the name.
//
// # Payloads
//
//	crosscast                          Socket.IO
//	no payload                         emit(event)
//	JSON                               emit(event, value)
//	binary                             emit(event, Buffer)
//	Args                               emit(event, value, …), and values with Buffers inside
//
// Values are translated as JavaScript does, and so are the same values, but not the same text: 1.0 arrives as 1, and an
// integer above 2^64 or a decimal fraction as the nearest float64. A Date arrives as the text of its toISOString, and
// undefined as null. Arrays and objects may be nested 512 deep, names have at most 255 bytes, and a command has at most
// 1,024 rooms: what servers send beyond that nodes drop. Events that Socket.IO keeps for itself (connect,
// connect_error, disconnect, disconnecting, newListener, removeListener; as requests connect, connection,
// new_namespace) are refused with an error. Meta data does not travel.
//
// # Beyond emissions
//
//	crosscast                                Socket.IO
//	Join, Leave                              socketsJoin, socketsLeave
//	Disconnect                               disconnectSockets(); with the reason "forced server close"
//	                                         disconnectSockets(true)
//	Sockets, Rooms, Count, CountUsers, Has   fetchSockets()
//	Do                                       the command and fetchSockets()
//	EmitAck                                  timeout(…).emit with an acknowledgement
//	Servers().Tell, Ask                      serverSideEmit, serverSideEmitWithAck
//	OnRequest                                on of a namespace, for what servers emit to each other
//	Options.EmitOnly                         redis-emitter, which asks as well
//
// What servers ask of nodes works the same way, that of old servers included (allRooms, sockets, and commands for one
// socket). Only the first value of an acknowledgement or answer travels. A request handler that fails, and a node
// without one, answers a server nothing, as a server without a listener does: who asks waits until its deadline.
// Handlers of a node are for all namespaces; Request.Namespace says for which one it is. A node hears what servers emit to
// each other in "/", and in each namespace that it uses or keeps: a server of package socketio keeps those that clients may
// connect to, with clients and without, and [crosscast.Namespace.Keep] any other.
//
// Servers do not introduce themselves, so that a node does not know them, but their number: as servers do, it counts
// who subscribes to a channel of Redis, and waits for as many answers. While some are missing it looks whether those
// that it counted are servers at all, and still there. An answer that fails to come is an IncompleteError with an empty
// ID. After an outage it expects for five seconds as many as there were before. Redis needs to allow the command
// PUBSUB.
// On a Redis Cluster the user needs +cluster|nodes as well. There a count asks every server that the cluster knows at that
// moment. A server that cannot be asked makes the count incomplete, until the cluster has given that server up.
//
// # What holds, and what does not
//
// Of the guarantees in the documentation of package crosscast:
//
//   - Once: yes. What may have reached Redis when the connection broke is not sent again, and is a loss.
//   - Joined means subscribed: yes, for emissions. Do waits until nodes have subscribed; servers do not tell.
//   - Order: yes, for what one node emits, and servers keep it, too. On a Redis Cluster in Sharded, not between rooms
//     that have a channel each.
//   - Never silent: an outage of a node's own link becomes a gap, and what could not go out an error or a loss.
//     Messages have no numbers, so nothing shows that one is missing, or that a peer could not publish.
//   - Interest: in Classic yes, where servers hear everything. In Sharded of the rooms that the mode gives a channel.
//   - Bounded, Suspicious: yes. What cannot be read is counted in Stats and dropped.
//   - Partial, not nothing: yes, by number instead of name.
//
// # Settings
//
// The client's settings are those that package redisadapter recommends. Protect the channels: who may publish on them
// reaches every client, and a message that is malformed ends the subscription of a server, or its process (nodes only
// count it).
//
// Never run @socket.io/redis-streams-adapter with the same key beside [Classic]: what it publishes ends the
// subscriptions of the servers of Classic. Nor should a wire of crosscast's own share the key.
package socketioadapter

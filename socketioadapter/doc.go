// Package socketioadapter makes one cluster of crosscast nodes and Socket.IO servers. It speaks the protocols of
// @socket.io/redis-adapter and @socket.io/redis-emitter over Redis. The servers need no change.
//
//	adapter := socketioadapter.Dial("redis://localhost:6379", socketioadapter.Options{})
//	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: adapter})
//	err = node.To("room1").Emit(ctx, "hello", "world") // as io.to("room1").emit("hello", "world") on a server
//
// The adapter connects servers. Clients of Socket.IO connect to a crosscast node through package socketio. Clients of
// any other binding get the same events.
//
// There are two wires:
//
//   - [Classic] is the wire of createAdapter and of redis-emitter.
//   - [Sharded] is the wire of createShardedAdapter. It needs Redis 7, and has the option subscriptionMode.
//
// The two wires do not hear each other. All servers and nodes of a cluster need the same wire, the same key and the
// same subscriptionMode. This package was written for redis-adapter 8.3.0, redis-emitter 5.1.0 and socket.io 4.8.4.
//
// If all nodes are crosscast's, use package redisadapter: it can do more, and costs less.
//
// # Names
//
// Socket.IO has one space of names: rooms. Each socket has a room that is named by its ID. There are no users.
// crosscast has three spaces. Names in targets, exceptions and answers are translated as follows:
//
//	crosscast          Socket.IO             an incoming room r also means
//	everyone           no rooms
//	room r             room r
//	user u             room "user:" + u      user u, if r is "user:" + u
//	socket s           room s                socket s, if r has 20 bytes
//
// A server reaches a user's sockets on nodes with io.to("user:u9"). A node reaches the sockets that a server has joined
// to that room with node.ToUser("u9"). [Options.UserRooms] changes the prefix. An incoming name has all its possible
// meanings, as in one space: a socket in a room with the name of a user or socket also gets the emissions to that user
// or socket.
//
// Clients often choose the names of rooms, but must not choose names of users and sockets. Therefore Join and Connect
// refuse two kinds of rooms with ErrInvalidName, whether or not there is such a user or socket:
//
//   - a room that begins with the prefix, except the room of the socket's own user;
//   - a room of 20 letters, digits, - and _, which is the form of a socket's ID, except the socket's own.
//
// [Options.AllowNames] permits more. The application may use all names in commands of nodes, such as
// node.ToSocket(id).Join, in the servers' socketsJoin, and in subscriptions. Servers check no names. There the
// application must check a client's name before socket.join(name), or the client gets the emissions of nodes to users
// and sockets.
//
// Nodes exchange names that are not UTF-8 unchanged, but servers read other text. If a room is a number in JavaScript,
// its name is the decimal text.
//
// # Payloads
//
//	crosscast                          Socket.IO
//	no payload                         emit(event)
//	JSON                               emit(event, value)
//	binary                             emit(event, Buffer)
//	Args                               emit(event, value, …), and values with Buffers inside
//	MsgPack                            emit(event, value), with Buffers inside
//
// Values are translated as in JavaScript. They stay the same values, but not the same text: 1.0 arrives as 1, and an
// integer above 2^64 or a decimal fraction as the nearest float64. A Date arrives as the text of its toISOString, and
// undefined as null. A payload of crosscast.MsgPack arrives as JSON, as arguments or as bytes. Meta data does not travel.
//
// Nodes drop input of servers beyond these limits: arrays and objects nested 512 deep, names of 255 bytes, and 1,024
// rooms in a command. Events that Socket.IO keeps for itself are refused with an error: connect, connect_error,
// disconnect, disconnecting, newListener and removeListener; as requests connect, connection and new_namespace.
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
//	OnRequest                                on of a namespace, for events between servers
//	Options.EmitOnly                         redis-emitter; it can query as well
//
// Nodes answer queries of servers, and also those of old servers (allRooms, sockets, and commands for one socket). An
// acknowledgement or answer has only one value; further values do not travel. A node answers nothing to a server if its
// request handler fails, or if it has none, as a server without a listener. The asking server waits until its deadline.
//
// A node's request handlers are for all namespaces; Request.Namespace is the namespace of a request. A node hears the
// requests of servers in "/", and in each namespace that it uses or keeps. A server of package socketio keeps its
// clients' namespaces, with or without clients. [crosscast.Namespace.Keep] keeps any other.
//
// Servers do not introduce themselves, so a node knows their number, but not the servers. Like a server, it counts the
// subscribers of a channel of Redis, and waits for as many answers. While answers are missing, it checks whether the
// subscribers are servers, and still there. A missing answer is an IncompleteError with an empty ID. For five seconds
// after an outage the node expects as many answers as before the outage. Redis must allow the command PUBSUB.
//
// On a Redis Cluster the user needs +cluster|nodes as well. There a count queries every server that the cluster knows
// at that moment. If a server cannot be queried, the count is incomplete, until the cluster has given that server up.
//
// # Guarantees
//
// The guarantees in the documentation of package crosscast hold as follows:
//
//   - Once: yes. If the connection breaks while a message is sent, the message is not sent again, and becomes a loss.
//   - Joined means subscribed: yes, for emissions. Do waits until nodes have subscribed. Servers do not report this.
//   - Order: yes, for the emissions of one node. Servers keep it, too. Exception: on a Redis Cluster in Sharded, there
//     is no order between rooms with a channel each.
//   - Never silent: in part. An outage of a node's own link becomes a gap, and a message that could not be sent becomes
//     an error or a loss. Messages have no numbers, so a node does not notice that one is missing, or that a peer could
//     not publish.
//   - Interest: yes in Classic, though servers hear everything. In Sharded only for rooms that the mode gives a
//     channel.
//   - Bounded, Suspicious: yes. Unreadable messages are counted in Stats and dropped.
//   - Partial, not nothing: yes, by number instead of name.
//
// # Settings
//
// Package redisadapter describes the recommended settings of the Redis client.
//
// Protect the channels. Every program with permission to publish on them reaches every client. A malformed message ends the
// subscription of a server, or its process; nodes only count it.
//
// Never run @socket.io/redis-streams-adapter with the same key beside [Classic]: its messages end the subscriptions of
// Classic's servers. Adapters of crosscast's own wire should not share the key either.
package socketioadapter

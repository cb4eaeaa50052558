// Package socketio connects unmodified Socket.IO clients to a node, over websocket. It supports socket.io-client 3 and
// 4, and clients in other languages that speak the same protocol (Engine.IO 4, Socket.IO 5).
//
//	io, err := socketio.New(node, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {
//		Events: socketio.Events{"join": socketio.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error {
//			return s.Join(ctx, room)
//		})},
//	}}})
//	http.Handle("/socket.io/", io)
//
// Clients must choose websocket as the transport:
//
//	const socket = io("https://example.com", { transports: ["websocket"] });
//
// Without that option a client begins with long polling, which the server does not have, and never connects. The answer
// to the client's request, the first warning in the log, and Stats name the cause.
//
// Each namespace of a client is a [crosscast.Socket] of its own, in the node's namespace of the same name. One
// websocket connection carries them all. It has one [crosscast.Queue], which is bounded in bytes and has a policy for
// slow clients. An emission is framed once for all clients of a node, with its attachments.
//
// # Arguments
//
// An event has any number of arguments, and bytes at any place in them. A handler gets them as [Args]. It can emit or
// acknowledge them as they came, or only the [Args.Rest] of them. To emit one argument, emit it as usual. To emit none,
// emit nil. To emit several, or bytes within other values, use [Values]. Clients of other bindings in the same rooms
// get the arguments, too: clients of package ws as a JSON array, with bytes in base64.
//
// A payload of [crosscast.MsgPack] is one argument: its value, with its bytes as attachments, and times as in RFC 3339.
//
// A client's acknowledgement of [crosscast.BoundTarget.EmitAck] is a payload; [ArgsOf] returns its arguments. It is
// passed on as soon as it is read, before earlier events of the client that still wait.
//
// # Gaps
//
// With [Options.GapEvent], a client is told when the node might have missed emissions to it ([crosscast.Gap]), before
// anything later of the same node. The event has one argument, such as {"room":"room1","ago":[4200,300],"wait":800}:
//
//   - room is a room that the client is in. Without it, the gap is one of everything in the namespace.
//   - ago has the beginning and the end, in milliseconds before the event was made. Without an end, the gap goes on: an
//     outage of the node has begun. The event might have waited for the client, so allow some seconds more.
//   - ends is true in the event that ends the gap and covers it whole. Fetch then, and not before. If the connection is lost
//     sooner, fetch from the beginning of that gap after the reconnect.
//   - wait is a time in milliseconds. The client should draw a random part of it, and wait that long before it queries the
//     application: socket.on("gap", g => setTimeout(refetch, Math.random() * g.wait, g)). See [Options.GapSpread].
//
// [GapReconnect] has the clients connect again, with or without that event. The whole connection of a client is closed,
// also for a gap in one of its namespaces.
//
// What a client's queue drops is a gap in every namespace. The rules are those of package ws: see "Gaps" there.
//
// # Events of a client
//
// The events of one socket are handled one at a time, in the order in which they were sent. Their goroutine exists only
// while there are events. The sockets of one client do not wait for each other. Meanwhile the server reads on, until
// [Options.EventBytes] of events wait for one socket. Then it pauses reading until there is room. A pause slows the
// client down through TCP, and loses nothing. During a pause the server still sends pings, but cannot read the client's
// pongs. Therefore a pause never makes a client count as dead.
//
// A handler may query its own client with EmitAck, although the reply comes behind everything that the client has sent
// before. While a client owes a reply in any of its namespaces, reading goes on up to four times EventBytes. If the
// reply is not found by then, the client counts as silent at once: EmitAck reports a [crosscast.IncompleteError], and
// reading pauses.
//
// The end of a socket depends on its cause:
//
//   - The client leaves the namespace or the connection, or the connection breaks. All events that were read are
//     handled first, for at most [Options.LeaveTimeout]. Then the socket is closed.
//   - The server closes the socket. The context of the running handler is cancelled, and the waiting events are
//     dropped.
//
// OnDisconnect is called last. [crosscast.Node.Close] waits for it. If a client connects to a namespace again over the
// same connection, Authenticate is called after all this.
//
// A client receives the answer "connected", with its socket's ID, after its rooms were joined on the bus, too.
// Emissions to it wait until then, up to 1 MiB.
//
// # How a connection ends
//
// Closing a socket sends the client a disconnect. Its reason there is "io server disconnect", and it does not reconnect
// by itself. The connection stays open for its other namespaces, or for the same one again.
//
// [ReasonForced] sends a disconnect for each namespace, and closes the whole connection. For other causes the whole
// connection ends without a disconnect, so that the client reconnects. The code and the reason of the closing handshake
// tell it the cause:
//
//	1001  "server shutting down"
//	1002  a malformed packet, or a packet that the client may not send, or not now
//	1007  a text message that is not UTF-8
//	1008  "too slow": the queue was full, or a write took too long; "timed out": no answer to a ping, no namespace in
//	      time, or attachments that did not come in time; "too many events": more than EventRate, with EventClose
//	1009  a message larger than MaxPayload, or a packet larger than MaxPacket
//	1011  "internal error": a handler panicked
//	1012  "server restarting": a drain, see [crosscast.Node.Drain], or [GapReconnect]
//	4002  "expired": the time of Client.Expires or Socket.SetExpires has come; the client reconnects, and calls its
//	      function auth for a new credential
//
// While a node drains, and once it is closed, new requests get status 503, with Retry-After.
//
// If the bus denies a subscription of a new socket, or does not confirm it in time, the client gets a connect_error,
// "try again later". If that was its first namespace, the connection ends after ConnectTimeout, so that the client
// reconnects.
//
// As on Node.js, a client that breaks the protocol gets no answer: the connection ends, and Stats counts it. Packets
// for a socket that the server has closed are dropped.
//
// A client may connect to a namespace in which it is already, or is about to be: it might have left before the server's
// answer came, and then it did not tell the server. Its socket ends as if the client had left, and it gets a new one,
// with a new ID and new calls of Authenticate and OnConnect. All packets that the client sends until the new answer
// belong to the new socket. (Node.js ends the connection in this case, or makes a second socket.)
//
// # Limits
//
// The following things grow with a client's input. Each has a bound, set by an option or constant, and a test.
// TestHostileClients tries all of them together.
//
//	URL and headers, kept as Handshake           MaxHeaders, 16 KiB          TestRefusedRequests
//	the message being read                       MaxPayload, 1 MB            TestBadMessages
//	a packet that waits for attachments          MaxPacket, 2 × MaxPayload   TestMaxPacket
//	  number of its attachments                  MaxAttachments, 10          TestBadMessages
//	  time until the next one                    PingInterval + PingTimeout  TestLateAttachments
//	the arguments of an event, 24 bytes each     65,536                      TestMaxArguments
//	nesting of arrays and objects                512                         TestBadMessages
//	a socket's waiting events                    EventBytes, 256 KiB         TestBackPressure
//	  and one event of any size, in addition to the one being handled: each is a packet
//	  four times that while the client owes a reply                          TestBurstOfQuestions
//	the time after it has left, once the server  LeaveTimeout, 30 s          TestLeaveTimeout
//	  has noticed: at the next ping, or the one after it if reading pauses
//	auth, of each namespace                      MaxAuth, 16 KiB             TestMaxAuth
//	sockets: one for each of Namespaces, and one that waits for the end of the one before
//	                                                                         TestConnectAgainEarly
//	answers that the client does not read        Queue.Limit                 TestSlowClient
//	emissions before it is connected             1 MiB                       TestConnectWaitsForTooMuch
//	the ID of an event                           2⁵³-1                       TestBadMessages
//
// The handshake is kept a second time for each namespace, as JSON without HiddenHeaders. Characters that JSON escapes
// take up to six bytes there. MaxAttachments holds in both directions: an emission with more attachments is dropped,
// and counted by the node.
//
// Options also limits what clients may do. All of these are off by default, and cost nothing then. TestHostileFloods tries
// them together:
//
//	events and connects a second of a client     EventRate, EventBurst; EventPolicy: they    TestEventPause,
//	                                             wait, are refused, or close the connection  TestFloodOfConnects
//	clients of the server                        MaxClients: 503 with Retry-After            TestMaxClients
//	clients of a user, in a namespace            MaxUserClients, MaxUserClientsTotal:        TestKickOldest,
//	                                             connect_error, or with KickOldest the       TestThousandConnections-
//	                                             oldest gets a disconnect                    OfOneUser
//	handshakes a second                          HandshakeRate, HandshakeBurst: 429 with     TestHandshakeFlood
//	                                             Retry-After
//	the time of a connection                     Client.Expires, Socket.SetExpires           TestExpires
//
// The reading of a request is bounded by http.Server.ReadHeaderTimeout, and the writing of its answer by WriteTimeout.
//
// The first client that each limit refuses or closes is logged as a warning, by the node's Logger or slog.Default.
// Stats counts all of them.
//
// Emissions of a reserved event (connect, connect_error, disconnect, disconnecting, newListener, removeListener) are
// dropped, too, because clients would break their connection.
//
// # Not supported
//
//   - HTTP long-polling, and upgrades from it to websocket. They would need sticky sessions. Clients that begin with
//     long-polling get the protocol's error, which names the cause. With the option tryAllTransports they go on to
//     websocket by themselves.
//   - WebTransport, and Engine.IO 3 (clients of version 2).
//   - Connection state recovery: a client that reconnects is a new socket.
//   - Namespaces by pattern, and a choice of compression for each message.
//
// # Names from clients
//
// If a handler joins the room that a client names, the client chooses what it receives. With package socketioadapter,
// users and sockets are rooms to other servers. Therefore Join and Authenticate's Rooms refuse names such as "user:u9"
// with [crosscast.ErrInvalidName], which the client sees: see "Names" in that package. With other adapters these are
// ordinary rooms, and carry no emissions for a user or socket. The handler must check which of the application's own
// rooms a client may join.
//
// # Handshakes
//
// A socket's [Handshake] can be queried from all nodes, as with fetchSockets on Node.js. Everybody who may query the
// cluster sees the headers of the request, except [Options.HiddenHeaders]: cookies and credentials.
package socketio

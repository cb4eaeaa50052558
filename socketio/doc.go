// Package socketio connects clients of Socket.IO, unmodified, to a node: socket.io-client of versions 3 and 4, and what
// speaks the same protocol in other languages (Engine.IO 4, Socket.IO 5), over websocket.
//
//	io, err := socketio.New(node, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {
//		Events: socketio.Events{"join": socketio.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error {
//			return s.Join(ctx, room)
//		})},
//	}}})
//	http.Handle("/socket.io/", io)
//
// A client says which transport it wants:
//
//	const socket = io("https://example.com", { transports: ["websocket"] });
//
// Without that option a client begins with polling, which is not there: it never connects, and the answer to its request,
// the first warning in the log, and Stats say why.
//
// Each namespace that a client connects to is a [crosscast.Socket] of its own, in the node's namespace of the same
// name. One websocket connection carries them all, with one [crosscast.Queue]: bounded in bytes, with a policy for
// clients that are too slow. What is emitted is framed once for all clients of a node, also with attachments.
//
// # Arguments
//
// An event has any number of arguments, with bytes anywhere in them. A handler gets them as [Args], which can be emitted
// and acknowledged as they came, all or the [Args.Rest] of them. To emit one, emit it as usual; to emit none, nil; to
// emit several, or bytes within other values, use [Values]. Clients of other
// bindings in the same rooms get them too: package ws as a JSON array, with bytes in base64.
//
// A client's acknowledgement of [crosscast.BoundTarget.EmitAck] is a payload that [ArgsOf] takes apart. It is passed on
// as soon as it is read, before events that the client has sent earlier and that still wait.
//
// # Events of a client
//
// The events of one socket are handled one at a time, in the order in which they were sent, on a goroutine that exists
// only while there are any; those of a client's namespaces do not wait for each other. Reading goes on meanwhile, up to
// [Options.EventBytes] of waiting events of a socket; then it pauses until there is room, which slows the client down
// through TCP, and loses nothing. During a pause pings are still sent, but the client's pongs wait behind its events:
// so it is never taken for dead because of a pause.
//
// A handler may ask its own client, with EmitAck, though the reply stands behind what the client has sent before: while a
// client owes a reply in any of its namespaces, reading goes on up to four times EventBytes. When that is not enough, the
// client counts as silent at once: what asks it gets the error of that, a [crosscast.IncompleteError], and reading pauses.
//
// When the client leaves a namespace or the connection, or that breaks, what it has sent is handled first, for
// [Options.LeaveTimeout] at most; then the socket is closed. When the server closes the socket, the context of the
// handler that runs is cancelled, and what waits is dropped. OnDisconnect is called after that, last;
// [crosscast.Node.Close] waits for it. A client that connects to a namespace again, over the same connection, is asked who
// it is when all that is done.
//
// A client is told that it is connected, with the socket's ID, when its rooms are joined on the bus, too. What is
// emitted to it meanwhile waits for that, up to 1 MiB.
//
// # How a connection ends
//
// Closing a socket tells the client (its reason is then "io server disconnect", and it does not connect again by
// itself), and leaves the connection, for other namespaces or the same one. The whole connection ends with
// [ReasonForced], which tells the client so for each namespace, and, so that the client connects again, without a word
// for these, by the code and reason of the closing handshake:
//
//	1001  "server shutting down"
//	1002  what the client sent is no packet, or one that it may not send, or not now
//	1007  a text message that is not UTF-8
//	1008  "too slow": the queue was full, or a write took too long; "timed out": no answer to a ping, or no namespace in
//	      time
//	1009  a message larger than MaxPayload, or a packet larger than MaxPacket
//	1011  "internal error": a handler panicked
//
// A socket that cannot be made, because the bus refuses what it needs or has not confirmed it in time, is refused as by
// Authenticate: the client gets a connect_error, "try again later". When that was its first namespace and the time is
// over, the connection ends, so that the client connects again.
//
// As on Node.js a client that breaks the protocol is not answered: the connection ends. Stats counts it. Packets that
// come after the server has closed their socket are dropped.
//
// A client may connect to a namespace that it is in, or is about to be in: one that has left before the server's answer
// came says nothing of that, and comes back. Its socket ends as if the client had left, and it gets a new one, with an
// ID, Authenticate and OnConnect of its own. (Node.js ends the connection then, or makes a second socket.) What the client
// sends until it is told of the new socket is the new one's.
//
// # Limits
//
// This is all that a client's input can make grow, with its bound, the option (or the constant), and the test of it.
// TestHostileClients tries them together.
//
//	URL and headers, kept as Handshake           MaxHeaders, 16 KiB          TestRefusedRequests
//	a message that is being read                 MaxPayload, 1 MB            TestBadMessages
//	a packet that waits for attachments          MaxPacket, 2 × MaxPayload   TestMaxPacket
//	  how many attachments                       MaxAttachments, 10          TestBadMessages
//	  for how long it waits for the next         PingInterval + PingTimeout  TestLateAttachments
//	the arguments of an event, 24 bytes each     65,536                      TestMaxArguments
//	nesting of arrays and objects                512                         TestBadMessages
//	a socket's events that wait                  EventBytes, 256 KiB         TestBackPressure
//	  and one of any size, beside the one that is handled: each is a packet
//	  four times that while the client owes a reply                          TestBurstOfQuestions
//	the time after it has left, once the reader  LeaveTimeout, 30 s          TestLeaveTimeout
//	  has found out: by the next ping, or the one after it while reading pauses
//	auth, of each namespace                      MaxAuth, 16 KiB             TestMaxAuth
//	sockets: one for each of Namespaces, and one that waits for the end of the one before
//	                                                                         TestConnectAgainEarly
//	answers that the client does not read        Queue.Limit                 TestSlowClient
//	what is emitted before it is connected       1 MiB                       TestConnectWaitsForTooMuch
//	the ID of an event                           2⁵³-1                       TestBadMessages
//
// The handshake is kept a second time, as JSON, for each namespace: without HiddenHeaders, and characters that JSON
// escapes take up to six bytes. MaxAttachments is for both directions: emissions with more are dropped, and counted by
// the node.
//
// The first client that is refused or closed by each limit is logged as a warning, by the node's Logger or slog.Default;
// Stats counts all.
//
// Emissions of a reserved event (connect, connect_error, disconnect, disconnecting, newListener, removeListener) are
// dropped as well: clients would break their connection.
//
// # Not supported
//
//   - HTTP long-polling, and going over from it to websocket: it would need sticky sessions. Clients that begin with it
//     get the protocol's error, which says so; with the option tryAllTransports they go on to websocket by themselves.
//   - WebTransport, and Engine.IO 3 (clients of version 2).
//   - Connection state recovery: a client that connects again is a new socket.
//   - Namespaces by pattern, and compression that is chosen for each message.
//   - A catch-all for events without a handler.
//
// # Names from clients
//
// A handler that joins the room that a client names lets the client choose what it hears. With package socketioadapter
// users and sockets are rooms to other servers, so Join and Authenticate's Rooms refuse names like theirs, such as
// "user:u9", with [crosscast.ErrInvalidName], which the client sees: see "Names" in that package. With other adapters
// these are rooms like any other, and nothing that is for a user or socket is heard there. Which of the application's own
// rooms a client may be in is for the handler to check.
//
// # Handshakes
//
// A socket's [Handshake] can be asked for from all nodes, as fetchSockets does on Node.js. Whoever may ask the cluster
// sees the request's headers, but for [Options.HiddenHeaders]: cookies and credentials.
package socketio

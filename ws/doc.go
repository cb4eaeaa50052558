// Package ws connects websocket clients to a node.
//
// Make a [Server] once. Its Accept makes a socket of a request that the application has authenticated:
//
//	chat, err := ws.New(node.Namespace, ws.Options{
//		Events: ws.Events{"say": ws.Typed(func(ctx context.Context, s *crosscast.Socket, text string) error {
//			return s.Namespace().To("room1").Emit(ctx, "said", text)
//		})},
//		AllowJoin: func(ctx context.Context, s *crosscast.Socket, room string) error {
//			return nil // or an error if s.User() may not be in the room
//		},
//	})
//	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
//		chat.Accept(w, r, ws.Client{User: r.Header.Get("X-User")})
//	})
//
// # Protocol
//
// Each websocket message is a JSON text, in both directions. An [Envelope] replaces this format.
//
//	{"event":"…","data":…}           an event
//	{"event":"…","data":…,"id":7}    an event whose sender waits for a reply
//	{"id":7,"data":…}                the reply
//	{"id":7,"error":"…"}             the refusal to reply, and its cause
//	{"join":"room1","id":7}          a client joins a room
//	{"leave":"room1","id":7}         a client leaves a room
//	{"id":7,"error":"…","retry":true}  the refusal of a join only for now: see "Joins"
//	{"gap":{"room":"room1",…}}       the server reports a gap: see "Gaps"
//	{"watch":"room1","id":7}         a client asks who is in a room: see "Presence"
//	{"unwatch":"room1","id":7}       it does not need that any more
//	{"presence":{"room":"room1",…}}  the server tells who is in a room
//
// "data" is optional, and so is the id of a join or leave. An id is an integer from 1 to 2⁵³-1. Each side draws its own
// ids. A client reuses an id only after the reply has come, or when it does not wait any more. An event gets at most one
// reply.
//
// The server sends an event with an id for [crosscast.BoundTarget.EmitAck]. The client's reply is passed on as soon as
// it is read, before earlier events of the client that still wait. After an "error" the client counts as silent at
// once. A reply for which nobody waits is counted in the node's Stats, and otherwise ignored.
//
// The server answers a client's event with an id after its handler has returned, and after everything that the handler
// emitted to the client. The reply holds the result of an [Answered] handler, no data for any other handler, or the
// handler's error.
//
// An emission is framed once for all clients of a node. Outgoing frames wait in a [crosscast.Queue], which is bounded
// in bytes and has a policy for slow clients.
//
// Package client is a Go client for this protocol, and [ClientJS] serves one for browsers. Package sse connects clients by
// server-sent events, where websockets are blocked.
//
// # Subprotocols
//
// A client chooses the form of the messages by the websocket's subprotocol:
//
//	none                 JSON, as above. Bytes are strings in base64
//	crosscast.json.1     the same, and bytes are binary messages, in both directions
//	crosscast.msgpack.1  the same objects as msgpack, one in each binary message, in both directions. Bytes are bytes,
//	                     also within another value: if the sender writes msgpack with bytes in it, such as [crosscast.MsgPack].
//	                     A payload of JSON stays JSON, with strings in base64
//
// Package client and client.js offer crosscast.json.1. If a client offers both, the server chooses msgpack. Those in
// [Options.Subprotocols] come first. With an [Envelope] of text of its own, the server knows crosscast.json.1 only, whose texts
// are then those of the Envelope. With a binary Envelope it knows none of them. A client that offers only versions that the
// server does not know gets status 400, and so does a list of more than 16 names or 1,024 bytes.
//
// A binary message of crosscast.json.1 is an object of JSON without "data", a zero byte, and the bytes. The object has no zero
// byte in it, and at most 2,047 bytes:
//
//	{"event":"picture","id":7}␀…    an event
//	{"id":7}␀…                      a reply
//
// The payloads that become bytes are [crosscast.Bytes], and a [crosscast.MsgPack] that is nothing but bytes. Bytes within
// another value are strings in base64, except those of a MsgPack that goes to a client of msgpack. Package client sends them
// as base64, too. A [Handler] gets every form as JSON, with bytes as base64, so a
// function of [Typed] for []byte gets the bytes, whatever the client speaks. A reply to an acknowledged emission keeps its form.
// docs/msgpack.md has the table of what becomes what. JSON without a counterpart in msgpack is a gap of the clients of msgpack.
//
// What a client sends as msgpack is walked before anything else: to 512 levels, and every element that a length promises must
// be there. As JSON it is at most six times as long.
//
// # Joins
//
// A client joins a room by the protocol if [Options.AllowJoin] returns nil. The join is [crosscast.Socket.Join], and
// fails as that does. A join or leave takes its turn among the client's events, and is answered as an event is: by a
// reply without data, or an error; without an id, only by an event "error" if it fails. So an event behind a join is
// handled when the client is in the room.
//
// An error with "retry" is no refusal: the client keeps its wish, and joins again after a pause. The server sends it if
// AllowJoin returns [ErrBusy] or a timeout, if the bus denies the room at this moment, and for a join above
// [Options.EventRate] with EventRefuse. Without an id a client does not learn that.
//
// To join a room again is no error. A client leaves a room that it has joined by the protocol, even if the
// application's code has joined it, too. It may not leave a room that only the application's code has joined. To leave
// a room that it is not in is no error.
//
// A room belongs to the connection. After a reconnect a client joins its rooms again. Package client and client.js do
// this by themselves.
//
// # Presence
//
// A client that is in a room may ask who else is, if [Options.AllowPresence] opens the room for it: {"watch":"room1"}. It
// is told all members, and then each change, until {"unwatch":"room1"}, or until it leaves the room. A wish is answered as
// a join is. To ask again is no error: all members come again.
//
//	{"presence":{"room":"room1","at":7,"count":2,"all":[["ann",{"name":"Ann"}],["bob"]]}}  // all members
//	{"presence":{"room":"room1","at":8,"count":2,"set":[["eve"]],"left":["bob"]}}          // changes
//	{"presence":{"room":"room1","at":9,"count":1500}}                                      // too many: only the number
//
// The members are users, each with what it shows ([Client.Presence]), if it shows anything. Sockets without a user are left
// out. In "set" are those who joined, or who show something else now. "at" is one more than in the message of the room
// before, unless that one has "all", or only the number. A client that finds a hole asks again. So it does after a
// reconnect, and after a gap.
//
// All clients of a room share one watch ([crosscast.Namespace.Watch]) and the messages, which are made once for each format.
// Changes are gathered ([Options.PresenceGather]). Above [Options.PresenceMost] members, or 256 KiB of them, the clients get
// only their number, and all members again once they are an eighth fewer. No client hears of a room while it is not in it.
// If the application takes it out and lets it in again, it is told all members within a second.
//
// # Gaps
//
// When the node might have missed emissions ([crosscast.Gap]), the server tells the clients that they concern, before
// anything later:
//
//	{"gap":{"room":"room1","ago":[4200,300],"wait":800}}  // there was a gap
//	{"gap":{"ago":[4200],"wait":800}}                     // a gap goes on
//	{"gap":{"ago":[9900,0],"wait":800,"ends":true}}       // it has ended
//
// The fields are:
//
//   - "room" is a room that the client is in. Without it the gap is one of everything that the client receives: the node
//     missed everything, or emissions to the client's user or to the client itself, or to more than 16 of its rooms. No
//     client learns the name of a room that it is not in.
//   - "ago" has the beginning and the end of the gap, in milliseconds before the message was made. Without an end, the gap
//     goes on. Another message of the same room follows when it ends.
//   - "ends" is true in that message, which covers the whole gap. Others that come meanwhile do not end the gap.
//   - "wait" is a time in milliseconds: the client draws a random part of it, and waits that long before it queries the
//     application. It grows with the number of clients that are told: [Options.GapSpread].
//
// Clients that do not know these messages ignore them, because they have no event. All clients share the message of a
// room. A message takes its place in the client's queue, so it might be older than "ago" says when the client reads it.
// Package client and client.js allow two seconds for that. If a client does not keep up, so that more than a sixteenth
// of Queue.Limit waits, all its gaps are merged into one of everything, made just before it is written. Behind it come the
// gaps of rooms that go on or have ended meanwhile; more than 16 of them are one of everything. They are never dropped, and
// a storm of gaps takes bounded memory.
//
// When the node's link is lost or deaf, its clients are told of a gap of everything that goes on, and so is each client
// that connects during the outage. When the link is back, the gap ends, and the clients fetch. A client that leaves during
// the outage, for this node or for another one, counts its absence from the beginning of that gap. Package client and
// client.js do so. The end might have an earlier beginning, if the node finds out only then that the bus had moved to
// another server before ("moved"). A client that has left by then does not learn that: it might miss what was emitted
// between the two beginnings.
//
// The frames that a client's queue drops ([crosscast.QueueOptions.Policy]) are a gap of everything, too, which begins no
// later than they do.
//
// [GapIgnore] turns all this off, and [GapReconnect] has the clients connect again. An [Envelope] may decline to make the
// messages.
//
// # Events of a client
//
// The events of one client are handled one at a time, in the order in which they were sent. Their goroutine exists only
// while there are events. Meanwhile the server reads on, until [Options.EventBytes] of events wait. Then it pauses
// reading until there is room. A pause slows the client down through TCP, and loses nothing.
//
// During a pause the server still sends pings, but reads no control frames of the client. Therefore a pause never makes
// a client count as dead, and the client's own pings are answered late. A ping that arrives while a message is being
// written is answered after that message. If several arrive, only the last one is answered.
//
// A handler may query its own client with EmitAck, although the reply comes behind everything that the client has sent
// before. While a client owes a reply, reading goes on up to four times EventBytes. If the reply is not found by then,
// the client counts as silent at once: EmitAck reports a [crosscast.IncompleteError], and reading pauses.
//
// [Options.Wrap] puts middleware around all handlers, and [Options.CatchAll] handles the events that have none.
//
// The server answers a malformed message with an event "error" and {"message":"…"}, in the place of the event. The
// connection goes on. The same holds for an event without a handler, and for an error from a handler. If the event has
// an id, the reply carries the error instead.
//
// The end of a connection depends on its cause:
//
//   - The client leaves, or its connection breaks. All events that were read are handled first, for at most
//     Options.LeaveTimeout. Then the socket is closed.
//   - The server closes the socket, for any reason. The context of the running handler is cancelled, and the waiting
//     events are dropped.
//
// OnDisconnect is called last. [crosscast.Node.Close] waits for it.
//
// # Limits
//
// Options limits what clients may do. All of these are off by default, and cost nothing then:
//
//	events a second of a client       EventRate, EventBurst; EventPolicy: the    TestEventPause, TestEventRefuse,
//	                                  events wait, are refused with the error    TestEventClose
//	                                  "too many events", or close the socket
//	clients of the server             MaxClients: 503 with Retry-After           TestMaxClients
//	clients of a user on this node    MaxUserClients: 429 with Retry-After, or   TestThousandConnectionsOfOneUser,
//	                                  with KickOldest the oldest is closed       TestKickOldest
//	clients of a user on all nodes    MaxUserClientsTotal, as well as one        TestMaxUserClientsTotal
//	                                  question can tell
//	handshakes a second               HandshakeRate, HandshakeBurst: 429 with    TestHandshakeFlood
//	                                  Retry-After
//	the time of a connection          Client.Expires, Socket.SetExpires          TestExpires
//
// A handshake takes at most ConnectTimeout (45 s) after the request was read, and WriteTimeout for its answer. The
// server's Stats counts what is refused or paused. The first of each cause is logged, with the option that is its cure.
//
// # Memory per client
//
// The following things grow with a client's actions. Each has a bound and a test. TestHostileClients tries all of them
// together.
//
//	an idle connection          about 3 KB, and a stack of 4 KiB           TestIdleConnection
//	the message being read      Options.ReadLimit (1 MiB), compressed      TestReadLimit
//	                            and not
//	waiting events, also those  Options.EventBytes (256 KiB); four times   TestBackPressure, TestBurstOfQuestions,
//	above EventRate             that while the client owes a reply         TestEventPause
//	the error of a malformed    200 bytes each, counted in EventBytes      TestErrorTextIsBounded
//	message
//	frames for the client       Queue.Limit (1 MiB); Queue.Burst (8 MiB)   TestSlowClient; crosscast: TestQueueBurst,
//	                            for 5 s; Queue.Budget (64 MiB) in all      TestQueueBudget
//	frames being written        64 KiB for 0.25 s; then one by one         TestTrickle
//	a message of msgpack        Options.ReadLimit, and six times that as  FuzzForms
//	                            JSON
//	gaps to be told             16 notices; the frames count in the Limit  TestStormOfGaps; crosscast: TestSendNotice
//	waiting pings               the newest one                             TestPingDuringWrite
//	rooms                       crosscast.Options.MaxRooms (10,000)        crosscast: TestMaxRooms; TestFloodOfJoins,
//	                                                                       TestMemoryOfJoins
//	presence                    1,000 rooms; 256 KiB of members for each       TestHostilePresences; internal/presence:
//	                            watched room of the server                 TestManyMembers
//	the request                 only the values of its context             TestHeadersAreNotKept
//	the time after it has left  Options.LeaveTimeout (30 s), after the     TestLeaveTimeout
//	                            server has noticed: at the next ping,
//	                            or the one after it if reading pauses
//	the time of its handshake   Options.ConnectTimeout (45 s), and         TestConnectTimeout, TestUnreadAnswer
//	                            WriteTimeout (10 s)
//	the time after its closing  Queue.CloseGrace and 4 s                   TestClosedIsGone
//
// The application bounds the memory of its handlers, http.Server.MaxHeaderBytes and ReadHeaderTimeout. It bounds the
// number of connections by Options.MaxClients.
//
// # Close codes
//
// The code and the reason of the closing handshake tell the client the cause:
//
//	1000  closed by the application, with the reason as text
//	1001  "server shutting down": see [crosscast.Node.Close]
//	1012  "server restarting": a drain, see [crosscast.Node.Drain], or [GapReconnect]. The message before it tells the
//	      client when to come back, in milliseconds: {"reconnect":{"wait":740}}. The wait is random and up to 1 s.
//	      Clients that do not know the message come back by their own back-off
//	1002  a violation of the websocket protocol
//	1003  a binary message where text is expected, or the other way round
//	1007  a text message that is not UTF-8, or a message that is compressed badly
//	1008  "too slow": the queue was full, or a write took too long; "timed out": no answer to a ping;
//	      "too many events": more than EventRate, with EventClose
//	1009  a message larger than ReadLimit
//	1011  "internal error": a handler panicked, or Connect refused an argument of Accept
//	1013  "try again later": the bus denied a subscription of the socket, or did not confirm it in time
//	4001  the text of Server.Reject; or "replaced": a newer client of the same user has taken the place, with KickOldest;
//	      the client should not come back by itself
//	4002  "expired": the time of Client.Expires or Socket.SetExpires has come; the client may come back with a new
//	      credential
//
// While a node drains, and once it is closed, new requests get status 503, with Retry-After.
//
// A closed connection is gone after Queue.CloseGrace and 4 seconds, whatever the client does. By default that is 5
// seconds after the server has closed the socket, has refused a message, or has found the client too slow or silent.
package ws

// Package ws connects websocket clients to a node, over github.com/coder/websocket.
//
// A [Server] is made once; its Accept turns a request that the application has authenticated into a socket:
//
//	chat, err := ws.New(node.Namespace, ws.Options{Events: ws.Events{
//		"join": ws.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error {
//			return s.Join(ctx, room)
//		}),
//	}})
//	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
//		chat.Accept(w, r, ws.Client{User: r.Header.Get("X-User")})
//	})
//
// # What is sent
//
// Both ways a websocket message is a JSON text; see [Envelope] for others:
//
//	{"event":"…","data":…}           an event
//	{"event":"…","data":…,"id":7}    an event whose sender waits for a reply
//	{"id":7,"data":…}                the reply
//	{"id":7,"error":"…"}             the reply when there is none, and why
//
// "data" may be left out. An id is an integer from 1 to 2⁵³-1; each side draws its own, and a client uses one again only
// when it has a reply, or does not wait any more. An event gets at most one reply.
//
// To a client, an event with an id comes of [crosscast.BoundTarget.EmitAck]. Its reply is passed on as soon as it is
// read, before events that the client has sent earlier and that still wait. With "error" the client counts as silent at
// once. A reply that nobody waits for (any more) is counted in the node's Stats, and otherwise ignored. From a client, an
// event with an id is answered when its handler has returned: with what an [Answered] handler returned, without data by
// any other, or with its error. The reply comes after what the handler emitted to the client.
//
// What is emitted is framed once for all clients of a node, and waits in a [crosscast.Queue]: bounded in bytes, with a
// policy for clients that are too slow.
//
// Package client has a client for this in Go, and [ClientJS] is one for browsers.
//
// # Events of a client
//
// The events of one client are handled one at a time, in the order in which they were sent, on a goroutine that exists
// only while there are any. Reading goes on meanwhile, up to [Options.EventBytes] of waiting events; then it pauses
// until there is room, which slows the client down through TCP, and loses nothing. During a pause pings are still sent,
// but the client's control frames wait behind its events, its pongs among them: so a client is never taken for dead
// because of a pause, and its own pings are answered late. A ping that comes while a message is written is answered when
// that is written; of several the last.
//
// A handler may ask its own client, with EmitAck, though the reply stands behind what the client has sent before: while a
// client owes a reply, reading goes on up to four times EventBytes. When that is not enough, the client counts as silent
// at once: what asks it gets the error of that, a [crosscast.IncompleteError], and reading pauses.
//
// A message that cannot be parsed is answered with an event "error" and {"message":"…"}, in the place of the event, and
// the connection goes on. So are an event without a handler and an error from a handler, unless the event has an id: then
// the reply says it.
//
// When the client leaves, what it has sent is handled first; then the socket is closed. When its connection breaks,
// what was read of it is handled all the same. Both may take Options.LeaveTimeout at most. When the server closes the
// socket, for whatever reason, the context of the handler that runs is cancelled, and what waits is dropped. OnDisconnect
// is called after that, last; [crosscast.Node.Close] waits for it.
//
// # What a client can make the server keep
//
// Each thing of a connection that grows with what its client does, its bound, and the test of that. TestHostileClients tries
// them all together.
//
//	the message that is read    Options.ReadLimit (1 MiB)                  TestReadLimit
//	events that wait            Options.EventBytes (256 KiB); four times   TestBackPressure, TestBurstOfQuestions
//	                            that while the client owes a reply
//	why a message is none       200 bytes each, of EventBytes              TestErrorTextIsBounded
//	what waits for the client   Queue.Limit (1 MiB); Queue.Burst (8 MiB)   TestSlowClient; crosscast: TestQueueBurst,
//	                            for 5 s; Queue.Budget (64 MiB) in all      TestQueueBudget
//	pings that wait             the newest                                 TestPingDuringWrite
//	rooms                       crosscast.Options.MaxRooms (10,000)        crosscast: TestMaxRooms
//	the request                 nothing but the values of its context      TestHeadersAreNotKept
//	the time after it has left  Options.LeaveTimeout (30 s), after the     TestLeaveTimeout
//	                            reader has found out: by the next ping,
//	                            or the one after it while reading pauses
//	the time after its closing  Queue.CloseGrace and 4 s                   TestClosedIsGone
//
// What a handler keeps is the application's, and so are http.Server.MaxHeaderBytes, ReadHeaderTimeout, and how many
// connections there are.
//
// # Close codes
//
// A client is told why by the code and reason of its closing handshake:
//
//	1000  closed by the application, with the reason as text
//	1001  "server shutting down"
//	1002  a violation of the websocket protocol
//	1003  a binary message where text is expected, or the other way round
//	1007  a text message that is not UTF-8
//	1008  "too slow": the queue was full, or a write took too long; "timed out": no answer to a ping
//	1009  a message larger than ReadLimit
//	1011  "internal error": a handler panicked, or what the application gave to Accept is not acceptable
//	1013  "try again later": the bus refuses what the socket needs, or has not confirmed it in time
//
// A closed connection is gone after Queue.CloseGrace and 4 seconds, whatever the client does: by default that is 5 seconds
// after the server has closed the socket, has refused a message, or found the client too slow or silent.
package ws

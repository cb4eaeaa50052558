// Package sse connects clients to a node by server-sent events: streams over HTTP, for networks that block websockets, and
// for clients that only listen.
//
// A stream is a connection of package ws in other clothes. So a [ws.Server] has the events, the limits and the sockets, and
// a [Server] in front of it adds the other way to connect:
//
//	chat, err := ws.New(node.Namespace, ws.Options{Events: events, AllowJoin: allow})
//	clients, err := sse.New(node, chat, sse.Options{})
//	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
//		clients.Accept(w, r, ws.Client{User: r.Header.Get("X-User")})
//	})
//
// Accept also takes websockets, so that one URL and one authentication serve both. client.js of package ws takes what it
// gets: see its option "stream".
//
// All of [ws.Options] holds for streams, and websockets and streams of a user count together: handlers, AllowJoin, origins,
// limits, gaps, the queue with its policies, WriteTimeout. Exceptions: Subprotocols and CompressFrom do not matter, the
// Envelope must not be binary, and PingInterval is the time between keep-alive comments. Nothing answers those: a client
// counts as dead when they cannot be written.
//
// # Stream
//
// The first event tells the client what it needs in order to send. It has the name "hello". Behind it come messages, as
// events without a name. Each is a JSON text of the protocol of package ws; bytes are base64.
//
//	event: hello
//	id: 1764441205000
//	data: {"token":"…","limit":65536,"alive":25000}
//
//	data: {"event":"said","data":"hello"}
//
//	event: close
//	retry: 1740
//	data: {"code":1012,"reason":"server restarting"}
//
// "token" is a secret of 128 random bits, behind the names of the node and of the stream. "limit" is what a
// message may have, in bytes: [Options].PostLimit, or ReadLimit of ws.Options if that is less. A line above ReadLimit ends the
// stream. "alive" is the time between comments, in milliseconds: a client that has heard nothing for much longer connects again. The
// last event has the close code and reason that a websocket would get.
//
// A client may ask for bytes as binary messages, with "Accept: text/event-stream;protocol=crosscast.json.1". This is a
// subprotocol of package ws, and "protocol" in the first event says that the server agrees. Such a message is an event
// "bytes", all in base64; in a POST it is a line that begins with "=". client.js does that, and gives the application bytes.
//
// In a browser, without client.js:
//
//	const stream = new EventSource("/ws");
//	stream.onmessage = e => console.log(JSON.parse(e.data));
//	stream.addEventListener("hello", e => { token = JSON.parse(e.data).token; });
//
// An EventSource comes back by itself, also after close codes for which client.js gives up, but not after an HTTP status
// such as the 503 of a node that drains. Its readyState is then 2, and the page makes another one: docs/clients.md shows how. When it comes back it sends Last-Event-ID. Then its second event is a gap of everything since then, before
// any other, because nothing is kept for clients that are away. An ID is the time of the node; about one event in a second
// has one, and so have comments. The gap begins six seconds earlier, as in client.js: see Options.GapMargin.
//
// # Sending
//
// A POST to the same URL carries the client's messages: events, joins, leaves and replies, one a line. Several nodes may
// share the URL; the node that gets the POST passes it on to that of the stream.
//
//	POST /ws
//	Crosscast-Stream: <token>
//
//	{"event":"say","data":"hello","id":7}
//
// The answer says whether the messages were taken. The reply to an event comes in the stream.
//
//	204  they were taken, in this order. Those of two POSTs at the same time have no order
//	400  no token, or no messages in UTF-8
//	403  a foreign secret, another user than the stream's, or a page that ws.Options.Origins does not allow
//	410  the stream has ended, or its node is gone
//	413  more than PostLimit, or than the bus carries; nothing was taken
//	429  too much of this client waits, or too many of its POSTs were refused. With Retry-After; nothing was taken
//	502  the node of the stream is gone, or does not answer within PostTimeout: whether they were taken is not known. A node
//	     that was killed is an error after 0.25 s, if the bus counts who hears a message, as Redis does
//	503  more than MaxPosts, with Retry-After; nothing was taken
//
// The application authenticates each POST as it does the stream, and passes the user on to Accept. A session that has ended
// so cannot send. The token is in a header of its own, because URLs are logged, and because a page of another origin cannot
// set such a header without the server's consent. The node compares it in constant time. Another node learns only its hash.
// Nothing logs it.
//
// POSTs with a wrong token, and those for which too much waits, count for the user, or for the address of a client without
// one. After 20 of them one a second is looked at, unless it has the token of a stream of this node. Clients without a user
// behind one proxy share that.
//
// Nodes pass POSTs on by requests with the name "crosscast.sse": see [crosscast.Node.OnRequest].
//
// # Bounds
//
//	a stream                       as a connection of package ws: see "Memory per client" there
//	an idle stream                 about 40 KB, most of it net/http's                    TestIdleStream
//	a POST                         PostLimit (64 KiB)                                    TestBodies
//	the time of a POST             PostTimeout (5 s), for its body and the other node    TestBodies
//	POSTs under way                MaxPosts (256)                                        TestTooManyPosts
//	what a client has sent         PostLimit, in front of ws.Options.EventBytes          TestFlood
//	refused POSTs                  20, and one a second; 4,096 callers are remembered    TestForeignSecrets, TestMisses
//	a stream that nobody reads     Queue.Limit and WriteTimeout of ws.Options            TestNeverRead
//
// # Proxies and browsers
//
// The answer has X-Accel-Buffering: no, so that nginx passes each event on at once, and Cache-Control: no-store,
// no-transform. Other proxies need an option not to gather: see docs/production.md. A proxy must not end a stream that is
// silent for ws.Options.PingInterval.
//
// Over HTTP/1.1 a browser has at most six connections to a server, over all tabs, and each stream holds one. The seventh tab
// then gets nothing, not even a page. Serve HTTP/2, for example with TLS in front of the server, where streams share a
// connection.
//
// A middleware's http.ResponseWriter needs a method Unwrap, as for [http.ResponseController]. http.Server.ReadTimeout and
// WriteTimeout do not end streams. [http.Server.Shutdown] waits for them: drain or close the node before.
//
// A page of another origin needs ws.Options.Origins, and its requests are asked about with OPTIONS, without credentials:
// pass those on to Accept before the authentication.
package sse

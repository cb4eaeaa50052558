// Package client is a websocket client for package ws. It stays connected.
//
//	c, err := client.Dial(ctx, "ws://localhost:8080/", client.Options{
//		Events: client.Events{"said": client.Typed(func(ctx context.Context, c *client.Client, text string) error {
//			fmt.Println(text)
//			return nil
//		})},
//		Refetch: func(ctx context.Context, c *client.Client, g client.Gap) error { … }, // fetch what g.Room missed since g.Since
//	})
//	err = c.Join(ctx, "room1") // and again after each reconnect
//	err = c.Emit(ctx, "say", "hello")
//	err = c.Close(ctx)
//
// Bytes are sent and received as bytes: see [Handler] and [Client.Emit].
//
// The documentation of package ws describes the protocol. This package depends on github.com/coder/websocket only, not
// on crosscast.
//
// # Life of a connection
//
// A [Client] has one goroutine. It connects, and calls all functions of the application, one at a time:
//
//  1. OnConnect, for example to log in. If it fails, the connection is closed.
//  2. The client joins its rooms: see [Client.Join]. The joins are sent together, at most 100 at a time. OnJoinError is
//     called for a room that the server refuses; it is not kept any more. If the server cannot decide now, the client
//     goes on, and joins that room later: after pauses as those of attempts to connect. If a reply does not come within
//     Options.RequestTimeout after the previous one, the connection is closed.
//  3. OnGap, except for the first connection: emissions between the two connections might be missing. The rooms are
//     joined, so data fetched now and the events that arrive from now on leave no hole between them. A room that is to be
//     joined later has a gap of its own, which goes on until then.
//  4. The handlers of events, and OnGap for gaps that the server reports, in the order in which the server sent them.
//     In between, Refetch.
//  5. When the connection is lost, all events that were read are still handled. Then OnDisconnect is called.
//  6. After a pause comes the next attempt. If it fails, OnRetry is called, and a longer pause follows.
//
// A handler may wait for a [Client.Request], because replies are passed on as they are read, before waiting events. One
// exception: while more than Options.EventBytes of events wait, nothing is read, and a request fails at its deadline.
//
// After each failed attempt and each lost connection, Options.GiveUp decides whether the client stops for good. By
// default it does if the server has refused the client itself: by HTTP status 401 or 403, or by close code 4001. Then
// OnGiveUp is called, Dial returns the error, and every call fails with it.
//
// # Gaps
//
// A [Gap] is a time in which emissions might be missing. There are two kinds:
//
//   - The client was away. Since is Options.GapMargin before the last answered ping of the lost connection was sent or, if no
//     ping was answered, before the last sign of life; but not before that connection. Missing messages might be older, if
//     the server held them back for a slow client.
//   - The server reports a gap: it might have missed emissions of other servers, or the client was too slow. See "Gaps"
//     in the documentation of package ws. A gap without an Until goes on. If the connection is lost before its end, it
//     becomes part of the absence, in one gap with the earlier Since.
//
// Options.OnGap is called at once, in the place of the missing messages: behind earlier events, and before later ones.
// Options.Refetch is called for gaps that have ended, after Gap.Wait, so that the clients do not query the server all at once. While the client
// has no connection, Refetch waits. More than 1,000 rooms that wait become one gap of everything.
//
// # Presence
//
// [Client.Presence] tells who is in a room. It asks after the join of the room, on each connection, and after a gap of the
// room or of everything, after Gap.Wait. Its calls take their places among those of the handlers.
//
// # The pause
//
// The pause is random, between half of the back-off and all of it, so that the clients of a restarted server do not
// come back all at once. After a status with the header Retry-After it is no shorter than that, up to a minute; a browser
// tells its clients neither. The back-off begins with MinBackoff and doubles up to MaxBackoff. It begins anew after a
// connection that stood longer than MaxBackoff.
//
// # Requests
//
// Without a connection, Emit and Request fail at once with [ErrNotConnected]. No event is kept for later, except by
// choice: Options.AwayBytes bounds the requests that wait for the next connection. A request
// whose connection is lost before the reply fails with [ErrUncertain]: the server might have handled it. No event is
// sent twice. Joins are: [Client.Join] waits for the next connection.
package client

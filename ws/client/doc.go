// Package client is a websocket client of package ws that stays connected.
//
//	c, err := client.Dial(ctx, "ws://localhost:8080/", client.Options{
//		Events: client.Events{"said": client.Typed(func(ctx context.Context, c *client.Client, text string) error {
//			fmt.Println(text)
//			return nil
//		})},
//		OnConnect: func(ctx context.Context, c *client.Client) error {
//			return c.Request(ctx, "join", "room1", nil) // each time: a new connection is in no room
//		},
//		OnGap: func(c *client.Client, since, until time.Time) { … }, // fetch what was said meanwhile
//	})
//	err = c.Emit(ctx, "say", "hello")
//	err = c.Close(ctx)
//
// The protocol is in the documentation of package ws. This package depends on github.com/coder/websocket only, not on
// crosscast.
//
// # What a connection begins and ends with
//
// A [Client] has one goroutine that connects, and on which everything of the application's is called, one at a time:
//
//  1. OnConnect, which joins rooms. When it fails, the connection is closed.
//  2. OnGap, unless this is the first connection: what was emitted between the two may be missed. OnConnect has
//     returned, so what is fetched now and what arrives from now on leave no hole between them.
//  3. The handlers of events, in the order in which the server sent them.
//  4. When the connection is lost, what was read of it is still handled; then OnDisconnect.
//  5. After a pause, the next attempt. When that fails: OnRetry, and a longer pause.
//
// A handler may wait for a [Client.Request]: replies are taken as they are read, before events that wait. But while more
// than Options.EventBytes of events wait, nothing is read, and replies are not either; the request then fails at its
// deadline.
//
// # The pause
//
// It is drawn between one and two halves of the back-off, so that the clients of a server that restarts do not come back
// all at once. The back-off begins with MinBackoff, doubles up to MaxBackoff, and begins anew after a connection that
// stood longer than MaxBackoff.
//
// # Requests
//
// What is sent while there is no connection fails at once with [ErrNotConnected]; nothing is kept for later. A request
// whose connection is lost before the reply fails with [ErrUncertain]: the server may have handled it. Nothing is sent
// twice.
package client

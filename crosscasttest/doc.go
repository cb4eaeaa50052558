// Package crosscasttest helps to test applications that use crosscast: clients that record what they are sent, and
// clusters of several nodes in one process. Nothing in it sleeps, so tests that use it are fast, and do not fail now
// and then.
//
//	func TestChat(t *testing.T) {
//		ctx := t.Context()
//		cluster := crosscasttest.NewCluster(t, 2)
//		ann := cluster.Connect(ctx, 0, crosscast.ConnectOptions{User: "ann", Rooms: []string{"lobby"}})
//		bob := cluster.Connect(ctx, 1, crosscast.ConnectOptions{User: "bob", Rooms: []string{"lobby"}})
//
//		say(ctx, ann.Socket(), "lobby", "hello") // the application, which emits to everyone in the room but the sender
//
//		cluster.Settle(ctx)           // everything has been handled everywhere
//		bob.Want(`said "hello"`)      // and this is what came of it
//		ann.Want()                    // nothing
//	}
//
// The Example below is a whole test, of a handler that connects clients itself.
//
// # What came, and what did not
//
// There are two ways to look at a [Conn]. One is to wait for something: [Conn.Event], [Conn.Nth] and [Conn.Find]
// return the message, as soon as it is there. The other is to wait until everything is over, with [Cluster.Settle], and
// to compare with [Conn.Want]. Only the second can say that something did not arrive.
//
// With an adapter that is not [crosscast.Cluster]'s, such as one over a real Redis, nobody knows when everything is
// over. There [Conn.WantNone] uses a fence: an emission of the same node on the same ordered path, behind which nothing
// that was emitted before can be hidden.
//
// # Failing
//
// What does not hold fails the test, with what came instead. Methods that take a context wait until it ends, and 10
// seconds when it has no deadline. They, and what a client does, may call FailNow, so they belong on the goroutine of
// the test. All other methods may be called on any.
//
// Everything works in a testing/synctest bubble, and outside of one. In a bubble heartbeats, lingering and deadlines
// take no time, and a cluster must be made in the bubble that uses it.
package crosscasttest

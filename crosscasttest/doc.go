// Package crosscasttest helps to test applications that use crosscast. It has clients that record the messages that
// they receive, and clusters of several nodes in one process. Nothing in it sleeps, so the tests are fast and reliable.
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
// # What arrived, and what did not
//
// There are two ways to check a [Conn]. One is to wait for a message: [Conn.Event], [Conn.Nth] and [Conn.Find] return
// as soon as it is there. The other is to wait until everything is over, with [Cluster.Settle], and to compare with
// [Conn.Want]. Only the second can show that something did not arrive.
//
// Nodes with an adapter of your own, such as one over a real Redis, have no Settle. With them, use [Conn.WantNone]. It uses a fence: an emission of the same node on the same ordered path. When the fence arrives, all
// earlier emissions of that node have arrived.
//
// # Faults
//
// The nodes of a [Cluster] meet on a bus in memory, with the same machinery as on Redis. [Cluster.Cut] and
// [Cluster.Heal] break and mend the link of a node, and [Cluster.Lose] loses emissions. Options.OnGap, OnLoss and OnLink
// report then what they report on Redis.
//
// In a program that imports this package, a message that a [crosscast.Conn] keeps after Send has returned is
// overwritten: its fields say so. Keep a [crosscast.Message.Clone] instead. Without this package, a node reuses the
// message, so the mistake shows only under load.
//
// # Failing
//
// A failed check fails the test, and prints what arrived instead. A method with a context waits until the context ends,
// or 10 seconds if it has no deadline. These methods, and the actions of a client, may call FailNow, so call them on
// the goroutine of the test. All other methods may be called on any goroutine.
//
// Everything works inside and outside of a testing/synctest bubble. In a bubble, heartbeats, lingering and deadlines
// take no time. Make a cluster in the bubble that uses it.
package crosscasttest

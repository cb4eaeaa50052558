package crosscast

import "context"

// Settle is for tests. It waits, bounded by ctx, until nothing is under way: everything that was emitted, joined,
// commanded, asked or told before it was called has been handled on every node, and so has what came of it. That
// includes the hooks of Options, the functions of subscriptions and watches, the OnClose of sockets and the handlers of requests.
// Looking at what arrived, or did not, needs no sleep after it. It may be called in a testing/synctest bubble, and
// outside of one.
//
// What it cannot know of is what goroutines of the application are about to do, clients that have not replied to an
// acknowledged emission yet, and what a [Queue] has not written yet. Interest that lingers is not waited for either.
// Settle must not be called from within anything that it waits for.
func (c *Cluster) Settle(ctx context.Context) error { return c.busy.Wait(ctx) }

// Package adaptertest checks that a driver (a [crosscast.Adapter], or a wire.Bus under one) keeps the promises that the
// node relies on. The test of a driver is a function that makes clusters:
//
//	func TestAdapter(t *testing.T) {
//		adaptertest.Run(t, adaptertest.Harness{
//			New: func(tb testing.TB) adaptertest.Cluster {
//				bus := startMyBus(tb) // registers its own end with tb.Cleanup
//				return adaptertest.Cluster{
//					Adapter: func() crosscast.Adapter { return mydriver.New(bus) },
//				}
//			},
//		})
//	}
//
// # The rules
//
// Each rule is one subtest with a cluster of its own. A cluster has three nodes, because with two, "everyone" and "the
// other one" look alike. Most rules are checked through nodes and sockets, as applications use them. Rules with names
// that begin with "driver-" are checked through the driver's own methods, with instructions that the suite makes. A
// broken rule is printed in plain words, with the observation of the suite, so you need not read the suite to understand
// a failure. Rules returns the text of all of them.
//
// To prove that something does not arrive, the suite uses a fence: after the emission, the same node emits to everyone,
// and the suite waits for that. An emission to everyone keeps its place among all emissions of its node. So make the
// rules of order pass before you believe a failure of another rule. No proof sleeps.
//
// After each rule all nodes are closed, and then the cluster's own cleanups run. After that, no new goroutine may be
// left. So tests that call Run must not run in parallel with others. Start things that clusters share, such as a
// server, before Run.
//
// # Optional parts
//
// If links of a driver can break, offer Cut and Restore: most of the serious mistakes are made there. With Deafen,
// Deny, Peek and Inject the suite can act as networks, administrators and strangers do. Rules that need a missing
// function, or a missing optional interface of package crosscast (AdapterSubscriber, AdapterDeliverer, AdapterObserver,
// ForeignAdapter), are not checked. Run prints their number and the reasons on the standard error.
//
// A driver for a wire that others have defined might be unable to keep some rules. List the missing capabilities in
// [Harness].Lacks: Run then leaves out the rules that need them, and prints them with your reason. If a driver cannot
// keep a rule for another reason, list the rule in Exceptions; Run prints that too. Put both into the driver's
// documentation.
//
// # Writing a driver
//
// The contract is the documentation of [crosscast.Adapter]. For a bus that carries bytes by topic, use package wire,
// which contains the hard parts and needs only a wire.Bus. An order that has worked:
//
//  1. Start, Publish to all and Close, without optional interfaces: the node filters. The rules once, order, targets,
//     payloads and driver-… are the ones to look at. minimal_test.go beside this file is such a driver, whole.
//  2. AdapterSubscriber: a node receives nothing without interest. Rules joined-… and interest-….
//  3. AdapterDeliverer, AdapterMeter, as far as the bus can tell.
//  4. Cut and Restore: rules outage-….
package adaptertest

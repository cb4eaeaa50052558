// Package adaptertest checks that a driver (a [crosscast.Adapter], or a wire.Bus under one) keeps what the node
// counts on. A driver's test is a function that makes clusters:
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
// # What is run
//
// Each rule is one subtest, with a cluster of its own: three nodes, because with two "everyone" and "the other one"
// look alike. Most rules are checked through nodes and sockets, as applications use them; those whose names begin with
// "driver-" through the driver's own methods, with instructions that the suite makes. When a rule is broken, the rule
// is printed in plain words with what was seen instead, so nothing here need be read to understand a failure. Rules
// prints all of them.
//
// What must not arrive is proved by a fence: the suite emits it, then emits to everyone from the same node, and waits
// for that, because an emission to everyone keeps its place among all that its node sends. So the rules of order should
// be green before a failure of another is believed. Nothing is proved by sleeping.
//
// After each rule every node is closed, then the cluster's own cleanups run, and then no goroutine may be left that was
// not there before. So tests that call Run must not run in parallel with others, and what clusters share, such as a
// server, is to be started before Run.
//
// # What is optional
//
// A driver for which links can break should offer Cut and Restore: most of the mistakes that matter are made there.
// Deafen, Deny, Peek and Inject let the suite do what networks, administrators and strangers do. Without them, and without the optional
// interfaces of package crosscast (AdapterSubscriber, AdapterDeliverer, AdapterObserver, ForeignAdapter), rules are not checked, and Run says how many
// and why on the standard error.
//
// A driver that speaks a wire which others have defined may be unable to do some of what the rules are about. It says so
// by [Harness].Lacks, and Run leaves out the rules that need it, and prints them with the driver's reason. A
// rule that a driver cannot keep for another reason goes to Exceptions with that, which Run prints as well. Both belong
// in the driver's documentation.
//
// # Writing a driver
//
// The contract is the documentation of [crosscast.Adapter]; for a bus that carries bytes by topic, package wire has
// written the hard parts and asks for a wire.Bus only. An order that has worked:
//
//  1. Start, Publish to all and Close, without optional interfaces: the node filters. The rules once, order, targets,
//     payloads and driver-… are the ones to look at. minimal_test.go beside this file is such a driver, whole.
//  2. AdapterSubscriber: what a node has no interest in does not reach it. Rules joined-… and interest-….
//  3. AdapterDeliverer, AdapterMeter, as far as the bus can tell.
//  4. Cut and Restore: rules outage-….
package adaptertest

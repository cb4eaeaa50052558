// Package otelcrosscast makes traces and metrics of crosscast with OpenTelemetry. The root module imports nothing for it.
//
// # Traces
//
// [NewObserver] is for Options.Observer of a node:
//
//	node, err := crosscast.Start(ctx, crosscast.Options{Observer: otelcrosscast.NewObserver(otelcrosscast.Options{})})
//
// Then each Emit, Deliver, EmitAck and Socket.Emit is a span, a child of the caller's. Each node that delivers the message
// to sockets or subscriptions of its own has one span for that, however many they are. It is a child of the emission's
// span, also on another node: the context travels in the message's Meta. [Wrap] makes spans of the handlers of clients'
// events, for packages ws and socketio. A [Carrier] of a message's Meta continues the trace in a subscription.
//
//	span            kind      attributes
//	emit EVENT      producer  messaging.system, messaging.operation.name, messaging.operation.type,
//	                          messaging.message.body.size, crosscast.namespace, crosscast.event; error.type
//	deliver EVENT   consumer  the same, and crosscast.from (the emitting node), crosscast.sockets, crosscast.refused,
//	                          crosscast.subscriptions
//	handle EVENT    server    crosscast.namespace, crosscast.event; error.type
//
// No attribute has the name of a room or a user, or the ID of a socket. The description of a span's status is the text of
// the error, which might be the application's.
//
// A message's Meta has at most 8 pairs of at most 255 bytes each, the application's included. So a traceparent nearly
// always fits, and a long tracestate or baggage does not. What does not fit is left out, and is never an error of Emit.
// The counter crosscast.trace_context_left_out counts the pairs.
//
// Messages whose Meta has no context begin a new trace where they are delivered: those of nodes without an observer, of
// external programs, and all that arrive through package socketioadapter, because the wire of Socket.IO has no Meta.
//
// The sampler of the application decides what is recorded. With one that follows the parent, as the default does, a node
// records a delivery if the emission was recorded: the flag travels along. An emission that is not recorded still costs
// several times as much as one without an observer (BenchmarkEmit), and its context takes about 70 bytes on the bus. To
// switch traces off, leave Options.Observer nil: that costs nothing.
//
// # Metrics
//
// [RegisterMetrics] exports the Stats of a node, with the names that module prometheus has: see docs/metrics.md of the
// repository.
package otelcrosscast

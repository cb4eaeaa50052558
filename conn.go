package crosscast

// A Conn is how messages reach one client. Users implement it or take it from a binding. A connection that has only a
// blocking write is wrapped in a [Queue].
//
// A node calls Send from many goroutines, but one at a time per origin. A Conn must keep the order of the calls. A
// message for very many sockets is passed to several conns at once.
type Conn interface {
	// Send takes or refuses m, without blocking. m is valid only during the call: keep the result of [Message.Frame],
	// or a [Message.Clone]. Send returns:
	//
	//   - nil: m was taken.
	//   - [ErrDropped]: m was dropped, and the connection goes on.
	//   - [ErrClosed]: Close was called.
	//   - any other error: the connection is unusable, and the node closes the socket, with [ReasonSlow] for [ErrSlow],
	//     with the result of the error's method Reason() Reason if it has one, and otherwise with [ReasonLeft]. A panic
	//     of Send does the same, with [ReasonInternal].
	Send(m *Message) error

	// Close ends the connection without blocking. The socket calls it once. A Conn whose handlers outlive Close also
	// has a method Done() <-chan struct{}. [Node.Close] waits for Done, unless Close has panicked.
	Close(reason Reason)
}

// Reason is the reason why a socket was closed. Applications may use texts of their own.
type Reason string

const (
	ReasonLeft     Reason = "client left"          // the client closed the connection, or it broke
	ReasonServer   Reason = "closed by the server" // the application closed it
	ReasonShutdown Reason = "server shutting down" // Node.Close
	ReasonDrained  Reason = "server restarting"    // Node.Drain, and bindings that send clients elsewhere
	ReasonSlow     Reason = "too slow"             // the client did not keep up
	ReasonTimeout  Reason = "timed out"            // the client stopped answering
	ReasonProtocol Reason = "protocol error"       // the client broke the protocol
	ReasonInternal Reason = "internal error"       // a function of the application's panicked
	ReasonExpired  Reason = "expired"              // the client's credential: see Socket.SetExpires
	ReasonFlood    Reason = "too many events"      // the client sent more than a binding's EventRate
	ReasonReplaced Reason = "replaced"             // by a newer client of the same user
)

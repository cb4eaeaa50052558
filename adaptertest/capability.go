package adaptertest

// A Capability is something that rules are about, and that a driver for a wire which others have defined might not be able
// to do. Such a driver says so by Harness.Lacks; every other one can do all of it.
type Capability string

const (
	// CapExactJSON: a JSON payload arrives byte for byte. Without it the value is the same, and the text need not be.
	CapExactJSON Capability = "exact JSON"
	// CapByteNames: rooms, users, events and namespaces may have names of any bytes. Without it, of UTF-8 text only.
	CapByteNames Capability = "names of any bytes"
	// CapSeparateSpaces: rooms, users and sockets are separate spaces of names, and a message's target arrives as it was
	// emitted. Without it a room that is named like a socket or user may hear what is for these; see
	// crosscast.ForeignAdapter.CheckRoom.
	CapSeparateSpaces Capability = "separate spaces"
	// CapInterest: a node receives nothing for a room or user that it has no member or subscriber of, and Deliver can tell
	// that nobody has one.
	CapInterest Capability = "interest in rooms and users"
	// CapSocketInterest: a node receives nothing for a socket that another node holds.
	CapSocketInterest Capability = "interest in sockets"
	// CapMeta: a message's Meta arrives.
	CapMeta Capability = "meta"
	// CapOneNode: something can be for one node, or for those with a member of a room: crosscast.Servers with Only and With.
	CapOneNode Capability = "instructions to one node"
	// CapNamedAnswers: it is known who answers: Changed.Nodes, Response.Node, Reply.Socket, and the nodes in an
	// crosscast.IncompleteError. Without it these are empty.
	CapNamedAnswers Capability = "answers with names"
	// CapNodes: nodes know each other: Node.Nodes and Options.OnNode.
	CapNodes Capability = "nodes that know each other"
	// CapReasons: the reason to disconnect sockets arrives on other nodes. Without it another one may.
	CapReasons Capability = "reasons to disconnect"
	// CapPresence: Namespace.Watch tells of members on other nodes.
	CapPresence Capability = "presence"
	// CapOrder: what one goroutine emits to a socket, to its user, to a room it is in, to several names and to everyone
	// keeps its order. Without it, only what goes to one name does: a bus of several masters that spreads names over them
	// has no order between two of these.
	CapOrder Capability = "order between names"
	// CapHoles: a node that misses something though its own link stands reports a gap, as does one that misses what
	// another node could not publish, and what the bus repeats is dropped.
	CapHoles Capability = "detection of holes"
)

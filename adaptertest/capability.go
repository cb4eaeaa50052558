package adaptertest

// A Capability is an ability that some rules need. A driver for a wire that others have defined might lack it, and then
// lists it in Harness.Lacks. Every other driver has all capabilities.
type Capability string

const (
	// CapExactJSON: a JSON payload arrives byte for byte. Without it, the value is the same, but the text might differ.
	CapExactJSON Capability = "exact JSON"
	// CapMsgPack: a payload of msgpack arrives as such, byte for byte. Without it, as JSON, arguments or bytes.
	CapMsgPack Capability = "msgpack"
	// CapByteNames: rooms, users, events and namespaces may have names of any bytes. Without it, of UTF-8 text only.
	CapByteNames Capability = "names of any bytes"
	// CapSeparateSpaces: rooms, users and sockets are separate spaces of names, and a message's target arrives as it was
	// emitted. Without it, a room that is named like a socket or user might get messages for these; see
	// crosscast.ForeignAdapter.CheckRoom.
	CapSeparateSpaces Capability = "separate spaces"
	// CapInterest: a node without a member or subscriber of a room or user receives nothing for it. Deliver reports if
	// no node has one.
	CapInterest Capability = "interest in rooms and users"
	// CapSocketInterest: a node receives nothing for a socket that another node holds.
	CapSocketInterest Capability = "interest in sockets"
	// CapMeta: a message's Meta arrives.
	CapMeta Capability = "meta"
	// CapOneNode: an instruction can be for one node, or for the nodes with a member of a room: Only and With of
	// crosscast.Servers.
	CapOneNode Capability = "instructions to one node"
	// CapNamedAnswers: answers name their nodes and sockets: Changed.Nodes, Response.Node, Reply.Socket, and the nodes
	// in a crosscast.IncompleteError. Without it, these are empty.
	CapNamedAnswers Capability = "answers with names"
	// CapNodes: nodes know each other: Node.Nodes and Options.OnNode.
	CapNodes Capability = "nodes that know each other"
	// CapReasons: the reason to disconnect sockets arrives on other nodes. Without it, another reason might arrive.
	CapReasons Capability = "reasons to disconnect"
	// CapPresence: Namespace.Watch shows members on other nodes.
	CapPresence Capability = "presence"
	// CapOrder: emissions of one goroutine to a socket, to its user, to a room that it is in, to several names and to
	// everyone keep their order. Without it, only emissions to one name do: a bus of several masters that spreads names
	// over them has no order between two names. Then fences also go to rooms.
	CapOrder Capability = "order between names"
	// CapHoles: the adapter detects missing, lost and repeated messages even while its link is up. It reports the first
	// two as gaps, and drops the third.
	CapHoles Capability = "detection of holes"
)

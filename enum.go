package crosscast

import "github.com/crosscast/crosscast/internal/enum"

// String names the kind, such as "joined".
func (v NodeEventKind) String() string {
	return enum.Name(v, "", "joined", "suspect", "alive", "left", "expired")
}

// String names the kind, such as "created".
func (v RoomEventKind) String() string {
	return enum.Name(v, "", "created", "deleted", "joined", "left", "changed")
}

// String names the policy.
func (v QueuePolicy) String() string {
	return enum.Name(v, "disconnect", "drop newest", "drop oldest")
}

// String names the encoding, such as "json".
func (v Encoding) String() string {
	return enum.Name(v, "none", "json", "binary", "args", "msgpack")
}

// String names the space, such as "room".
func (v Space) String() string {
	return enum.Name(v, "", "room", "user", "socket", "namespace")
}

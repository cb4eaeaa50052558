package wire

import "github.com/crosscast/crosscast/internal/enum"

// String names the kind, such as "message".
func (v EventKind) String() string {
	return enum.Name(v, "", "message", "subscribed", "unsubscribed", "pong", "denied")
}

package socketioadapter

import "github.com/crosscast/crosscast/internal/enum"

// String names the mode, as in the options of Socket.IO.
func (v Mode) String() string {
	return enum.Name(v, "classic", "sharded")
}

// String names the mode, as in the options of Socket.IO.
func (v SubscriptionMode) String() string {
	return enum.Name(v, "dynamic", "static", "dynamic-private")
}

package ws

import "github.com/crosscast/crosscast/internal/enum"

// String names the policy.
func (v EventPolicy) String() string {
	return enum.Name(v, "pause", "refuse", "close")
}

// String names the policy.
func (v GapPolicy) String() string {
	return enum.Name(v, "tell", "reconnect", "ignore")
}

// String names the kind, such as "reply".
func (v ControlKind) String() string {
	return enum.Name(v, "", "reply", "error", "gap", "reconnect", "presence")
}

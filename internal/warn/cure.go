package warn

import (
	"errors"
	"net"
	"slices"
)

// LinkCure says what to do about a half of the link that is in this crosscast.LinkState for this reason; "" when there is
// nothing to do.
func LinkCure(state string, err error) string {
	switch {
	case state == "down" && hangs(err):
		return "the connection stands, and nothing answers: the bus hangs (it is stopped, swaps, or runs something slow), or " +
			"the network swallows what is sent; the node tries again by itself"
	case state == "down":
		return "look whether the bus runs and can be reached from here; the node connects again by itself"
	case state == "denied":
		return "look at the credentials, and what their user is allowed; the node tries again by itself"
	case state == "deaf":
		return "what is published does not come back: look at what is between the node and the bus, such as a proxy; the " +
			"node connects again by itself"
	}
	return ""
}

// ErrNoAnswer is the reason of a half whose connection stands.
var ErrNoAnswer = errors.New("connected, but the bus has not answered for three heartbeats")

// hangs reports whether err is the end of a wait on a connection that stands. A connection that cannot be made is none.
func hangs(err error) bool {
	var op *net.OpError
	return errors.Is(err, ErrNoAnswer) || errors.As(err, &op) && op.Op != "dial" && op.Timeout()
}

// Rank orders the states of a half by how much they explain: what is held waits only for the other half.
func Rank(state string) int {
	return slices.Index([]string{"live", "held", "connecting", "deaf", "down", "denied"}, state)
}

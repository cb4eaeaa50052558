package warn

// LinkCure says what to do about a half of the link that is in this crosscast.LinkState; "" when there is nothing to do.
func LinkCure(state string) string {
	switch state {
	case "down":
		return "look whether the bus runs and can be reached from here; the node connects again by itself"
	case "denied":
		return "look at the credentials, and what their user is allowed; the node tries again by itself"
	case "deaf":
		return "what is published does not come back: look at what is between the node and the bus, such as a proxy; the " +
			"node connects again by itself"
	}
	return ""
}

// Package peername names the peers of a node, for people.
package peername

import (
	"slices"

	"github.com/crosscast/crosscast"
)

// Of returns the name of a peer that n hears, or has lost; else "".
func Of(n *crosscast.Node, id crosscast.NodeID) string {
	is := func(p crosscast.Peer) bool { return p.ID == id }
	peers := n.Nodes()
	if !slices.ContainsFunc(peers, is) {
		peers = n.Stats().Lost
	}
	if i := slices.IndexFunc(peers, is); i >= 0 {
		return peers[i].Name
	}
	return ""
}

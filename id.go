package crosscast

import (
	"crypto/rand"
	"encoding/base64"
)

// SocketID names one socket of the cluster: its node's ID and 12 random base64url characters.
type SocketID string

const (
	nodeIDLen   = 8
	socketIDLen = nodeIDLen + 12
)

// Node returns the ID of the node that holds the socket; empty when id is not well formed.
func (id SocketID) Node() NodeID {
	if len(id) != socketIDLen {
		return ""
	}
	return NodeID(id[:nodeIDLen])
}

func newNodeID() NodeID { return NodeID(randomText(6)) }

func newSocketID(n NodeID) SocketID {
	id := make([]byte, 0, socketIDLen)
	return SocketID(appendRandom(append(id, n...), 9))
}

func randomText(n int) string { return string(appendRandom(nil, n)) }

// appendRandom appends n random bytes in base64url.
func appendRandom(to []byte, n int) []byte {
	var b [9]byte
	rand.Read(b[:n]) // never fails: crypto/rand crashes the program rather than return an error
	return base64.RawURLEncoding.AppendEncode(to, b[:n])
}

package kind

import "github.com/crosscast/crosscast/internal/enum"

// String names the kind, such as "emit".
func (v Kind) String() string {
	return enum.Name(v, "", "emit", "hello", "heartbeat", "goodbye", "join", "leave", "disconnect", "ask", "answer", "request", "watch", "presence")
}

// String names the kind of query, such as "sockets".
func (v Question) String() string {
	return enum.Name(v, "", "sockets", "count", "rooms", "nodes", "stats")
}

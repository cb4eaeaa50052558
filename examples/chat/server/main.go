// Program server is a chat server. Start it on as many ports as you like: they are one chat.
//
// Environment: PORT (default 5001; 0: any that is free), NODE_ID (the node's name; default node-<PORT>), REDIS_URL
// (default redis://localhost:6379). It serves a page at /, websockets at /ws, its counters at GET /stats, and
// POST /emit/<roomId> with {"text":"…"} sends to a room.
package main

import (
	"github.com/crosscast/crosscast/examples/chat/internal/wschat"
	"github.com/crosscast/crosscast/examples/internal/chat"
)

func main() { chat.Main(&wschat.Protocol) }

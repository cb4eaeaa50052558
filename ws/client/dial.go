//go:build !js

package client

import (
	"context"

	"github.com/coder/websocket"
)

// pings: whether a ping tells that the server answers.
const pings = true

func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	handshake := c.o.Handshake
	handshake.HTTPHeader = handshake.HTTPHeader.Clone()
	if c.o.Authorize != nil {
		if handshake.HTTPHeader == nil {
			handshake.HTTPHeader = make(map[string][]string)
		}
		if err := c.o.Authorize(ctx, handshake.HTTPHeader); err != nil {
			return nil, err
		}
	}
	agrees := handshake.OnPingReceived
	handshake.OnPingReceived = func(ctx context.Context, payload []byte) bool {
		// Behind a message the library would have the pong wait for 5 seconds, and then end the connection. The message
		// tells the server that the client lives.
		return (agrees == nil || agrees(ctx, payload)) && !c.writing.Load()
	}
	conn, _, err := websocket.Dial(ctx, c.url, &handshake)
	return conn, err
}

package client

import (
	"context"
	"errors"

	"github.com/coder/websocket"
)

// pings: whether a ping tells that the server answers. A browser does not let anybody send one.
const pings = false

var errNoHeader = errors.New("crosscast/client: a browser adds no header to the request, so Options.Authorize cannot be called")

func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	if c.o.Authorize != nil {
		return nil, errNoHeader
	}
	conn, _, err := websocket.Dial(ctx, c.url, &c.o.Handshake)
	return conn, err
}

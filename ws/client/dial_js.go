package client

import (
	"context"
	"errors"

	"github.com/coder/websocket"
)

// pings reports whether the client can send pings. Browsers do not offer this.
const pings = false

var errBrowser = errors.New(
	"crosscast/client: the browser makes the request: Options.Header, Authorize and HTTPClient cannot be used")

func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	if c.o.Header != nil || c.o.Authorize != nil || c.o.HTTPClient != nil {
		return nil, errBrowser
	}
	conn, _, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{Subprotocols: c.o.Subprotocols})
	return conn, err
}

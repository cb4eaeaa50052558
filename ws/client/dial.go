//go:build !js

package client

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// pings reports whether the client can send pings.
const pings = true

func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	header := c.o.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if c.o.Authorize != nil {
		if err := c.o.Authorize(ctx, header); err != nil {
			return nil, err
		}
	}
	o := websocket.DialOptions{
		HTTPClient: c.o.HTTPClient, HTTPHeader: header, Subprotocols: c.o.Subprotocols,
		// Behind a message the library would delay the pong for up to 5 seconds, and then end the connection. The
		// message itself shows the server that the client lives.
		OnPingReceived: func(context.Context, []byte) bool { return !c.writing.Load() },
	}
	if c.o.CompressFrom > 0 {
		o.CompressionMode, o.CompressionThreshold = websocket.CompressionNoContextTakeover, c.o.CompressFrom
	}
	conn, resp, err := websocket.Dial(ctx, c.url, &o)
	if err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
		err = &StatusError{resp.StatusCode, min(time.Duration(seconds)*time.Second, maxWait), err}
	}
	return conn, err
}

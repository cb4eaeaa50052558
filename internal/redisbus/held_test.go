package redisbus_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// A heldConn is a connection whose deadlines for reading hold from release on: on a busy machine, connecting might take longer
// than a short one.
type heldConn struct {
	net.Conn

	mu       sync.Mutex // guards the fields below
	released bool
	deadline time.Time
}

func (c *heldConn) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	c.Conn, err = new(net.Dialer).DialContext(ctx, network, addr)
	return c, err
}

func (c *heldConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetWriteDeadline(t), c.SetReadDeadline(t))
}

func (c *heldConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if !c.released {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *heldConn) release(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released = true
	if err := c.Conn.SetReadDeadline(c.deadline); err != nil {
		t.Fatal(err)
	}
}

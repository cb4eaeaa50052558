package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// serve is the role of a server with websocket clients.
func serve(open func(p *proc) (http.Handler, error)) role {
	return func(p *proc) error {
		handler, err := open(p)
		if err != nil {
			return err
		}
		s := httptest.NewUnstartedServer(handler)
		if p.TLS {
			s.StartTLS()
		} else {
			s.Start()
		}
		p.on["memory"] = memory
		p.addr = s.Listener.Addr().String()
		return nil
	}
}

// A crowd are the clients of a run.
type crowd struct {
	*proc
	*tally
	latencies latencies
	arrivals  []atomic.Int32 // by the message's number modulo the length: the clients that have it
	conns     []*client      // so that the ones that read nothing stay open
}

// clients is the role of all clients. They count messages. The latency of a message is its way to the last client.
func clients(p *proc) error {
	c := &crowd{proc: p, tally: newTally(p, p.Clients-p.Stalled), conns: make([]*client, p.Clients)}
	if p.Stamp {
		c.arrivals = newArrivals(p)
		p.figures = c.latencies.figures
	}
	var g errgroup.Group
	g.SetLimit(32)
	for i := range p.Clients {
		g.Go(func() (err error) {
			c.conns[i], err = dial(p)
			if err == nil && i >= p.Stalled {
				go func() { p.fail(c.read(c.conns[i])) }() // at once, because it also answers pings
			}
			return err
		})
	}
	return g.Wait()
}

func newArrivals(p *proc) []atomic.Int32 { return make([]atomic.Int32, 2*p.Window) }

// A client is one websocket connection.
type client struct {
	net.Conn
	r     *bufio.Reader
	frame []byte // is used again
}

func dial(p *proc) (*client, error) {
	conn, err := net.Dial("tcp", p.Server)
	if err != nil {
		return nil, err
	}
	if p.TLS {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	request := "GET " + cmp.Or(p.Path, "/") + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, err
	}
	size := 64 << 10
	if p.Clients > 1000 {
		size = 4 << 10
	}
	c := &client{Conn: conn, r: bufio.NewReaderSize(conn, size)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, errors.New(resp.Status)
	}
	if p.Hello != "" {
		if err := c.write(0x81, []byte(p.Hello)); err != nil {
			return nil, err
		}
	}
	for range p.Answers {
		_, size, err := c.header()
		if err == nil {
			err = c.read(size)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// write writes a frame of at most 125 bytes, with a mask of zeros.
func (c *client) write(first byte, payload []byte) error {
	frame := append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
	_, err := c.Write(frame)
	return err
}

// header reads the header of a frame.
func (c *client) header() (first byte, size int, err error) {
	head, err := c.r.Peek(2)
	if err != nil {
		return 0, 0, err
	}
	first, size = head[0], int(head[1]&0x7f)
	n := 2
	switch size {
	case 126:
		n = 4
	case 127:
		n = 10
	}
	if head, err = c.r.Peek(n); err != nil {
		return 0, 0, err
	}
	switch n {
	case 4:
		size = int(binary.BigEndian.Uint16(head[2:]))
	case 10:
		size = int(binary.BigEndian.Uint64(head[2:]))
	}
	_, err = c.r.Discard(n)
	return first, size, err
}

// read reads a frame's payload.
func (c *client) read(size int) error {
	c.frame = slices.Grow(c.frame[:0], size)[:size]
	_, err := io.ReadFull(c.r, c.frame)
	return err
}

// read counts the messages of one client, until its connection ends.
func (c *crowd) read(conn *client) error {
	for n := 0; ; {
		first, size, err := conn.header()
		if err != nil {
			return err
		}
		switch first {
		case 0x81, 0x82:
			k, err := c.message(conn, size)
			if err != nil {
				return err
			}
			n += k
		case 0x89: // a ping
			if err := conn.read(size); err != nil {
				return err
			}
			if err := conn.write(0x8a, conn.frame); err != nil {
				return err
			}
		default:
			_ = conn.read(size)
			return fmt.Errorf("a frame %x: %q", first, conn.frame)
		}
		if n > 0 && (n >= 256 || conn.r.Buffered() < 4) {
			c.add(n)
			n = 0
		}
	}
}

// message reads a frame, and returns how many messages it has.
func (c *crowd) message(conn *client, size int) (int, error) {
	if c.Each == "" && !c.Stamp {
		_, err := conn.r.Discard(size)
		return 1, err
	}
	if err := conn.read(size); err != nil {
		return 0, err
	}
	if c.Stamp {
		c.stamps(conn.frame)
	}
	if c.Each == "" {
		return 1, nil
	}
	return bytes.Count(conn.frame, []byte(c.Each)), nil
}

func (c *crowd) stamps(frame []byte) {
	for {
		i := bytes.Index(frame, []byte(mark))
		if i < 0 || len(frame) < i+stampSize {
			return
		}
		m := readStamp(frame[i-1:], true)
		frame = frame[i+stampSize:]
		if a := &c.arrivals[m.number%uint64(len(c.arrivals))]; int64(a.Add(1)) == c.members {
			a.Store(0)
			c.latencies.add(m.sent)
		}
	}
}

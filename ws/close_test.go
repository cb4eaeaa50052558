package ws_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// head is the beginning of a frame of a client's, of which more is to come.
const head = "\x81\xfe\x40\x00\x00\x00\x00\x00" + `{"event":`

// A watchedConn is the server's end of a connection. It signals its closing.
type watchedConn struct {
	net.Conn
	writing chan struct{} // net.Pipe has a mutex for this, at which synctest does not see that somebody waits
	closed  chan struct{}
	once    sync.Once // closes closed
}

func newWatchedConn() *watchedConn {
	return &watchedConn{writing: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (c *watchedConn) Write(p []byte) (int, error) {
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
		return c.Conn.Write(p)
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// of makes c the connection of h's client.
func (c *watchedConn) of(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct {
			http.ResponseWriter
			http.Hijacker
		}{w, hijacker(func() (net.Conn, *bufio.ReadWriter, error) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			c.Conn = conn
			return c, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(c)), err
		})}, r)
	})
}

type hijacker func() (net.Conn, *bufio.ReadWriter, error)

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h() }

// TestClosedIsGone: a connection that the server closes is gone after 5 seconds, whatever the client does.
func TestClosedIsGone(t *testing.T) {
	stuck := ws.Events{"stuck": func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) error {
		<-ctx.Done()
		return nil
	}}
	large := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name   string
		o      ws.Options
		sends  string // by the client; then it is silent
		floods bool   // instead it repeats that
		closes func(n *crosscast.Node, s *crosscast.Socket)
	}{
		{name: "refused", sends: "\x82\x80\x00\x00\x00\x00" + head},
		{name: "not UTF-8", sends: "\x81\x81\x00\x00\x00\x00\xff" + head},
		{name: "violation", sends: "\x83\x80\x00\x00\x00\x00" + head},
		{name: "large control", sends: "\x89\xfe\x40\x00\x00\x00\x00\x00" + head},
		{name: "too large", o: ws.Options{ReadLimit: 100}, sends: "\x81\xfe\x40\x00\x00\x00\x00\x00" + large},
		{name: "kick", closes: kick},
		{name: "kick within a message", sends: head, closes: kick},
		{name: "kick in a pause", o: ws.Options{EventBytes: 1, Events: stuck},
			sends: strings.Repeat(wstest.Masked(`{"event":"stuck"}`), 3) + head, closes: kick},
		{name: "kick in a flood", o: ws.Options{Events: ws.Events{"n": nothing}},
			sends: wstest.Masked(`{"event":"n"}`), floods: true, closes: kick},
		{name: "kick in a flood of pings", sends: "\x89\x80\x00\x00\x00\x00", floods: true, closes: kick},
		{name: "shutdown", sends: head, closes: func(n *crosscast.Node, _ *crosscast.Socket) { go n.Close(context.Background()) }},
		{name: "drain", sends: head, closes: func(n *crosscast.Node, _ *crosscast.Socket) {
			go n.Drain(context.Background(), crosscast.DrainOptions{Notice: -1, Window: -1})
		}},
		{name: "slow", o: ws.Options{Queue: crosscast.QueueOptions{Limit: 1, Policy: crosscast.QueueDisconnect}}, sends: head,
			closes: func(n *crosscast.Node, _ *crosscast.Socket) {
				for range 100 {
					_ = n.Emit(context.Background(), "x", large)
				}
			}},
	} {
		for _, reads := range []string{"reads", "does not read", "does not read a message"} {
			t.Run(c.name+"/"+reads, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := wstest.StartNode(t, crosscast.Options{})
					watched := newWatchedConn()
					_, conn := dialInMemory(t, watched.of(newServer(t, n, c.o)))
					all := sockets(t, n)
					if reads == "reads" {
						go io.Copy(io.Discard, conn)
					}
					if reads == "does not read a message" {
						_ = n.Emit(t.Context(), "x", large)
						synctest.Wait()
					}
					start := time.Now()
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						_, err := io.WriteString(conn, c.sends)
						for err == nil && c.floods {
							time.Sleep(time.Millisecond)
							_, err = io.WriteString(conn, c.sends)
						}
					}()
					if c.floods {
						time.Sleep(time.Second)
					}
					synctest.Wait()
					if c.closes != nil {
						start = time.Now()
						c.closes(n, all[0])
					}
					<-watched.closed
					if after := time.Since(start); after > 5*time.Second {
						t.Errorf("the connection was gone after %v", after)
					}
					start = time.Now()
					if err := n.Close(t.Context()); err != nil || time.Since(start) > 0 {
						t.Errorf("Close took %v: %v", time.Since(start), err)
					}
					<-sent
				})
			})
		}
	}
}

func kick(_ *crosscast.Node, s *crosscast.Socket) { s.Close("kicked") }

func nothing(context.Context, *crosscast.Socket, json.RawMessage) error { return nil }

// sockets returns a node's sockets.
func sockets(t *testing.T, n *crosscast.Node) (all []*crosscast.Socket) {
	t.Helper()
	for info := range n.Everyone().Local().Sockets(t.Context(), crosscast.Fields{ID: true}).All() {
		all = append(all, n.Socket(info.ID))
	}
	return all
}

// TestPingDuringWrite: a ping that comes during a slow write of a message is answered after the message.
func TestPingDuringWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		_, conn := dialInMemory(t, newServer(t, n, ws.Options{OnDisconnect: gone, PingInterval: 3 * time.Second}))
		if err := n.Emit(t.Context(), "x", "long"); err != nil {
			t.Error(err)
		}
		synctest.Wait() // the message is being written
		for _, payload := range []string{"1", "2"} {
			if _, err := io.WriteString(conn, "\x89\x81\x00\x00\x00\x00"+payload); err != nil {
				t.Error(err)
			}
			time.Sleep(4 * time.Second)
		}
		if len(ended) > 0 {
			t.Fatalf("closed: %v", <-ended)
		}
		want := "\x81\x1b" + `{"event":"x","data":"long"}` + "\x89\x00" + "\x8a\x012" // the server's ping, and the newer pong
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Errorf("received %q, %v, want %q", got, err, want)
		}
		// Without a write it is answered at once.
		if _, err := io.WriteString(conn, "\x89\x81\x00\x00\x00\x003"); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(conn, got[:3]); err != nil || string(got[:3]) != "\x8a\x013" {
			t.Errorf("received %q, %v", got[:3], err)
		}
		if len(ended) > 0 {
			t.Errorf("closed: %v", <-ended)
		}
	})
}

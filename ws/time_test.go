package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestSilentClient: a client whose end of the connection reads, but sends nothing, is closed after a ping's time.
func TestSilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		_, conn := dialInMemory(t, newServer(t, n, ws.Options{
			PingInterval: 25 * time.Second, PingTimeout: 7 * time.Second, OnDisconnect: gone,
		}))
		received := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(conn)
			received <- string(b)
		}()
		if e := <-ended; e != (wstest.Ending{Reason: crosscast.ReasonTimeout, After: 32 * time.Second}) {
			t.Errorf("%+v", e)
		}
		if got, want := <-received, "\x89\x00"+"\x88\x0b\x03\xf0timed out"; got != want {
			t.Errorf("received %q, want a ping and a close frame %q", got, want)
		}
	})
}

// TestDeadClient: the same for one that reads nothing either, so that not even the ping gets out.
func TestDeadClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		dialInMemory(t, newServer(t, n, ws.Options{OnDisconnect: gone}))
		if e := <-ended; e.After > 45*time.Second {
			t.Errorf("%+v", e)
		}
	})
}

// TestLiveClients: one that answers pings, and those that talk or send pongs of their own instead, are kept.
func TestLiveClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		var pings atomic.Int32
		s := newServer(t, n, ws.Options{OnDisconnect: gone, Events: echo})
		answers, _ := wstest.DialWith(t, "ws://example.com", s, websocket.DialOptions{
			OnPingReceived: func(context.Context, []byte) bool { pings.Add(1); return true },
		})
		ctx := answers.CloseRead(context.Background())

		for _, frame := range []string{wstest.Masked("{}"), "\x8a\x80\x00\x00\x00\x00"} {
			_, conn := dialInMemory(t, s)
			defer func() {
				conn.Close()
				time.Sleep(time.Minute) // its goroutine ends
			}()
			go io.Copy(io.Discard, conn)
			go func() {
				for {
					time.Sleep(10 * time.Second)
					if _, err := io.WriteString(conn, frame); err != nil {
						return
					}
				}
			}()
		}
		time.Sleep(time.Hour + time.Second)
		if len(ended) > 0 || ctx.Err() != nil {
			t.Errorf("closed: %v, %v", <-ended, ctx.Err())
		}
		if want := int32(3600 / 25); pings.Load() != want {
			t.Errorf("%d pings, want %d", pings.Load(), want)
		}
	})
}

// TestSlowUpload: a message that takes longer than the patience for a pong is no silence.
func TestSlowUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		got := make(chan int, 1)
		_, conn := dialInMemory(t, newServer(t, n, ws.Options{OnDisconnect: gone, Events: ws.Events{
			"long": func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) error {
				got <- len(data)
				return nil
			},
		}}))
		go io.Copy(io.Discard, conn) // reads pings, and does not answer
		const size = 60_000
		message := wstest.Masked(`{"event":"long","data":"` + strings.Repeat("x", size-2) + `"}`)
		for part := range slices.Chunk([]byte(message), 512) {
			time.Sleep(time.Second)
			if _, err := conn.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(ended) > 0 {
			t.Errorf("closed: %v", <-ended)
		}
		if n := <-got; n != size {
			t.Errorf("%d bytes arrived, want %d", n, size)
		}
	})
}

// TestBackPressure: while a handler takes its time only so much is read, the client is not taken for dead, and nothing
// is lost.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		release := make(chan struct{})
		var handled atomic.Int32
		_, conn := dialInMemory(t, newServer(t, n, ws.Options{
			OnDisconnect: gone, EventBytes: 10 * (256 + len("n") + len("0000")),
			Events: ws.Events{"n": func(ctx context.Context, _ *crosscast.Socket, data json.RawMessage) error {
				<-release
				handled.Add(1)
				return ctx.Err()
			}},
		}))
		var sent atomic.Int32
		const count = 1000
		go func() {
			for range count {
				if _, err := io.WriteString(conn, wstest.Masked(`{"event":"n","data":1000}`)); err != nil {
					t.Error(err)
				}
				sent.Add(1)
			}
		}()
		go io.Copy(io.Discard, conn) // reads pings, and does not answer
		time.Sleep(time.Hour)
		// One is handled, ten wait, one is in the reader's hands, and the next may be in the buffers of the connection.
		if got := sent.Load(); got < 12 || got > 12+4096/30 {
			t.Errorf("%d events were read while the first is handled", got)
		}
		if len(ended) > 0 {
			t.Errorf("closed: %v", <-ended)
		}
		close(release)
		synctest.Wait()
		if handled.Load() != count || len(ended) > 0 {
			t.Errorf("handled %d of %d", handled.Load(), count)
		}
	})
}

// TestBrokenConnection: if a write is the first to notice that the client has gone, its events are handled anyway.
func TestBrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		release := make(chan struct{})
		handled := 0
		c, conn := dialInMemory(t, newServer(t, n, ws.Options{
			OnDisconnect: gone,
			Events: ws.Events{"n": func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) error {
				<-release
				handled++
				return ctx.Err()
			}},
			OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
		}))
		for range 10 {
			c.send("n", nil)
		}
		synctest.Wait() // all are read
		conn.Close()
		for range 2 { // the first finds out, the second makes the node close the socket
			if err := n.Emit(t.Context(), "x", nil); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		if s := n.Stats().Sockets; s != 0 {
			t.Errorf("%d sockets", s)
		}
		close(release)
		if e := <-ended; e.Reason != crosscast.ReasonLeft || handled != 10 {
			t.Errorf("%q after %d events", e.Reason, handled)
		}
	})
}

// TestServerClosesDuringPause: the reader that waits for room is not forgotten.
func TestServerClosesDuringPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		began := make(chan *crosscast.Socket, 100)
		c, _ := dialInMemory(t, newServer(t, n, ws.Options{
			EventBytes: 1,
			Events: ws.Events{"n": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
				began <- s
				<-ctx.Done()
				return nil
			}},
		}))
		for range 3 {
			c.send("n", nil)
		}
		s := <-began
		synctest.Wait()
		s.Close("enough")
		c.ExpectClose(websocket.StatusNormalClosure, "enough")
		if len(began) > 0 {
			t.Error("an event was handled after the server had closed the socket")
		}
	})
}

// TestSlowClient: a client that does not read fills its queue and is closed. When it reads in time, it learns why.
func TestSlowClient(t *testing.T) {
	for _, wakes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{})
			gone, ended := wstest.Disconnects()
			c, _ := dialInMemory(t, newServer(t, n, ws.Options{
				Queue: crosscast.QueueOptions{Limit: 10_000, BurstTime: -1}, OnDisconnect: gone,
			}))
			fill := func() {
				for range 12 {
					if err := n.Emit(t.Context(), "x", strings.Repeat("x", 1000)); err != nil {
						t.Error(err)
					}
				}
			}
			fill()
			synctest.Wait()
			if wakes {
				time.Sleep(time.Second)
				c.ExpectClose(websocket.StatusPolicyViolation, "too slow")
			}
			if e := <-ended; e.Reason != crosscast.ReasonSlow {
				t.Errorf("%+v", e)
			}
			start := time.Now()
			if err := n.Close(t.Context()); err != nil || time.Since(start) > 10*time.Second {
				t.Errorf("Close took %v: %v", time.Since(start), err)
			}
		})
	}
}

// TestQueuePolicy: the queue's options reach it.
func TestQueuePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		c, _ := dialInMemory(t, newServer(t, n, ws.Options{Queue: crosscast.QueueOptions{
			Limit: 1, BurstTime: -1, Policy: crosscast.QueueDropNewest, DropNotice: func(crosscast.QueueDrop) []byte { return []byte("some are missing") },
		}}))
		for i := range 5 {
			_ = n.Emit(t.Context(), "x", i)
			synctest.Wait() // the first is being written, the second waits
		}
		c.Expect(`{"event":"x","data":0}`)
		c.Expect(`{"event":"x","data":1}`)
		c.Expect(`some are missing`)
	})
}

// TestWriteTimeout: one write that does not end closes the connection.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		_, conn := dialInMemory(t, newServer(t, n, ws.Options{OnDisconnect: gone, WriteTimeout: 3 * time.Second}))
		if err := n.Emit(t.Context(), "x", nil); err != nil {
			t.Error(err)
		}
		if e := <-ended; e != (wstest.Ending{Reason: crosscast.ReasonSlow, After: 3 * time.Second}) {
			t.Errorf("%+v", e)
		}
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection stands: %v", err)
		}
	})
}

// TestNoHandshake: a client that takes no part in closing holds Node.Close up for a bounded time.
func TestNoHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		_, conn := dialInMemory(t, newServer(t, n, ws.Options{}))
		start := time.Now()
		if err := n.Close(t.Context()); err != nil || time.Since(start) > 10*time.Second {
			t.Errorf("Close took %v: %v", time.Since(start), err)
		}
		if _, err := conn.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection stands: %v", err)
		}
	})
}

package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// watched is JSON, and calls a function before each control message.
type watched struct {
	ws.Envelope
	control func(ws.Control)
}

func (w *watched) Control(c ws.Control) ([]byte, error) {
	w.control(c)
	return w.Envelope.Control(c)
}

// TestNoReplyAfterTheEnd: a handler that returns because its client is being closed does not tell the client that its
// request has succeeded. The handler's context ends when nothing can be sent any more.
func TestNoReplyAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		handling := make(chan context.Context, 1)
		var handler context.Context
		s := newServer(t, n, ws.Options{
			Envelope: &watched{ws.JSON{}, func(c ws.Control) {
				if c.Kind == ws.ControlReconnect && handler.Err() != nil {
					t.Error("the handler's context has ended, and the client can still get a reply")
				}
			}},
			Events: ws.Events{"wait": func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) error {
				handling <- ctx
				<-ctx.Done()
				return nil
			}},
		})
		c, _ := dialInMemory(t, s)
		c.text(`{"event":"wait","id":1}`)
		handler = <-handling
		drained := make(chan error, 1)
		go func() { drained <- n.Drain(t.Context(), crosscast.DrainOptions{Notice: -1, Window: -1}) }()
		messages := c.ExpectClose(websocket.StatusServiceRestart, "server restarting")
		if len(messages) != 1 || !strings.HasPrefix(messages[0], `{"reconnect"`) {
			t.Errorf("the messages before the end are %q", messages)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// TestDrain: each client is told when to come back, right before the closing frame. New ones get status 503, but not
// during the notice.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, ws.Options{})
		var all sync.WaitGroup
		waits := make(chan int, 11)
		connect := func() {
			c, _ := dialInMemory(t, s)
			all.Go(func() {
				messages := c.ExpectClose(websocket.StatusServiceRestart, "server restarting")
				wait := -1
				if len(messages) == 1 {
					_, _ = fmt.Sscanf(messages[0], `{"reconnect":{"wait":%d}}`, &wait)
				}
				if wait < 0 || wait >= 1000 {
					t.Errorf("the messages before the end are %q", messages)
				}
				waits <- wait
			})
		}
		for range 10 {
			connect()
		}
		drained := make(chan error, 1)
		go func() {
			drained <- n.Drain(t.Context(), crosscast.DrainOptions{Notice: 2 * time.Second, Window: 10 * time.Second})
		}()
		time.Sleep(time.Second)
		connect()
		time.Sleep(1500 * time.Millisecond)
		expectRefused(t, s, http.StatusServiceUnavailable)
		_, err := s.Accept(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), ws.Client{})
		if !errors.Is(err, crosscast.ErrDraining) {
			t.Error("Accept:", err)
		}
		if st := s.Stats(); st.Refused["draining"] != 2 {
			t.Errorf("%+v", st)
		}
		all.Wait()
		close(waits)
		different := make(map[int]bool)
		for wait := range waits {
			different[wait] = true
		}
		if len(different) < 2 {
			t.Errorf("all clients have the same wait: %v", different)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// A plainEnvelope knows no control messages.
type plainEnvelope struct{ ws.JSON }

func (plainEnvelope) Control(ws.Control) ([]byte, error) { return nil, errors.New("unknown") }

// TestDrainWithoutControls: clients of an Envelope without control messages are closed all the same.
func TestDrainWithoutControls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		c, _ := dialInMemory(t, newServer(t, n, ws.Options{Envelope: plainEnvelope{}}))
		drained := make(chan error, 1)
		go func() { drained <- n.Drain(t.Context(), crosscast.DrainOptions{Notice: -1, Window: -1}) }()
		if m := c.ExpectClose(websocket.StatusServiceRestart, "server restarting"); len(m) > 0 {
			t.Errorf("messages: %q", m)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// TestDrainBeforeShutdown: a stream of events ends with the drain, and http.Server.Shutdown then has nothing to wait for.
func TestDrainBeforeShutdown(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	streaming := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended := make(chan crosscast.Reason, 1)
		queue := crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{
			OnClose: func(reason crosscast.Reason) { ended <- reason },
		})
		if _, err := n.Connect(r.Context(), queue, crosscast.ConnectOptions{}); err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		close(streaming)
		if reason := wstest.Wait(t, ended, "the end of the stream"); reason != crosscast.ReasonDrained {
			t.Errorf("the stream ends with %q", reason)
		}
	}))
	defer server.Close()
	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	wstest.Wait(t, streaming, "the stream")
	if err := n.Drain(t.Context(), crosscast.DrainOptions{Notice: -1, Window: 10 * time.Millisecond}); err != nil {
		t.Error(err)
	}
	if err := server.Config.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

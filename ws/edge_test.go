package ws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestRefusalsAreLogged: the first refusal for each cause is logged with a cure, which the answer has, too.
func TestRefusalsAreLogged(t *testing.T) {
	var log bytes.Buffer
	n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s := newServer(t, n, ws.Options{})
	upgrade := wstest.Upgrade()
	with := func(key, value string) http.Header {
		h := upgrade.Clone()
		h.Set(key, value)
		return h
	}
	for _, c := range []struct {
		header http.Header
		status int
		cure   string
	}{
		{with("Origin", "https://evil.example"), http.StatusForbidden, "Options.Origins"},
		{with("Sec-Websocket-Version", "8"), http.StatusBadRequest, "version 13"},
		{http.Header{}, http.StatusUpgradeRequired, "headers Connection and Upgrade"},
		{upgrade, http.StatusNotImplemented, "Unwrap"}, // a recorder cannot be taken over
	} {
		for i := range 2 {
			log.Reset()
			r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
			r.Header = c.header
			if _, err := s.Accept(w, r, ws.Client{}); err == nil {
				t.Fatal("accepted")
			}
			if body := w.Body.String(); w.Code != c.status || !strings.Contains(body, c.cure) {
				t.Errorf("answered %d %s", w.Code, body)
			}
			if text := log.String(); (strings.Contains(text, "level=WARN") && strings.Contains(text, c.cure)) != (i == 0) {
				t.Errorf("%s %d: logged %q", c.cure, i, text)
			}
		}
	}
}

// badEnvelope fails for messages that begin with certain words.
type badEnvelope struct{ ws.JSON }

func fail(b []byte) {
	switch {
	case bytes.Contains(b, []byte("panic")):
		panic("no luck")
	case bytes.Contains(b, []byte("exit")):
		runtime.Goexit()
	}
}

func (e badEnvelope) Parse(b []byte) (ws.Incoming, error) {
	if bytes.HasPrefix(b, []byte("parse")) {
		fail(b)
	}
	return e.JSON.Parse(b)
}

func (e badEnvelope) Control(c ws.Control) ([]byte, error) {
	if bytes.HasPrefix(c.Data.Data, []byte(`"reply`)) {
		fail(c.Data.Data)
	}
	if strings.Contains(c.Failure, "control") {
		fail([]byte(c.Failure))
	}
	return e.JSON.Control(c)
}

type badJSON string

func (s badJSON) MarshalJSON() ([]byte, error) { fail([]byte(s)); return []byte("1"), nil }

// TestGuards: a function of the application's that panics, or ends its goroutine, is one client's matter, and is
// reported once.
func TestGuards(t *testing.T) {
	for _, c := range []struct {
		sends  string
		closes bool // the connection
		want   string
		errs   int
	}{
		{`{"event":"do","data":"panic","id":1}`, true, "", 1},
		{`{"event":"do","data":"exit","id":1}`, false, `{"id":1,"error":"internal error"}`, 1},
		{`{"event":"result","data":"panic","id":1}`, true, "", 1},
		{`{"event":"result","data":"exit","id":1}`, false, `{"id":1,"error":"internal error"}`, 1},
		{`{"event":"plain","data":"reply panic","id":1}`, true, "", 1},
		{`{"event":"control panic"}`, false, "", 1},
		{`{"event":"control exit"}`, false, "", 0},
		{`parse panic`, false, `{"event":"error","data":{"message":"malformed message"}}`, 1},
		{`parse exit`, true, "", 0},
	} {
		t.Run(c.sends, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var errs []error
				gone, ended := wstest.Disconnects()
				n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
				client, _ := dialInMemory(t, newServer(t, n, ws.Options{
					Envelope: badEnvelope{}, OnDisconnect: gone,
					OnError: func(_ *crosscast.Socket, _ string, err error) {
						mu.Lock()
						defer mu.Unlock()
						errs = append(errs, err)
					},
					Events: ws.Events{
						"do": func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) error { fail(data); return nil },
						"result": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, s string) (any, error) {
							return badJSON(s), nil
						}),
						"plain": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, s string) (any, error) { return s, nil }),
					},
				}))
				client.Write(websocket.MessageText, []byte(c.sends))
				if c.closes {
					client.ExpectClose(websocket.StatusInternalError, "internal error")
					if e := <-ended; e.Reason != crosscast.ReasonInternal {
						t.Errorf("closed with %q", e.Reason)
					}
				} else if c.want != "" {
					client.Expect(c.want)
				}
				if !c.closes { // it goes on
					client.Write(websocket.MessageText, []byte(`{"event":"plain","data":"x","id":2}`))
					client.Expect(`{"id":2,"data":"x"}`)
				}
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if len(errs) != c.errs {
					t.Errorf("reported %v", errs)
				}
			})
		})
	}
}

// TestOnErrorPanics: a panic of OnError is logged, and does not affect the client.
func TestOnErrorPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		client, _ := dialInMemory(t, newServer(t, n, ws.Options{
			OnError: func(*crosscast.Socket, string, error) { panic("a bad OnError") },
			Events: ws.Events{"fails": func(context.Context, *crosscast.Socket, json.RawMessage) error {
				return errors.New("failed")
			}},
		}))
		for range 2 {
			client.Write(websocket.MessageText, []byte(`{"event":"fails","id":1}`))
			client.Expect(`{"id":1,"error":"internal error"}`)
		}
		synctest.Wait()
		if !strings.Contains(log.String(), "a bad OnError") {
			t.Errorf("logged %q", log.String())
		}
	})
}

// TestLeaveTimeout: the events of a client that has left are handled until the timeout. If reading pauses, the timeout
// begins at the next ping.
func TestLeaveTimeout(t *testing.T) {
	for eventBytes, after := range map[int]time.Duration{0: 10 * time.Second, 1: 11 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{})
			gone, ended := wstest.Disconnects()
			handled := 0
			_, conn := dialInMemory(t, newServer(t, n, ws.Options{
				OnDisconnect: gone, LeaveTimeout: 10 * time.Second, EventBytes: eventBytes, PingInterval: time.Second,
				PingTimeout: 2 * time.Second, // pings end with reading
				Events: ws.Events{"n": func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) error {
					select {
					case <-time.After(4 * time.Second):
						handled++
					case <-ctx.Done():
					}
					return nil
				}},
			}))
			go func() {
				_, _ = io.WriteString(conn, strings.Repeat(wstest.Masked(`{"event":"n"}`), 100))
			}()
			synctest.Wait()
			conn.Close()
			if e := <-ended; e.Reason != crosscast.ReasonLeft || e.After > after || handled != 2 {
				t.Errorf("%+v after %d events", e, handled)
			}
		})
	}
}

// TestErrorTextIsBounded: the error of a malformed message waits like an event, whatever its size.
func TestErrorTextIsBounded(t *testing.T) {
	c, _ := connect(t, ws.Options{})
	c.Write(websocket.MessageText, []byte(`{"event":"x","id":1`+strings.Repeat("0", 1<<19)+`}`))
	got, err := c.Read()
	if err != nil || len(got) > 300 || !strings.Contains(got, "malformed message") {
		t.Errorf("answered with %d bytes, %v", len(got), err)
	}
}

// TestHeadersAreNotKept: a connection keeps only a small part of its request.
func TestHeadersAreNotKept(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := wstest.Serve(t, newServer(t, n, ws.Options{}))
	const clients, size = 20, 900 << 10
	before := memtest.Heap()
	for range clients {
		dial(t, s.URL, &websocket.DialOptions{HTTPHeader: http.Header{"X-Large": {strings.Repeat("x", size)}}})
	}
	if kept := (memtest.Heap() - before) / clients; kept > 64<<10 {
		t.Errorf("a client costs %d bytes after headers of %d", kept, size)
	}
}

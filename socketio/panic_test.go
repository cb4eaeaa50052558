package socketio_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// timed panics when it is marshalled: its time is nil.
type timed struct{ *time.Time }

// badError panics in all its methods.
type badError struct{ text *string }

func (e *badError) Error() string { return *e.text }
func (e *badError) Unwrap() error { return errors.New(*e.text) }

// TestPanics: if a function of the application panics, the server lives, and OnError and the client get one error.
func TestPanics(t *testing.T) {
	answer := func(v any, err error) socketio.Handler {
		return socketio.Answered(func(context.Context, *crosscast.Socket, socketio.Args) (any, error) { return v, err })
	}
	client := func(c socketio.Client, err error) *socketio.Namespace {
		return &socketio.Namespace{
			Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) { return c, err },
		}
	}
	reports := make(chan error, 10)
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, socketio.Options{
		OnError: func(_ *crosscast.Socket, _ string, err error) { reports <- err },
		Namespaces: map[string]*socketio.Namespace{
			"/": {Events: socketio.Events{
				"result": answer(timed{}, nil), "nil error": answer(nil, (*badError)(nil)),
				"echo": echo["echo"],
			}},
			"/data":   client(socketio.Client{Data: timed{}}, nil),
			"/refuse": client(socketio.Client{}, &socketio.ConnectError{Message: "no", Data: timed{}}),
			"/error":  client(socketio.Client{}, (*badError)(nil)),
			"/auth": {Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
				panic("oops")
			}},
		},
	})
	url := wstest.Serve(t, s).URL
	other := dial(t, url)
	other.join("/")
	for _, tt := range []struct {
		send, want string // empty: the connection ends
		panics     bool
	}{
		{`421["result"]`, "", true},
		{`421["nil error"]`, `431[{"error":"internal error"}]`, false},
		{`40/data,`, `44/data,{"message":"internal error"}`, true},
		{`40/refuse,`, `44/refuse,{"message":"no"}`, true},
		{`40/error,`, `44/error,{"message":"internal error"}`, false},
		{`40/auth,`, `44/auth,{"message":"internal error"}`, true},
	} {
		c := dial(t, url)
		c.join("/")
		c.send(tt.send)
		if tt.want == "" {
			c.ExpectClose(1011, "internal error")
		} else {
			c.Expect(tt.want)
		}
		var p *socketio.PanicError
		err := wstest.Wait(t, reports, "OnError")
		if is := errorsAsPanic(err, &p); is != tt.panics || len(reports) > 0 {
			t.Errorf("%s: OnError was told %v, and %d more", tt.send, is, len(reports))
		}
		other.send(`42["echo",2]`)
		other.Expect(`42["echo",2]`)
	}
}

// errorsAsPanic is errors.As, for errors whose methods panic.
func errorsAsPanic(err error, p **socketio.PanicError) (ok bool) {
	*p, ok = err.(*socketio.PanicError)
	return ok
}

// buffer is one that may be written and read concurrently.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestOnErrorPanics: a panic of OnError is logged, and the reported error has its usual effects.
func TestOnErrorPanics(t *testing.T) {
	var log buffer
	n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	failing := func(context.Context, *crosscast.Socket, socketio.Args) error { return errors.New("failed") }
	c := dial(t, wstest.Serve(t, newServer(t, n, socketio.Options{
		OnError: func(*crosscast.Socket, string, error) { panic("a bad OnError") },
		Namespaces: map[string]*socketio.Namespace{
			"/": {Events: socketio.Events{"fails": failing, "echo": echo["echo"]}},
			"/no": {Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
				return socketio.Client{}, errors.New("failed")
			}},
		},
	})).URL)
	c.join("/")
	c.send(`421["fails"]`, `40/no,`)
	got := map[string]bool{}
	for range 2 {
		m, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		got[m] = true
	}
	if !got[`431[{"error":"internal error"}]`] || !got[`44/no,{"message":"internal error"}`] {
		t.Errorf("told %v", got)
	}
	c.send(`421["fails"]`, `42["echo"]`)
	c.Expect(`431[{"error":"internal error"}]`, `42["echo"]`)
	if !strings.Contains(log.String(), "a bad OnError") {
		t.Errorf("logged %s", log.String())
	}
}

// TestGoexit: a function of the application's that ends its goroutine, as t.FailNow does, keeps nobody waiting.
func TestGoexit(t *testing.T) {
	for _, where := range []string{"event", "connect", "disconnect", "authenticate", "marshal", "error"} {
		t.Run(where, func(t *testing.T) {
			exit := func(here string) {
				if here == where {
					runtime.Goexit()
				}
			}
			ended := make(chan crosscast.Reason, 3)
			n := wstest.StartNode(t, crosscast.Options{})
			c := dial(t, wstest.Serve(t, newServer(t, n, socketio.Options{
				OnError: func(*crosscast.Socket, string, error) { exit("error") },
				Namespaces: namespaces(socketio.Namespace{
					Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
						exit("authenticate")
						return socketio.Client{Data: exits(func() { exit("marshal") })}, nil
					},
					OnConnect: func(context.Context, *crosscast.Socket) { exit("connect") },
					OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) {
						ended <- r
						exit("disconnect")
					},
					Events: socketio.Events{
						"n": func(context.Context, *crosscast.Socket, socketio.Args) error {
							exit("event")
							if where == "error" {
								return errors.New("failed")
							}
							return nil
						},
						"echo": echo["echo"],
					},
				}),
			})).URL)
			c.join("/chat")
			if where == "authenticate" || where == "marshal" {
				c.send("40")
				c.Expect(`44{"message":"internal error"}`)
			} else {
				c.join("/")
				c.send(`421["n"]`, `42["echo"]`)
				want := `431[]`
				if where == "event" || where == "error" {
					want = `431[{"error":"internal error"}]`
				}
				c.Expect(want, `42["echo"]`)
				c.send("41")
				if r := wstest.Wait(t, ended, "OnDisconnect"); r != crosscast.ReasonLeft {
					t.Errorf("reason %q", r)
				}
				c.join("/")
			}
			c.send(`42/chat,["echo"]`)
			c.Expect(`42/chat,["echo"]`)
		})
	}
}

// exits is marshalled by a function.
type exits func()

func (e exits) MarshalJSON() ([]byte, error) { e(); return []byte("1"), nil }

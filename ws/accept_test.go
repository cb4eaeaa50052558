package ws_test

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

type marshaler func()

func (m marshaler) MarshalJSON() ([]byte, error) {
	m()
	return []byte("{}"), nil
}

// TestAcceptPanics: after the upgrade Accept calls functions of the application. If they end its goroutine, nobody else
// would close the connection.
func TestAcceptPanics(t *testing.T) {
	for name, f := range map[string]func(){"panic": func() { panic("data") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, wstest.StartNode(t, crosscast.Options{}), ws.Options{})
				caught := make(chan any, 1)
				_, conn := dialInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					go func() {
						defer func() { caught <- recover() }()
						_, _ = s.Accept(w, r, ws.Client{Data: marshaler(f)})
					}()
					synctest.Wait()
				}))
				start := time.Now()
				if v := <-caught; name == "panic" && v != "data" {
					t.Errorf("the caller recovered %v", v)
				}
				_, _ = io.Copy(io.Discard, conn) // ends with the connection
				if after := time.Since(start); after > 5*time.Second {
					t.Errorf("the connection was gone after %v", after)
				}
			})
		})
	}
}

// TestReject: the client gets a code that says not to come back, and the text, cut to the size of a closing frame.
func TestReject(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{})
	refusals := make(chan error, 1)
	url := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refusals <- s.Reject(w, r, strings.Repeat("é", 100))
	})).URL
	dial(t, url, nil).ExpectClose(4001, strings.Repeat("é", 61))
	if err := wstest.Wait(t, refusals, "Reject"); err != nil {
		t.Error(err)
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := wstest.Wait(t, refusals, "Reject"); err == nil || resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a request without a handshake: %d, %v", resp.StatusCode, err)
	}
	http.DefaultClient.CloseIdleConnections()
	if n.Stats().Sockets != 0 {
		t.Error("there is a socket")
	}
}

// TestRejectedClientsCount: a client that is rejected counts as long as its connection stands, and then not any more. So
// rejected clients neither pass the limits nor move them.
func TestRejectedClientsCount(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{MaxClients: 1})
	refusals := make(chan error, 1)
	url := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/reject" {
			refusals <- s.Reject(w, r, "no")
			return
		}
		s.ServeHTTP(w, r)
	})).URL
	none := func() {
		t.Helper()
		for s.Stats().Connections != 0 {
			if s.Stats().Connections < 0 {
				t.Fatalf("%d connections", s.Stats().Connections)
			}
			time.Sleep(time.Millisecond) // poll
		}
	}
	for range 3 {
		dial(t, url+"/reject", nil).ExpectClose(4001, "no")
		if err := wstest.Wait(t, refusals, "Reject"); err != nil {
			t.Error(err)
		}
		none()
	}
	dial(t, url, nil)
	for _, path := range []string{"/", "/reject"} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s with one client too many: %d", path, resp.StatusCode)
		}
	}
	if err := wstest.Wait(t, refusals, "Reject"); err == nil {
		t.Error("Reject has upgraded one client too many")
	}
	http.DefaultClient.CloseIdleConnections()
}

package ws_test

import (
	"io"
	"net/http"
	"runtime"
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

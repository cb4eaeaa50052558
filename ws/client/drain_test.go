package client_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast/ws/client"
)

// TestReconnectWait: a client comes back when the server has told it to, and by its own back-off after that.
func TestReconnectWait(t *testing.T) {
	var at []time.Time
	var said string
	serve := func(conn *websocket.Conn, n int) {
		if n == 1 {
			_ = conn.Write(context.Background(), websocket.MessageText, []byte(said))
		}
		if n < 3 {
			_ = conn.Close(websocket.StatusServiceRestart, "server restarting")
		}
		_, _, _ = conn.Read(context.Background())
	}
	accept := transport(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		at = append(at, time.Now())
		go serve(conn, len(at))
	})
	for _, c := range []struct {
		said string
		wait time.Duration
	}{
		{`{"reconnect":{"wait":740}}`, 740 * time.Millisecond},
		{`{"reconnect":{"wait":0}}`, 0},
		{`{"reconnect":{"wait":-5}}`, 0},
		{`{"reconnect":{"wait":99999999999}}`, time.Minute},
	} {
		t.Run(c.said, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at, said = nil, c.said
				gaps := 0
				d, err := client.Dial(t.Context(), "ws://server/", client.Options{
					HTTPClient: accept, MinBackoff: 5 * time.Second, MaxBackoff: 5 * time.Second,
					OnGap: func(*client.Client, client.Gap) { gaps++ },
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if len(at) != 3 {
					t.Fatalf("%d connections", len(at))
				}
				if wait := at[1].Sub(at[0]); wait != c.wait {
					t.Errorf("the client came back after %v instead of %v", wait, c.wait)
				}
				if wait := at[2].Sub(at[1]); wait < 2500*time.Millisecond || wait > 5*time.Second {
					t.Errorf("without a word of the server it came back after %v", wait)
				}
				if gaps != 2 {
					t.Errorf("%d gaps", gaps)
				}
				if err := d.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

package client_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast/ws/client"
)

// inMemory is a transport without a network, whose connections work under synctest.
type inMemory struct{ h http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, server := net.Pipe()
	w := &hijackable{httptest.NewRecorder(), server}
	m.h.ServeHTTP(w, r)
	resp := w.Result()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = readWriteCloser{conn}
	}
	return resp, nil
}

type readWriteCloser struct{ net.Conn }

type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

func transport(h http.HandlerFunc) *http.Client {
	return &http.Client{Transport: inMemory{h}}
}

// TestBackoff: the pauses double up to the limit, with jitter, and begin anew after a connection that lasted.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		var lasted time.Duration // of the connection; 0: attempts fail
		var joined time.Time
		seen := make(map[time.Duration]bool)
		ctx, cancel := context.WithCancel(t.Context())
		check := func(from time.Time, backoff time.Duration) {
			t.Helper()
			wait := time.Since(from)
			seen[wait*1000/backoff] = true
			if wait < backoff/2 || wait >= backoff {
				t.Errorf("attempt %d after %v, want %v to %v", len(attempts), wait, backoff/2, backoff)
			}
		}
		o := client.Options{HTTPClient: transport(func(w http.ResponseWriter, r *http.Request) {
			switch n := len(attempts); {
			case n == 0:
			case n == 9 || n == 10: // after the connection that lasted, and one that did not
				check(joined.Add(lasted), []time.Duration{250 * time.Millisecond, 500 * time.Millisecond}[n-9])
			case n < 9:
				check(attempts[n-1], min(250*time.Millisecond<<(n-1), 10*time.Second))
			}
			attempts = append(attempts, time.Now())
			switch lasted = 0; len(attempts) {
			case 9:
				lasted = time.Minute
			case 10:
				lasted = time.Second
			case 11:
				cancel()
				fallthrough
			default:
				http.Error(w, "not now", http.StatusServiceUnavailable)
				return
			}
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			joined = time.Now()
			time.AfterFunc(lasted, func() { conn.Close(websocket.StatusGoingAway, "") })
			go conn.Read(context.Background())
		})}
		c, err := client.Dial(ctx, "ws://example.com", o)
		if err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if len(seen) < 5 {
			t.Errorf("the jitter is always the same: %v", seen)
		}
	})
}

// TestPingDuringWrite: a ping of the server's while a message is written, for longer than the library has its pong wait,
// costs no connection.
func TestPingDuringWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := client.Dial(t.Context(), "ws://example.com", client.Options{
			MinBackoff:   time.Hour,
			OnDisconnect: func(_ *client.Client, err error) { t.Error(err) },
			HTTPClient: transport(func(w http.ResponseWriter, r *http.Request) {
				conn, err := websocket.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				go func() {
					defer conn.CloseNow()
					time.Sleep(time.Second) // the client writes
					ping, cancel := context.WithTimeout(context.Background(), time.Second)
					_ = conn.Ping(ping)
					cancel()
					time.Sleep(7 * time.Second)
					for _, size := range []int{20_000, 3} {
						if _, b, err := conn.Read(context.Background()); err != nil || len(b) < size {
							t.Errorf("%d bytes, %v", len(b), err)
							return
						}
					}
					_, _, _ = conn.Read(context.Background())
				}()
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{20_000, 3} {
			if err := c.Emit(t.Context(), "said", strings.Repeat("x", size)); err != nil {
				t.Error(err)
			}
		}
		if !c.Connected() {
			t.Error("the connection has ended")
		}
		_ = c.Close(context.Background())
	})
}

// TestDeadServer: a server that answers no pings is left after a while; one that only has nothing to say is not.
func TestDeadServer(t *testing.T) {
	for _, dead := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ended := make(chan time.Duration, 1)
			server, end := context.WithCancel(context.Background())
			defer end()
			c, err := client.Dial(t.Context(), "ws://example.com", client.Options{
				MinBackoff: time.Hour,
				OnDisconnect: func(_ *client.Client, err error) {
					if !strings.Contains(err.Error(), "does not answer") {
						t.Error(err)
					}
					ended <- time.Since(began)
				},
				HTTPClient: transport(func(w http.ResponseWriter, r *http.Request) {
					conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
						OnPingReceived: func(context.Context, []byte) bool { return !dead },
					})
					if err != nil {
						t.Error(err)
						return
					}
					go func() {
						_, _, _ = conn.Read(server)
						_ = conn.CloseNow()
					}()
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			select {
			case after := <-ended:
				if !dead || after != 30*time.Second {
					t.Errorf("ended after %v", after)
				}
			default:
				if dead || !c.Connected() {
					t.Error("not ended")
				}
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPauseIsNoDeath: while a handler takes long and reading pauses, the server is not taken for dead, whether the
// pause began before a ping or between it and its pong.
func TestPauseIsNoDeath(t *testing.T) {
	for _, begin := range []time.Duration{time.Second, 20 * time.Second} { // the first ping is sent after 20 s
		synctest.Test(t, func(t *testing.T) {
			const count = 5
			handled := 0
			var pings atomic.Int32
			server, end := context.WithCancel(context.Background())
			defer end()
			c, err := client.Dial(t.Context(), "ws://example.com", client.Options{
				EventBytes:   1,
				OnDisconnect: func(_ *client.Client, err error) { t.Errorf("OnDisconnect(%v)", err) },
				Events: client.Events{"x": client.Typed(func(context.Context, *client.Client, any) error {
					handled++
					time.Sleep(61 * time.Second) // never at the moment of a ping
					return nil
				})},
				HTTPClient: transport(func(w http.ResponseWriter, r *http.Request) {
					var conn *websocket.Conn
					flood := func() {
						for range count {
							if err := conn.Write(server, websocket.MessageText, []byte(`{"event":"x"}`)); err != nil {
								t.Error(err)
							}
						}
					}
					conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
						OnPingReceived: func(context.Context, []byte) bool {
							if pings.Add(1) == 1 && begin == 20*time.Second {
								go flood()
								return false // as if the pong waited behind the events
							}
							return true
						},
					})
					if err != nil {
						t.Error(err)
						return
					}
					go func() {
						_, _, _ = conn.Read(server)
						_ = conn.CloseNow()
					}()
					if begin < 20*time.Second {
						time.AfterFunc(begin, flood)
					}
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			// The pause is three minutes long; in the other seven there is a ping every 20 s.
			if n := pings.Load(); handled != count || !c.Connected() || n < 15 || n > 22 {
				t.Errorf("%d events handled, %d pings, connected: %v", handled, n, c.Connected())
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGapBegins: a margin before the sending of the last ping that was answered; without one, before the last sign of
// life; but not before the connection.
func TestGapBegins(t *testing.T) {
	for _, tt := range []struct {
		name                string
		margin, ping        time.Duration
		message, lost, want time.Duration // after the connection had begun
	}{
		{"pings", 0, 20 * time.Second, 69 * time.Second, 70 * time.Second, 54 * time.Second},
		{"no ping was answered", 0, 20 * time.Second, 9 * time.Second, 10 * time.Second, 3 * time.Second},
		{"no pings", 0, -1, 69 * time.Second, 70 * time.Second, 63 * time.Second},
		{"a wide margin", time.Minute, -1, 69 * time.Second, 70 * time.Second, 9 * time.Second},
		{"short", 0, -1, time.Second, 2 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var began time.Time
				gap := make(chan time.Duration, 1)
				connections := 0
				c, err := client.Dial(t.Context(), "ws://example.com", client.Options{
					PingInterval: tt.ping, GapMargin: tt.margin,
					OnGap: func(_ *client.Client, g client.Gap) { gap <- g.Since.Sub(began) },
					HTTPClient: transport(func(w http.ResponseWriter, r *http.Request) {
						conn, err := websocket.Accept(w, r, nil)
						if err != nil {
							t.Error(err)
							return
						}
						go func() {
							_, _, _ = conn.Read(context.Background())
							_ = conn.CloseNow()
						}()
						if connections++; connections > 1 {
							return
						}
						began = time.Now()
						time.AfterFunc(tt.message, func() {
							if err := conn.Write(context.Background(), websocket.MessageText, []byte(`{"event":"x"}`)); err != nil {
								t.Error(err)
							}
						})
						time.AfterFunc(tt.lost, func() { _ = conn.CloseNow() })
					}),
				})
				if err != nil {
					t.Fatal(err)
				}
				if got := <-gap; got != tt.want {
					t.Errorf("the gap begins %v after the connection, want %v", got, tt.want)
				}
				if err := c.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestStuckWrite: a server that reads nothing costs a write its time, and then the connection.
func TestStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := make(chan struct{})
		var server net.Conn
		c, err := client.Dial(t.Context(), "ws://example.com", client.Options{
			MinBackoff: time.Hour, PingInterval: -1,
			OnDisconnect: func(*client.Client, error) { close(lost) },
			HTTPClient: transport(func(w http.ResponseWriter, r *http.Request) {
				server = w.(*hijackable).conn
				if _, err := websocket.Accept(w, r, nil); err != nil {
					t.Error(err)
				}
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		result := make(chan error)
		go func() { result <- c.Emit(t.Context(), "x", nil) }()
		synctest.Wait()
		if err := c.Emit(ctx, "y", nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("behind the stuck write: %v after %v", err, time.Since(began))
		}
		if err := <-result; !errors.Is(err, client.ErrUncertain) || time.Since(began) != 10*time.Second {
			t.Errorf("the stuck write: %v after %v", err, time.Since(began))
		}
		<-lost
		server.Close()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

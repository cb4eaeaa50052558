package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// TestDialIsRefused: status 401 and 403 end Dial at once; others are tried again, unless GiveUp decides otherwise.
func TestDialIsRefused(t *testing.T) {
	for _, tt := range []struct {
		status int
		giveUp func(error) bool
		want   bool
	}{
		{http.StatusUnauthorized, nil, true},
		{http.StatusForbidden, nil, true},
		{http.StatusNotFound, nil, false},
		{http.StatusServiceUnavailable, nil, false},
		{http.StatusForbidden, func(error) bool { return false }, false},
		{http.StatusNotFound, func(err error) bool {
			var status *client.StatusError
			return errors.As(err, &status) && status.Code == http.StatusNotFound
		}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			attempts, retries := 0, 0
			var gaveUp error
			_, err := client.Dial(ctx, "ws://example.com", client.Options{
				GiveUp: tt.giveUp,
				HTTPClient: transport(func(w http.ResponseWriter, _ *http.Request) {
					attempts++
					http.Error(w, "no", tt.status)
				}),
				OnRetry:  func(*client.Client, error, time.Duration) { retries++ },
				OnGiveUp: func(_ *client.Client, err error) { gaveUp = err },
			})
			var status *client.StatusError
			if !errors.As(err, &status) || status.Code != tt.status || !strings.Contains(err.Error(), fmt.Sprint(tt.status)) {
				t.Errorf("%d: %v", tt.status, err)
			}
			if tt.want != errors.Is(err, client.ErrGaveUp) || tt.want != (attempts == 1) || tt.want != (retries == 0) ||
				tt.want != (gaveUp != nil) || tt.want == errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d: %v after %d attempts and %d retries; OnGiveUp(%v)", tt.status, err, attempts, retries, gaveUp)
			}
		})
	}
}

// TestGiveUp: close code 4001 ends the client for good, and every call fails with the cause. Other codes do not.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		happened := newRecord()
		c, end, ends := play(t, client.Options{
			AwayBytes:    1 << 20,
			OnDisconnect: func(*client.Client, error) { happened.add("disconnect") },
			OnRetry:      func(*client.Client, error, time.Duration) { happened.add("retry") },
			OnGiveUp:     func(c *client.Client, err error) { happened.add("gave up: %v", err) },
			OnState:      func(c *client.Client, s client.State) { happened.add("%v", s) },
		})
		happened.expect(t, "connected")
		for _, code := range []websocket.StatusCode{1000, 1008, 1013, 4000, 4002} {
			_ = end.conn.Close(code, "not now")
			end = <-ends
			synctest.Wait()
			happened.expect(t, "waiting", "disconnect", "connecting", "connected")
		}
		joining := join(c, t.Context(), "room")
		_ = end.conn.Close(4001, "you are banned")
		const cause = `crosscast/client: the server closed the connection: 4001 "you are banned"`
		happened.expect(t, "disconnect", "gave up", "gave up: "+cause)
		var closed *client.CloseError
		for name, err := range map[string]error{
			"Join":    <-joining,
			"Emit":    c.Emit(t.Context(), "x", nil),
			"Request": c.Request(t.Context(), "x", nil, nil),
			"Leave":   c.Leave(t.Context(), "room"),
		} {
			if !errors.Is(err, client.ErrGaveUp) || !errors.As(err, &closed) || closed.Code != 4001 {
				t.Errorf("%s: %v", name, err)
			}
		}
		time.Sleep(time.Hour)
		if len(ends) > 0 || c.State() != client.StateGaveUp || c.Connected() {
			t.Errorf("%d more attempts; state %v", len(ends), c.State())
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if c.State() != client.StateGaveUp {
			t.Errorf("state %v", c.State())
		}
	})
}

// TestReject: a server refuses a client in a way that browsers see, too.
func TestReject(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s, err := ws.New(n.Namespace, ws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	url := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.Reject(w, r, "you are banned"); err != nil {
			t.Error(err)
		}
	})).URL
	gaveUp := make(chan error, 1)
	c, err := client.Dial(t.Context(), url, client.Options{
		OnGiveUp: func(_ *client.Client, err error) { gaveUp <- err },
	})
	var closed *client.CloseError
	if err := wstest.Wait(t, gaveUp, "OnGiveUp"); !errors.As(err, &closed) || closed.Reason != "you are banned" {
		t.Errorf("OnGiveUp(%v)", err)
	}
	if err == nil { // Dial might return before the server's refusal comes
		closeClient(t, c)
	}
}

// TestStates: their names, and the states of a client from its first attempt to Close.
func TestStates(t *testing.T) {
	var names []string
	for s := range client.StateClosed + 2 {
		names = append(names, s.String())
	}
	if want := []string{"connecting", "connected", "waiting", "gave up", "closed", "state 5"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	synctest.Test(t, func(t *testing.T) {
		happened := newRecord()
		release := make(chan struct{}, 1)
		release <- struct{}{}
		c, end, ends := play(t, client.Options{
			MinBackoff: time.Second,
			OnConnect:  func(context.Context, *client.Client) error { <-release; return nil },
			OnState: func(c *client.Client, s client.State) {
				if c.State() != s {
					t.Errorf("OnState(%v) in state %v", s, c.State())
				}
				happened.add("%v", s)
			},
		})
		happened.expect(t, "connected")
		end.lose()
		synctest.Wait()
		happened.expect(t, "waiting")
		<-ends
		synctest.Wait()
		happened.expect(t, "connecting") // until OnConnect returns
		release <- struct{}{}
		happened.expect(t, "connected")
		_ = c.Close(context.Background())
		happened.expect(t, "closed")
	})
}

// TestRequestWhileAway: by choice, a request waits for the next connection, and is sent there once, after the rejoins.
// Bytes and time are bounded.
func TestRequestWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c, end, ends := play(t, client.Options{AwayBytes: 1000, MinBackoff: 2 * time.Second, RequestTimeout: time.Minute})
		joined := join(c, ctx, "room")
		end.expect(`{"join":"room","id":1}`)
		end.send(`{"id":1}`)
		if err := <-joined; err != nil {
			t.Fatal(err)
		}
		request := func(event string) <-chan error {
			result := make(chan error, 1)
			go func() { result <- c.Request(ctx, event, nil, nil) }()
			synctest.Wait()
			return result
		}
		sent := request("sent")
		end.expect(`{"event":"sent","id":2}`)
		end.lose()
		if err := <-sent; err != client.ErrUncertain {
			t.Errorf("a request that was sent: %v", err)
		}
		first := request("first")
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := c.Request(short, "short", nil, nil); err != context.DeadlineExceeded {
			t.Errorf("a request that ends before the connection: %v", err)
		}
		second := request("second")
		third := request("third")
		if err := c.Request(ctx, "fourth", nil, nil); err != client.ErrNotConnected {
			t.Errorf("a request without room: %v", err)
		}
		if err := c.Emit(ctx, "x", nil); err != client.ErrNotConnected {
			t.Errorf("Emit: %v", err)
		}
		end = <-ends
		end.expect(`{"join":"room","id":1}`)
		end.send(`{"id":1}`)
		var got []string
		for id := 2; id <= 4; id++ {
			got = append(got, (<-end.got)[:13])
			end.send(`{"id":%d}`, id)
		}
		if slices.Sort(got); !slices.Equal(got, []string{`{"event":"fir`, `{"event":"sec`, `{"event":"thi`}) {
			t.Errorf("the client sent %q", got)
		}
		for _, result := range []<-chan error{first, second, third} {
			if err := <-result; err != nil {
				t.Error(err)
			}
		}
		end.expect()
		end.lose()
		synctest.Wait()
		closed := request("closed")
		_ = c.Close(context.Background())
		if err := <-closed; err != client.ErrClosed {
			t.Errorf("a request at Close: %v", err)
		}
	})
}

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

func allowAll(context.Context, *crosscast.Socket, string) error { return nil }

// TestJoin: a room is joined, is kept when the connection is lost, and is left.
func TestJoin(t *testing.T) {
	ctx, happened := t.Context(), newRecord()
	s := serve(t, ws.Options{AllowJoin: func(_ context.Context, _ *crosscast.Socket, room string) error {
		if room == "secret" {
			return ws.Errorf("members only")
		}
		return nil
	}})
	c := dial(t, s.url, client.Options{
		Events: client.Events{"n": client.Typed(func(_ context.Context, _ *client.Client, n int) error {
			happened.add("event %d", n)
			return nil
		})},
		OnConnect:   func(context.Context, *client.Client) error { happened.add("connect"); return nil },
		OnGap:       func(*client.Client, client.Gap) { happened.add("gap") },
		OnJoinError: func(*client.Client, string, error) { t.Error("OnJoinError") },
	})
	for _, room := range []string{"a", "room", "a"} {
		if err := c.Join(ctx, room); err != nil {
			t.Error(err)
		}
	}
	if err := c.Join(ctx, "secret"); err != client.RemoteError("members only") {
		t.Errorf("a refused join: %v", err)
	}
	for _, name := range []string{"", "\xff", strings.Repeat("r", 256)} {
		if c.Join(ctx, name) == nil || c.Leave(ctx, name) == nil {
			t.Errorf("%.10q is no name", name)
		}
	}
	if got := c.Rooms(); !slices.Equal(got, []string{"a", "room"}) {
		t.Errorf("rooms %q", got)
	}
	happened.expect(t, "connect")
	for i := range 3 {
		if err := s.To("room").Emit(ctx, "n", i); err != nil {
			t.Fatal(err)
		}
		happened.expect(t, fmt.Sprintf("event %d", i))
		wstest.Wait(t, s.sockets, "the socket").Close(crosscast.ReasonServer)
		happened.expect(t, "connect", "gap")
	}
	socket := wstest.Wait(t, s.sockets, "the socket")
	if err := socket.Join(ctx, "lobby"); err != nil {
		t.Error(err)
	}
	if err := c.Leave(ctx, "lobby"); err != client.RemoteError("this room is the server's to leave") {
		t.Errorf("leaving the server's room: %v", err)
	}
	for _, room := range []string{"room", "room", "other"} {
		if err := c.Leave(ctx, room); err != nil {
			t.Error(err)
		}
	}
	if got, want := socket.Rooms(), c.Rooms(); !slices.Equal(want, []string{"a"}) || len(got) != 2 {
		t.Errorf("rooms %q, and at the server %q", want, got)
	}
	closeClient(t, c)
	if c.Join(ctx, "x") != client.ErrClosed || c.Leave(ctx, "a") != client.ErrClosed {
		t.Error("after Close")
	}
}

// far is the server's end of one connection, which the test plays.
type far struct {
	t    *testing.T
	conn *websocket.Conn
	got  chan string
}

// play connects a client, under synctest, to a server that the test plays. Further connections come on the channel.
func play(t *testing.T, o client.Options) (*client.Client, *far, <-chan *far) {
	t.Helper()
	ends := make(chan *far, 100)
	o.HTTPClient = transport(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		f := &far{t, conn, make(chan string, 1000)}
		go func() {
			for {
				_, b, err := conn.Read(context.Background())
				if err != nil {
					close(f.got)
					return
				}
				f.got <- string(b)
			}
		}()
		ends <- f
	})
	o.PingInterval = -1
	c, err := client.Dial(t.Context(), "ws://example.com", o)
	if err != nil {
		t.Fatal(err)
	}
	return c, <-ends, ends
}

func (f *far) send(format string, args ...any) {
	f.t.Helper()
	if err := f.conn.Write(context.Background(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		f.t.Error(err)
	}
}

func (f *far) expect(want ...string) {
	f.t.Helper()
	for _, want := range want {
		if got := <-f.got; got != want {
			f.t.Errorf("the client sent %q, want %q", got, want)
		}
	}
	synctest.Wait()
	if len(f.got) > 0 {
		f.t.Errorf("the client sent %q, too", <-f.got)
	}
}

func (f *far) lose() { _ = f.conn.CloseNow() }

// join calls Join, whose result comes on the channel.
func join(c *client.Client, ctx context.Context, room string) <-chan error {
	result := make(chan error, 1)
	go func() { result <- c.Join(ctx, room) }()
	synctest.Wait()
	return result
}

// TestRejoin: the kept rooms are joined again in one burst, of at most 100 at a time, after OnConnect, and before OnGap
// and the events that come meanwhile.
func TestRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rooms, most = 250, 100
		happened := newRecord()
		c, end, ends := play(t, client.Options{
			OnConnect: func(ctx context.Context, c *client.Client) error {
				happened.add("connect")
				return c.Emit(ctx, "login", nil)
			},
			OnGap: func(*client.Client, client.Gap) { happened.add("gap") },
			Events: client.Events{"n": client.Typed(func(context.Context, *client.Client, int) error {
				happened.add("event")
				return nil
			})},
		})
		end.expect(`{"event":"login"}`)
		for i := 1; i <= rooms; i++ {
			result := join(c, t.Context(), fmt.Sprint(i))
			end.expect(fmt.Sprintf(`{"join":"%d","id":%d}`, i, i))
			end.send(`{"id":%d}`, i)
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		happened.expect(t, "connect")
		end.lose()
		end = <-ends
		if got := <-end.got; got != `{"event":"login"}` {
			t.Error(got)
		}
		end.send(`{"event":"n","data":1}`)
		seen := make(map[string]bool)
		for answered := range rooms {
			synctest.Wait()
			if n := len(end.got); n != min(most, rooms-len(seen)) && answered == 0 || n > most {
				t.Errorf("after %d answers, %d joins are under way", answered, n)
			}
			var m struct {
				Join string
				ID   int
			}
			if err := json.Unmarshal([]byte(<-end.got), &m); err != nil || m.ID != answered+1 || seen[m.Join] {
				t.Errorf("%+v, %v", m, err)
			}
			seen[m.Join] = true
			if answered == 0 {
				happened.expect(t, "connect")
			}
			end.send(`{"id":%d}`, m.ID)
		}
		happened.expect(t, "gap", "event")
		end.expect()
		_ = c.Close(context.Background())
	})
}

// TestJoinWithoutConnection: Join waits for the next connection, if there is none, or if the connection is lost before
// the reply.
func TestJoinWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end, ends := play(t, client.Options{MinBackoff: time.Second, OnJoinError: func(*client.Client, string, error) {
			t.Error("OnJoinError for a room that was never joined")
		}})
		ctx := t.Context()
		lost := join(c, ctx, "lost")
		end.expect(`{"join":"lost","id":1}`)
		end.lose()
		synctest.Wait()
		early := join(c, ctx, "early")
		left := join(c, ctx, "left")
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := c.Join(short, "short"); err != context.DeadlineExceeded {
			t.Errorf("a Join that ends before the connection: %v", err)
		}
		if err := c.Leave(ctx, "left"); err != nil {
			t.Errorf("Leave without a connection: %v", err)
		}
		if err := <-left; err != client.ErrLeft {
			t.Errorf("a Join that was left: %v", err)
		}
		if len(c.Rooms()) != 0 {
			t.Errorf("rooms %q", c.Rooms())
		}
		end = <-ends
		replies := map[string]string{"early": `{"id":%d}`, "lost": `{"id":%d,"error":"no"}`}
		for range 2 {
			var m struct {
				Join string
				ID   int
			}
			_ = json.Unmarshal([]byte(<-end.got), &m)
			end.send(replies[m.Join], m.ID)
		}
		if err := <-early; err != nil {
			t.Error(err)
		}
		if err := <-lost; err != client.RemoteError("no") {
			t.Errorf("a join that was refused: %v", err)
		}
		end.expect()
		if got := c.Rooms(); !slices.Equal(got, []string{"early"}) {
			t.Errorf("rooms %q", got)
		}
		// Nobody answers, and nobody is left.
		began := time.Now()
		if err := c.Join(ctx, "x"); err != context.DeadlineExceeded || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		closed := join(c, ctx, "y")
		_ = c.Close(context.Background())
		if err := <-closed; err != client.ErrClosed {
			t.Errorf("a Join at Close: %v", err)
		}
	})
}

// TestJoinInOnConnect: the room is joined once on each connection.
func TestJoinInOnConnect(t *testing.T) {
	var joins atomic.Int32
	s := serve(t, ws.Options{AllowJoin: func(context.Context, *crosscast.Socket, string) error {
		joins.Add(1)
		return nil
	}})
	gap := make(chan struct{}, 10)
	dial(t, s.url, client.Options{
		OnConnect: func(ctx context.Context, c *client.Client) error { return c.Join(ctx, "room") },
		OnGap:     func(*client.Client, client.Gap) { gap <- struct{}{} },
	})
	for i := range int32(3) {
		if n := joins.Load(); n != i+1 {
			t.Errorf("%d joins on %d connections", n, i+1)
		}
		wstest.Wait(t, s.sockets, "the socket").Close(crosscast.ReasonServer)
		wstest.Wait(t, gap, "OnGap")
	}
}

// TestRejoinRefused: the room is lost, OnJoinError is called before OnGap, and the connection goes on.
func TestRejoinRefused(t *testing.T) {
	happened := newRecord()
	var mu sync.Mutex
	refuse := false
	s := serve(t, ws.Options{AllowJoin: func(_ context.Context, _ *crosscast.Socket, room string) error {
		mu.Lock()
		defer mu.Unlock()
		if refuse && room == "b" {
			return ws.Errorf("not any more")
		}
		return nil
	}})
	c := dial(t, s.url, client.Options{
		OnGap: func(*client.Client, client.Gap) { happened.add("gap") },
		OnJoinError: func(c *client.Client, room string, err error) {
			happened.add("lost %s: %v", room, err)
			if err := c.Join(t.Context(), "instead"); err != nil {
				t.Error(err)
			}
		},
		OnRetry: func(_ *client.Client, err error, _ time.Duration) { t.Errorf("OnRetry(%v)", err) },
	})
	for _, room := range []string{"a", "b", "c"} {
		if err := c.Join(t.Context(), room); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	refuse = true
	mu.Unlock()
	wstest.Wait(t, s.sockets, "the socket").Close(crosscast.ReasonServer)
	happened.expect(t, "lost b: not any more", "gap")
	want := []string{"a", "c", "instead"}
	if got := c.Rooms(); !slices.Equal(got, want) {
		t.Errorf("rooms %q", got)
	}
	got := wstest.Wait(t, s.sockets, "the socket").Rooms()
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("rooms at the server: %q", got)
	}
}

// TestRejoinUnanswered: a rejoin without a reply fails the connection, after the time of a request since the latest reply.
func TestRejoinUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retries := make(chan error, 10)
		c, end, ends := play(t, client.Options{
			OnGap:   func(*client.Client, client.Gap) { t.Error("OnGap before the rooms were joined") },
			OnRetry: func(_ *client.Client, err error, _ time.Duration) { retries <- err },
		})
		for i := range 3 {
			result := join(c, t.Context(), fmt.Sprint("room", i))
			<-end.got
			end.send(`{"id":%d}`, i+1)
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		end.lose()
		end = <-ends
		began := time.Now()
		for i := range 2 {
			time.Sleep(9 * time.Second)
			end.send(`{"id":%d}`, i+1)
		}
		if err := <-retries; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "again") {
			t.Errorf("OnRetry(%v)", err)
		}
		if waited := time.Since(began); waited < 28*time.Second || waited > 29*time.Second {
			t.Errorf("after %v", waited)
		}
		end.lose()
		end = <-ends // the connection is lost meanwhile
		synctest.Wait()
		_ = end.conn.Close(websocket.StatusGoingAway, "bye")
		var closed *client.CloseError
		if err := <-retries; !errors.As(err, &closed) || closed.Reason != "bye" {
			t.Errorf("OnRetry(%v)", err)
		}
		if len(c.Rooms()) != 3 {
			t.Errorf("rooms %q", c.Rooms())
		}
		_ = c.Close(context.Background())
	})
}

// TestJoinAndLeaveAtOnce: of concurrent calls the last one counts: the client and the server agree.
func TestJoinAndLeaveAtOnce(t *testing.T) {
	s := serve(t, ws.Options{AllowJoin: allowAll})
	c := dial(t, s.url, client.Options{})
	socket := wstest.Wait(t, s.sockets, "the socket")
	for range 300 {
		var wg sync.WaitGroup
		for _, call := range []func(context.Context, string) error{c.Join, c.Leave, c.Join, c.Leave} {
			wg.Go(func() {
				if err := call(t.Context(), "room"); err != nil && err != client.ErrLeft {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got, want := socket.Rooms(), c.Rooms(); !slices.Equal(got, want) {
			t.Fatalf("the server has %q, the client %q", got, want)
		}
	}
}

// TestJoinAndLeaveWhileLost: the same while connections are lost.
func TestJoinAndLeaveWhileLost(t *testing.T) {
	s := serve(t, ws.Options{AllowJoin: allowAll})
	c := dial(t, s.url, client.Options{})
	ctx := t.Context()
	for range 30 {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					room, call := fmt.Sprint("room", rand.N(4)), c.Join
					if rand.N(2) == 0 {
						call = c.Leave
					}
					if err := call(ctx, room); err != nil && err != client.ErrLeft {
						t.Error(err)
					}
				}
			})
		}
		for range 3 {
			wstest.Wait(t, s.sockets, "the socket").Close(crosscast.ReasonServer)
		}
		wg.Wait()
		if err := c.Join(ctx, "fence"); err != nil {
			t.Fatal(err)
		}
		for len(s.Members("fence")) != 1 { // the former socket is about to close
			time.Sleep(time.Millisecond) // poll
		}
		got, want := s.Members("fence")[0].Rooms(), c.Rooms()
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("the server has %q, the client %q", got, want)
		}
	}
}

package socketio_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestSilentClient: a client that does not answer a ping is closed after a ping's time.
func TestSilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		s := newServer(t, n, socketio.Options{
			PingInterval: 10 * time.Second, PingTimeout: 7 * time.Second,
			Namespaces: namespaces(socketio.Namespace{OnDisconnect: gone}),
		})
		c, _ := dialInMemory(t, s)
		c.join("/")
		c.Expect("2")
		c.ExpectClose(websocket.StatusPolicyViolation, "timed out")
		if e := <-ended; e != (wstest.Ending{Reason: crosscast.ReasonTimeout, After: 17 * time.Second}) {
			t.Errorf("%+v", e)
		}
		if s.Stats().Timeouts != 1 {
			t.Errorf("%+v", s.Stats())
		}
	})
}

// TestDeadClient: the same for one that does not read either, so that not even the ping gets out.
func TestDeadClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{
			Namespaces: namespaces(socketio.Namespace{OnDisconnect: gone}),
		}))
		c.join("/")
		if e := <-ended; e.Reason != crosscast.ReasonTimeout || e.After > 45*time.Second {
			t.Errorf("%+v", e)
		}
	})
}

// TestLiveClients: one that answers pings, and one that talks instead, are kept, and pinged in the interval.
func TestLiveClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		s := newServer(t, n, socketio.Options{Namespaces: namespaces(socketio.Namespace{OnDisconnect: gone, Events: echo})})
		var pings [2]atomic.Int32
		for i, answer := range []string{"3", `42["nothing"]`} {
			c, _ := dialInMemory(t, s)
			c.join("/")
			go func() {
				for {
					if _, _, err := c.Conn.Read(context.Background()); err != nil {
						return
					}
					pings[i].Add(1)
					time.Sleep(time.Second)
					_ = c.Conn.Write(context.Background(), websocket.MessageText, []byte(answer))
				}
			}()
			defer func() {
				c.Conn.CloseNow()
				synctest.Wait()
			}()
		}
		time.Sleep(time.Hour)
		if len(ended) > 0 {
			t.Errorf("closed: %v", <-ended)
		}
		if answers, talks := pings[0].Load(), pings[1].Load(); answers != 3600/26 || talks != 3600/45 {
			t.Errorf("%d and %d pings", answers, talks)
		}
	})
}

// TestConnectTimeout: a client that connects to no namespace is closed; one that has left its only one is kept.
func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{
			ConnectTimeout: 5 * time.Second, OnError: func(*crosscast.Socket, string, error) {},
			Namespaces: map[string]*socketio.Namespace{
				"/": {},
				"/slow": {Authenticate: func(ctx context.Context, _ *socketio.Handshake) (socketio.Client, error) {
					<-ctx.Done()
					return socketio.Client{}, ctx.Err()
				}},
			},
		})
		start := time.Now()
		none, _ := dialInMemory(t, s)
		refused, _ := dialInMemory(t, s)
		refused.send("40/nowhere,")
		slow, _ := dialInMemory(t, s)
		slow.send("40/slow,")
		left, _ := dialInMemory(t, s)
		left.join("/")
		left.send("41")
		for _, c := range []*client{none, refused, slow} {
			c.ExpectClose(websocket.StatusPolicyViolation, "timed out")
		}
		if took := time.Since(start); took != 5*time.Second || s.Stats().Timeouts != 3 {
			t.Errorf("closed after %v: %+v", took, s.Stats())
		}
		time.Sleep(10 * time.Second)
		left.join("/")
	})
}

// TestTimeoutsAreCountedOnce: a client that is late in every way at the same moment is one.
func TestTimeoutsAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{
			PingInterval: 25 * time.Second, PingTimeout: 20 * time.Second, ConnectTimeout: 45 * time.Second,
			Namespaces: namespaces(socketio.Namespace{}),
		})
		c, conn := dialInMemory(t, s)
		go io.Copy(io.Discard, conn)                      // reads pings, and does not answer
		c.send(`451-["x",{"_placeholder":true,"num":0}]`) // an attachment is missing
		time.Sleep(time.Minute)
		if s.Stats().Timeouts != 1 {
			t.Errorf("%+v", s.Stats())
		}
	})
}

// TestAuthenticateTimeout: a client in one namespace waits for another only until the timeout, and then gets an error.
func TestAuthenticateTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{
			OnError: func(*crosscast.Socket, string, error) {},
			Namespaces: map[string]*socketio.Namespace{
				"/": {Events: echo},
				"/slow": {Authenticate: func(ctx context.Context, _ *socketio.Handshake) (socketio.Client, error) {
					<-ctx.Done()
					return socketio.Client{}, socketio.Errorf("%w", ctx.Err())
				}},
			},
			ConnectTimeout: 5 * time.Second,
		}))
		c.join("/")
		c.send("40/slow,", `42["echo"]`)
		c.Expect(`42["echo"]`, `44/slow,{"message":"context deadline exceeded"}`)
	})
}

// refusing is an adapter that refuses the room "secret", and does not confirm the room "late".
type refusing struct{ slowLink }

func (refusing) Subscribe(ctx context.Context, names ...crosscast.Address) error {
	for _, name := range names {
		switch name.Name {
		case "secret":
			return crosscast.ErrDenied
		case "late":
			<-ctx.Done()
			return ctx.Err()
		}
	}
	return nil
}

// TestUnconfirmed: a client whose socket cannot be made gets an error. If it has another socket, it stays connected;
// otherwise its connection is closed.
func TestUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Adapter: refusing{}})
		in := func(room string) *socketio.Namespace {
			return &socketio.Namespace{
				Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
					return socketio.Client{Rooms: []string{room}}, nil
				},
				Events:    echo,
				OnConnect: func(_ context.Context, s *crosscast.Socket) { s.Emit(context.Background(), "hello", nil) },
				OnDisconnect: func(_ context.Context, s *crosscast.Socket, _ crosscast.Reason) {
					if s.Namespace().Name() != "/" {
						t.Errorf("disconnected from %s", s.Namespace().Name())
					}
				},
			}
		}
		told := make(chan error, 3)
		s := newServer(t, n, socketio.Options{
			ConnectTimeout: 5 * time.Second,
			OnError: func(s *crosscast.Socket, _ string, err error) {
				if s != nil {
					t.Error("a socket beside an error")
				}
				told <- err
			},
			Namespaces: map[string]*socketio.Namespace{"/": in("open"), "/secret": in("secret"), "/late": in("late")},
		})
		c, _ := dialInMemory(t, s)
		c.join("/")
		c.Expect(`42["hello"]`)
		c.send("40/secret,")
		c.Expect(`44/secret,{"message":"try again later"}`)
		if err := <-told; !errors.Is(err, crosscast.ErrDenied) {
			t.Error(err)
		}
		c.send("40/late,")
		c.Expect(`44/late,{"message":"try again later"}`)
		if err := <-told; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		c.send(`42["echo"]`)
		c.Expect(`42["echo"]`)

		late, _ := dialInMemory(t, s)
		late.send("40/late,")
		late.ExpectClose(websocket.StatusPolicyViolation, "timed out")
		synctest.Wait() // else the node's end, which ends that Subscribe as well, might be first
	})
}

// TestLeavesDuringAuthenticate: a client that leaves meanwhile gets no socket, and the context ends.
func TestLeavesDuringAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		start, ends := time.Now(), make(chan time.Duration, 1)
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{
			OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
			Namespaces: namespaces(socketio.Namespace{
				Authenticate: func(ctx context.Context, _ *socketio.Handshake) (socketio.Client, error) {
					<-ctx.Done()
					ends <- time.Since(start)
					return socketio.Client{}, nil
				},
				OnConnect: func(context.Context, *crosscast.Socket) { t.Error("connected") },
			}),
		}))
		c.send("40")
		time.Sleep(time.Second)
		c.Conn.CloseNow()
		if after := <-ends; after != time.Second {
			t.Errorf("the context ends after %v", after)
		}
		synctest.Wait()
		if got := n.Stats().Sockets; got != 0 {
			t.Errorf("%d sockets", got)
		}
	})
}

// TestBackPressure: while a handler takes its time only so much is read, the client is not taken for dead although its
// pongs wait behind its events, and nothing is lost.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		release := make(chan struct{})
		var handled atomic.Int32
		c, conn := dialInMemory(t, newServer(t, n, socketio.Options{
			EventBytes: 10 * (256 + len("n") + 24 + len("1000")),
			Namespaces: namespaces(socketio.Namespace{OnDisconnect: gone, Events: socketio.Events{
				"n": func(ctx context.Context, _ *crosscast.Socket, args socketio.Args) error {
					<-release
					handled.Add(1)
					return ctx.Err()
				},
			}}),
		}))
		c.join("/")
		var sent atomic.Int32
		const count = 1000
		go func() {
			for range count {
				if _, err := io.WriteString(conn, wstest.Masked(`42["n",1000]`)); err != nil {
					t.Error(err)
				}
				sent.Add(1)
			}
		}()
		go io.Copy(io.Discard, conn) // reads pings, and does not answer
		time.Sleep(time.Hour)
		// One is handled, ten wait, one is in the reader's hands, and the next may be in the buffers of the connection.
		if got := sent.Load(); got < 12 || got > 12+4096/18 {
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

// TestSlowClient: a client that does not read fills its queue, which its namespaces share, and is closed.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		chat, err := n.Of("/chat")
		if err != nil {
			t.Fatal(err)
		}
		gone, ended := wstest.Disconnects()
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{
			Queue:      crosscast.QueueOptions{Limit: 10_000, BurstTime: -1},
			Namespaces: map[string]*socketio.Namespace{"/": {OnDisconnect: gone}, "/chat": {OnDisconnect: gone}},
		}))
		c.join("/", "/chat")
		for range 6 {
			for _, ns := range []*crosscast.Namespace{n.Namespace, chat} {
				if err := ns.Emit(t.Context(), "x", strings.Repeat("x", 1000)); err != nil {
					t.Error(err)
				}
			}
		}
		for range 2 {
			if e := <-ended; e.Reason != crosscast.ReasonSlow {
				t.Errorf("%+v", e)
			}
		}
		c.ExpectClose(websocket.StatusPolicyViolation, "too slow")
	})
}

// TestSlowClientIsPinged: pings bypass the messages in the queue.
func TestSlowClientIsPinged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{
			WriteTimeout: time.Hour, PingTimeout: time.Minute,
			Queue: crosscast.QueueOptions{Limit: 1, BurstTime: -1, Policy: crosscast.QueueDropNewest, DropNotice: func(crosscast.QueueDrop) []byte {
				return []byte(`42["missed"]`)
			}},
		}))
		c.join("/")
		for i := range 3 {
			_ = n.Emit(t.Context(), "x", socketio.Values(i, crosscast.Bytes{byte(i)}))
			synctest.Wait() // the first is being written, the second waits, the third is dropped
		}
		time.Sleep(26 * time.Second) // the ping waits for the first message of the first packet
		hole := `{"_placeholder":true,"num":0}`
		var got []string
		for range 6 {
			m, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		want := `451-["x",0,` + hole + `] bytes:` + "\x00" + ` 451-["x",1,` + hole + `] bytes:` + "\x01" + ` 42["missed"]`
		without := strings.Replace(" "+strings.Join(got, " ")+" ", " 2 ", " ", 1)
		if strings.TrimSpace(without) != want || len(got) != 6 || got[5] == "2" {
			t.Errorf("got %q", got)
		}
		c.send("3")
		c.send(`42["echo"]`)
		c.Expect(`42["echo"]`)
	})
}

// TestBrokenConnection: if a write is the first to notice that the client has gone, its events are handled anyway.
func TestBrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		release := make(chan struct{})
		handled := 0
		c, conn := dialInMemory(t, newServer(t, n, socketio.Options{
			OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
			Namespaces: namespaces(socketio.Namespace{OnDisconnect: gone, Events: socketio.Events{
				"n": func(ctx context.Context, s *crosscast.Socket, _ socketio.Args) error {
					<-release
					handled++
					return ctx.Err()
				},
			}}),
		}))
		s := n.Socket(c.join("/"))
		for range 10 {
			c.send(`42["n"]`)
		}
		synctest.Wait()               // all are read
		s.Close(crosscast.ReasonLeft) // as the node does when a write has failed
		conn.Close()
		synctest.Wait()
		if s := n.Stats().Sockets; s != 0 {
			t.Errorf("%d sockets", s)
		}
		close(release)
		if e := <-ended; e.Reason != crosscast.ReasonLeft || handled != 10 {
			t.Errorf("%q after %d events", e.Reason, handled)
		}
	})
}

// TestWriteTimeout: one write that does not end closes the connection.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		c, conn := dialInMemory(t, newServer(t, n, socketio.Options{
			WriteTimeout: 3 * time.Second, Namespaces: namespaces(socketio.Namespace{OnDisconnect: gone}),
		}))
		c.join("/")
		if err := n.Emit(t.Context(), "x", crosscast.Bytes{1}); err != nil {
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

// slowLink is an adapter whose confirmations take a second.
type slowLink struct{}

func (slowLink) Start(context.Context, crosscast.AdapterStart) error   { return nil }
func (slowLink) Publish(context.Context, *crosscast.Instruction) error { return nil }
func (slowLink) Close(context.Context) error                           { return nil }
func (slowLink) Subscribe(context.Context, ...crosscast.Address) error {
	time.Sleep(time.Second)
	return nil
}
func (slowLink) Unsubscribe(context.Context, ...crosscast.Address) error { return nil }
func (slowLink) Listen(context.Context) error                            { return nil }

// TestConnectComesFirst: emissions to a socket wait until its client is connected.
func TestConnectComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Adapter: slowLink{}})
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{Namespaces: namespaces(socketio.Namespace{
			Authenticate: func(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
				var auth struct{ Room string }
				err := json.Unmarshal(h.Auth, &auth)
				return socketio.Client{Rooms: []string{auth.Room}}, err
			},
		})}))
		connecting := func(room string) *crosscast.Socket {
			c.send(`40{"room":"` + room + `"}`)
			for len(n.Members(room)) == 0 {
				time.Sleep(10 * time.Millisecond)
			}
			return n.Members(room)[0]
		}
		s := connecting("a")
		for i := range 3 {
			target := n.To("a")
			if i == 1 {
				target = target.Volatile() // is for clients that can take it now
			}
			if err := target.Emit(t.Context(), "early", i); err != nil {
				t.Error(err)
			}
		}
		c.Expect(`40{"sid":"`+string(s.ID())+`"}`, `42["early",0]`, `42["early",2]`)

		// A client whose socket is closed meanwhile gets a connect_error.
		c.send("41")
		connecting("b").Close("full")
		c.Expect(`44{"message":"full"}`)
		connecting("c")
		c.send("41") // before it gets the answer
		c.ExpectClose(websocket.StatusProtocolError, "packet for a namespace in another state")
	})
}

// TestConnectWaitsForTooMuch: the emissions that wait until a client is connected are bounded.
func TestConnectWaitsForTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Adapter: slowLink{}})
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{Namespaces: namespaces(socketio.Namespace{
			Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
				return socketio.Client{Rooms: []string{"lobby"}}, nil
			},
		})}))
		c.send("40")
		synctest.Wait()
		for range 3 {
			if err := n.To("lobby").Emit(t.Context(), "early", make(crosscast.Bytes, 600_000)); err != nil {
				t.Error(err)
			}
		}
		if got := c.ExpectClose(websocket.StatusPolicyViolation, "too slow"); len(got) > 0 {
			t.Errorf("got %d messages", len(got))
		}
	})
}

// TestNextSocketWaits: a client that connects to a namespace again waits for its earlier events.
func TestNextSocketWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		release := make(chan struct{})
		var steps []string // of handlers, which are one at a time
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{Namespaces: namespaces(socketio.Namespace{
			OnConnect:    func(context.Context, *crosscast.Socket) { steps = append(steps, "connect") },
			OnDisconnect: func(context.Context, *crosscast.Socket, crosscast.Reason) { steps = append(steps, "disconnect") },
			Events: socketio.Events{"n": func(context.Context, *crosscast.Socket, socketio.Args) error {
				<-release
				steps = append(steps, "event")
				return nil
			}},
		})}))
		c.join("/")
		c.send(`42["n"]`, "41", "40")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := strings.Join(steps, " "); got != "connect" {
			t.Errorf("%s", got)
		}
		close(release)
		if m, err := c.Read(); err != nil || !strings.HasPrefix(m, `40{"sid":`) {
			t.Errorf("%s, %v", m, err)
		}
		synctest.Wait()
		if got := strings.Join(steps, " "); got != "connect event disconnect connect" {
			t.Errorf("%s", got)
		}
	})
}

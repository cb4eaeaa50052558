package ws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/wire"
	"github.com/crosscast/crosscast/ws"
)

// allowAll allows every join.
func allowAll(context.Context, *crosscast.Socket, string) error { return nil }

// say emits to a room.
var say = ws.Events{"say": ws.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error {
	return s.Namespace().To(room).Emit(ctx, "said", room)
})}

func (c *client) text(m string) {
	c.T.Helper()
	c.Write(websocket.MessageText, []byte(m))
}

// TestJoin: joins and leaves are answered as events are, and keep their order with them.
func TestJoin(t *testing.T) {
	reports := make(chan string, 10)
	greeted := false
	c, n := connect(t, ws.Options{
		Events:    say,
		OnConnect: func(ctx context.Context, s *crosscast.Socket) { greeted = s.Join(ctx, "lobby") == nil },
		AllowJoin: func(ctx context.Context, s *crosscast.Socket, room string) error {
			switch {
			case !greeted || ctx.Err() != nil || len(room) > 255:
				t.Error("AllowJoin before OnConnect, or with an invalid name")
			case room == "secret":
				return ws.Errorf("members only")
			case room == "broken":
				return errors.New("dial tcp 10.0.0.7: refused")
			}
			return nil
		},
		OnError: func(_ *crosscast.Socket, event string, err error) { reports <- event + ": " + err.Error() },
	})
	const said = `{"event":"said","data":"room1"}`
	const malformed = `malformed message: more than one of event, join, leave, watch and unwatch`
	long := strings.Repeat("r", 256)
	for _, tt := range []struct{ send, want string }{
		{`{"event":"say","data":"room1","id":1}`, `{"id":1}`},
		{`{"join":"room1","id":2}`, `{"id":2}`},
		{`{"event":"say","data":"room1"}`, said},
		{`{"join":"room1"}`, ``}, // again
		{`{"event":"say","data":"room1"}`, said},
		{`{"join":"secret","id":3}`, `{"id":3,"error":"members only"}`},
		{`{"join":"secret"}`, errorEvent(`join "secret": members only`)},
		{`{"join":"broken","id":4}`, `{"id":4,"error":"internal error"}`},
		{`{"join":"` + long + `","id":5}`, `{"id":5,"error":"crosscast: room name of 256 bytes (at most 255)"}`},
		{`{"join":"` + long + `"}`, errorEvent(`join "` + long[:64] + `": crosscast: room name of 256 bytes (at most 255)`)},
		{`{"join":"","id":6}`, errorEvent("malformed message: empty room name")},
		{`{"leave":""}`, errorEvent("malformed message: empty room name")},
		{`{"join":"a","leave":"b","id":7}`, errorEvent(malformed)},
		{`{"join":"a","event":"b"}`, errorEvent(malformed)},
		{`{"leave":"a","event":"b"}`, errorEvent(malformed)},
		{`{"join":7}`, ""}, // its error is encoding/json's
		{`{"leave":"lobby","id":8}`, `{"id":8,"error":"this room is the server's to leave"}`},
		{`{"leave":"lobby"}`, errorEvent(`leave "lobby": this room is the server's to leave`)},
		{`{"leave":"other","id":9}`, `{"id":9}`},
		{`{"leave":"room1","id":10}`, `{"id":10}`},
		{`{"event":"say","data":"room1","id":11}`, `{"id":11}`},
		{`{"leave":"room1","id":12}`, `{"id":12}`},
	} {
		c.text(tt.send)
		if tt.send == `{"join":7}` {
			if got, err := c.Read(); err != nil || !strings.HasPrefix(got, `{"event":"error","data":{"message":"malformed message: json`) {
				t.Errorf("%s: %s, %v", tt.send, got, err)
			}
		} else if tt.want != "" {
			c.Expect(tt.want)
		}
	}
	if got := wstest.Wait(t, reports, "OnError"); got != `join "broken": dial tcp 10.0.0.7: refused` || len(reports) > 0 {
		t.Errorf("OnError(%s), and %d more", got, len(reports))
	}
	// The server has taken it out of a room meanwhile.
	c.text(`{"join":"room2","id":13}`)
	c.Expect(`{"id":13}`)
	for _, s := range n.Members("room2") {
		if err := s.Leave("room2"); err != nil {
			t.Error(err)
		}
	}
	c.text(`{"leave":"room2","id":14}`)
	c.Expect(`{"id":14}`)
}

// TestJoinsNeedPermission: without AllowJoin every join is refused; a panic of AllowJoin costs the one socket.
func TestJoinsNeedPermission(t *testing.T) {
	c, n := connect(t, ws.Options{})
	c.text(`{"join":"room1","id":1}`)
	c.Expect(`{"id":1,"error":"joins are not allowed"}`)
	if n.Stats().Memberships != 0 {
		t.Error("a room was joined")
	}
	reports := make(chan error, 1)
	c, _ = connect(t, ws.Options{
		AllowJoin: func(context.Context, *crosscast.Socket, string) error { panic("oops") },
		OnError:   func(_ *crosscast.Socket, _ string, err error) { reports <- err },
	})
	c.text(`{"join":"room1","id":1}`)
	c.ExpectClose(websocket.StatusInternalError, "internal error")
	if err := wstest.Wait(t, reports, "OnError"); !errors.As(err, new(*ws.PanicError)) {
		t.Errorf("OnError got %v", err)
	}
}

// TestJoinsOfAnEnvelope: an application's envelope may have joins, too.
func TestJoinsOfAnEnvelope(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	c, _ := dialInMemory(t, newServer(t, n, ws.Options{Envelope: &joining{}, AllowJoin: allowAll}))
	c.Write(websocket.MessageBinary, []byte("+room:1"))
	c.Expect("bytes:1:")
	if len(n.Members("room")) != 1 {
		t.Error("not joined")
	}
	c.Write(websocket.MessageBinary, []byte("-room:2"))
	c.Expect("bytes:2:")
	if len(n.Members("room")) != 0 {
		t.Error("not left")
	}
}

// joining is binary with +room:id and -room:id, whose id is one digit.
type joining struct{ binary }

func (j *joining) Parse(message []byte) (ws.Incoming, error) {
	parsed, err := j.binary.Parse(message)
	if err == nil && strings.ContainsAny(parsed.Event[:1], "+-") {
		room := ws.Incoming{ID: uint64(parsed.Data[0] - '0')}
		if parsed.Event[0] == '+' {
			room.Join = parsed.Event[1:]
		} else {
			room.Leave = parsed.Event[1:]
		}
		return room, nil
	}
	return parsed, err
}

// TestFloodOfJoins: a client gets no more rooms than MaxRooms, and what it is refused is counted. While its AllowJoin takes
// long, reading pauses, and other clients are served.
func TestFloodOfJoins(t *testing.T) {
	const most, flood = 50, 2000
	n := wstest.StartNode(t, crosscast.Options{MaxRooms: most})
	entered, release := make(chan struct{}, flood), make(chan struct{})
	server := newServer(t, n, ws.Options{
		Events: echo, EventBytes: 4 << 10,
		AllowJoin: func(ctx context.Context, s *crosscast.Socket, room string) error {
			entered <- struct{}{}
			<-release
			return nil
		},
	})
	url := wstest.Serve(t, server).URL
	conn := upgrade(t, url)
	written := make(chan error, 1)
	go func() {
		var err error
		for i := 1; i <= flood && err == nil; i++ {
			_, err = io.WriteString(conn, wstest.Masked(fmt.Sprintf(`{"join":"r%04d","id":%d}`, i, i)))
		}
		written <- err
	}()
	wstest.Wait(t, entered, "AllowJoin")
	other := dial(t, url, nil)
	other.send("echo", 1)
	other.Expect(`{"event":"echo","data":1}`)
	if len(entered) > 0 {
		t.Error("two calls of AllowJoin at once for one socket")
	}
	close(release)
	for i := 1; i <= flood; i++ {
		op, b, err := readFrame(conn)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"id":%d}`, i)
		if i > most {
			want = fmt.Sprintf(`{"id":%d,"error":"crosscast: number of rooms of %d (at most %d)"}`, i, most+1, most)
		}
		if op != 1 || string(b) != want {
			t.Fatalf("%s, want %s", b, want)
		}
	}
	if err := wstest.Wait(t, written, "the flood"); err != nil {
		t.Error(err)
	}
	if got := n.Stats().Memberships; got != most {
		t.Errorf("%d memberships", got)
	}
	if got := server.Stats().Refused["join"]; got != flood-most {
		t.Errorf("%d refused joins are counted, want %d", got, flood-most)
	}
}

// TestJoinsComeAndGo: a client that joins and leaves one room again and again costs the bus one subscription.
func TestJoinsComeAndGo(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{Adapter: wire.New(membus.New().Port("a"), wire.Options{}), Linger: time.Hour})
	conn := upgrade(t, wstest.Serve(t, newServer(t, n, ws.Options{AllowJoin: allowAll})).URL)
	const count = 1000
	go func() {
		for range count {
			_, _ = io.WriteString(conn, wstest.Masked(`{"join":"room1"}`)+wstest.Masked(`{"leave":"room1"}`))
		}
		_, _ = io.WriteString(conn, wstest.Masked(`{"join":"room2","id":1}`))
	}()
	if _, b, err := readFrame(conn); err != nil || string(b) != `{"id":1}` {
		t.Fatalf("%s, %v", b, err)
	}
	if waited := n.Stats().Joins.Count; waited != 2 { // the two rooms
		t.Errorf("%d subscriptions", waited)
	}
}

// TestMemoryOfJoins: a client is no reason to remember a room that the server has taken it out of.
func TestMemoryOfJoins(t *testing.T) {
	const rooms = 20_000
	c, _ := connect(t, ws.Options{AllowJoin: func(_ context.Context, s *crosscast.Socket, _ string) error {
		return s.Leave(s.Rooms()...)
	}})
	join := func(from, to int) {
		for i := from; i < to; i++ {
			c.text(fmt.Sprintf(`{"join":"%0200d"}`, i))
		}
		c.text(`{"leave":"x","id":1}`)
		c.Expect(`{"id":1}`)
	}
	join(0, 100)
	before := memtest.Heap()
	join(100, rooms)
	if grown := memtest.Heap() - before; grown > 1<<20 {
		t.Errorf("%d rooms that a client is not in any more take %d bytes", rooms, grown)
	}
}

// TestClosingDuringAllowJoin: a client that is closed meanwhile gets no refusal, because it might join again.
func TestClosingDuringAllowJoin(t *testing.T) {
	entered := make(chan *crosscast.Socket, 1)
	c, n := connect(t, ws.Options{
		AllowJoin: func(ctx context.Context, s *crosscast.Socket, _ string) error {
			entered <- s
			<-ctx.Done()
			return ctx.Err()
		},
		OnError: func(_ *crosscast.Socket, event string, err error) { t.Errorf("OnError(%q, %v)", event, err) },
	})
	c.text(`{"join":"room1","id":1}`)
	wstest.Wait(t, entered, "AllowJoin").Close("not here")
	if messages := c.ExpectClose(websocket.StatusNormalClosure, "not here"); len(messages) > 0 {
		t.Errorf("answered: %s", messages)
	}
	if n.Stats().Rooms != 0 {
		t.Error("a room was joined")
	}
}

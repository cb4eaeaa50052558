package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

func allow(context.Context, *crosscast.Socket, string) error { return nil }

// serveUsers serves clients whose URL has a user and rooms.
func serveUsers(t *testing.T, o ws.Options) (n *crosscast.Node, url string) {
	n = wstest.StartNode(t, crosscast.Options{})
	o.AllowJoin, o.PresenceGather = allow, time.Millisecond
	s, err := ws.New(n.Namespace, o)
	if err != nil {
		t.Fatal(err)
	}
	return n, wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		c := ws.Client{User: q.Get("user"), Rooms: q["room"]}
		if q.Has("shows") {
			c.Presence = q.Get("shows")
		}
		_, _ = s.Accept(w, r, c)
	})).URL
}

// noted returns a function for Presence that records what it gets.
func noted(l *record) func(client.Presence) {
	return func(p client.Presence) {
		if p.Members == nil {
			l.add("%d", p.Count)
			return
		}
		var all []string
		for _, user := range slices.Sorted(maps.Keys(p.Members)) {
			all = append(all, user+strings.Trim(string(p.Members[user]), `"`))
		}
		l.add("%d: %v +%v ~%v -%v", p.Count, all, p.Joined, p.Changed, p.Left)
	}
}

// TestPresence: all users, then each change; after a reconnect the difference; and nothing after stop.
func TestPresence(t *testing.T) {
	n, url := serveUsers(t, ws.Options{AllowPresence: allow})
	ann := dial(t, url+"?user=ann&shows=-here", client.Options{})
	l := newRecord()
	if err := ann.Join(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	stop, err := ann.Presence("r", noted(l))
	if err != nil {
		t.Fatal(err)
	}
	l.expect(t, "1: [ann-here] +[ann] ~[] -[]")
	bob := dial(t, url+"?user=bob&room=r", client.Options{Subprotocols: []string{client.SubprotocolMsgPack}})
	l.expect(t, "2: [ann-here bob] +[bob] ~[] -[]")
	lb := newRecord()
	if _, err := bob.Presence("r", noted(lb)); err != nil { // which the server has joined
		t.Fatal(err)
	}
	lb.expect(t, "2: [ann-here bob] +[ann bob] ~[] -[]")
	annSocket := n.Members("r")[slices.IndexFunc(n.Members("r"), func(s *crosscast.Socket) bool { return s.User() == "ann" })]
	if err := annSocket.SetPresence("-away"); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "2: [ann-away bob] +[] ~[ann] -[]")
	lb.expect(t, "2: [ann-away bob] +[] ~[ann] -[]")
	closeClient(t, bob)
	l.expect(t, "1: [ann-away] +[] ~[] -[bob]")
	eve := dial(t, url+"?user=eve&room=r", client.Options{})
	l.expect(t, "2: [ann-away eve] +[eve] ~[] -[]")

	annSocket.Close(crosscast.ReasonServer) // ann comes back
	until(t, l, "2: [ann-here eve]")        // perhaps what the former connection has shown comes first
	stop()
	stop()
	closeClient(t, eve)
	again := newRecord()
	if _, err := ann.Presence("r", noted(again)); err != nil {
		t.Fatal(err)
	}
	until(t, again, "1: ") // eve might still be there at first
	if _, err := ann.Presence("", noted(l)); err == nil {
		t.Error("a room without a name")
	}
	closeClient(t, ann)
	if _, err := ann.Presence("r", noted(l)); !errors.Is(err, client.ErrClosed) {
		t.Error(err)
	}
	if len(l.now()) != 0 {
		t.Error(l.now())
	}
}

// until waits for a line that begins so, and forgets all lines.
func until(t *testing.T, l *record, begin string) {
	t.Helper()
	for {
		wstest.Wait(t, l.grown, begin)
		l.mu.Lock()
		line := l.lines[0]
		l.lines = l.lines[1:]
		l.mu.Unlock()
		if strings.HasPrefix(line, begin) {
			return
		}
	}
}

// TestPresenceOfALateRoom: a room that a new connection could not join at first is asked for once it is joined.
func TestPresenceOfALateRoom(t *testing.T) {
	var busy atomic.Int32
	n := wstest.StartNode(t, crosscast.Options{})
	s, err := ws.New(n.Namespace, ws.Options{
		AllowJoin: func(context.Context, *crosscast.Socket, string) error {
			if busy.Add(-1) >= 0 {
				return ws.ErrBusy
			}
			return nil
		},
		AllowPresence: allow, OnError: func(*crosscast.Socket, string, error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := newRecord()
	c := dial(t, wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = s.Accept(w, r, ws.Client{User: "ann"})
	})).URL, client.Options{MaxBackoff: 10 * time.Millisecond, OnError: func(_ *client.Client, event string, err error) {
		l.add("%s: %v", event, err)
	}})
	if err := c.Join(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Presence("r", noted(l)); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "1: [ann] +[ann] ~[] -[]")
	busy.Store(4)
	n.Members("r")[0].Close(crosscast.ReasonServer)
	until(t, l, "1: [ann]")
	if left := busy.Load(); left >= 0 {
		t.Errorf("told before the join: %d", left)
	}
}

// TestPresenceRefused: OnError gets a refusal, once; the client asks again by itself if the server cannot decide now, and
// after a join.
func TestPresenceRefused(t *testing.T) {
	var busy atomic.Int32
	_, url := serveUsers(t, ws.Options{AllowPresence: func(_ context.Context, _ *crosscast.Socket, room string) error {
		if busy.Add(-1) >= 0 {
			return ws.ErrBusy
		}
		return nil
	}, OnError: func(*crosscast.Socket, string, error) {}})
	l := newRecord()
	c := dial(t, url+"?user=ann", client.Options{
		MaxBackoff: 10 * time.Millisecond,
		OnError: func(_ *client.Client, event string, err error) {
			l.add("%s: %v, %t", event, err, errors.As(err, new(client.RemoteError)))
		},
	})
	if _, err := c.Presence("r", noted(l)); err != nil {
		t.Fatal(err)
	}
	l.expect(t, `presence: room "r": not in the room, true`)
	busy.Store(3)
	if err := c.Join(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	l.expect(t, "1: [ann] +[ann] ~[] -[]")
}

// TestPresenceHoles: a number that does not follow, and a gap, make the client ask again. What makes no sense is an error.
func TestPresenceHoles(t *testing.T) {
	asked := make(chan string, 10)
	say := make(chan string)
	url := serveRaw(t, func(conn *websocket.Conn) {
		go func() {
			for m := range say {
				if conn.Write(context.Background(), websocket.MessageText, []byte(m)) != nil {
					return
				}
			}
		}()
		for {
			_, b, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			asked <- string(b)
		}
	})
	defer close(say)
	l := newRecord()
	c := dial(t, url, client.Options{OnError: func(_ *client.Client, event string, err error) { l.add("error %q", event) }})
	if _, err := c.Presence("r", noted(l)); err != nil {
		t.Fatal(err)
	}
	ask := func() {
		t.Helper()
		var m struct{ Watch string }
		if err := json.Unmarshal([]byte(wstest.Wait(t, asked, "a wish")), &m); err != nil || m.Watch != "r" {
			t.Error(m, err)
		}
	}
	tell := func(m string) {
		t.Helper()
		select {
		case say <- m:
		case <-time.After(wstest.Patience):
			t.Fatalf("the server has no connection for %s", m)
		}
	}
	update := func(at int, rest string) {
		t.Helper()
		tell(fmt.Sprintf(`{"presence":{"room":"r","at":%d,"count":2%s}}`, at, rest))
	}
	ask()
	update(1, `,"set":[["eve"]]`) // before all of them
	update(2, `,"all":[["ann"],["bob",1]]`)
	l.expect(t, "2: [ann bob1] +[ann bob] ~[] -[]")
	update(4, `,"left":["ann"]`)
	ask()
	update(5, `,"left":["bob"]`)
	update(6, `,"all":[["bob",2],["eve"]]`)
	l.expect(t, "2: [bob2 eve] +[eve] ~[bob] -[ann]")
	update(7, ``)
	l.expect(t, "2")
	tell(`{"gap":{"ago":[10,0],"wait":1}}`)
	ask()
	tell(`{"presence":{"room":"r","all":[[]]}}`)
	tell(`{"presence":7}`)
	tell(`{"presence":{"room":"other","all":[]}}`)
	l.expect(t, `error ""`, `error ""`)
	update(8, `,"all":[]`)
	l.expect(t, "2: [] +[] ~[] -[]")
}

package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/gorilla/websocket"
)

func start(t *testing.T, cluster *crosscast.Cluster) (node *crosscast.Node, url string) {
	t.Helper()
	node, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: cluster.Adapter()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close(context.Background()) })
	server := httptest.NewServer(serve(node))
	t.Cleanup(server.Close)
	return node, "ws" + strings.TrimPrefix(server.URL, "http")
}

// dial connects a client, and returns once it is in its room.
func dial(t *testing.T, url, room string) *websocket.Conn {
	t.Helper()
	client, _, err := websocket.DefaultDialer.DialContext(t.Context(), url+"?room="+room, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if room != "" {
		hears(t, client, `{"event":"ready"}`)
	}
	return client
}

func say(t *testing.T, client *websocket.Conn, text string) {
	t.Helper()
	if err := client.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hears(t *testing.T, client *websocket.Conn, want string) {
	t.Helper()
	if _, got, err := client.ReadMessage(); err != nil || string(got) != want {
		t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

func wantClosed(t *testing.T, client *websocket.Conn, code int, reason crosscast.Reason) {
	t.Helper()
	_, got, err := client.ReadMessage()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != code || closed.Text != string(reason) {
		t.Fatalf("got %q, %v; want to be closed with %d %q", got, err, code, reason)
	}
}

func TestTwoServersBehaveLikeOne(t *testing.T) {
	cluster := crosscast.NewCluster()
	_, url1 := start(t, cluster)
	_, url2 := start(t, cluster)
	a, b, c := dial(t, url1, "lobby"), dial(t, url2, "lobby"), dial(t, url2, "elsewhere")

	say(t, a, `{"event":"say","data":{"text":"hello"}}`)
	say(t, a, `{"event":"wave"}`)
	hears(t, b, `{"event":"say","data":{"text":"hello"}}`)
	hears(t, b, `{"event":"wave"}`)
	say(t, b, `{"event":"say","data":1}`)
	hears(t, a, `{"event":"say","data":1}`) // and not what it said itself

	say(t, dial(t, url1, "elsewhere"), `{"event":"fence"}`)
	hears(t, c, `{"event":"fence"}`) // and nothing of the lobby
}

// TestReplies: a reply goes to the EmitAck that waits for it, and an event with an ID is answered. Neither ends the
// connection.
func TestReplies(t *testing.T) {
	node, url := start(t, crosscast.NewCluster())
	a, b := dial(t, url, "lobby"), dial(t, url, "lobby")
	answers := node.To("lobby").EmitAck(t.Context(), "ready?", nil)
	hears(t, a, `{"event":"ready?","id":1}`)
	hears(t, b, `{"event":"ready?","id":1}`)
	say(t, a, `{"id":1,"data":"yes"}`)
	say(t, b, `{"id":1,"error":"no"}`)
	var got []string
	for r := range answers.All() {
		got = append(got, string(r.Payload.Data))
	}
	var incomplete *crosscast.IncompleteError
	if len(got) != 1 || got[0] != `"yes"` || !errors.As(answers.Err(), &incomplete) {
		t.Errorf("replies %q, %v", got, answers.Err())
	}
	say(t, a, `{"id":1,"data":"again"}`) // nobody waits for it
	say(t, a, `{"event":"say","data":1,"id":5}`)
	hears(t, a, `{"id":5}`)
	hears(t, b, `{"event":"say","data":1}`)
}

func TestClosing(t *testing.T) {
	node, url := start(t, crosscast.NewCluster())
	bad, nowhere, good := dial(t, url, "lobby"), dial(t, url, ""), dial(t, url, "lobby")
	say(t, bad, "this is no JSON")
	notUTF8 := dial(t, url, "lobby")
	say(t, notUTF8, "{\"event\":\"say\",\"data\":\"\xff\"}")
	wantClosed(t, notUTF8, websocket.CloseProtocolError, crosscast.ReasonProtocol)
	wantClosed(t, bad, websocket.CloseProtocolError, crosscast.ReasonProtocol)
	wantClosed(t, nowhere, websocket.CloseProtocolError, crosscast.ReasonProtocol)
	if err := node.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, good, websocket.CloseGoingAway, crosscast.ReasonShutdown)
	if members := node.Members("lobby"); len(members) != 0 {
		t.Errorf("%d sockets are left", len(members))
	}
}

package sse_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// TestHTTP2: streams and POSTs share a connection. One stream that nobody reads ends as too slow, and the others go on.
func TestHTTP2(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	left, disconnects := wstest.Disconnects()
	s := newServer(t, n, ws.Options{
		Events: echo, OnConnect: welcome, OnDisconnect: left, PingInterval: 50 * time.Millisecond, PingTimeout: 10 * time.Second,
		WriteTimeout: 2 * time.Second, Queue: crosscast.QueueOptions{Limit: 16 << 20, Burst: 16 << 20},
	}, sse.Options{})
	web := httptest.NewUnstartedServer(users(s))
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	transport = web.Client().Transport
	defer func() { transport = http.DefaultTransport }()

	reader, stuck := open(t, web.URL+"/?room=r", "ann"), open(t, web.URL+"/?room=r", "eve")
	for _, c := range []*client{reader, stuck} {
		c.expect(`{"event":"welcome"}`)
		c.send(`{"event":"echo","data":1,"id":1}`)
		c.expect(`{"id":1,"data":1}`)
	}
	if resp := request(t, "GET", web.URL, ""); resp.ProtoMajor != 2 {
		t.Fatalf("the protocol is %s", resp.Proto)
	} else {
		_ = resp.Body.Close()
	}
	wstest.Wait(t, disconnects, "the client to leave")
	emitUntilSlow(t, n, reader, disconnects)
	reader.send(`{"event":"echo","data":2,"id":2}`)
	reader.expect(`{"id":2,"data":2}`)
	if err := n.Drain(t.Context(), crosscast.DrainOptions{Notice: -1, Window: -1}); err != nil {
		t.Fatal(err)
	}
	reader.expectClose(`{"code":1012,"reason":"server restarting"}`)
}

package sse_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// TestShutdown: a stream of events outlives the server's ReadTimeout and WriteTimeout, and holds up nobody when the node is closed before
// http.Server.Shutdown. A request that comes in between is sent to another server.
func TestShutdown(t *testing.T) {
	node, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	const timeout = 500 * time.Millisecond
	server := &http.Server{
		Handler:           users(newServer(t, node, ws.Options{OnConnect: welcome}, sse.Options{})),
		ReadHeaderTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	response, err := http.Get("http://" + listener.Addr().String() + "?room=news")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stream := bufio.NewScanner(response.Body)
	if next(stream); next(stream) != `{"event":"welcome"}` {
		t.Fatal("no welcome behind the first event")
	}
	time.Sleep(3 * timeout / 2) // lasts
	if err := node.To("news").Emit(t.Context(), "headline", nil); err != nil {
		t.Fatal(err)
	}
	if got := next(stream); got != `{"event":"headline"}` {
		t.Error("after the time-outs: ", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	if err := node.Close(ctx); err != nil {
		t.Error(err)
	}
	late, err := http.Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	late.Body.Close()
	if late.StatusCode != http.StatusServiceUnavailable || late.Header.Get("Retry-After") == "" {
		t.Errorf("after Close: %s, %v", late.Status, late.Header)
	}
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

package main

import (
	"context"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/ws/client"
)

// TestTwoServers: what a client of one server says, a client of the other one hears.
func TestTwoServers(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	path := programtest.Build(t, ".")
	heard := make(chan string, 1)
	var first *client.Client
	for i := range 2 {
		addr := freeAddr(t)
		p := programtest.Start(t, exec.Command(path, addr, "redis://"+redis.Addr()))
		t.Cleanup(p.Kill)
		c := dial(t, "ws://"+addr, client.Options{Events: client.Events{
			"said": client.Typed(func(ctx context.Context, _ *client.Client, text string) error {
				if i == 1 {
					select {
					case heard <- text:
					default:
					}
				}
				return nil
			}),
		}})
		if i == 0 {
			first = c
		}
	}
	ctx := redistest.Within(t, programtest.Patience)
	for { // until the second client has become a member of the lobby, which is after Dial has returned
		if err := first.Request(ctx, "say", "hello", nil); err != nil {
			t.Fatalf("the client of the second server heard nothing: %v", err)
		}
		select {
		case text := <-heard:
			if text != "hello" {
				t.Errorf("heard %q", text)
			}
			return
		case <-time.After(100 * time.Millisecond): // poll
		}
	}
}

// dial connects to a server that is about to listen.
func dial(t *testing.T, url string, o client.Options) *client.Client {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // poll
		c, err := client.Dial(t.Context(), url, o)
		if err == nil {
			t.Cleanup(func() { _ = c.Close(context.Background()) })
			return c
		}
		if time.Since(begin) > programtest.Patience {
			t.Fatal(err)
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

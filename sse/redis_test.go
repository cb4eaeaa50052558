package sse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// serverOf names the Redis of a test in a process that is a server of it.
const serverOf = "CROSSCAST_SSE_SERVER_OF"

// runServer is the main function of such a process. It is interrupted, or killed.
func runServer(addr string) {
	n, err := crosscast.Start(context.Background(), crosscast.Options{
		Adapter: redisadapter.New(redis.NewClient(&redis.Options{Addr: addr}), redisadapter.Options{}),
	})
	if err != nil {
		panic(err)
	}
	chat, err := ws.New(n.Namespace, ws.Options{Events: echo, OnConnect: welcome})
	if err != nil {
		panic(err)
	}
	s, err := sse.New(n, chat, sse.Options{PostTimeout: 2 * wstest.Patience})
	if err != nil {
		panic(err)
	}
	fmt.Println("serves", httptest.NewServer(users(s)).URL)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
}

// TestRedis: two servers in processes of their own. A stream is at the first one, and its POSTs come to the second. When
// the first one is killed, they are an error at once.
func TestRedis(t *testing.T) {
	addr := redistest.Start(t, redistest.Config{}).Addr()
	var urls []string
	var servers []*programtest.Program
	for range 2 {
		p := programtest.Start(t, exec.Command(os.Args[0]), serverOf+"="+addr)
		urls, servers = append(urls, p.Printed(`serves (http://\S+)`)), append(servers, p)
	}
	c := open(t, urls[0], "ann")
	c.expect(`{"event":"welcome"}`)
	const body = `{"event":"echo","data":1,"id":1}`
	for begin := time.Now(); ; { // the servers get to know each other
		if status := c.postTo(urls[1], c.token, "ann", body); status == 204 {
			break
		} else if time.Since(begin) > wstest.Patience {
			t.Fatalf("status %d", status)
		}
	}
	c.expect(`{"id":1,"data":1}`)
	if status := c.postTo(urls[1], c.token, "eve", body); status != 403 {
		t.Errorf("another user: status %d", status)
	}

	servers[0].Kill()
	if e, err := c.read(); err == nil {
		t.Errorf("the stream goes on with %+v", e)
	}
	began := time.Now()
	status := c.postTo(urls[1], c.token, "ann", body)
	if took := time.Since(began); status != 502 || took > wstest.Patience { // and not after PostTimeout
		t.Errorf("the server was killed: status %d within %v", status, took)
	} else {
		t.Logf("an error within %v", took)
	}
}

// TestLargerThanTheBus: a POST that its own node would take, but that the bus does not carry, is refused before anybody
// gets it.
func TestLargerThanTheBus(t *testing.T) {
	r := redistest.Start(t, redistest.Config{})
	var urls []string
	for range 2 {
		n := wstest.StartNode(t, crosscast.Options{Adapter: redisadapter.New(r.Client(), redisadapter.Options{MaxFrame: 10_000})})
		urls = append(urls, serve(t, newServer(t, n, ws.Options{Events: ws.Events{
			"take": func(context.Context, *crosscast.Socket, json.RawMessage) error { return nil },
		}}, sse.Options{PostLimit: 1 << 20})))
	}
	c := open(t, urls[0], "")
	body := `{"event":"take","id":1,"data":"` + strings.Repeat("x", 50_000) + `"}`
	for begin := time.Now(); c.postTo(urls[1], c.token, "", `{"event":"take"}`) != 204; { // the servers get to know each other
		if time.Since(begin) > wstest.Patience {
			t.Fatal("no POST arrives")
		}
	}
	if status := c.postTo(urls[1], c.token, "", body); status != 413 {
		t.Errorf("at the other node: status %d, want 413", status)
	}
	c.send(body)
	c.expect(`{"id":1}`)
}

package sse_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// TestForward: a POST reaches its stream from every node, with the same checks.
func TestForward(t *testing.T) {
	cluster := crosscast.NewCluster()
	var nodes []*crosscast.Node
	var servers []*sse.Server
	var urls []string
	for range 3 {
		n := wstest.StartNode(t, crosscast.Options{Adapter: cluster.Adapter()})
		s := newServer(t, n, ws.Options{Events: echo, OnConnect: welcome}, sse.Options{PostLimit: 1000, PostTimeout: 2 * wstest.Patience})
		nodes, servers, urls = append(nodes, n), append(servers, s), append(urls, serve(t, s))
	}
	newServer(t, nodes[0], ws.Options{}, sse.Options{}) // another server of the same node takes nothing away
	c := open(t, urls[0], "ann")
	c.expect(`{"event":"welcome"}`)
	const body = `{"event":"echo","data":1,"id":1}`
	for i, url := range urls {
		if status := c.postTo(url, c.token, "ann", body); status != http.StatusNoContent {
			t.Errorf("at node %d: status %d", i+1, status)
		}
		c.expect(`{"id":1,"data":1}`)
	}
	if st := servers[1].Stats(); st.Forwarded != 1 || st.Posts != 1 || st.Streams != 0 {
		t.Errorf("%+v", st)
	}
	for _, tt := range []struct {
		what, token, user, body string
		status                  int
	}{
		{"a foreign secret", forged(c.token, 2, strings.Repeat("A", 22)), "ann", body, http.StatusForbidden},
		{"another user", c.token, "eve", body, http.StatusForbidden},
		{"no such stream", forged(c.token, 1, strings.Repeat("A", 12)), "ann", body, http.StatusGone},
		{"the wrong node", forged(c.token, 0, string(nodes[2].ID())), "ann", body, http.StatusGone},
		{"too large", c.token, "ann", strings.Repeat("x", 1001), http.StatusRequestEntityTooLarge},
	} {
		if status := c.postTo(urls[1], tt.token, tt.user, tt.body); status != tt.status {
			t.Errorf("%s: status %d, want %d", tt.what, status, tt.status)
		}
	}

	// A node that is gone is an error at once.
	ctx, cancel := context.WithTimeout(t.Context(), wstest.Patience)
	defer cancel()
	if err := nodes[0].Close(ctx); err != nil {
		t.Fatal(err)
	}
	c.expectClose(`{"code":1001,"reason":"server shutting down"}`)
	began := time.Now()
	if status := c.postTo(urls[1], c.token, "ann", body); status != http.StatusBadGateway || time.Since(began) > wstest.Patience {
		t.Errorf("the node is gone: status %d after %v", status, time.Since(began))
	}
}

// TestForwardedFlood: a client that sends more than its node handles soon costs that node no more questions.
func TestForwardedFlood(t *testing.T) {
	cluster := crosscast.NewCluster()
	end := make(chan struct{})
	o := ws.Options{EventBytes: 1000, Events: ws.Events{
		"work": func(context.Context, *crosscast.Socket, json.RawMessage) error { <-end; return nil },
	}}
	var servers []*sse.Server
	var urls []string
	for range 2 {
		n := wstest.StartNode(t, crosscast.Options{Adapter: cluster.Adapter()})
		s := newServer(t, n, o, sse.Options{PostLimit: 1000})
		servers, urls = append(servers, s), append(urls, serve(t, s))
	}
	defer close(end)
	c := open(t, urls[0], "ann")
	message := `{"event":"work","data":"` + strings.Repeat("x", 900) + `"}`
	for began := time.Now(); servers[1].Stats().Refused["misses"] == 0; {
		if c.postTo(urls[1], c.token, "ann", message); time.Since(began) > wstest.Patience {
			t.Fatal(servers[1].Stats())
		}
	}
	if st := servers[1].Stats(); st.Refused["busy"] < 20 || st.Refused["busy"] > 40 {
		t.Errorf("%+v", st)
	}
}

// TestNamespaces: a POST finds only the streams of its own namespace.
func TestNamespaces(t *testing.T) {
	cluster := crosscast.NewCluster()
	var urls []string
	for _, namespace := range []string{"/", "admin", "admin"} {
		n := wstest.StartNode(t, crosscast.Options{Adapter: cluster.Adapter()})
		ns, err := n.Of(namespace)
		if err != nil {
			t.Fatal(err)
		}
		chat, err := ws.New(ns, ws.Options{Events: echo})
		if err != nil {
			t.Fatal(err)
		}
		s, err := sse.New(n, chat, sse.Options{})
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, serve(t, s))
	}
	c := open(t, urls[1], "")
	for i, want := range []int{http.StatusGone, http.StatusNoContent, http.StatusNoContent} {
		if status := c.postTo(urls[i], c.token, "", `{"event":"echo"}`); status != want {
			t.Errorf("at server %d: status %d, want %d", i+1, status, want)
		}
	}
}

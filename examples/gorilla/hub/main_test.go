package main

import (
	"context"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/gorilla/websocket"
)

// A process is what one of several server processes has: a hub, and a real websocket client of it.
type process struct {
	hub    *Hub
	client *websocket.Conn
}

func start(t *testing.T, cluster *crosscast.Cluster) process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	h := newHub()
	if err := h.connect(ctx, cluster.Adapter()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { warn(h.node.Close(context.Background())) })
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, _, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return process{h, client}
}

func (p process) say(t *testing.T, text string) {
	t.Helper()
	if err := p.client.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (p process) hears(t *testing.T, want ...string) {
	t.Helper()
	if err := p.client.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, want := range want {
		if _, got, err := p.client.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("heard %q, %v; want %q", got, err, want)
		}
	}
}

func TestClientsOfTwoProcessesChat(t *testing.T) {
	cluster := crosscast.NewCluster()
	a, b := start(t, cluster), start(t, cluster)
	a.say(t, "introducing a") // and proving that a is registered; b is, when it hears its own
	a.hears(t, "introducing a")
	b.say(t, "introducing b")
	a.hears(t, "introducing b")
	for { // b may have been registered before a's introduction arrived or after
		b.client.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, got, err := b.client.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) == "introducing b" {
			break
		}
	}

	a.say(t, "\xff") // which no websocket client may get
	a.say(t, "one")
	a.say(t, "two")
	a.hears(t, "one", "two")
	b.hears(t, "one", "two")
	b.say(t, "three")
	b.hears(t, "three")
	a.hears(t, "three") // nothing came twice in between
}

// TestTwentyChangedLines counts the lines that hub has and hub_before has not, and the other way round.
func TestTwentyChangedLines(t *testing.T) {
	lines := func(file string) []string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(b), "\n")
	}
	before, after := lines("../hub_before/main.go"), lines("main.go")
	same := common(before, after)
	removed, added := len(before)-same, len(after)-same
	t.Logf("%d lines added, %d removed", added, removed)
	if added+removed > 20 {
		t.Errorf("%d lines have changed, want at most 20", added+removed)
	}
}

// common returns how many lines a and b have in common, in the same order.
func common(a, b []string) int {
	best := make([]int, len(b)+1) // best[j]: of the lines of a so far and the first j of b
	for _, line := range a {
		row := slices.Clone(best)
		for j := range b {
			if line == b[j] {
				row[j+1] = best[j] + 1
			} else {
				row[j+1] = max(row[j], best[j+1])
			}
		}
		best = row
	}
	return best[len(b)]
}

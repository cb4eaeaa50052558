package wschat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/examples/chat/internal/wschat"
	"github.com/crosscast/crosscast/examples/internal/chat"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/ws/client"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

const patience = programtest.Patience

// httpClient keeps no connection, so that none is left when a test ends.
var httpClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// startServer starts a server over the Redis at addr; empty: without one.
func startServer(t *testing.T, name, addr string) (*chat.Server, *programtest.Output) {
	t.Helper()
	out := &programtest.Output{}
	o := chat.ServerOptions{Name: name, Address: "localhost:0", Protocol: &wschat.Protocol, Printer: chat.NewPrinter(out)}
	if addr != "" {
		o.RedisURL = "redis://" + addr
	}
	s, err := chat.StartServer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("closing %s: %v", name, err)
		}
	})
	return s, out
}

// member is a running client and what it got.
type member struct {
	*wschat.Client
	out      *programtest.Output
	joined   chan chat.Joined
	messages chan chat.Message
	gaps     chan client.Gap
}

func startClient(t *testing.T, name, url string) *member {
	t.Helper()
	m := &member{
		out: &programtest.Output{}, joined: make(chan chat.Joined, 100),
		messages: make(chan chat.Message, 100), gaps: make(chan client.Gap, 100),
	}
	m.Client = &wschat.Client{
		Name: name, Room: "room1", ServerURL: url, Printer: chat.NewPrinter(m.out),
		OnJoined:  func(j chat.Joined) { m.joined <- j },
		OnMessage: func(msg chat.Message) { m.messages <- msg },
		OnGap:     func(g client.Gap) { m.gaps <- g },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m
}

func wait[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

func (m *member) say(t *testing.T, text string) {
	t.Helper()
	if err := m.Say(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
}

func (m *member) expect(t *testing.T, text, node string) chat.Message {
	t.Helper()
	got := wait(t, m.messages, fmt.Sprintf("%q at %s", text, m.Name))
	if got.Text != text || got.FromNode != node {
		t.Fatalf("%s got %+v, want %q from %s", m.Name, got, text, node)
	}
	return got
}

// TestTwoServers: what is said on one server is heard on the other, by clients and over HTTP.
func TestTwoServers(t *testing.T) {
	addr := miniredis.RunT(t).Addr()
	s1, log := startServer(t, "server-1", addr)
	s2, _ := startServer(t, "server-2", addr)
	a, b := startClient(t, "A", s1.URL()), startClient(t, "B", s2.URL())
	for m, node := range map[*member]string{a: "server-1", b: "server-2"} {
		if j := wait(t, m.joined, "joined"); j != (chat.Joined{RoomID: "room1", Node: node}) {
			t.Errorf("joined %+v", j)
		}
	}
	a.say(t, "hi\x1b[2J")
	for _, m := range []*member{a, b} {
		got := m.expect(t, "hi\x1b[2J", "server-1")
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(got.At) ||
			got.RoomID != "room1" || len(got.FromSocketID) != 20 {
			t.Errorf("%+v", got)
		}
		if strings.Contains(m.out.String(), "\x1b") {
			t.Error("a stranger can move the cursor")
		}
	}
	status, answer := post(t, s2.URL()+"/emit/room1", `{"text":"from a job"}`, "")
	if status != 200 || answer != `{"ok":true,"node":"server-2","roomId":"room1","text":"from a job"}` {
		t.Errorf("%d %s", status, answer)
	}
	for _, m := range []*member{a, b} {
		if got := m.expect(t, "from a job", "server-2"); got.FromSocketID != "HTTP" {
			t.Errorf("%+v", got)
		}
	}
	for _, want := range []string{
		`\[server-1\] connected: A \(.{20}\)\n`, `\[server-1\] A joined "room1"\n`,
		`\[server-1\] broadcast to "room1" from A: "hi\\x1b\[2J"\n`,
	} {
		if !regexp.MustCompile(want).MatchString(log.String()) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
	if !regexp.MustCompile(`(?s)^\[A\] connected to http://localhost:\d+ as A\n` +
		`\[A\] joined room=room1 \(handled by server-1\)\n` +
		`\[A\] got message: hi`).MatchString(a.out.String()) {
		t.Errorf("the client printed\n%s", a.out)
	}
}

func post(t *testing.T, url, body, origin string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	resp, err := httpClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestEmitOverHTTP(t *testing.T) {
	s, _ := startServer(t, "server-1", "")
	a := startClient(t, "A", s.URL())
	wait(t, a.joined, "joined")
	long := strings.Repeat("r", 256)
	for _, tt := range []struct {
		room, body, origin string
		status             int
		text               string
	}{
		{"room1", "", "", 200, "hello from HTTP"},
		{"room1", "{}", "", 200, "hello from HTTP"},
		{"room1", `{"text":"x"}`, s.URL(), 200, "x"},
		{"room1", `{"text":`, "", 400, ""},
		{"room1", `{"text":1}`, "", 400, ""},
		{"room1", `"x"`, "", 400, ""},
		{long, `{}`, "", 400, ""},
		{"room1", `{"text":"` + strings.Repeat("x", 2<<20) + `"}`, "", 413, ""},
		{"room1", `{"text":"` + strings.Repeat("<", 1<<19) + `"}`, "", 413, ""}, // grows when marshalled
		{"room1", `{}`, "https://example.com", 403, ""},
		{"", `{}`, "", 404, ""},
	} {
		status, answer := post(t, s.URL()+"/emit/"+tt.room, tt.body, tt.origin)
		if status != tt.status {
			t.Errorf("%.40s %.40s: %d %s, want %d", tt.room, tt.body, status, answer, tt.status)
		}
		if tt.status == 200 {
			a.expect(t, tt.text, "server-1")
		} else if tt.status != 403 && tt.status != 404 && !strings.HasPrefix(answer, `{"error":"`) {
			t.Errorf("answer %s", answer)
		}
	}
	// A room ID may have any characters.
	status, answer := post(t, s.URL()+"/emit/a%2Fb%20c", "", "")
	if status != 200 || !strings.Contains(answer, `"roomId":"a/b c"`) {
		t.Errorf("%d %s", status, answer)
	}
}

func TestPageAndStats(t *testing.T) {
	s, _ := startServer(t, "server-1", "")
	a := startClient(t, "A", s.URL())
	wait(t, a.joined, "joined")
	for path, want := range map[string]string{"/": "<title>crosscast chat</title>", "/stats": `"node":"server-1"`} {
		resp, err := httpClient.Get(s.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), want) {
			t.Errorf("GET %s: %d, %v, %.200s", path, resp.StatusCode, err, b)
		}
		if path != "/stats" {
			continue
		}
		var v struct {
			Stats struct{ Sockets, Rooms, Memberships int }
		}
		err = json.Unmarshal(b, &v)
		if err != nil || v.Stats.Sockets != 1 || v.Stats.Rooms != 1 || v.Stats.Memberships != 1 {
			t.Errorf("stats: %v, %s", err, b)
		}
	}
}

// TestReconnect: a client whose server comes back, on the same port, is in its room again.
func TestReconnect(t *testing.T) {
	out := &programtest.Output{}
	start := func(address string) *chat.Server {
		s, err := chat.StartServer(t.Context(), chat.ServerOptions{
			Name: "server-1", Address: address, Protocol: &wschat.Protocol, Printer: chat.NewPrinter(out),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start("localhost:0")
	url := s.URL()
	a := startClient(t, "A", url)
	wait(t, a.joined, "joined")
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s = start(strings.TrimPrefix(url, "http://"))
		wait(t, a.joined, "joined again")
		a.say(t, "back")
		a.expect(t, "back", "server-1")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(a.out.String(), "[A] disconnected\n"); n < 2 {
		t.Errorf("%d disconnects printed:\n%s", n, a.out)
	}
}

// TestBadEvents: what a client may send wrongly is answered, with the reason.
func TestBadEvents(t *testing.T) {
	s, _ := startServer(t, "server-1", "")
	a := startClient(t, "A", s.URL())
	wait(t, a.joined, "joined")
	if err := a.Join(t.Context(), strings.Repeat("r", 256)); err != nil {
		t.Fatal(err)
	}
	a.say(t, "still here")
	a.expect(t, "still here", "server-1")
	const want = `[A] error: {"message":"joinRoom: crosscast: room name of 256 bytes (at most 255)"}`
	if !strings.Contains(a.out.String(), want) {
		t.Errorf("no %s in\n%s", want, a.out)
	}
}

// TestStartErrors: a server that cannot start says why.
func TestStartErrors(t *testing.T) {
	m := miniredis.RunT(t)
	addr := m.Addr()
	m.Close()
	_, err := chat.StartServer(t.Context(), chat.ServerOptions{
		Name: "server-1", Address: "localhost:0", Protocol: &wschat.Protocol, RedisURL: "redis://" + addr,
		Printer: chat.NewPrinter(io.Discard),
	})
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("without Redis: %v", err)
	}
}

package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/examples/internal/chat"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client speaks Socket.IO as text.
type client struct {
	t    *testing.T
	ctx  context.Context
	conn *websocket.Conn
	id   string
}

// connectTo connects a client, which is greeted by node.
func connectTo(t *testing.T, url, node string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), programtest.Patience)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, url+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	c := &client{t: t, ctx: ctx, conn: conn}
	c.expect(`^0\{`)
	c.send(`40`)
	c.id = c.expect(`^40\{"sid":"(\S{20})"\}$`)
	c.expect(`^42\["connected",\{"id":"` + c.id + `","name":"somebody","node":"` + node + `"\}\]$`)
	return c
}

func (c *client) send(packet string) {
	c.t.Helper()
	if err := c.conn.Write(c.ctx, websocket.MessageText, []byte(packet)); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads the next packet, which must match pattern, and returns the last group.
func (c *client) expect(pattern string) string {
	c.t.Helper()
	_, packet, err := c.conn.Read(c.ctx)
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", pattern, err)
	}
	m := regexp.MustCompile(pattern).FindSubmatch(packet)
	if m == nil {
		c.t.Fatalf("got %q, want %s", packet, pattern)
	}
	return string(m[len(m)-1])
}

// join joins room1, without asking for an acknowledgement.
func (c *client) join(node string) {
	c.t.Helper()
	c.send(`42["joinRoom","room1"]`)
	c.expect(`^42\["joined",\{"roomId":"room1","node":"` + node + `"\}\]$`)
}

// hears expects a message to room1.
func (c *client) hears(text, from, node string) {
	c.t.Helper()
	c.expect(`^42\["roomMessage",\{"from":"[^"]+","fromNode":"` + node + `","fromSocketId":"` + from + `","roomId":"room1",` +
		`"text":"` + text + `","at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}\]$`)
}

func start(t *testing.T, path, name, redis string) (p *programtest.Program, url string) {
	t.Helper()
	p = programtest.Start(t, exec.Command(path), "PORT=0", "NODE_ID="+name, "REDIS_URL=redis://"+redis)
	return p, p.Printed(`(?m)^\[` + name + `\] listening on (http://localhost:\d+)$`)
}

// TestTwoServers: what is said on one server is heard on the other, by clients and over HTTP.
func TestTwoServers(t *testing.T) {
	path := programtest.Build(t, ".")
	for name, addr := range map[string]string{
		"miniredis": miniredis.RunT(t).Addr(),
		"redis":     redistest.Start(t, redistest.Config{}).Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			s1, url1 := start(t, path, "server-1", addr)
			s2, url2 := start(t, path, "server-2", addr)
			a, b := connectTo(t, url1, "server-1"), connectTo(t, url2, "server-2")
			a.join("server-1")
			b.join("server-2")
			a.send(`420["sendToRoom",{"roomId":"room1","text":"hi"}]`)
			a.hears("hi", a.id, "server-1")
			b.hears("hi", a.id, "server-1")
			a.expect(`^430\[\]$`)
			if answer := do(t, http.MethodPost, url2+"/emit/room1", `{"text":"from a job"}`); answer !=
				`{"ok":true,"node":"server-2","roomId":"room1","text":"from a job"}` {
				t.Error(answer)
			}
			a.hears("from a job", "HTTP", "server-2")
			b.hears("from a job", "HTTP", "server-2")
			// What cannot be done is acknowledged, to a client that asks, and printed.
			b.send(`427["joinRoom",""]`)
			b.expect(`^437\[\{"error":"crosscast: empty room name"\}\]$`)
			b.send(`42["sendToRoom",7]`)
			s2.Printed(`(?m)^\[server-2\] sendToRoom of somebody: argument: json: `)

			// The servers end cleanly, and clients are told.
			ended := make(chan error, 1)
			go func() {
				_, _, err := a.conn.Read(a.ctx)
				ended <- err
			}()
			s1.Stop(os.Interrupt)
			if err := <-ended; websocket.CloseStatus(err) != websocket.StatusServiceRestart {
				t.Errorf("a client of a server that ends: %v", err)
			}
			if err := b.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
			s2.Printed(`(?m)^\[server-2\] disconnected: somebody \(.*\)$`)
			s2.Stop(syscall.SIGTERM)
		})
	}
}

func do(t *testing.T, method, url, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: programtest.Patience}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v", method, url, resp.Status, err)
	}
	return strings.TrimSpace(string(b))
}

// TestPageAndStats: the page has its scripts, and the client among them is the real one.
func TestPageAndStats(t *testing.T) {
	m := miniredis.RunT(t)
	s, err := chat.StartServer(t.Context(), chat.ServerOptions{
		Name: "server-1", Address: "localhost:0", Protocol: &protocol, RedisURL: "redis://" + m.Addr(),
		Printer: chat.NewPrinter(io.Discard),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	page := do(t, http.MethodGet, s.URL()+"/", "")
	for script, want := range map[string]string{"client.js": "/*!\n * Socket.IO v4.", "connect.js": "function connect("} {
		if !strings.Contains(page, `<script src="`+script+`"></script>`) {
			t.Errorf("the page has no %s", script)
		}
		if source := do(t, http.MethodGet, s.URL()+"/"+script, ""); !strings.Contains(source, want) {
			t.Errorf("%s is %.100s", script, source)
		}
	}
	c := connectTo(t, s.URL(), "server-1")
	defer c.conn.CloseNow()
	c.join("server-1")
	var answer struct {
		Node  string
		Stats struct {
			Sockets, Rooms int
			Connected      bool
		}
	}
	stats := do(t, http.MethodGet, s.URL()+"/stats", "")
	if err := json.Unmarshal([]byte(stats), &answer); err != nil || answer.Node != "server-1" ||
		answer.Stats.Sockets != 1 || answer.Stats.Rooms != 1 || !answer.Stats.Connected {
		t.Errorf("stats: %v, %s", err, stats)
	}
}

// TestEnvironmentErrors: a server that cannot start says why.
func TestEnvironmentErrors(t *testing.T) {
	path := programtest.Build(t, ".")
	closed := redistest.ClosedPort()
	taken := miniredis.RunT(t)
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{[]string{"PORT=0", "REDIS_URL=redis://:secret@" + closed}, `^server: crosscast: start: .*` + closed + `.* refused`},
		{[]string{"PORT=0", "REDIS_URL=http://localhost"}, `^server: .*the Redis URL`},
		{[]string{"PORT=" + taken.Port(), "REDIS_URL=redis://" + taken.Addr()}, `^server: listen .* in use`},
		{[]string{"PORT=many", "REDIS_URL=redis://" + taken.Addr()}, `^server: listen `},
	} {
		p := programtest.Start(t, exec.Command(path), tt.env...)
		err := p.Wait()
		if err == nil || !regexp.MustCompile(tt.want).MatchString(p.Out.String()) || strings.Contains(p.Out.String(), "secret") {
			t.Errorf("%s: %v, printed %q, want %s", tt.env, err, p.Out, tt.want)
		}
	}
}

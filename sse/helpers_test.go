package sse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(serverOf); addr != "" {
		runServer(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

func newServer(t testing.TB, n *crosscast.Node, o ws.Options, so sse.Options) *sse.Server {
	t.Helper()
	chat, err := ws.New(n.Namespace, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sse.New(n, chat, so)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// users serves s with an authentication: the header X-User.
func users(s *sse.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = s.Accept(w, r, ws.Client{User: r.Header.Get("X-User"), Rooms: r.URL.Query()["room"]})
	})
}

// serve runs s until the end of the test. Its streams are cut then.
func serve(t testing.TB, s *sse.Server) string {
	t.Helper()
	web := httptest.NewServer(users(s))
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	return web.URL
}

// An event is one of a stream. Of a comment it has only that.
type event struct{ name, id, data, retry, comment string }

type client struct {
	t     testing.TB
	url   string
	user  string
	body  io.ReadCloser
	lines *bufio.Reader
	token string
	limit int // that it was told
}

// transport is that of requests.
var transport = http.DefaultTransport

// request makes a request with pairs of header fields.
func request(t testing.TB, method, url, body string, header ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// open opens a stream, and reads its first event.
func open(t testing.TB, url, user string, header ...string) *client {
	t.Helper()
	resp := request(t, "GET", url, "", append(header, "X-User", user)...)
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, b)
	}
	c := &client{t: t, url: url, user: user, body: resp.Body, lines: bufio.NewReader(resp.Body)}
	hello := c.next()
	var data struct {
		Token string
		Limit int
	}
	if err := json.Unmarshal([]byte(hello.data), &data); err != nil || hello.name != "hello" || hello.id == "" || data.Limit == 0 {
		t.Fatalf("the first event is %+v (%v)", hello, err)
	}
	c.token, c.limit = data.Token, data.Limit
	return c
}

// read returns the next event, or the comment.
func (c *client) read() (e event, err error) {
	timer := time.AfterFunc(wstest.Patience, func() { _ = c.body.Close() })
	defer timer.Stop()
	for data := false; ; {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && e != (event{}):
			return e, nil
		case line == "":
		case name == "":
			e.comment = "comment" + value
		case name == "event":
			e.name = value
		case name == "id":
			e.id = value
		case name == "retry":
			e.retry = value
		case name == "data":
			if data {
				e.data += "\n"
			}
			data, e.data = true, e.data+value
		}
	}
}

// next is read without comments.
func (c *client) next() event {
	c.t.Helper()
	for {
		e, err := c.read()
		if err != nil {
			c.t.Fatalf("the stream has ended: %v", err)
		}
		if e.comment == "" {
			return e
		}
	}
}

func (c *client) expect(messages ...string) {
	c.t.Helper()
	for _, want := range messages {
		if e := c.next(); e.data != want || e.name != "" {
			c.t.Fatalf("got %.200s of %s, want %.200s", e.data, e.name, want)
		}
	}
}

// expectClose reads up to the end, and returns the messages before it.
func (c *client) expectClose(data string) (before []string) {
	c.t.Helper()
	for {
		e := c.next()
		if e.name == "" {
			before = append(before, e.data)
			continue
		}
		if e.name != "close" || e.data != data || e.retry == "" {
			c.t.Fatalf("the end is %+v, want %s", e, data)
		}
		if e, err := c.read(); err != io.EOF {
			c.t.Fatalf("behind the end: %+v %v", e, err)
		}
		return before
	}
}

// post sends messages, and returns the status.
func (c *client) post(messages ...string) int {
	c.t.Helper()
	return c.postTo(c.url, c.token, c.user, strings.Join(messages, "\n"))
}

func (c *client) postTo(url, token, user, body string) int {
	c.t.Helper()
	resp := request(c.t, "POST", url, body, "Crosscast-Stream", token, "X-User", user)
	b, _ := io.ReadAll(resp.Body)
	if secret := c.token[strings.LastIndex(c.token, ".")+1:]; strings.Contains(string(b), secret) {
		c.t.Errorf("the answer has the secret: %s", b)
	}
	return resp.StatusCode
}

func (c *client) send(messages ...string) {
	c.t.Helper()
	if status := c.post(messages...); status != http.StatusNoContent {
		c.t.Fatalf("a POST: status %d", status)
	}
}

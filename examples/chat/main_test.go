package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnce(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"-once"}, []string{
			`(?m)^\[A\] joined room=room1 \(handled by server-1\)$`,
			`(?m)^\[B\] joined room=room1 \(handled by server-2\)$`,
			`(?m)^\[B\] got message: hi from A \(from A on server-1\)$`, `(?m)^\[A\] got message: hi from B `,
			`(?m)^\[adapter\] server-1 .* server-2, which delivered it to 1 of its clients$`,
			`answer: \{"ok":true,"node":"server-2","roomId":"room1","text":"hello from HTTP"\}`,
			`every message reached both`,
		}},
		{[]string{"-no-adapter", "-once"}, []string{`B got nothing from A`}},
	} {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := run(ctx, tt.args, &out); err != nil {
			t.Errorf("%v: %v\n%s", tt.args, err, &out)
		}
		for _, want := range tt.want {
			if !regexp.MustCompile(want).Match(out.Bytes()) {
				t.Errorf("%v: no %s in\n%s", tt.args, want, &out)
			}
		}
		if tt.args[0] == "-no-adapter" && strings.Contains(out.String(), "[B] got message: hi from A") {
			t.Errorf("%v: B got a message from A\n%s", tt.args, &out)
		}
	}
}

// TestServesUntilInterrupted: without -once the program serves until its context ends, which is no error.
func TestServesUntilInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out := &watched{want: "Ctrl-C ends", seen: interrupt}
	if err := run(ctx, nil, out); err != nil {
		t.Errorf("%v\n%s", err, &out.b)
	}
}

// watched calls seen when want was written.
type watched struct {
	mu   sync.Mutex
	b    bytes.Buffer
	want string
	seen func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(p), w.want) {
		w.seen()
	}
	return w.b.Write(p)
}

func TestBadFlag(t *testing.T) {
	flag.CommandLine.SetOutput(io.Discard)
	if err := run(t.Context(), []string{"-twice"}, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
		t.Errorf("err = %v", err)
	}
}

// TestInterruptedEarly: the flow fails, and says what did not arrive.
func TestInterruptedEarly(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out := &watched{want: "[server-2] listening", seen: interrupt}
	if err := run(ctx, []string{"-once"}, out); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

// TestStage: the buttons of the page stop and start the servers and Redis; other pages cannot press them.
func TestStage(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	serves := make(chan struct{})
	out := &watched{want: "Ctrl-C ends", seen: sync.OnceFunc(func() { close(serves) })}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, nil, out) }()
	select {
	case <-serves:
	case err := <-ended:
		t.Fatal(err)
	}
	out.mu.Lock()
	url := regexp.MustCompile(`open (http://localhost:\d+):`).FindStringSubmatch(out.b.String())[1]
	out.mu.Unlock()
	post := func(path, origin string) (int, string) {
		r, err := http.NewRequest(http.MethodPost, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	if status, _ := post("/server/1", "https://evil.example"); status != http.StatusForbidden {
		t.Errorf("another page has got status %d", status)
	}
	for _, step := range []struct{ path, servers, redis string }{
		{"/server/1", `[true,false]`, `true`}, {"/redis", `[true,false]`, `false`},
		{"/redis", `[true,false]`, `true`}, {"/server/1", `[true,true]`, `true`},
	} {
		status, body := post(step.path, url)
		if status != http.StatusOK || !strings.Contains(body, `"servers":`+step.servers) ||
			!strings.Contains(body, `"redis":`+step.redis) {
			t.Errorf("%s: status %d, %s", step.path, status, body)
		}
	}
	if status, _ := post("/server/2", url); status != http.StatusNotFound {
		t.Errorf("a third server: status %d", status)
	}
	_, body := post("/server/1", url) // stop it; the other one must be back at Redis before it ends
	first := regexp.MustCompile(`"urls":\["([^"]+)"`).FindStringSubmatch(body)[1]
	for connected := false; !connected; time.Sleep(10 * time.Millisecond) { // poll
		response, err := http.Get(first + "/stats")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		connected = err == nil && bytes.Contains(text, []byte(`"Connected":true`))
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
	}
	http.DefaultClient.CloseIdleConnections()
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

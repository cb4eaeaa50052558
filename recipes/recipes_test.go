// Package recipes_test runs what the configurations in this directory promise, with the program of examples/production:
//
//	go test ./recipes                     # 100 clients
//	go test ./recipes -clients 1000 -v    # prints the times
package recipes_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws/client"
)

var clientCount = flag.Int("clients", 100, "how many clients stay connected")

// A recipe is one proxy with its configuration.
type recipe struct {
	program string
	file    string
	edits   []string // old and new, after those that all have in common; %s is the address of the proxy
	command func(dir, file string) *exec.Cmd
	reload  func(t *testing.T, p *programtest.Program, dir, file string)
	holds   bool // clients and streams stay connected over a reload
}

func recipes() []recipe {
	return []recipe{
		{
			program: "nginx", file: "nginx.conf", holds: true,
			edits: []string{
				"listen 80 ", "listen %s ", "proxy_read_timeout 90s", "proxy_read_timeout 5s",
				"worker_rlimit_nofile 262144;", "", "worker_connections 131072", "worker_connections 8192",
				"worker_shutdown_timeout 1h", "worker_shutdown_timeout 1m",
			},
			command: func(dir, file string) *exec.Cmd {
				return exec.Command("nginx", "-p", dir, "-c", file, "-e", "stderr",
					"-g", "daemon off; pid "+filepath.Join(dir, "pid")+";")
			},
			reload: reloadBySignal(syscall.SIGHUP),
		},
		{
			program: "haproxy", file: "haproxy.cfg", holds: true,
			edits: []string{
				"bind :80 ", "bind %s ", "timeout tunnel 90s", "timeout tunnel 5s", "maxconn 100000", "maxconn 8192",
				"hard-stop-after 1h", "hard-stop-after 1m", "timeout client 30s", "timeout client 5s", "timeout server 30s", "timeout server 5s",
			},
			command: func(_, file string) *exec.Cmd { return exec.Command("haproxy", "-W", "-db", "-f", file) },
			reload:  reloadBySignal(syscall.SIGUSR2),
		},
		{
			// Debian's version, 2.6, knows no stream_close_delay.
			program: "caddy", file: "Caddyfile",
			edits: []string{":80 {", "http://%s {", "grace_period 10s", "grace_period 10s\n\tadmin unix//DIR/admin"},
			command: func(dir, file string) *exec.Cmd {
				cmd := exec.Command("caddy", "run", "--adapter", "caddyfile", "--config", file)
				cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
				return cmd
			},
			reload: func(t *testing.T, _ *programtest.Program, dir, file string) {
				cmd := exec.Command("caddy", "reload", "--force", "--adapter", "caddyfile", "--config", file)
				cmd.Env = append(os.Environ(), "HOME="+dir)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", cmd, err, out)
				}
			},
		},
	}
}

// reloadBySignal returns once the proxy has a new worker process.
func reloadBySignal(sig syscall.Signal) func(*testing.T, *programtest.Program, string, string) {
	return func(t *testing.T, p *programtest.Program, _, _ string) {
		before := children(t, p.Pid())
		if err := syscall.Kill(p.Pid(), sig); err != nil {
			t.Fatal(err)
		}
		until(t, "a new worker", func() bool {
			return slices.ContainsFunc(children(t, p.Pid()), func(pid string) bool { return !slices.Contains(before, pid) })
		})
	}
}

func children(t *testing.T, pid int) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// TestRecipes: behind each proxy clients stay connected while they are idle for longer than its time-out, and while it
// reloads its configuration. So does a stream of events, which hears what they hear. When a server is ended the clients move
// to the other one, and at no time a new client sees an error.
func TestRecipes(t *testing.T) {
	server := programtest.Build(t, "../examples/production")
	for _, r := range recipes() {
		t.Run(r.program, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(r.program); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			r.try(t, server)
		})
	}
}

func (r *recipe) try(t *testing.T, server string) {
	ctx := redistest.Within(t, 2*time.Minute)
	url := "redis://" + redistest.Start(t, redistest.Config{}).Addr()
	servers, addresses := [2]*programtest.Program{}, [2]string{}
	for i := range servers {
		servers[i] = programtest.Start(t, exec.Command(server, "-redis", url,
			"-address", "127.0.0.1:0", "-ping", "500ms", "-notice", "3s", "-window", "2s"))
		addresses[i] = servers[i].Printed(`"address":"([^"]+)"`)
	}
	address, dir := redistest.ClosedPort(), t.TempDir()
	file := r.write(t, dir, address, addresses)
	proxy := programtest.Start(t, r.command(dir, file))
	defer func() { // by SIGTERM, because the workers of a process that is killed go on
		_ = syscall.Kill(proxy.Pid(), syscall.SIGTERM)
		_ = proxy.Wait()
	}()
	until(t, "the proxy to serve", func() bool {
		response, err := http.Get("http://" + address + "/ready")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})

	g := connect(ctx, t, address)
	closeStream := g.openStream(ctx, t)
	g.everyoneHears(ctx, t, "all are connected")
	time.Sleep(6 * time.Second) // lasts: longer than the proxy's time-out
	g.everyoneHears(ctx, t, "all have been idle")
	if ends := g.lost(); len(ends) > 0 {
		t.Errorf("%d connections ended while they were idle: %v", len(ends), ends)
	}

	if !r.holds {
		closeStream()
	}
	r.reload(t, proxy, dir, file)
	g.newcomer(ctx, t)
	g.everyoneHears(ctx, t, "the proxy has reloaded")
	closeStream()
	if ends := g.lost(); r.holds && len(ends) > 0 {
		t.Errorf("%d connections ended with the reload: %v", len(ends), ends)
	}

	began, ended := time.Now(), make(chan struct{})
	go func() {
		defer close(ended)
		servers[0].Stop(syscall.SIGTERM)
	}()
	newcomers := 0
	for over := false; !over; newcomers++ {
		g.newcomer(ctx, t)
		select {
		case <-ended:
			over = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	drained := time.Since(began)
	g.everyoneHears(ctx, t, "one server has ended")
	t.Logf("%d clients; drained in %v, with %d new clients meanwhile; %d connections ended in all",
		len(g.clients), drained.Round(time.Millisecond), newcomers, len(g.lost()))
	g.close(ctx, t)
	servers[1].Stop(syscall.SIGTERM)
}

// write writes the configuration with this test's addresses and shorter times.
func (r *recipe) write(t *testing.T, dir, address string, servers [2]string) string {
	t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	edits := append([]string{"10.0.0.11:8080", servers[0], "10.0.0.12:8080", servers[1]}, r.edits...)
	for pair := range slices.Chunk(edits, 2) {
		if n := bytes.Count(text, []byte(pair[0])); n != 1 {
			t.Fatalf("%s has %q %d times", r.file, pair[0], n)
		}
		replacement := strings.NewReplacer("%s", address, "DIR", dir).Replace(pair[1])
		text = bytes.Replace(text, []byte(pair[0]), []byte(replacement), 1)
	}
	path := filepath.Join(dir, r.file)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A group is the clients that stay.
type group struct {
	url, origin string
	clients     []*client.Client
	streams     int
	mu          sync.Mutex     // guards what follows
	ends        []error        // of connections
	heard       map[string]int // by text
}

func connect(ctx context.Context, t *testing.T, address string) *group {
	t.Helper()
	g := &group{url: "ws://" + address + "/ws", origin: "http://" + address, heard: make(map[string]int)}
	g.clients = make([]*client.Client, *clientCount)
	var all sync.WaitGroup
	for i := range g.clients {
		all.Go(func() {
			c, err := client.Dial(ctx, g.url, client.Options{
				Header:       http.Header{"Origin": {g.origin}},
				Events:       client.Events{"said": client.Typed(g.hear)},
				OnDisconnect: func(_ *client.Client, err error) { g.end(err) },
			})
			if err == nil {
				err = c.Join(ctx, "lobby")
			}
			if err != nil {
				t.Error(err)
			}
			g.clients[i] = c
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return g
}

func (g *group) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ends = append(g.ends, err)
}

// lost is why connections have ended.
func (g *group) lost() []error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.ends)
}

func (g *group) hear(_ context.Context, _ *client.Client, text string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard[text]++
	return nil
}

// everyoneHears returns when a message of one client has reached all of them. A client that is on its way to another
// server misses it, so it is said again until one of them reaches all.
func (g *group) everyoneHears(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	n := 0
	until(t, "everyone to hear: "+text, func() bool {
		n++
		this := fmt.Sprintf("%s (%d)", text, n)
		if err := g.clients[0].Emit(ctx, "say", this); err != nil {
			return false
		}
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { // poll
			g.mu.Lock()
			heard := g.heard[this]
			g.mu.Unlock()
			if heard == len(g.clients)+g.streams {
				return true
			}
		}
		return false
	})
}

// openStream connects a client by a stream of events. It joins the lobby by a POST, which any server may get. The stream
// must last until it is closed.
func (g *group) openStream(ctx context.Context, t *testing.T) (closeStream func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	request := func(method, body, token string) *http.Response {
		r, err := http.NewRequestWithContext(ctx, method, "http"+strings.TrimPrefix(g.url, "ws"), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", g.origin)
		r.Header.Set("Crosscast-Stream", token)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	response := request(http.MethodGet, "", "")
	lines := bufio.NewScanner(response.Body)
	next := func() (m struct{ Token, Event, Data string }, ok bool) {
		for lines.Scan() {
			if data, is := strings.CutPrefix(lines.Text(), "data: "); is && json.Unmarshal([]byte(data), &m) == nil {
				return m, true
			}
		}
		return m, false
	}
	hello, _ := next()
	joined := request(http.MethodPost, `{"join":"lobby"}`, hello.Token)
	_ = joined.Body.Close()
	if hello.Token == "" || joined.StatusCode != http.StatusNoContent {
		t.Fatalf("a stream: %s, and its POST: %s", response.Status, joined.Status)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for m, ok := next(); ok; m, ok = next() {
			_ = g.hear(ctx, nil, m.Data)
		}
		if ctx.Err() == nil {
			t.Errorf("the stream has ended: %v", lines.Err())
		}
	}()
	g.streams++
	closeStream = sync.OnceFunc(func() {
		cancel()
		<-ended
		_ = response.Body.Close()
		g.streams--
	})
	t.Cleanup(closeStream)
	return closeStream
}

// newcomer connects one more client for a moment. Its first attempt must succeed.
func (g *group) newcomer(ctx context.Context, t *testing.T) {
	t.Helper()
	c, err := client.Dial(ctx, g.url, client.Options{
		Header:  http.Header{"Origin": {g.origin}},
		OnRetry: func(_ *client.Client, err error, _ time.Duration) { t.Errorf("a new client was refused: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(ctx); err != nil {
		t.Error(err)
	}
}

func (g *group) close(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, c := range g.clients {
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestGracePeriods: whatever ends the servers waits longer than they take.
func TestGracePeriods(t *testing.T) {
	const takes = 5 + 20 + 10 // seconds: the defaults of Notice and Window, and what examples/production adds
	for file, pattern := range map[string]string{
		"kubernetes.yaml": `terminationGracePeriodSeconds: (\d+)`,
		"chat.service":    `TimeoutStopSec=(\d+)`,
		"compose.yaml":    `stop_grace_period: (\d+)s`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(text)
		if m == nil {
			t.Errorf("%s has no %s", file, pattern)
			continue
		}
		if seconds, err := strconv.Atoi(string(m[1])); err != nil || seconds <= takes {
			t.Errorf("%s waits for %s s, and the server takes up to %d s", file, m[1], takes)
		}
	}
}

// TestRedisSettings: a Redis with the settings of redis.conf starts, has them, and serves a cluster.
func TestRedisSettings(t *testing.T) {
	path, err := filepath.Abs("redis.conf")
	if err != nil {
		t.Fatal(err)
	}
	rdb := redistest.Start(t, redistest.Config{Args: []string{"--include", path}}).Client()
	ctx := redistest.Within(t, time.Minute)
	for name, want := range map[string]string{
		"client-output-buffer-limit": "pubsub 268435456 67108864 60", "proto-max-bulk-len": "4194304", "timeout": "0",
	} {
		got, err := rdb.ConfigGet(ctx, name).Result()
		if err != nil || !strings.HasSuffix(got[name], want) {
			t.Errorf("%s is %q (%v), not %q", name, got[name], err, want)
		}
	}
	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: redisadapter.New(rdb, redisadapter.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Close(ctx); err != nil {
		t.Error(err)
	}
}

// until waits for a state.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for begin := time.Now(); !reached(); time.Sleep(10 * time.Millisecond) { // poll
		if time.Since(begin) > programtest.Patience {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

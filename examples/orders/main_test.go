package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/internal/redistest"
)

// asProgram makes the test binary behave as the program, so that a test can run it in processes of its own.
const asProgram = "ORDERS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	published = "[ORDER] Published order.created -> delivered to "
	gone      = "[ORDER] Nobody was listening, so the message is gone: " +
		"publish and subscribe has no ack, retry or storage"
)

// acts is what each role prints.
var acts = map[string]string{
	"email":     "[EMAIL] Sending confirmation for order o101 to user u9",
	"inventory": "[INVENTORY] Reducing stock for order o101 (amount=499)",
	"analytics": "[ANALYTICS] Logging metric: order_created orderId=o101 amount=499",
}

func TestAlone(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), nil, "", &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	start := []string{
		published + "0 subscriber(s)", gone,
		"[EMAIL] Subscribed to order.created",
		"[INVENTORY] Subscribed to order.created",
		"[ANALYTICS] Subscribed to order.created",
	}
	rest := []string{published + "3 subscriber(s)", acts["email"], acts["inventory"], acts["analytics"]}
	if len(lines) != len(start)+len(rest) || !slices.Equal(lines[:len(start)], start) {
		t.Fatalf("printed:\n%s", out.String())
	}
	got := lines[len(start):] // the subscribers act at once, in no order
	slices.Sort(got)
	slices.Sort(rest)
	if !slices.Equal(got, rest) {
		t.Fatalf("printed:\n%s", out.String())
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"bogus"}, {"email", "publish"}} {
		if err := run(t.Context(), args, "redis://127.0.0.1:1", io.Discard); err != errUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestNoRedis(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := run(ctx, []string{"publish"}, "redis://127.0.0.1:1", io.Discard)
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Fatalf("error %v does not name the address", err)
	}
}

// TestProcesses runs each service in a process of its own on a real Redis.
func TestProcesses(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	expect := func(n int, lines ...string) {
		t.Helper()
		awaitSubscribers(t, server, n)
		p := startProgram(t, server, "publish")
		for _, want := range lines {
			p.expect(want)
		}
		p.end()
	}

	expect(0, published+"0 subscriber(s)", gone)
	email, inventory, analytics := startProgram(t, server, "email"), startProgram(t, server, "inventory"),
		startProgram(t, server, "analytics")
	email.expect("[EMAIL] Subscribed to order.created")
	inventory.expect("[INVENTORY] Subscribed to order.created")
	analytics.expect("[ANALYTICS] Subscribed to order.created")

	expect(3, published+"3 subscriber(s)")
	email.expect(acts["email"])
	inventory.expect(acts["inventory"])
	analytics.expect(acts["analytics"])

	email.signal(syscall.SIGTERM)
	email.end()
	expect(2, published+"2 subscriber(s)")
	inventory.expect(acts["inventory"])
	analytics.expect(acts["analytics"])

	inventory.signal(os.Interrupt)
	inventory.end()
	analytics.signal(syscall.SIGKILL)
	if err := analytics.cmd.Wait(); err == nil {
		t.Error("analytics survived SIGKILL")
	}
	expect(0, published+"0 subscriber(s)", gone)
}

// awaitSubscribers returns when n processes are subscribed to the orders: the server notices a moment later that a
// process has ended.
func awaitSubscribers(t *testing.T, server *redistest.Server, n int) {
	t.Helper()
	rdb := server.Client()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		channels, err := rdb.PubSubChannels(t.Context(), "*"+strings.ReplaceAll(orderCreated, ".", "%2E")).Result()
		if err != nil {
			t.Fatal(err)
		}
		counts, err := rdb.PubSubNumSub(t.Context(), channels...).Result()
		if err != nil {
			t.Fatal(err)
		}
		got := int64(0)
		for _, c := range counts {
			got += c
		}
		if got == int64(n) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d subscribers, not %d: %v", got, n, counts)
		}
	}
}

// program is one process.
type program struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startProgram(t *testing.T, server *redistest.Server, arg string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, os.Args[0], arg)
	cmd.Env = append(os.Environ(), asProgram+"=1", "REDIS_URL=redis://"+server.Addr(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // again, when the test has waited for it
	})
	return &program{t, arg, cmd, bufio.NewScanner(out)}
}

// expect reads the next line.
func (p *program) expect(want string) {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatalf("%s ended instead of printing %q", p.name, want)
	}
	if got := p.lines.Text(); got != want {
		p.t.Fatalf("%s printed %q, want %q", p.name, got, want)
	}
}

// end waits until the process has ended, without another line and without an error.
func (p *program) end() {
	p.t.Helper()
	for p.lines.Scan() {
		p.t.Errorf("%s printed %q at its end", p.name, p.lines.Text())
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

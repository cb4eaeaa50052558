// Package browsertest drives the pages of the chat servers in headless Chromium. It is a module of its own because of the
// browser driver.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast/internal/programtest"
)

const patience = programtest.Patience

// findBrowser skips the test when there is no Chromium, loudly; where CI is set it fails, because a green run must mean
// that the test ran.
func findBrowser(t *testing.T) string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("browsertest: CI is set, and there is no Chromium on the PATH to test with")
	}
	fmt.Fprintf(os.Stderr, "\n*** browsertest: SKIPPING %s: no Chromium on the PATH ***\n", t.Name())
	t.Skip("SKIPPED: no Chromium on the PATH")
	return ""
}

// startServer runs a chat server, and returns its URL. port 0 is any that is free.
func startServer(t *testing.T, path, name, port, redis string) (*programtest.Program, string) {
	t.Helper()
	p := programtest.Start(t, exec.Command(path), "PORT="+port, "NODE_ID="+name, "REDIS_URL=redis://"+redis)
	return p, p.Printed(`listening on (http://localhost:\d+)`)
}

// page is a tab.
type page struct {
	t    *testing.T
	ctx  context.Context
	name string
}

// run runs an action in p, which must succeed.
func run[T any](p *page, what string, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, what, err)
	}
	return v
}

// sees waits until an element that selector names has a text that contains want.
func (p *page) sees(selector, want string) {
	p.t.Helper()
	has := fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.textContent.includes(%q))`, selector, want)
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) { // poll
		if run(p, "evaluating "+has, chromedp.Evaluate[bool](has)) {
			return
		}
	}
	p.t.Fatalf("%s: %s does not say %q. The page:\n%s", p.name, selector, want,
		run(p, "reading the page", chromedp.Evaluate[string](`document.body.innerText`)))
}

func (p *page) lacks(selector string) {
	p.t.Helper()
	n := run(p, "counting", chromedp.Evaluate[int](fmt.Sprintf(`document.querySelectorAll(%q).length`, selector)))
	if n > 0 {
		p.t.Errorf("%s: there are %d of %s", p.name, n, selector)
	}
}

func (p *page) click(selector string) {
	p.t.Helper()
	run(p, "clicking "+selector, chromedp.Click(selector))
}

func (p *page) say(text string) {
	p.t.Helper()
	run(p, "sending", chromedp.SendKeys("#text", text+"\r"))
}

// screenshot writes a picture of the page into the directory that SCREENSHOTS names, if it does.
func (p *page) screenshot(scheme string) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	run(p, "choosing colours", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
	png := run(p, "taking a picture", chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(p.t.Name())+"-"+p.name+"-"+scheme+".png"), png, 0o644); err != nil {
		p.t.Error(err)
	}
}

// startBrowser returns the context of a first tab. The browser starts with what is first done there.
func startBrowser(t *testing.T, browser string, more ...chromedp.ExecAllocatorOption) (context.Context, func()) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1000, 760),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	tab, closeBrowser := chromedp.NewContext(allocator)
	return tab, func() {
		closeBrowser()
		stop()
	}
}

func TestChatPage(t *testing.T) {
	browser := findBrowser(t)
	for _, program := range []string{"chat", "socketio"} {
		t.Run(program, func(t *testing.T) { testChatPage(t, browser, programtest.Build(t, "../examples/"+program+"/server")) })
	}
}

func testChatPage(t *testing.T, browser, server string) {
	redis := miniredis.RunT(t)
	addr := redis.Addr()
	_, url1 := startServer(t, server, "server-1", "0", addr)
	server2, url2 := startServer(t, server, "server-2", "0", addr)

	first, closeBrowser := startBrowser(t, browser)
	defer closeBrowser()
	open := func(ctx context.Context, name, url string) *page {
		p := &page{t, ctx, name}
		if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil { // without a time limit: it starts the browser
			t.Fatal(err)
		}
		return p
	}
	a := open(first, "A", url1)
	second, closeTab := chromedp.NewContext(first, chromedp.WithNewWindow(true))
	defer closeTab()
	b := open(second, "B", url2)

	for p, node := range map[*page]string{a: "server-1", b: "server-2"} {
		p.sees("#status.up", "connected to "+node)
		p.click("#join button")
		p.sees("#log .note", "Joined room1, handled by "+node)
		p.sees("#server", node+", link to the bus: up")
	}
	// What is said on one server is seen on the other, with its node; markup is text.
	const text = `<b id="x">hello</b> from A`
	a.say(text)
	for _, p := range []*page{a, b} {
		p.sees("#log .message", text)
		p.sees("#log .message .node", "server-1")
		p.lacks("#x")
		p.lacks("#log .gap")
	}
	a.sees("#log .mine", text)
	b.lacks("#log .mine")
	for _, p := range []*page{a, b} {
		for _, q := range []*page{a, b} { // who is online, on both servers
			p.sees("#online li", run(q, "reading the name", chromedp.Evaluate[string](`name`)))
		}
	}

	// An outage is seen in the panel, and then marked between the messages.
	redis.Close()
	b.sees("#server .bad", "link to the bus: down")
	a.say("during the outage")
	a.sees("#log .message", "during the outage")
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*page{a, b} {
		p.sees("#log .gap", "Messages may be missing here")
		p.sees("#log .gap", "the server missed something")
	}
	a.say("after the outage")
	b.sees("#log .message", "after the outage")
	b.sees("#server", "link to the bus: up")

	// Who was disconnected is in the room again, and told what may be missing.
	server2.Stop(os.Interrupt)
	b.sees("#log .note", "Disconnected")
	b.sees("#server .bad", "it does not answer")
	startServer(t, server, "server-3", url2[strings.LastIndex(url2, ":")+1:], addr)
	b.sees("#status.up", "connected to server-3")
	b.sees("#log .note", "Joined room1, handled by server-3")
	b.sees("#log .gap", "this page was disconnected")
	b.say("back")
	a.sees("#log .message", "back")
	run(b, "joining", chromedp.Evaluate[string](`request("joinRoom", ""); ""`))
	b.sees("#log .note", "Error: crosscast: empty room name")
	for _, p := range []*page{a, b} {
		p.screenshot("light")
		p.screenshot("dark")
	}
}

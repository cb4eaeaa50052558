package browsertest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	clusterpage "github.com/crosscast/crosscast/page"
)

// TestClusterPage: the page of a cluster shows its servers, rooms and users, and faults as they happen. Names that
// would be markup are text. It fits on a phone.
func TestClusterPage(t *testing.T) {
	hostile := `<img id="x" src="x" onerror="document.title='stolen'">`
	if os.Getenv("SCREENSHOTS") != "" {
		hostile = "server-1" // for the documentation
	}
	ctx := t.Context()
	p, err := clusterpage.New(clusterpage.Options{Who: func(*http.Request) string { return "olga" }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	hooks := crosscast.Options{Name: hostile, OnGap: p.OnGap, OnLoss: p.OnLoss, OnLink: p.OnLink}
	cluster := crosscasttest.NewCluster(t, 3, hooks, crosscast.Options{Name: "server-2"}, crosscast.Options{Name: "server-3"})
	rooms := [][]string{{"lobby", "orders"}, {"lobby", hostile}, {"lobby"}}
	var clients []*crosscasttest.Conn
	for i, user := range []string{"ann", "ann", hostile} {
		clients = append(clients, cluster.Connect(ctx, i, crosscast.ConnectOptions{User: user, Rooms: rooms[i]}))
	}
	cluster.Settle(ctx)
	server := httptest.NewServer(http.StripPrefix("/cluster", p.Handler(cluster.Nodes[0])))
	defer server.Close()

	first, closeBrowser := startBrowser(t, findBrowser(t))
	defer closeBrowser()
	tab := &pageTab{page{t, first, "cluster"}}
	if err := chromedp.Do(first, chromedp.Navigate(server.URL+"/cluster/")); err != nil {
		t.Fatal(err)
	}
	tab.sees("#nodes td", hostile+" (this one)")
	tab.sees("#nodes td", "server-3")
	tab.sees("#publishing", "live")
	tab.click("#count button")
	tab.sees("#rooms tr:first-child", "lobby3")
	tab.sees("#rooms td", hostile)
	tab.find(hostile)
	tab.sees("#sockets td", "lobby")
	tab.find("ann")
	tab.sees("#userNote", "2 connections")
	tab.sees("#sockets td", "server-2")

	cluster.Cut(0)
	tab.sees("#subscribing", "down")
	if err := cluster.Nodes[1].To(hostile).Emit(ctx, "missed", nil); err != nil {
		t.Error(err)
	}
	cluster.Heal(0)
	cluster.Settle(ctx)
	tab.sees("#publishing", "live")
	tab.sees("#events li", "messages of any server to anybody might be missing")
	cluster.Lose(1)
	if err := cluster.Nodes[0].To(hostile).Emit(ctx, "lost", nil); err != nil {
		t.Error(err)
	}
	cluster.Settle(ctx)
	tab.sees("#events li", "emissions to the room")

	run(&tab.page, "writing", chromedp.SendKeys("#notice [name=text]", "back at noon\r"))
	tab.sees("#done", "Done.")
	run(&tab.page, "agreeing", chromedp.Evaluate[string](`window.confirm = () => true; ""`))
	tab.click("#disconnect button")
	if reason := clients[0].WaitClosed(ctx); reason != crosscast.ReasonServer {
		t.Errorf("ann was closed: %s", reason)
	}
	clients[0].Event(ctx, "notice")

	tab.lacks("#x")
	if title := run(&tab.page, "reading the title", chromedp.Evaluate[string](`document.title`)); title != "Cluster" {
		t.Errorf("a name ran as a script: the title is %q", title)
	}
	for _, width := range []int64{380, 1000} {
		tab.resize(width, 760)
		if wide := run(&tab.page, "measuring", chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); wide > width {
			t.Errorf("the page is %d wide on a screen of %d", wide, width)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		tab.screenshot(scheme)
	}
	server.CloseClientConnections()
	server.Close()
	tab.sees("#stale", "All below is old")
}

// pageTab is the tab of the page of a cluster.
type pageTab struct{ page }

func (p *pageTab) find(user string) {
	p.t.Helper()
	run(&p.page, "clearing", chromedp.Evaluate[string](`document.querySelector("#find input").value = ""`))
	run(&p.page, "writing", chromedp.SendKeys("#find input", user+"\r"))
	p.sees("#userNote", "connections")
}

// resize gives the tab the size of another screen.
func (p *page) resize(width, height int64) {
	p.t.Helper()
	run(p, "changing the size", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetDeviceMetricsOverride,
			emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
		return err
	}))
}

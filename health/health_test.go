package health_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/health"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w
}

// want fails unless h answers with the status and the word.
func want(t *testing.T, h http.Handler, status int, word string) {
	t.Helper()
	if w := get(h); w.Code != status || w.Body.String() != word+"\n" {
		t.Errorf("%d %q, want %d %q", w.Code, w.Body, status, word)
	}
}

func start(t *testing.T, hub *membus.Hub, name string, offline bool) (*crosscast.Node, *membus.Port) {
	t.Helper()
	port := hub.Port(name)
	if offline {
		port.Down()
	}
	n, err := crosscast.Start(t.Context(), crosscast.Options{
		Name: name, Adapter: wire.New(port, wire.Options{}), StartOffline: offline,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(t.Context()) })
	return n, port
}

// TestReady: the words through the life of a node. Live stays live.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, port := start(t, membus.New(), "one", true)
		ready, tolerant := health.Ready(n, health.Options{}), health.Ready(n, health.Options{WithoutBus: true})
		both := func(status int, word string) {
			t.Helper()
			want(t, ready, status, word)
			want(t, tolerant, status, word)
			want(t, health.Live(), 200, "live")
		}
		want(t, ready, 503, "disconnected") // never connected
		want(t, tolerant, 200, "ready")

		port.Up()
		time.Sleep(10 * time.Second)
		both(200, "ready")

		port.Down() // an outage
		time.Sleep(10 * time.Second)
		want(t, ready, 503, "disconnected")
		want(t, tolerant, 200, "ready")
		port.Up()
		time.Sleep(10 * time.Second)
		both(200, "ready")

		drained := make(chan error, 1)
		go func() { drained <- n.Drain(t.Context(), crosscast.DrainOptions{}) }()
		synctest.Wait()
		both(503, "draining")
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		<-drained
		both(503, "closed")
	})
}

func TestReadyWithoutAnAdapter(t *testing.T) {
	n, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(t.Context())
	want(t, health.Ready(n, health.Options{}), 200, "ready")
}

// TestDetails: the JSON has the peers by name, the link and since when, and gaps; names are text.
func TestDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		n, port := start(t, hub, "one", false)
		start(t, hub, "<script>two", false)
		time.Sleep(5 * time.Second)
		port.Cut()
		time.Sleep(5 * time.Second)
		port.Down()
		time.Sleep(time.Minute)

		w := get(health.Details(n, nil))
		var d struct {
			Name, ID, Ready string
			Link            struct {
				Publishing, Subscribing struct {
					State, Error, Cure string
					Since              time.Time
				}
				Reconnects int
				Echo       string `json:"echoRoundTrip"`
			}
			Peers []struct{ Name, ID string }
			Gaps  map[string]int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		half := d.Link.Subscribing
		if d.Name != "one" || d.ID != string(n.ID()) || d.Ready != "disconnected" || d.Link.Reconnects != 1 ||
			half.State != "down" || half.Error == "" || half.Cure == "" || d.Link.Echo != "" || time.Since(half.Since) < 50*time.Second ||
			len(d.Peers) != 1 || d.Peers[0].Name != "<script>two" || d.Gaps["link lost"] != 1 {
			t.Errorf("%s", w.Body)
		}
		if h := w.Header(); strings.Contains(w.Body.String(), "<script>") || h.Get("Content-Type") != "application/json" ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%v %s", h, w.Body)
		}
	})
}

// TestRecent: the latest gaps and losses are in the details, no more than 50, and without names of rooms.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		n, _ := start(t, hub, "one", false)
		two, _ := start(t, hub, "two", false)
		time.Sleep(2 * time.Second)
		recent := health.NewRecent()
		details := func() (d struct {
			RecentGaps []struct {
				Gaps                       int
				Reason, Origin, OriginName string
				Since, Until               time.Time
				Names                      *int
			}
			RecentLosses []struct {
				Losses        int
				Reason, Error string
				Emissions     int
				Since, At     time.Time
				Names         *int
			}
		}, text string) {
			w := get(health.Details(n, recent))
			if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
				t.Fatal(err)
			}
			return d, w.Body.String()
		}
		if _, text := details(); strings.Contains(text, "recent") {
			t.Errorf("before there was anything: %s", text)
		}
		began := time.Now()
		recent.OnGap(n, crosscast.Gap{Reason: reasons.GapDenied, Since: began, Names: []crosscast.Address{
			{Namespace: "/", Space: crosscast.SpaceRoom, Name: "secret"}, {Namespace: "/", Space: crosscast.SpaceUser, Name: "secret"},
		}})
		for i := range 100 { // one after the other, and one much later
			since := began.Add(time.Duration(i+100*(i/99)) * time.Second)
			recent.OnGap(n, crosscast.Gap{Reason: reasons.GapLoss, Since: since, Until: since.Add(time.Second), Origin: two.ID()})
		}
		for i := range 60 {
			time.Sleep(11 * time.Second)
			recent.OnLoss(n, crosscast.Loss{Reason: reasons.LossExpired, Instructions: i, Err: crosscast.ErrRefused})
		}
		time.Sleep(time.Second)
		recent.OnLoss(n, crosscast.Loss{Reason: reasons.LossDenied, Instructions: 1, Names: []crosscast.Address{{}}})
		time.Sleep(time.Second)
		recent.OnLoss(n, crosscast.Loss{Reason: reasons.LossExpired, Instructions: 2})
		d, text := details()
		if len(d.RecentGaps) != 3 || len(d.RecentLosses) != 50 || strings.Contains(text, "secret") {
			t.Fatal(text)
		}
		if g := d.RecentGaps[0]; g.Gaps != 1 || g.Reason != "loss" || g.Since.Sub(began) != 199*time.Second {
			t.Errorf("%+v", g)
		}
		if g := d.RecentGaps[1]; g.Gaps != 99 || g.Reason != "loss" || g.Origin != string(two.ID()) || g.OriginName != "two" ||
			!g.Since.Equal(began) || g.Until.Sub(g.Since) != 99*time.Second || g.Names != nil {
			t.Errorf("%+v", g)
		}
		if g := d.RecentGaps[2]; g.Gaps != 1 || g.Reason != "denied" || !g.Until.IsZero() || g.Names == nil || *g.Names != 2 {
			t.Errorf("%+v", g)
		}
		if l := d.RecentLosses[0]; l.Losses != 2 || l.Reason != "expired" || l.Emissions != 61 || !l.At.Equal(time.Now()) ||
			l.At.Sub(l.Since) != 2*time.Second || l.Error != "" || l.Names != nil {
			t.Errorf("%+v", l)
		}
		if l := d.RecentLosses[1]; l.Losses != 1 || l.Reason != "denied" || l.Names == nil || *l.Names != 1 {
			t.Errorf("%+v", l)
		}
	})
}

// TestDetailsOfALostPeer: a peer that has died stays in the details, by name, until another of its name is there.
func TestDetailsOfALostPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		recent := health.NewRecent()
		n, err := crosscast.Start(t.Context(), crosscast.Options{
			Name: "one", Adapter: wire.New(hub.Port("one"), wire.Options{}), OnGap: recent.OnGap,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(t.Context())
		_, port := start(t, hub, "two", false)
		time.Sleep(5 * time.Second)
		died := time.Now()
		port.Down()
		time.Sleep(time.Minute)
		var d struct {
			Peers, Lost []struct {
				Name  string
				Heard time.Time
			}
			RecentGaps []struct{ Reason, OriginName string }
		}
		if err := json.Unmarshal(get(health.Details(n, recent)).Body.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		if len(d.Peers) != 0 || len(d.Lost) != 1 || d.Lost[0].Name != "two" || died.Sub(d.Lost[0].Heard) > time.Second {
			t.Errorf("died at %v: %+v", died, d)
		}
		if g := d.RecentGaps; len(g) != 1 || g[0].Reason != "peer lost" || g[0].OriginName != "two" {
			t.Errorf("%+v", g)
		}
		start(t, hub, "two", false)
		synctest.Wait()
		if w := get(health.Details(n, nil)); !strings.Contains(w.Body.String(), `"lost": []`) {
			t.Errorf("after it has started again: %s", w.Body)
		}
	})
}

// TestDetailsOfOtherTopics: who spreads rooms in another way is in the details while it is there.
func TestDetailsOfOtherTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		n, _ := start(t, hub, "one", false)
		odd, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.New(hub.Port("odd"), wire.Options{Topics: 64})})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		want := fmt.Sprintf(`"%s": "64"`, odd.ID())
		if w := get(health.Details(n, nil)); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s", w.Body)
		}
		_ = odd.Close(t.Context())
		synctest.Wait()
		if w := get(health.Details(n, nil)); strings.Contains(w.Body.String(), "misrouted") {
			t.Errorf("after it has left: %s", w.Body)
		}
	})
}

func TestOnlyReads(t *testing.T) {
	w := httptest.NewRecorder()
	health.Live().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Error(w.Code, w.Header())
	}
}

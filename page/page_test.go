package page_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/page"
	"github.com/crosscast/crosscast/wire"
)

// hostile is a name that would be a script, were it HTML.
const hostile = `<script>alert(1)</script>`

// site is a cluster of two nodes with a page of the first.
type site struct {
	*crosscasttest.Cluster
	page    *page.Page
	handler http.Handler
	log     bytes.Buffer
}

func newSite(t *testing.T, who func(*http.Request) string) *site {
	t.Helper()
	s := &site{}
	p, err := page.New(page.Options{Who: who, Logger: slog.New(slog.NewTextHandler(&s.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	o := crosscast.Options{OnGap: p.OnGap, OnLoss: p.OnLoss, OnLink: p.OnLink}
	s.Cluster = crosscasttest.NewCluster(t, 2, o, crosscast.Options{})
	s.page = p
	s.handler = p.Handler(s.Nodes[0])
	return s
}

// get returns the reply to a GET.
func (s *site) get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: status %d", path, w.Code)
	}
	return w
}

// wants checks that a reply contains texts.
func (s *site) wants(t *testing.T, path string, texts ...string) {
	t.Helper()
	body := s.get(t, path).Body.String()
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("%s lacks %s:\n%s", path, text, body)
		}
	}
}

func (s *site) post(path, body string, header ...string) int {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Code
}

func TestState(t *testing.T) { synctest.Test(t, testState) }

// TestEventsOfOneCause: events of one cause that follow each other are one line with a count.
func TestEventsOfOneCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		n, began := s.Nodes[0], time.Now()
		s.page.OnGap(n, crosscast.Gap{Reason: reasons.GapDenied, Since: began})
		for range 300 {
			time.Sleep(time.Second)
			s.page.OnLoss(n, crosscast.Loss{Reason: reasons.LossDenied, Instructions: 1})
			s.page.OnGap(n, crosscast.Gap{Reason: reasons.GapLoss, Since: began, Until: time.Now()})
		}
		s.wants(t, "/state", `"text":"denied: messages of any server`, `"text":"denied: 1 emissions`, `"before":299`, "for 5m0s")
		time.Sleep(11 * time.Second)
		s.page.OnLoss(n, crosscast.Loss{Reason: reasons.LossDenied, Instructions: 1})
		s.page.OnLoss(n, crosscast.Loss{Reason: reasons.LossDenied, Instructions: 1, Names: []crosscast.Address{{}}})
		var state struct{ Events []struct{ Kind string } }
		if err := json.Unmarshal(s.get(t, "/state").Body.Bytes(), &state); err != nil {
			t.Fatal(err)
		}
		kinds := ""
		for _, e := range state.Events {
			if e.Kind != "link" {
				kinds += e.Kind + " "
			}
		}
		if kinds != "loss loss gap loss gap " {
			t.Errorf("events of the kinds %s", kinds)
		}
	})
}

func testState(t *testing.T) {
	s := newSite(t, nil)
	ctx := t.Context()
	s.Connect(ctx, 0, crosscast.ConnectOptions{User: "ann", Rooms: []string{"lobby", hostile}})
	s.Connect(ctx, 1, crosscast.ConnectOptions{User: "ann", Rooms: []string{"lobby"}})
	s.Settle(ctx)
	s.wants(t, "/state", `"name":"node-0","self":true`, `"name":"node-1"`, `"answered":true,"live":true,"sockets":1`, `"actions":false`)
	s.wants(t, "/rooms", `{"namespace":"/","room":"lobby","sockets":2}`, `"total":2`)
	s.wants(t, "/user?name=ann", `"total":2`, `"node":"`+string(s.Nodes[1].ID())+`"`, `"rooms":["lobby"]`)
	s.wants(t, "/user?name=nobody", `"total":0`)

	s.Cut(0)
	queued := s.Nodes[0].Stats().QueueBytes
	synctest.Wait()
	time.Sleep(3 * time.Second)
	s.wants(t, "/state", `"sockets":1`, `"incomplete":true`, `"state":"down"`, `"cure":"look whether the bus`)
	s.wants(t, "/rooms", `{"namespace":"/","room":"lobby","sockets":1}`, `"incomplete":true`)
	s.wants(t, "/user?name=ann", `"total":1`, `"incomplete":true`)
	if n := s.Nodes[0].Stats().QueueBytes; n != queued {
		t.Errorf("during the outage a look at the page has queued %d bytes", n-queued)
	}
	if err := s.Nodes[0].To("lobby").Emit(ctx, "lost", nil); err != nil {
		t.Error(err)
	}
	s.Heal(0)
	s.Settle(ctx)
	s.wants(t, "/state", `"kind":"gap"`, `"kind":"link"`, "of any server to anybody might be missing")
	s.Lose(1)
	if err := s.Nodes[0].To(hostile).Emit(ctx, "lost", nil); err != nil {
		t.Error(err)
	}
	s.Settle(ctx)
	body := s.get(t, "/state").Body.String()
	if !strings.Contains(body, `"kind":"loss"`) || strings.Contains(body, "<script>") {
		t.Errorf("the loss in a room with a hostile name: %s", body)
	}
}

// TestLostPeer: a server that has died stays in the table, and the gap names it.
func TestLostPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		time.Sleep(5 * time.Second)
		id := string(s.Nodes[1].ID())
		s.Cut(1)
		time.Sleep(10 * time.Second)
		s.wants(t, "/state", `{"id":"`+id+`","name":"node-1","lost":true,"since"`, "peer lost: messages of node-1 ("+id+") to anybody")
		s.Heal(1)
		s.Settle(t.Context())
		time.Sleep(3 * time.Second)
		if body := s.get(t, "/state").Body.String(); strings.Contains(body, `"lost":true`) {
			t.Errorf("after it is back: %s", body)
		}
	})
}

// TestOtherTopics: the table says of each server how many have other Topics.
func TestOtherTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		for i, topics := range []int{0, 0, 64} {
			n, err := crosscast.Start(t.Context(), crosscast.Options{
				Adapter: wire.New(bus.Port(fmt.Sprint(i)), wire.Options{Topics: topics}),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close(t.Context())
			if i < 2 {
				continue
			}
			p, err := page.New(page.Options{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			body := (&site{handler: p.Handler(n)}).get(t, "/state").Body.String()
			if strings.Count(body, `"misrouted":1`) != 2 || !strings.Contains(body, `"misrouted":2`) {
				t.Error(body)
			}
		}
	})
}

// TestCauseOfTheLink: the event has the cause of the half that explains the other.
func TestCauseOfTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		held := crosscast.LinkHalf{State: reasons.LinkHeld, Err: errors.New("it waits")}
		denied := crosscast.LinkHalf{State: reasons.LinkDenied, Err: errors.New("WRONGPASS")}
		s.page.OnLink(s.Nodes[0], crosscast.LinkStatus{Publishing: held, Subscribing: denied})
		s.wants(t, "/state", "publishing is held, subscribing is denied: WRONGPASS")
		s.page.OnLink(s.Nodes[0], crosscast.LinkStatus{Publishing: denied, Subscribing: held})
		s.wants(t, "/state", "publishing is denied, subscribing is held: WRONGPASS")
	})
}

// TestPeersAreNotAskedForEachViewer: many viewers at once cost the other nodes one query.
func TestPeersAreNotAskedForEachViewer(t *testing.T) {
	s := newSite(t, nil)
	before := s.Nodes[0].Stats().InstructionsOut
	for range 100 {
		s.get(t, "/state")
	}
	s.Settle(t.Context())
	if n := s.Nodes[0].Stats().InstructionsOut - before; n > 10 {
		t.Errorf("100 looks made %d instructions", n)
	}
}

// TestReadOnly: without Who there is nothing that changes anything.
func TestReadOnly(t *testing.T) {
	s := newSite(t, nil)
	for _, path := range []string{"/notice", "/disconnect", "/state"} {
		if code := s.post(path, `{"User":"ann","Text":"x"}`); code != http.StatusMethodNotAllowed && code != http.StatusNotFound {
			t.Errorf("POST %s: status %d", path, code)
		}
	}
}

func TestOrders(t *testing.T) {
	s := newSite(t, func(r *http.Request) string { return r.Header.Get("X-Operator") })
	ctx := t.Context()
	ann := s.Connect(ctx, 1, crosscast.ConnectOptions{User: "ann", Rooms: []string{"lobby"}})
	bob := s.Connect(ctx, 0, crosscast.ConnectOptions{User: "bob"})
	for _, test := range []struct {
		path, body string
		header     []string
		want       int
	}{
		{"/notice", `{"Text":"to all"}`, nil, http.StatusForbidden},
		{"/notice", `{"Text":"to all"}`, []string{"X-Operator", "olga", "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"/notice", `{"Text":"to all"}`, []string{"X-Operator", "olga", "Origin", "https://evil.example"}, http.StatusForbidden},
		{"/notice", `{"Text":`, []string{"X-Operator", "olga"}, http.StatusBadRequest},
		{"/notice", `{"Text":"` + strings.Repeat("x", 20<<10) + `"}`, []string{"X-Operator", "olga"}, http.StatusBadRequest},
		{"/notice", `{"Text":"x","Room":"lobby","User":"ann"}`, []string{"X-Operator", "olga"}, http.StatusBadRequest},
		{"/disconnect", `{}`, []string{"X-Operator", "olga"}, http.StatusBadRequest},
		{"/notice", `{"Text":"to all"}`, []string{"X-Operator", "olga"}, http.StatusNoContent},
		{"/notice", `{"Text":"to the lobby","Room":"lobby"}`, []string{"X-Operator", "olga"}, http.StatusNoContent},
		{"/notice", `{"Text":"to bob","User":"bob"}`, []string{"X-Operator", "olga"}, http.StatusNoContent},
		{"/disconnect", `{"User":"ann"}`, []string{"X-Operator", "olga"}, http.StatusNoContent},
	} {
		if code := s.post(test.path, test.body, test.header...); code != test.want {
			t.Errorf("POST %s %.50s %v: status %d, not %d", test.path, test.body, test.header, code, test.want)
		}
	}
	s.Settle(ctx)
	ann.Want(`notice "to all"`, `notice "to the lobby"`)
	bob.Want(`notice "to all"`, `notice "to bob"`)
	if reason := ann.WaitClosed(ctx); reason != crosscast.ReasonServer {
		t.Errorf("ann was closed: %s", reason)
	}
	for _, want := range []string{"a notice was sent from the page", "a user was disconnected from the page", "who=olga", "user=ann"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, s.log.String())
		}
	}
}

// TestHeaders: nothing but the page's own script runs, wherever a name ends up.
func TestHeaders(t *testing.T) {
	s := newSite(t, nil)
	w := s.get(t, "/")
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(w.Body.String(), "innerHTML") {
		t.Error("scripts in names could run")
	}
	if got := s.get(t, "/state").Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("the state has the type %s", got)
	}
}

// TestGoneViewer: a viewer that has gone does not wait for others.
func TestGoneViewer(t *testing.T) {
	s := newSite(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/rooms", nil))
	var out struct{ Incomplete bool }
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || !out.Incomplete {
		t.Errorf("%v, %s", err, w.Body.String())
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/internal/programtest"
)

var whole = flag.Bool("whole", false, "all faults, instead of one")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPlan: each kind happens, some twice, in an order that only the seed decides.
func TestPlan(t *testing.T) {
	texts := func(seed uint64) (all []string) {
		for _, f := range plan(seed, 2) {
			all = append(all, f.text)
		}
		return all
	}
	firsts := make(map[string]bool)
	for seed := range uint64(100) {
		seen := make(map[string]int)
		for i, f := range plan(seed, 2) {
			seen[f.kind]++
			if i == 0 {
				firsts[f.kind] = true
			}
		}
		if len(seen) != len(kinds) {
			t.Errorf("seed %d: kinds %v", seed, seen)
		}
		if !slices.Equal(texts(seed), texts(seed)) {
			t.Errorf("seed %d: two plans differ", seed)
		}
	}
	if len(firsts) != len(kinds) {
		t.Errorf("of 100 nights the first fault is always one of %v", firsts)
	}
}

// TestLate: a fault is announced only a while after it has begun, and the answers say how long.
func TestLate(t *testing.T) {
	for range 100 {
		if d := (&lateness{time.Minute, 5 * time.Minute}).draw(); d < time.Minute || d > 5*time.Minute {
			t.Error(d)
		}
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		answers, err := newAnswers(filepath.Join(dir, "answers"))
		if err != nil {
			t.Fatal(err)
		}
		defer answers.close()
		var late lateness
		if err := late.Set("3m"); err != nil {
			t.Fatal(err)
		}
		var began time.Time
		one := fault{text: "the fault", on: func(context.Context, *bed) error { began = time.Now(); return nil }}
		b := &bed{redis: &redisServer{}}
		for i := range b.nodes {
			b.nodes[i] = &node{}
		}
		n := &night{bed: b, answers: answers, out: io.Discard, late: late, plan: []fault{one}}
		if text := n.next(t.Context()); !strings.HasPrefix(text, "fault 1 begins") || time.Since(began) != 3*time.Minute {
			t.Errorf("after %v: %s", time.Since(began), text)
		}
		entries, err := readAnswers(answers.file.Name())
		if err != nil || len(entries) != 1 || entries[0].Text != "the fault, 3m0s before" {
			t.Errorf("%+v, %v", entries, err)
		}
	})
}

// TestNight goes through a night as an operator does who uses curl: everything is healthy, a fault begins, its symptoms can
// be seen where docs/first-night.md says, it ends, and the answers say what it was.
func TestNight(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := settings{seed: seedOf("redis killed"), faults: 1, clients: 2, control: "127.0.0.1:0", dir: t.TempDir(), quiet: time.Millisecond}
	s.answers = filepath.Join(s.dir, "sealed")
	if *whole {
		s.faults, s.quiet = 0, 3*time.Second // a node that dies as soon as it has come is remembered by no name
	}
	var out programtest.Output
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- run(ctx, s, strings.NewReader(""), &out) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%v; it has printed:\n%s", err, &out)
		}
	}()
	control := printed(t, &out, "control: ")
	var seen views
	for i := range seen {
		seen[i].admin = strings.TrimSuffix(printed(t, &out, nodeName(i)+"  metrics "), "/metrics")
		seen[i].log = filepath.Join(s.dir, nodeName(i)+".log")
	}

	expected := plan(s.seed, 0)
	if s.faults > 0 {
		expected = expected[:s.faults]
	}
	seen.know(t)
	for i, f := range expected {
		seen.begin(t)
		if text := post(t, control+"/next", ""); !strings.HasPrefix(text, fmt.Sprintf("fault %d begins", i+1)) || strings.Contains(text, f.kind) {
			t.Fatalf("next said %s", text)
		}
		post(t, control+"/guess", "it is: "+f.kind)
		seen.symptoms(t, f)
	}
	if text := post(t, control+"/next", ""); !strings.HasPrefix(text, "the night is over") {
		t.Fatalf("next said %s", text)
	}

	entries, err := readAnswers(s.answers)
	if err != nil || len(entries) != 4*len(expected) {
		t.Fatalf("answers: %v, %v", entries, err)
	}
	for i, f := range expected {
		for j, want := range []entry{{What: begins, Text: f.text}, {What: guess, Text: "it is: " + f.kind}, {What: ends}, {What: healed}} {
			if e := entries[4*i+j]; e.What != want.What || e.Text != want.Text || e.Fault != i+1 {
				t.Errorf("answer %d of fault %d: %+v", j, i+1, e)
			}
		}
	}
	sealed, err := os.ReadFile(s.answers)
	if err != nil || bytes.Contains(sealed, []byte("edis")) {
		t.Errorf("the answers can be read: %s, %v", sealed, err)
	}
	var table bytes.Buffer
	if err := run(t.Context(), settings{open: s.answers}, nil, &table); err != nil || !strings.Contains(table.String(), "it is: "+expected[0].kind) {
		t.Errorf("%v: %s", err, table.String())
	}
}

// views are what an operator sees of the nodes.
type views [nodes]struct {
	admin, log string
	before     int // bytes of the log, when the fault began
}

// know waits until each node has heard the others more than once.
func (v *views) know(t *testing.T) {
	t.Helper()
	for i := range v {
		until(t, nodeName(i)+" to know the others", func() bool {
			var d struct {
				Peers []struct{ Since, Heard time.Time }
			}
			err := json.Unmarshal([]byte(get(v[i].admin+"/details")), &d)
			known := err == nil && len(d.Peers) == nodes-1
			for _, p := range d.Peers {
				known = known && p.Heard.After(p.Since)
			}
			return known
		})
	}
}

// begin is before a fault.
func (v *views) begin(t *testing.T) {
	t.Helper()
	for i := range v {
		log, err := os.ReadFile(v[i].log)
		if err != nil {
			t.Fatal(err)
		}
		v[i].before = len(log)
	}
}

// symptoms waits for what docs/first-night.md says of a fault.
func (v *views) symptoms(t *testing.T, f fault) {
	t.Helper()
	logs := map[string]string{
		"redis killed": "connection refused", "redis paused": "i/o timeout|the bus has not answered",
		"password rotated": "WRONGPASS", "permission taken": "NOPERM", "network slow": "need long to the bus",
	}
	for i := range v {
		name := nodeName(i)
		concerned := strings.HasPrefix(f.text, name+" ")
		if pattern := regexp.MustCompile(logs[f.kind]); logs[f.kind] != "" && (concerned || f.kind != "network slow") {
			until(t, f.kind+" in the log of "+name, func() bool {
				log, err := os.ReadFile(v[i].log)
				return err == nil && pattern.Match(log[v[i].before:])
			})
		}
		switch {
		case f.kind == "redis killed":
			until(t, name+" to notice", func() bool { return strings.Contains(get(v[i].admin+"/details"), `"ready": "disconnected"`) })
		case !concerned:
		case f.kind == "network slow":
			echo := regexp.MustCompile(`(?m)^crosscast_echo_latest_seconds\{.*\} (0\.[89]|[1-9]\.)`)
			until(t, "a high echo of "+name, func() bool { return echo.MatchString(get(v[i].admin + "/metrics")) })
		default: // killed or paused
			for j := range v {
				if j != i {
					until(t, nodeName(j)+" to name "+name, func() bool {
						_, lost, _ := strings.Cut(get(v[j].admin+"/details"), `"lost"`)
						return strings.Contains(lost, name)
					})
				}
			}
		}
	}
}

// seedOf returns a seed whose first fault is of this kind.
func seedOf(kind string) uint64 {
	for {
		if seed := rand.Uint64() | 1; plan(seed, 0)[0].kind == kind {
			return seed
		}
	}
}

// printed waits for a line that contains before, and returns the word after that.
func printed(t *testing.T, out *programtest.Output, before string) (word string) {
	t.Helper()
	until(t, "the output "+before, func() bool {
		_, after, found := strings.Cut(out.String(), before)
		word, _, _ = strings.Cut(strings.TrimSpace(strings.ReplaceAll(after, "\n", " ")), " ")
		return found && strings.Contains(after, "\n")
	})
	return word
}

func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for begin := time.Now(); !reached(); time.Sleep(10 * time.Millisecond) { // poll
		if time.Since(begin) > 2*time.Minute { // it compiles programs
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func get(url string) string {
	response, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return err.Error()
	}
	return body(response)
}

func post(t *testing.T, url, text string) string {
	t.Helper()
	response, err := http.Post(url, "text/plain", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return body(response)
}

func body(response *http.Response) string {
	defer response.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

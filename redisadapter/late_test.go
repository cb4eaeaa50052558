//go:build unix

package redisadapter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
)

// asked is what a node was asked and told.
type asked struct{ late, told atomic.Int64 }

// serve has a node do what it is asked: "late", which is asked while nothing reaches it; "told", for which nobody waits;
// and "expired", which is how many questions it did not answer.
func (a *asked) serve(t *testing.T, m *member) {
	t.Helper()
	for event, f := range map[string]func() any{
		"late":    func() any { return a.late.Add(1) },
		"told":    func() any { return a.told.Add(1) },
		"expired": func() any { return m.Stats().Dropped["expired"] },
		"counts":  func() any { return []int64{a.late.Load(), a.told.Load()} },
	} {
		if err := m.OnRequest(event, func(context.Context, *crosscast.Request) (any, error) { return f(), nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// question returns the answer of the one other node, within d.
func (m *member) question(t *testing.T, event string, d time.Duration) (answer string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	answers := m.Servers().Ask(ctx, event, nil)
	for r := range answers.All() {
		answer = string(r.Payload.Data)
	}
	return answer, answers.Err()
}

// mustAnswer returns the answer of the other node, which might not be known, or heard, yet.
func (m *member) mustAnswer(t *testing.T, event string) (answer string) {
	t.Helper()
	m.eventually(t, "an answer to "+event, func() bool {
		answer, _ = m.question(t, event, time.Second)
		return answer != ""
	})
	return answer
}

const lateQuestions = 5

// askLate asks what cannot be answered in time, and tells something for which nobody waits.
func (m *member) askLate(t *testing.T, patience time.Duration) {
	t.Helper()
	done := make(chan error, lateQuestions)
	for range lateQuestions {
		go func() {
			answer, err := m.question(t, "late", patience)
			if answer != "" {
				err = fmt.Errorf("answered %s", answer)
			} else if errors.Is(err, context.DeadlineExceeded) {
				err = nil
			} else {
				err = fmt.Errorf("not answered, and the error is %w", err)
			}
			done <- err
		}()
	}
	if err := m.Servers().Tell(t.Context(), "told", nil); err != nil {
		t.Error(err)
	}
	for range lateQuestions {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// wantNothingLate fails unless the other node did what nobody waited for, and nothing that was waited for in vain.
func (m *member) wantNothingLate(t *testing.T) {
	t.Helper()
	var late, told int64
	m.eventually(t, "it is told", func() bool {
		var counts []int64
		if err := json.Unmarshal([]byte(m.mustAnswer(t, "counts")), &counts); err != nil {
			t.Fatal(err)
		}
		late, told = counts[0], counts[1]
		return told > 0
	})
	expired, err := strconv.Atoi(m.mustAnswer(t, "expired"))
	if late != 0 || told != 1 || expired < lateQuestions || err != nil { // a question that came right after them may be one
		t.Errorf("did %d of %d requests after their time, counted %d, and %d that were told", late, lateQuestions, expired, told)
	}
}

// TestAStoppedProcess: requests reach a process that is stopped, and goes on after the time of those who asked.
func TestAStoppedProcess(t *testing.T) {
	const address = "CROSSCAST_TEST_REDIS"
	if addr := os.Getenv(address); addr != "" {
		ctx, cancel := signal.NotifyContext(t.Context(), os.Interrupt)
		defer cancel()
		m := join(t, "stopped", redistest.Client(t, &redis.Options{Addr: addr}))
		new(asked).serve(t, m)
		<-ctx.Done()
		return
	}
	s := redistest.Start(t, redistest.Config{})
	m := join(t, "asker", s.Client())
	p := programtest.Start(t, exec.Command(os.Args[0], "-test.run=^TestAStoppedProcess$"), address+"="+s.Addr())
	m.mustAnswer(t, "counts")
	programtest.Pause(t, p.Pid())
	m.askLate(t, time.Second)
	if err := syscall.Kill(p.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.wantNothingLate(t)
	p.Stop(os.Interrupt)
}

// TestAStalledBus: a bus takes requests at once, and hands them over after the time of those who asked.
func TestAStalledBus(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	slowly := func(o *crosscast.Options) { o.Heartbeat = time.Second }
	m := join(t, "asker", s.Client(), slowly)
	rdb, proxy := behind(t, s)
	b := join(t, "stalled", rdb, slowly)
	new(asked).serve(t, b)
	m.mustAnswer(t, "counts")
	for _, way := range []faultproxy.Direction{faultproxy.Up, faultproxy.Down} {
		proxy.Set(way, faultproxy.Faults{Hold: true})
	}
	held := time.After(1750 * time.Millisecond) // more than a heartbeat and a half, and less than a time-out
	m.askLate(t, 600*time.Millisecond)
	<-held
	for _, way := range []faultproxy.Direction{faultproxy.Down, faultproxy.Up} {
		proxy.Set(way, faultproxy.Faults{})
	}
	m.wantNothingLate(t)
	if n := b.Stats().Adapter.Reconnects; n != 0 {
		t.Errorf("%d reconnects", n)
	}
}

// TestWhoMayNotPublishToEveryone: a server refuses what a node publishes to everyone, so that it has no echo. What it is
// asked in time it does.
func TestWhoMayNotPublishToEveryone(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw resetchannels &cc:* +@all"}})
	m := join(t, "asker", s.Client())
	o := s.Options()
	o.Username, o.Password = "alice", "pw"
	b := join(t, "asked", redistest.Client(t, o))
	var a asked
	a.serve(t, b)
	m.mustAnswer(t, "counts")
	acl(t, s, "alice", "-publish", "(+publish resetchannels &cc:r:* &cc:u:* &cc:n:*)")
	b.eventually(t, "it may not publish", func() bool { return b.Link().Publishing.State == reasons.LinkDenied })
	// On a loaded machine one or the other is too late indeed. With each question it is longer since the last echo.
	b.eventually(t, "it does what it is asked", func() bool {
		time.Sleep(100 * time.Millisecond)                 // lasts: several heartbeats
		_, _ = m.question(t, "late", 200*time.Millisecond) // it counts for dead: an answer is not waited for
		return a.late.Load() >= 20
	})
	if !strings.Contains(b.Link().Publishing.Err.Error(), "cc:*") {
		t.Error("the state does not say what the user needs:", b.Link().Publishing.Err)
	}
}

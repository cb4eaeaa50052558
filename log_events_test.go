package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// logLines is a Logger's destination. Its methods may be called concurrently.
type logLines struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logLines) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *logLines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// TestLogOfGapsAndLosses: the first of each reason is logged with its cause and cure, and the next with the number of
// those left out. Every reason has a cure.
func TestLogOfGapsAndLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		b := &bare{}
		n := start(t, crosscast.Options{Name: "one", Adapter: b, Logger: log.logger()})
		b.h.Gap(crosscast.Gap{Reason: reasons.GapDeaf})
		if log.String() != "" {
			t.Errorf("before there was anybody: %s", &log)
		}
		_, err := n.Connect(ctx, closingConn{0, new(closings)}, crosscast.ConnectOptions{})
		ok(t, err)
		for range 3 {
			b.h.Gap(crosscast.Gap{Reason: reasons.GapHole, Origin: "aaaaaaaa", Since: time.Now(), Until: time.Now()})
			b.h.Loss(crosscast.Loss{Reason: reasons.LossExpired, Instructions: 7, Err: crosscast.ErrRefused})
		}
		if got := strings.Count(log.String(), "\n"); got != 2 {
			t.Errorf("%d lines:\n%s", got, &log)
		}
		time.Sleep(11 * time.Second)
		log.Reset()
		b.h.Gap(crosscast.Gap{Reason: reasons.GapHole})
		if got := log.String(); !strings.Contains(got, `"left out"=2`) || !strings.Contains(got, "reason=hole") {
			t.Error(got)
		}
		log.Reset()
		for _, reason := range crosscast.GapReasons() {
			b.h.Gap(crosscast.Gap{Reason: reason})
		}
		for _, reason := range crosscast.LossReasons() {
			b.h.Loss(crosscast.Loss{Reason: reason, Err: crosscast.ErrRefused})
		}
		time.Sleep(11 * time.Second)
		b.h.Gap(crosscast.Gap{Reason: reasons.GapHole})
		for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
			if !strings.Contains(line, "cure=") || !strings.Contains(line, fmt.Sprintf(`node="one (%s)"`, n.ID())) {
				t.Error(line)
			}
		}
		log.Reset()
		for i := range 1000 { // a driver with reasons of its own
			b.h.Gap(crosscast.Gap{Reason: crosscast.GapReason(fmt.Sprint(i))})
		}
		if got := strings.Count(log.String(), "\n"); got > 40 {
			t.Errorf("%d lines", got)
		}
	})
}

// TestLogOfWhatALinkCauses: emissions that expire, the gap of an outage, and peers that fall silent have the cause that
// the link has.
func TestLogOfWhatALinkCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Logger: log.logger()})
		_, err := n.Connect(ctx, closingConn{0, new(closings)}, crosscast.ConnectOptions{})
		ok(t, err)
		began := time.Now()
		wants := func(what string, texts ...string) {
			t.Helper()
			for _, text := range texts {
				if !strings.Contains(log.String(), text) {
					t.Errorf("%s: without %s: %s", what, text, &log)
				}
			}
			log.Reset()
		}
		hear := crosscast.Instruction{Kind: kind.Heartbeat, From: "aaaaaaaa", Namespace: "/", Node: crosscast.NodeInfo{Name: "peer", Heartbeat: time.Second}}
		d.h.Handle(&hear)
		time.Sleep(5 * time.Second)
		wants("suspected", "level=INFO", "a peer is suspected")
		d.h.Link(crosscast.LinkStatus{
			Publishing:  crosscast.LinkHalf{State: reasons.LinkDenied, Since: time.Now(), Err: errors.New("NOPERM")},
			Subscribing: crosscast.LinkHalf{State: reasons.LinkDown, Since: time.Now(), Err: errors.New("EOF")},
		})
		d.h.Loss(crosscast.Loss{Reason: reasons.LossExpired, Instructions: 7, Err: crosscast.ErrRefused})
		wants("expired", "publishing=denied cause=NOPERM", "cure=\"look at the credentials")
		time.Sleep(5 * time.Second)
		wants("dead", "taken for dead", "this node may not publish, either")
		d.h.Link(crosscast.LinkStatus{})
		d.h.Gap(crosscast.Gap{Reason: reasons.GapLinkLost, Since: began, Until: time.Now()})
		wants("the gap of the outage", "cause=EOF")
	})
}

// TestLogOfPeers: a peer that is suspected, and then dead, is a line each, with its name and ID. Peers that come and go are no lines for operators.
func TestLogOfPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Logger: log.logger()})
		hear := func(k kind.Kind, id crosscast.NodeID) {
			d.h.Handle(&crosscast.Instruction{Kind: k, From: id, Namespace: "/", Node: crosscast.NodeInfo{Name: "peer", Heartbeat: time.Second}})
		}
		hear(kind.Heartbeat, "aaaaaaaa")
		hear(kind.Heartbeat, "aaaaaaaa") // one that is heard once might be a forged name
		hear(kind.Heartbeat, "bbbbbbbb")
		hear(kind.Goodbye, "bbbbbbbb")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := log.String(); strings.Count(got, "\n") != 2 || strings.Count(got, `peer="peer (aaaaaaaa)"`) != 2 ||
			!strings.Contains(got, "level=INFO") || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "cure=") {
			t.Error(got)
		}
		log.Reset()
		_, err := n.Connect(ctx, closingConn{0, new(closings)}, crosscast.ConnectOptions{})
		ok(t, err)
		d.h.Gap(crosscast.Gap{Reason: reasons.GapPeerLost, Origin: "aaaaaaaa", Since: time.Now(), Until: time.Now()})
		if got := log.String(); !strings.Contains(got, `origin="peer (aaaaaaaa)"`) {
			t.Errorf("the gap of a dead peer: %s", got)
		}
	})
}

var prefixes = regexp.MustCompile(`crosscast(/[a-z]+)*: `)

// TestOnePrefix: an error says "crosscast:" once, in front, whatever it wraps.
func TestOnePrefix(t *testing.T) {
	denied := fmt.Errorf("redis at x: %w: NOPERM", crosscast.ErrDenied)
	uncertain := fmt.Errorf("%w: %w", crosscast.ErrUncertain, crosscast.ErrClosed)
	n := start(t, crosscast.Options{})
	_, emitErr := n.Everyone().Deliver(ctx, "", nil)
	q := crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{Framer: refuses{}})
	defer q.Close(crosscast.ReasonServer)
	_, startErr := crosscast.Start(ctx, crosscast.Options{Adapter: cannotStart{denied}})
	for what, err := range map[string]error{
		"a limit":      &limit.Error{What: "room", Len: 1000, Max: 255, Name: true},
		"names":        &crosscast.NamesError{Failed: map[crosscast.Address]error{{Space: crosscast.SpaceRoom, Name: "r"}: denied, {Space: crosscast.SpaceRoom, Name: "s"}: denied}},
		"incomplete":   &crosscast.IncompleteError{Missing: []crosscast.MissingNode{{ID: "aaaaaaaa", Err: crosscast.ErrClosed}, {Err: denied}}},
		"a loss":       &crosscast.LossError{Losses: []crosscast.Loss{{Err: uncertain}}},
		"an emission":  emitErr,
		"a dropped":    q.Send(&crosscast.Message{Event: "e"}),
		"a start":      startErr,
		"no name":      crosscast.ErrInvalidName,
		"a large name": n.To(strings.Repeat("x", 1000)).Emit(ctx, "e", nil),
		"a payload":    n.Everyone().Emit(ctx, "e", func() {}),
	} {
		if err == nil {
			t.Errorf("%s is no error", what)
			continue
		}
		text := err.Error()
		if found := prefixes.FindAllStringIndex(text, -1); len(found) != 1 || found[0][0] != 0 {
			t.Errorf("%s: %s", what, text)
		}
	}
	if !errors.Is(startErr, crosscast.ErrDenied) {
		t.Error(startErr)
	}
}

type refuses struct{}

func (refuses) Frame(*crosscast.Message) ([]byte, error) { return nil, crosscast.ErrTooLarge }

// cannotStart is an adapter whose Start fails.
type cannotStart struct{ err error }

func (f cannotStart) Start(_ context.Context, _ crosscast.AdapterStart) error { return f.err }

func (cannotStart) Publish(context.Context, *crosscast.Instruction) error { return nil }

func (cannotStart) Close(context.Context) error { return nil }

// TestLogOfADrain: its begin and its end are a line each, with counts; a drain that is cut short says why.
func TestLogOfADrain(t *testing.T) {
	for name, test := range map[string]struct {
		cut  func(n *crosscast.Node, cancel context.CancelFunc)
		want []string
	}{
		"whole": {nil, []string{`msg="crosscast: the node has drained"`, `level=INFO`, `"sent away"=10`}},
		"too little time": {func(_ *crosscast.Node, cancel context.CancelFunc) { cancel() }, []string{
			`level=WARN msg="crosscast: the drain was cut short`, `took=3s "sent away"=4 cause="its context has ended" cure=`,
		}},
		"Close": {func(n *crosscast.Node, _ context.CancelFunc) { _ = n.Close(ctx) }, []string{
			`level=WARN msg="crosscast: the drain was cut short`, `took=3s "sent away"=4 cause="Close was called" cure=`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logLines
				n := start(t, crosscast.Options{Logger: log.logger()})
				for range 10 {
					_, err := n.Connect(ctx, closingConn{0, new(closings)}, crosscast.ConnectOptions{})
					ok(t, err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				drained := make(chan error, 1)
				go func() {
					drained <- n.Drain(ctx, crosscast.DrainOptions{Notice: time.Second, Window: 5 * time.Second})
				}()
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "sockets=10 notice=1s window=5s") {
					t.Errorf("at the begin: %s", got)
				}
				if test.cut != nil {
					test.cut(n, cancel)
				}
				<-drained
				lines := strings.Split(strings.TrimSpace(log.String()), "\n")
				if len(lines) != 2 {
					t.Fatalf("lines: %s", &log)
				}
				for _, want := range test.want {
					if !strings.Contains(lines[1], want) {
						t.Errorf("at the end: %s\nwithout %s", lines[1], want)
					}
				}
			})
		})
	}
}

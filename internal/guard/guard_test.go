package guard_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/guard"
)

func TestCall(t *testing.T) {
	failed := errors.New("failed")
	if err := guard.Call(func() error { return failed }); err != failed {
		t.Error(err)
	}
	if err := guard.Call(func() error { return nil }); err != nil {
		t.Error(err)
	}
	err := guard.Call(func() error { panicHere(); return nil })
	var p *guard.PanicError
	if !errors.As(err, &p) || p.Value != "no luck" || err.Error() != "panic: no luck" {
		t.Fatal(err)
	}
	if !strings.Contains(string(p.Stack), "panicHere") {
		t.Errorf("the stack does not show where:\n%s", p.Stack)
	}
}

func panicHere() { panic("no luck") }

// TestGo: what ends its goroutine goes on with the next step, and returns once.
func TestGo(t *testing.T) {
	steps, done := make(chan int, 10), make(chan struct{})
	for i := range 10 {
		steps <- i
	}
	close(steps)
	seen := 0
	guard.Go(func() {
		for i := range steps {
			seen++
			if i%2 == 1 {
				runtime.Goexit()
			}
		}
		close(done)
	})
	<-done
	if seen != 10 {
		t.Errorf("%d steps", seen)
	}
}

type badHandler struct{ slog.Handler }

func (badHandler) Enabled(context.Context, slog.Level) bool { panic("no luck") }

func TestLog(t *testing.T) {
	var b bytes.Buffer
	e := &guard.PanicError{Value: "no luck", Stack: []byte("here")}
	guard.Log(slog.New(slog.NewTextHandler(&b, nil)), "OnGap", e, "of", "r")
	if s := b.String(); !strings.Contains(s, `level=ERROR msg="crosscast: OnGap panicked" of=r panic="no luck" stack=here`) {
		t.Error(s)
	}
	guard.Log(slog.New(badHandler{}), "OnGap", e)
}

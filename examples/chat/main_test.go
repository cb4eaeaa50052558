package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnce(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"-once"}, []string{
			`(?m)^\[A\] joined room=room1 \(handled by server-1\)$`,
			`(?m)^\[B\] joined room=room1 \(handled by server-2\)$`,
			`(?m)^\[B\] got message: hi from A \(from .{20} on server-1\)$`, `(?m)^\[A\] got message: hi from B `,
			`(?m)^\[adapter\] server-1 .* server-2, which delivered it to 1 of its clients$`,
			`answer: \{"ok":true,"node":"server-2","roomId":"room1","text":"hello from HTTP"\}`,
			`every message reached both`,
		}},
		{[]string{"-no-adapter", "-once"}, []string{`B got nothing from A`}},
	} {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := run(ctx, tt.args, &out); err != nil {
			t.Errorf("%v: %v\n%s", tt.args, err, &out)
		}
		for _, want := range tt.want {
			if !regexp.MustCompile(want).Match(out.Bytes()) {
				t.Errorf("%v: no %s in\n%s", tt.args, want, &out)
			}
		}
		if tt.args[0] == "-no-adapter" && strings.Contains(out.String(), "[B] got message: hi from A") {
			t.Errorf("%v: B got a message from A\n%s", tt.args, &out)
		}
	}
}

// TestServesUntilInterrupted: without -once the program serves until its context ends, which is no error.
func TestServesUntilInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out := &watched{want: "Ctrl-C ends", seen: interrupt}
	if err := run(ctx, nil, out); err != nil {
		t.Errorf("%v\n%s", err, &out.b)
	}
}

// watched calls seen when want was written.
type watched struct {
	mu   sync.Mutex
	b    bytes.Buffer
	want string
	seen func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(p), w.want) {
		w.seen()
	}
	return w.b.Write(p)
}

func TestBadFlag(t *testing.T) {
	flag.CommandLine.SetOutput(io.Discard)
	if err := run(t.Context(), []string{"-twice"}, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
		t.Errorf("err = %v", err)
	}
}

// TestInterruptedEarly: the flow fails, and says what did not arrive.
func TestInterruptedEarly(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out := &watched{want: "[server-2] listening", seen: interrupt}
	if err := run(ctx, []string{"-once"}, out); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

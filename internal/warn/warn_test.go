package warn

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
)

func TestFirsts(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	var f Firsts
	for range 3 {
		f.Warn(log, "a", "message a", "n", 1)
		f.Warn(log, "b", "message b")
	}
	got := b.String()
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, `level=WARN msg="message a" n=1`) {
		t.Errorf("%s", got)
	}
	f.Warn(slog.New(panics{slog.DiscardHandler}), "c", "message c")
}

// panics is a handler that panics.
type panics struct{ slog.Handler }

func (panics) Enabled(context.Context, slog.Level) bool { panic("oops") }

package chat

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"unicode"
)

// A Printer writes whole lines for any number of goroutines.
type Printer struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

// NewPrinter returns a printer that writes to out.
func NewPrinter(out io.Writer) *Printer { return &Printer{out: out} }

// printable keeps what strangers wrote from moving the cursor.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

// Print writes one line: who it is from, in brackets, and what.
func (p *Printer) Print(who, format string, args ...any) {
	line := "[" + who + "] " + strings.Map(printable, fmt.Sprintf(format, args...)) + "\n"
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, line)
}

// logger makes the library's log look like ours.
func (p *Printer) logger(who string) *slog.Logger { return slog.New(&logHandler{p: p, who: who}) }

type logHandler struct {
	p     *Printer
	who   string
	attrs []slog.Attr
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%q", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	h.p.Print(h.who, "%s", b.String())
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.p, h.who, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }

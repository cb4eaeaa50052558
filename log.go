package crosscast

import (
	"cmp"
	"log/slog"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/warn"
)

// logs are a node's diagnostics, with what limits them. The embedded logger discards if the application has given none.
type logs struct {
	*slog.Logger
	given  *slog.Logger // Options.Logger; might be nil
	firsts warn.Firsts  // the causes of warnings that are logged once
	lines
}

// newLogs makes each line say which node it is from: a process might have several.
func newLogs(given *slog.Logger, name string, id NodeID) logs {
	if given == nil {
		return logs{Logger: slog.New(slog.DiscardHandler)}
	}
	return logs{Logger: given.With("node", nodeLabel(name, id)), given: given}
}

// audible is for lines that nothing else reports.
func (l *logs) audible() *slog.Logger { return cmp.Or(l.given, slog.Default()) }

// lines are those of the log that whoever may publish on the bus can cause: each kind at most once in linePause, so that
// a flood of one does not hide the first of another.
type lines struct {
	invalid  pacer        // payloads that clients could not take
	commands [3]pacer     // join, leave, disconnect
	silences pacers[bool] // by whether the peer is taken for dead
	gaps     pacers[GapReason]
	losses   pacers[LossReason]
}

const linePause = 10 * time.Second

// A pacer says when a line is due. The zero value is ready.
type pacer struct {
	mu   sync.Mutex
	next time.Time // guarded by mu
}

func (p *pacer) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.next) {
		return false
	}
	p.next = now.Add(linePause)
	return true
}

// nodeLabel names a node in a log, whose handler quotes what needs it.
func nodeLabel(name string, id NodeID) string { return name + " (" + string(id) + ")" }

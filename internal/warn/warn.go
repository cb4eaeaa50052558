// Package warn logs what somebody who looks for a fault looks at first: of each cause the first, as a warning that says
// what to do about it. What follows is counted elsewhere.
package warn

import (
	"log/slog"
	"sync"

	"github.com/crosscast/crosscast/internal/guard"
)

// Firsts remembers the causes that were logged. The zero value is ready; its method may be called concurrently.
type Firsts struct{ seen sync.Map } // of causes

// Warn logs the first of a cause. There must be few causes: each is kept.
func (f *Firsts) Warn(log *slog.Logger, cause, message string, args ...any) {
	if _, seen := f.seen.LoadOrStore(cause, nil); seen {
		return
	}
	_ = guard.Call(func() error { log.Warn(message, args...); return nil }) // the handler is the application's
}

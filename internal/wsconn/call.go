package wsconn

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
)

// Errorf returns an error whose text the client may see.
func Errorf(format string, args ...any) error { return clientError{fmt.Errorf(format, args...)} }

type clientError struct{ error }

func (e clientError) Unwrap() error { return e.error }

// ForClient reports whether the client may see err's text. It may see errors of Errorf, and errors of crosscast about a
// name or a size, which mostly came from the client.
func ForClient(err error) bool {
	var own clientError
	return errors.As(err, &own) || errors.Is(err, crosscast.ErrInvalidName) || errors.Is(err, crosscast.ErrTooLarge)
}

// Tellable returns the text of an error if the client may see it. Errors and their methods are the application's.
func Tellable(err error) (text string, ok bool) {
	_ = guard.Call(func() error {
		if ForClient(err) {
			text, ok = err.Error(), true
		}
		return nil
	})
	return text, ok
}

// LogError logs the error or panic of a handler of binding. s may be nil.
func LogError(log *slog.Logger, binding string, s *crosscast.Socket, event string, err error) {
	args := []any{"event", event, "error", err}
	if s != nil {
		args = append(args, "socket", s.ID())
	}
	var p *guard.PanicError
	if errors.As(err, &p) {
		args = append(args, "stack", string(p.Stack))
	}
	log.Error("crosscast/"+binding+": handler failed", args...)
}

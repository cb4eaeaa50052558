package wsconn

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/crosscast/crosscast"
)

// A PanicError is the error of a function of the application's that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Call calls f, and makes an error of a panic: what one client sends must not end the server.
func Call(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}

// Errorf makes an error whose text the client may see.
func Errorf(format string, args ...any) error { return clientError{fmt.Errorf(format, args...)} }

type clientError struct{ error }

func (e clientError) Unwrap() error { return e.error }

// ForClient reports whether the client may see err's text: that of an Errorf, and of an error of crosscast about a name
// or a size, which mostly comes from what the client sent.
func ForClient(err error) bool {
	var own clientError
	return errors.As(err, &own) || errors.Is(err, crosscast.ErrInvalidName) || errors.Is(err, crosscast.ErrTooLarge)
}

// LogError logs what a handler of binding returned, or panicked with. s may be nil.
func LogError(binding string, s *crosscast.Socket, event string, err error) {
	args := []any{"event", event, "error", err}
	if s != nil {
		args = append(args, "socket", s.ID())
	}
	var p *PanicError
	if errors.As(err, &p) {
		args = append(args, "stack", string(p.Stack))
	}
	slog.Error("crosscast/"+binding+": handler failed", args...)
}

// Package guard is how the library calls functions of the application's on goroutines of its own: one that panics must
// not end the program, and one that ends its goroutine (runtime.Goexit, as the FailNow of a test does) must not leave
// behind what only that goroutine would have finished.
package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// A PanicError is the error of a function of the application's that panicked.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that it ran on
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Call calls f, and makes an error of a panic: a [*PanicError]. It does not return when f ends the goroutine, so what must
// come after f in any case is deferred.
func Call(f func() error) (err error) {
	defer Catch(&err)
	return f()
}

// Catch is Call for those who have a deferred function to spare: deferred itself, it makes an error of a panic.
func Catch(err *error) {
	if e := Recovered(recover()); e != nil {
		*err = e
	}
}

// Recovered makes an error of what recover returned; nil: nothing has panicked.
func Recovered(v any) error {
	if v == nil {
		return nil
	}
	return &PanicError{v, debug.Stack()}
}

// Go calls f on a goroutine. When a function of the application's ends that, f is called again, on another one, until it
// returns: so f is a loop that takes its next step from where all find it, and what it does last it does not defer.
func Go(f func()) {
	go func() {
		returned := false
		defer func() {
			if !returned {
				Go(f)
			}
		}()
		f()
		returned = true
	}()
}

// ErrExit is the error of a function of the application's that ended its goroutine.
var ErrExit = errors.New("crosscast: the goroutine was ended")

// Log logs err, as an error and with the stack, if it is a panic, of what; and reports whether it is. A log that panics
// itself is left alone.
func Log(log *slog.Logger, what string, err error, args ...any) bool {
	var e *PanicError
	if !errors.As(err, &e) {
		return false
	}
	defer func() { _ = recover() }()
	log.Error("crosscast: "+what+" panicked", append(args, "panic", e.Value, "stack", string(e.Stack))...)
	return true
}

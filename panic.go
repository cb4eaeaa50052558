package crosscast

import (
	"github.com/crosscast/crosscast/internal/guard"
)

// What becomes of functions of the application's that panic. On goroutines of the library's all are called through
// Node.call, or where that would cost too much with a guard of their own, and on those of the application's so are conns
// and framers, whose failure is a client's and not the caller's.

// A PanicError is the error of a function of the application's that panicked: with the Value, and the Stack of its
// goroutine.
type PanicError = guard.PanicError

// call calls f, which calls a function of the application's; what says which. A panic of it is reported and ends there.
// It reports whether f returned.
func (n *Node) call(what string, f func()) (returned bool) {
	err := guard.Call(func() error { f(); return nil })
	n.report(what, err)
	return err == nil
}

// inTurn calls f with each number below n. A call that ends the goroutine is not the last one.
func inTurn(n int, f func(i int)) {
	next := 0
	var rest func()
	rest = func() {
		if next < n {
			defer rest()
		}
		for next < n {
			next++
			f(next - 1)
		}
	}
	rest()
}

// report counts and logs err if it is a panic, of what; without a Logger with slog.Default, because nobody else may know
// of it.
func (n *Node) report(what string, err error) {
	if err != nil && guard.Log(n.Logger(), what, err, "node", nodeLabel(n.name, n.id)) {
		n.stats.panics.Add(1)
	}
}

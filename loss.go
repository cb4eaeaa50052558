package crosscast

import (
	"errors"
	"fmt"
	"sync"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/reasons"
)

// A Loss is a run of this node's own emissions that peers did not get, or might not have got. Local sockets were
// served. A query is no emission: if it does not go out, its caller gets an error, and nothing is lost.
//
// Options.OnLoss might get several losses as one that covers them. Then:
//
//   - Instructions is their sum.
//   - Names are the names of all; nil if there are too many.
//   - From and To bound their frames. Other frames in between might have gone out.
//   - Reason and Err are those of the latest uncertain loss, or of the latest one if none is uncertain.
type Loss struct {
	Reason LossReason
	// Names are the affected rooms and users; nil: any, including emissions to everyone and to sockets.
	Names []Address
	// From and To are the numbers of the first and last lost frame; 0: not known.
	From, To     uint64
	Instructions int
	// Err matches [ErrRefused] (no peer got them) or [ErrUncertain] (some peers might have got them), and wraps the
	// cause.
	Err error
}

// A LossReason is the cause of a loss:
//
//	refused    the bus refused it
//	denied     the bus refused it for lack of a permission
//	uncertain  the bus did not confirm or refuse it
//	expired    it waited too long for the link to come back
//	closed     the adapter was closed before it could be published
//	moved      it went to a server that the peers had left
//
// The error of "uncertain" and "moved" matches [ErrUncertain], that of the others [ErrRefused]. [LossReasons] lists them.
type LossReason string

// LossReasons returns every [LossReason], for example to make a metric of each.
func LossReasons() []LossReason {
	return []LossReason{
		reasons.LossRefused, reasons.LossDenied, reasons.LossUncertain, reasons.LossExpired, reasons.LossClosed,
		reasons.LossMoved,
	}
}

// A LossError is returned by Node.Flush if some emissions did not go out, or might not have.
type LossError struct {
	Losses []Loss // the latest; bounded
	More   int    // number of earlier losses that are not listed
}

func (e *LossError) Error() string {
	n := 0
	for _, l := range e.Losses {
		n += l.Instructions
	}
	s := fmt.Sprintf("crosscast: %d instructions did not, or may not have, gone out", n)
	if e.More > 0 {
		s += fmt.Sprintf(" (and those of %d earlier losses)", e.More)
	}
	if len(e.Losses) > 0 {
		s += ": " + e.Losses[len(e.Losses)-1].Err.Error()
	}
	return errtext.One(s)
}

// Unwrap makes errors.Is see the causes.
func (e *LossError) Unwrap() []error {
	errs := make([]error, len(e.Losses))
	for i, l := range e.Losses {
		errs[i] = l.Err
	}
	return errs
}

// maxSumNames is the number of names that a sum of losses lists.
const maxSumNames = 256

// merge makes l cover o, which came later.
func (l *Loss) merge(o *Loss) {
	if l.From == 0 || o.From == 0 {
		l.From, l.To = 0, 0
	} else {
		l.From, l.To = min(l.From, o.From), max(l.To, o.To)
	}
	l.Names = coverNames(l.Names, o.Names, maxSumNames)
	l.Instructions += o.Instructions
	if !errors.Is(l.Err, ErrUncertain) || errors.Is(o.Err, ErrUncertain) {
		l.Reason, l.Err = o.Reason, o.Err
	}
}

// maxLosses is the number of losses that are kept for a Flush.
const maxLosses = 64

// lossLog keeps the latest losses for Flush.
type lossLog struct {
	mu      sync.Mutex // guards the following fields
	recent  []Loss
	total   int // losses so far; recent are the latest
	flushed int // total when the last Flush returned
}

func (l *lossLog) record(v Loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) == maxLosses {
		l.recent = append(l.recent[:0], l.recent[1:]...)
	}
	l.recent = append(l.recent, v)
	l.total++
}

func (l *lossLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// mark returns the number of losses that earlier Flushes have returned.
func (l *lossLog) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushed
}

// since returns the losses after a mark as an error; nil: there are none.
func (l *lossLog) since(mark int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinceLocked(mark)
}

// rest returns the losses that no Flush has returned, without the first told ones.
func (l *lossLog) rest(told int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinceLocked(max(told, l.flushed))
}

// sinceLocked is since, with l locked.
func (l *lossLog) sinceLocked(mark int) error {
	l.flushed = l.total
	n := l.total - mark
	if n == 0 {
		return nil
	}
	listed := min(n, len(l.recent))
	return &LossError{
		Losses: append([]Loss(nil), l.recent[len(l.recent)-listed:]...),
		More:   n - listed,
	}
}

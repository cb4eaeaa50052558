package wire

import (
	"context"
	"log/slog"
	"time"

	"github.com/crosscast/crosscast"
	buckets "github.com/crosscast/crosscast/internal/pace"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/warn"
)

// linkLog writes the changes of the link's state to the log: each once, with its cause and its cure. A link that flaps
// does not fill the log. Each half may write logBurst lines at once, and one more in each logPause. What was left out is
// counted in the next line. If nothing follows, that line is about the latest state, so the log never ends with an old
// one. A linkLog is for one goroutine.
type linkLog struct {
	logger *slog.Logger
	pace   *buckets.Pace
	of     map[string]*halfLog // by change.half
	slow   time.Duration       // how long a call of the application's takes that is logged
}

const (
	logBurst = 10
	logPause = 10 * time.Second
	logAgain = time.Minute // a half that stays down, denied or deaf says so again
)

// halfLog is the log of a half, or of Busy.
type halfLog struct {
	bucket  buckets.Bucket
	written crosscast.LinkState // in the last line
	last    *change             // of the last line
	at      time.Time           // of the last line
	lived   bool                // it has been live
	late    *change             // the latest change, if it has no line
	changes int                 // since the last line
}

func newLinkLog(s *session) *linkLog {
	return &linkLog{
		logger: s.logger, slow: slowAfter * s.patience(), pace: buckets.New(1/logPause.Seconds(), logBurst),
		of: map[string]*halfLog{"": {}, "publishing": {}, "subscribing": {}},
	}
}

// note writes a change, or keeps it for later.
func (l *linkLog) note(c *change) {
	h := l.of[c.half]
	switch {
	case c.to.Err == crosscast.ErrClosed:
		return
	case c.half == "" && !c.status.Busy: // the end is not logged
		h.late = nil
		return
	}
	h.late = c
	h.changes++
	l.write(h)
}

// rest writes the changes that are late and due now, and again what stays bad. status is the present one.
func (l *linkLog) rest(status crosscast.LinkStatus) {
	for _, h := range l.of {
		if c := h.last; h.late == nil && c != nil && warn.LinkCure(string(c.to.State), nil) != "" && time.Since(h.at) >= logAgain {
			again := *c
			again.status = status
			h.late, h.changes = &again, 1
		}
		l.write(h)
	}
}

func (l *linkLog) write(h *halfLog) {
	c := h.late
	if c == nil || l.pace.Take(&h.bucket) > 0 {
		return
	}
	var args []any
	if left := h.changes - 1; left > 0 {
		c.from = h.written
		args = append(args, "left out", left)
	}
	l.line(h, c, args)
	h.late, h.changes, h.written, h.last, h.at = nil, 0, c.to.State, c, time.Now()
	h.lived = h.lived || c.to.State == reasons.LinkLive
}

func (l *linkLog) line(h *halfLog, c *change, args []any) {
	if c.half == "" {
		l.logger.Warn("crosscast: a call of the application's keeps the link from being read; what arrives waits",
			append(args, "longer than", l.slow,
				"cure", "a Conn's Send, an OnGap or an Observer blocks; a dump of the goroutines shows which")...)
		return
	}
	if c.to.State == reasons.LinkHeld { // a consequence, which heals by itself
		args = append(args, "meaning", c.to.Err)
	} else if c.to.Err != nil {
		args = append(args, "error", c.to.Err)
	}
	cure := warn.LinkCure(string(c.to.State), c.to.Err)
	if name, other := c.other(); c.to.State == reasons.LinkDown && other.State == reasons.LinkDenied {
		args = append(args, name, other.Err)
		cure = warn.LinkCure(string(other.State), other.Err)
	}
	if cure != "" {
		args = append(args, "cure", cure)
	}
	l.logger.Log(context.Background(), c.level(h.lived), "crosscast: the "+c.half+" half of the link is "+string(c.to.State), args...)
}

// other returns the half that has not changed, and its name.
func (c *change) other() (string, crosscast.LinkHalf) {
	if c.half == "publishing" {
		return "subscribing", c.status.Subscribing
	}
	return "publishing", c.status.Publishing
}

// level returns Warn if a half gets worse, or changes to an equally bad state; Info if it gets better; Debug for the
// states before the first that need nobody.
func (c *change) level(lived bool) slog.Level {
	bad := func(s crosscast.LinkState) int {
		switch s {
		case reasons.LinkLive:
			return 0
		case reasons.LinkHeld, reasons.LinkConnecting:
			return 1
		}
		return 2
	}
	switch {
	case c.from == "", !lived && bad(c.to.State) == 1:
		return slog.LevelDebug
	case c.to.State == reasons.LinkHeld:
		return slog.LevelInfo
	case bad(c.to.State) < bad(c.from):
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

package wire

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	buckets "github.com/crosscast/crosscast/internal/pace"
	"github.com/crosscast/crosscast/internal/reasons"
)

// TestLogOfAHalfWhoseCauseIsTheOthers: a half that is down while the other is denied has the cause of that one.
func TestLogOfAHalfWhoseCauseIsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := &linkLog{
			logger: slog.New(slog.NewTextHandler(&b, nil)), pace: buckets.New(1, logBurst),
			of: map[string]*halfLog{"publishing": {lived: true}, "subscribing": {}},
		}
		down := crosscast.LinkHalf{State: reasons.LinkDown, Err: errors.New("EOF")}
		l.note(&change{half: "publishing", from: reasons.LinkLive, to: down, status: crosscast.LinkStatus{Publishing: down}})
		if got := b.String(); !strings.Contains(got, "error=EOF") || !strings.Contains(got, "can be reached") {
			t.Errorf("before the other half knows: %s", got)
		}
		b.Reset()
		time.Sleep(logAgain - time.Second)
		status := crosscast.LinkStatus{
			Publishing: down, Subscribing: crosscast.LinkHalf{State: reasons.LinkDenied, Err: errors.New("WRONGPASS")},
		}
		if l.rest(status); b.Len() > 0 {
			t.Errorf("too early: %s", &b)
		}
		time.Sleep(time.Second)
		l.rest(status)
		if got := b.String(); !strings.Contains(got, "error=EOF subscribing=WRONGPASS") || !strings.Contains(got, "credentials") {
			t.Errorf("after a minute: %s", got)
		}
	})
}

package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

var (
	errWasRefused  = fmt.Errorf("%w: why", crosscast.ErrRefused)
	errIsUncertain = fmt.Errorf("%w: why", crosscast.ErrUncertain)
)

// losing is a node whose adapter loses what a test has it lose, and what its OnLoss was told, by seconds.
type losing struct {
	*crosscast.Node
	d     *driver
	begin time.Time
	log   log
}

func newLosing(t *testing.T) *losing {
	n := &losing{d: newDriver(t), begin: time.Now()}
	n.Node = start(t, crosscast.Options{Adapter: n.d, Heartbeat: time.Minute,
		OnLoss: func(_ *crosscast.Node, l crosscast.Loss) {
			n.log.add("%.1fs: %d %s", time.Since(n.begin).Seconds(), l.Instructions, l.Reason)
		}})
	return n
}

func (n *losing) lose(instructions int, reason crosscast.LossReason) {
	n.d.h.Loss(crosscast.Loss{Instructions: instructions, Reason: reason, Err: errWasRefused})
}

// OnLoss is told of one cause at most once a second: of the first loss at once, then of sums.
func TestOnLossOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLosing(t)
		n.lose(1, reasons.LossExpired)
		time.Sleep(50 * time.Millisecond)
		for range 35 { // until 3.45 s
			n.lose(1, reasons.LossExpired)
			time.Sleep(100 * time.Millisecond)
		}
		n.lose(5, reasons.LossDenied)
		time.Sleep(10 * time.Second)
		n.lose(7, reasons.LossExpired)
		synctest.Wait()
		equal(t, "told", n.log.take(), "0.0s: 1 expired; 1.0s: 10 expired; 2.0s: 10 expired; 3.0s: 10 expired; "+
			"3.5s: 5 denied; 4.0s: 5 expired; 13.6s: 7 expired")
		s := n.Stats()
		equal(t, "losses", s.Losses, 38)
		equal(t, "expired", s.LossReasons[reasons.LossExpired], 37)
	})
}

// Whatever is gathered is told before Close has returned, and Close itself loses at once.
func TestCloseTellsLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLosing(t)
		n.d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Goodbye {
				n.lose(4, reasons.LossExpired)
				n.lose(5, reasons.LossClosed)
				n.lose(6, reasons.LossClosed)
			}
		}
		n.lose(1, reasons.LossExpired)
		n.lose(2, reasons.LossExpired)
		n.lose(3, reasons.LossExpired)
		err := n.Close(ctx)
		equal(t, "told", n.log.take(), "0.0s: 1 expired; 0.0s: 5 expired; 0.0s: 5 closed; 0.0s: 4 expired; 0.0s: 6 closed")
		var le *crosscast.LossError
		if !errors.As(err, &le) || len(le.Losses) != 3 {
			t.Errorf("Close: %v", err)
		}
	})
}

// Whatever a start that fails has lost is told at once, and no timer outlives it.
func TestFailedStartTellsLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		d.publishErr = crosscast.ErrDenied
		d.onPublish = func(*crosscast.Instruction) {
			for i := range 3 {
				d.h.Loss(crosscast.Loss{Instructions: 1 + i, Reason: reasons.LossDenied, Err: errWasRefused})
			}
		}
		var l log
		_, err := crosscast.Start(ctx, crosscast.Options{Adapter: d, OnLoss: func(_ *crosscast.Node, lost crosscast.Loss) {
			l.add("%d", lost.Instructions)
		}})
		if !errors.Is(err, crosscast.ErrDenied) {
			t.Error(err)
		}
		synctest.Wait()
		equal(t, "told", l.take(), "1; 5")
	})
}

// While OnLoss takes its time 64 calls wait, and the newest covers all that came since.
func TestLossesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		release := make(chan struct{})
		var told []crosscast.Loss
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute,
			OnLoss: func(_ *crosscast.Node, l crosscast.Loss) {
				<-release
				told = append(told, l)
			}})
		room := func(i int) crosscast.Address {
			return crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: fmt.Sprint(i)}
		}
		lose := func(i int, err error) {
			d.h.Loss(crosscast.Loss{
				Reason: reasons.LossUncertain, Names: []crosscast.Address{room(i), room(0)}, From: uint64(10 * i),
				To: uint64(10*i + 5), Instructions: i, Err: err,
			})
			time.Sleep(time.Second)
		}
		for i := 1; i <= 66; i++ {
			lose(i, errIsUncertain)
		}
		lose(67, errWasRefused)
		close(release)
		synctest.Wait()
		equal(t, "calls", len(told), 65)
		last := told[64]
		equal(t, "instructions", last.Instructions, 65+66+67)
		equal(t, "frames", fmt.Sprint(last.From, last.To), "650 675")
		equal(t, "names", fmt.Sprint(last.Names), fmt.Sprint([]crosscast.Address{room(65), room(0), room(66), room(67)}))
		equal(t, "uncertain", errors.Is(last.Err, crosscast.ErrUncertain), true)

		// Too many names, and any name, are any name; and numbers that are not known are not.
		release = make(chan struct{})
		told = nil
		for i := 1; i <= 400; i++ {
			lose(i, errIsUncertain)
		}
		close(release)
		synctest.Wait()
		equal(t, "any", told[64].Names == nil, true)
		d.h.Loss(crosscast.Loss{Instructions: 1, Err: errWasRefused})
		d.h.Loss(crosscast.Loss{Instructions: 1, Err: errWasRefused, From: 3, To: 4, Names: []crosscast.Address{room(1)}})
		d.h.Loss(crosscast.Loss{Instructions: 1, Err: errWasRefused, Names: []crosscast.Address{room(1)}})
		time.Sleep(time.Second)
		synctest.Wait()
		last = told[len(told)-1]
		equal(t, "sum", fmt.Sprint(last.Instructions, last.From, last.To, len(last.Names)), "2 0 0 1")
		ok(t, n.Close(ctx)) // all was told
	})
}

// Close returns what it has lost itself, and what nobody was told of.
func TestCloseReturnsLosses(t *testing.T) {
	for _, test := range []struct {
		name              string
		hook, flush, last bool
		want              int // losses that Close returns
	}{
		{"no hook", false, false, false, 2},
		{"no hook, flushed", false, true, false, 0},
		{"hook", true, false, false, 0},
		{"no hook, and one of its own", false, false, true, 3},
		{"flushed, and one of its own", false, true, true, 1},
		{"hook, and one of its own", true, false, true, 1},
		{"both, and one of its own", true, true, true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDriver(t)
			o := crosscast.Options{Adapter: d}
			if test.hook {
				o.OnLoss = func(*crosscast.Node, crosscast.Loss) {}
			}
			n, err := crosscast.Start(ctx, o)
			ok(t, err)
			lose := func() { d.h.Loss(crosscast.Loss{Instructions: 1, Err: errWasRefused}) }
			lose()
			lose()
			if test.flush {
				if err := n.Flush(ctx); err == nil {
					t.Error("Flush returns no loss")
				}
			}
			d.onPublish = func(inst *crosscast.Instruction) {
				if inst.Kind == kind.Goodbye && test.last {
					lose()
				}
			}
			err = n.Close(ctx)
			var le *crosscast.LossError
			errors.As(err, &le)
			got := 0
			if le != nil {
				got = len(le.Losses)
			}
			if got != test.want || (err == nil) != (got == 0) {
				t.Errorf("%d losses instead of %d: %v", got, test.want, err)
			}
		})
	}
}

// What an OnClose handler has lost by Flush is not told twice.
func TestCloseAfterAFlushMeanwhile(t *testing.T) {
	d := newDriver(t)
	n := start(t, crosscast.Options{Adapter: d})
	_, err := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{OnClose: func(*crosscast.Socket, crosscast.Reason) {
		d.h.Loss(crosscast.Loss{Instructions: 1, Err: errWasRefused})
		if err := n.Flush(context.Background()); err == nil {
			t.Error("Flush returns no loss")
		}
	}})
	ok(t, err)
	ok(t, n.Close(ctx))
}

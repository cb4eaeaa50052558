package ws_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

type brokenTimeout struct{ error }

func (brokenTimeout) Timeout() bool { panic("oops") }

type brokenIs struct{ error }

func (brokenIs) Is(target error) bool {
	if target == crosscast.ErrDenied {
		panic("oops")
	}
	return target == ws.ErrBusy
}

// TestBusyJoin: what AllowJoin could not decide is put off, and any other error refuses the join.
func TestBusyJoin(t *testing.T) {
	reports := make(chan string, 20)
	decisions := make(chan error, 1)
	s := newServer(t, wstest.StartNode(t, crosscast.Options{}), ws.Options{
		AllowJoin: func(context.Context, *crosscast.Socket, string) error { return <-decisions },
		OnError:   func(_ *crosscast.Socket, event string, err error) { reports <- event + ": " + err.Error() },
	})
	c := dial(t, wstest.Serve(t, s).URL, nil)
	put := func(err error, answer, report string) {
		t.Helper()
		decisions <- err
		c.text(`{"join":"r","id":1}`)
		c.Expect(`{"id":1,"error":` + answer + `}`)
		if report != "" {
			if got := <-reports; got != report {
				t.Errorf("OnError(%s), want %s", got, report)
			}
		}
	}
	const off = `"try again later","retry":true`
	for _, err := range []error{
		ws.ErrBusy, fmt.Errorf("%w: the database is away", ws.ErrBusy), fmt.Errorf("query: %w", context.DeadlineExceeded),
		os.ErrDeadlineExceeded, &net.DNSError{Err: "slow", IsTimeout: true},
	} {
		put(err, off, `join "r": `+err.Error())
	}
	put(crosscast.ErrDenied, off, "") // no report: the next one is of something else
	put(ws.Errorf("come back at noon: %w", ws.ErrBusy), `"come back at noon: crosscast/ws: busy","retry":true`, "")
	for _, err := range []error{
		errors.New("no"), context.Canceled, &net.DNSError{Err: "no such host"}, brokenTimeout{errors.New("broken")},
		brokenIs{errors.New("broken")},
	} {
		put(err, `"internal error"`, `join "r": `+err.Error())
	}
	put(ws.Errorf("members only"), `"members only"`, "")
	if got := s.Stats().Refused["join"]; got != 6 {
		t.Errorf("%d refused joins are counted, want the 6 that were not put off", got)
	}

	// Without an id there is no reply that could say it.
	decisions <- ws.ErrBusy
	c.text(`{"join":"r"}`)
	c.Expect(errorEvent(`join "r": try again later`))
	if got := <-reports; got != `join "r": crosscast/ws: busy` || len(reports) > 0 {
		t.Errorf("OnError(%s), and %d more", got, len(reports))
	}
}

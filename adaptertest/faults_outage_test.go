package adaptertest

import (
	"context"
	"errors"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// outageFaults are those that show when links break.
var outageFaults = []fault{
	{
		name: "waits for the link in Publish",
		on:   overWire,
		red: map[string]string{
			"outage-local-first": "did not return", "outage-nothing-waits": "did not return",
			"outage-volatile": "did not return",
		},
		publish: func(f *faulty, ctx context.Context, inst *instruction, next func(*instruction) error) error {
			for f.down() && !inst.Kind.Control() && ctx.Err() == nil {
				time.Sleep(time.Millisecond) // poll
			}
			return next(inst)
		},
	},
	{
		name: "waits for the link in Subscribe",
		on:   overWire,
		red:  map[string]string{"outage-join": "did not return"},
		subscribe: func(f *faulty, ctx context.Context, names []address, next func(...address) error) error {
			for f.down() && ctx.Err() == nil {
				time.Sleep(time.Millisecond) // poll
			}
			return next(names...)
		},
	},
	{
		name: "says that it subscribed while the link is down",
		on:   overWire,
		red:  map[string]string{"outage-synced": "returned <nil> while the link is down"},
		subscribe: func(f *faulty, _ context.Context, names []address, next func(...address) error) error {
			next(names...)
			return nil
		},
		link: func(*faulty, crosscast.LinkStatus, func(crosscast.LinkStatus)) {},
	},
	{
		name: "refuses what is asked for while the link is down",
		on:   overWire,
		red:  map[string]string{"outage-join": "while the link is down", "outage-synced": "denied"},
		subscribe: func(f *faulty, _ context.Context, names []address, next func(...address) error) error {
			if err := next(names...); err == nil {
				return nil
			}
			return crosscast.ErrDenied
		},
	},
	{
		name: "reports no gap",
		on:   overWire,
		red: map[string]string{
			"outage-gap": "the gap of the outage", "outage-flapping": "the gap of the outage",
			"outage-all": "the gap of the outage",
			"outage-deaf": "the gap of a deaf " +
				"link", "outage-join": "the gap of the outage", "outage-local-first": "the gap of the outage",
			"start-offline": "the gap of the outage",
		},
		gap: func(*faulty, crosscast.Gap, func(crosscast.Gap)) {},
	},
	{
		name:   "does not report that an outage begins",
		on:     overWire,
		red:    map[string]string{"outage-begins": "knowing of the outage"},
		outage: func(time.Time, crosscast.GapReason, func(time.Time, crosscast.GapReason)) {},
	},
	{
		name: "reports gaps of the wrong rooms",
		on:   overWire,
		red: map[string]string{
			"outage-gap": "SILENT LOSS", "outage-deaf": "SILENT LOSS",
			"outage-flapping": "SILENT LOSS", "outage-flapping-gap": "SILENT LOSS",
			"outage-join": "before a gap that covers",
		},
		gap: func(_ *faulty, g crosscast.Gap, next func(crosscast.Gap)) {
			g.Names = []address{room("another")}
			next(g)
		},
	},
	{
		name: "reports gaps too late",
		on:   overWire,
		red: map[string]string{
			"outage-gap": "SILENT LOSS", "outage-join": "before a gap that covers",
			"gap-in-place": "nothing of what OnGap emits",
		},
		handle: func(f *faulty, inst *instruction, next func(*instruction)) {
			next(inst)
			f.mu.Lock()
			owed := f.n > 0
			f.n = 0
			f.mu.Unlock()
			if owed {
				f.h.Gap(crosscast.Gap{Reason: reasons.GapLinkLost})
			}
		},
		gap: func(f *faulty, g crosscast.Gap, next func(crosscast.Gap)) {
			f.mu.Lock()
			f.n++
			f.mu.Unlock()
			g.Names = []address{} // for the suite to go on
			next(g)
		},
	},
	{
		name: "drops what is published while the link is down",
		on:   overWire,
		red: map[string]string{
			"outage-publisher": "SILENT LOSS", "outage-publisher-gap": "SILENT LOSS",
			"outage-close":         "Close returned nil without a loss",
			"outage-nothing-waits": "no limit",
		},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if f.down() && !inst.Kind.Control() {
				return nil
			}
			return next(inst)
		},
	},
	{
		name:  "does not flush",
		on:    slowWire,
		red:   map[string]string{"outage-flushed": "waited"},
		flush: func(*faulty, func() error) error { return nil },
	},
	{
		name: "starts without a link",
		on:   overWire,
		red:  map[string]string{"outage-start": "Start without a link returned nil"},
		start: func(_ *faulty, _ context.Context, next func() error) error {
			next()
			return nil
		},
	},
	{
		name: "waits for the bus in Start, though it must not",
		on:   overWire,
		red: map[string]string{
			"start-offline": "without a link returned: ", "start-offline-emitter": "without a link returned: ",
		},
		online: true,
	},
	{
		name: "is of no use after a failed start",
		on:   overWire,
		red:  map[string]string{"start-again": "once there is a link, returned: crosscast: start: closed"},
		start: func(f *faulty, ctx context.Context, next func() error) error {
			err := next()
			if err != nil {
				f.whole.Close(ctx)
			}
			return err
		},
	},
	{
		name: "lets two nodes have it",
		red:  map[string]string{"start-in-use": `that "peer-1" has returned: <nil>`},
		start: func(_ *faulty, _ context.Context, next func() error) error {
			next()
			return nil
		},
	},
	{
		name: "says that it subscribed to what is denied",
		on:   overWire,
		red:  map[string]string{"denied-join": "fails with ErrDenied", "denied-revoked": "fails with ErrDenied"},
		subscribe: func(_ *faulty, _ context.Context, names []address, next func(...address) error) error {
			err := next(names...)
			if errors.Is(err, crosscast.ErrDenied) {
				return nil
			}
			return err
		},
	},
	{
		name: "does not tell what is denied",
		on:   overWire,
		red:  map[string]string{"denied-revoked": "the gap of a room that is denied"},
		gap: func(_ *faulty, g crosscast.Gap, next func(crosscast.Gap)) {
			if g.Reason != reasons.GapDenied {
				next(g)
			}
		},
	},
	{
		name: "does not tell that a denial has ended",
		on:   overWire,
		red:  map[string]string{"denied-revoked": "the end of the gap"},
		gap: func(_ *faulty, g crosscast.Gap, next func(crosscast.Gap)) {
			if g.Reason != reasons.GapDenied || g.Until.IsZero() {
				next(g)
			}
		},
	},
	{
		name:  "hears everybody all the time",
		on:    overWire,
		red:   map[string]string{"driver-heard": "of a peer that is silent"},
		heard: func(crosscast.NodeID, func(crosscast.NodeID) time.Time) time.Time { return time.Now() },
	},
	{
		name:  "hears nobody",
		on:    overWire,
		red:   map[string]string{"driver-heard": "Heard tells of a peer"},
		heard: func(crosscast.NodeID, func(crosscast.NodeID) time.Time) time.Time { return time.Time{} },
	},
	{
		name:   "does not tell of a peer that has expired",
		on:     overWire,
		red:    map[string]string{"driver-expired": "the gap of a peer that has expired"},
		expire: func(crosscast.NodeID, func(crosscast.NodeID)) {},
	},
}

package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

type (
	instruction = crosscast.Instruction
	address     = crosscast.Address
)

// Each fault is one that a driver's author could make, or nearly.
var faults = []fault{
	{
		name: "handles every instruction twice",
		red: map[string]string{
			"once-several-targets": "instead of", "once-many-names": "instead of", "once-churn": "instead of",
			"once-subscriptions": "instead of", "load": "twice",
		},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) { next(inst); next(inst) },
	},
	{
		name: "handles what the bus repeats",
		on:   overWire,
		red:  map[string]string{"once-repeated": "instead of nothing"},
		handle: func(f *faulty, inst *instruction, next func(*instruction)) {
			f.mu.Lock()
			f.held = []*instruction{inst}
			f.mu.Unlock()
			next(inst)
		},
		inject: func(all []*faulty) {
			for _, f := range all {
				f.mu.Lock()
				held := f.held
				f.mu.Unlock()
				for _, inst := range held {
					f.h.Handle(inst)
				}
			}
		},
	},
	{
		name: "forgets the target",
		red:  map[string]string{"targets": "instead of", "spaces": "instead of nothing", "leave": "instead of"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			inst.Target = crosscast.Target{Everyone: true}
			next(inst)
		},
	},
	{
		name: "takes users for rooms",
		red: map[string]string{
			"spaces": "instead of nothing", "message-target": "arrived as", "driver-fields-target": "arrived:",
		},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			inst.Target.Rooms = append(inst.Target.Rooms, inst.Target.Users...)
			next(inst)
		},
	},
	{
		name: "handles its own instructions",
		red: map[string]string{
			"echo": "instead of", "once-several-targets": "instead of", "driver-order": "a node never handles what " +
				"it published",
		},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind == kind.Emit && inst.To == "" && !isFence(inst) {
				f.h.Handle(inst)
			}
			return next(inst)
		},
	},
	{
		name: "ignores exceptions",
		red: map[string]string{
			"exceptions": "instead of", "driver-fields": "arrived:", "driver-fields-target": "arrived:",
		},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			inst.Target.ExceptRooms, inst.Target.ExceptUsers, inst.Target.ExceptSockets = nil, nil, nil
			next(inst)
		},
	},
	{
		name: "drops volatile instructions",
		red:  map[string]string{"volatile": "got nothing instead of", "driver-fields": "0 arrived"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Volatile {
				return nil
			}
			return next(inst)
		},
	},
	{
		name: "ignores the namespace",
		red: map[string]string{
			"namespaces": "instead of", "message": "messages arrived instead of", "joined-namespace": "waited",
		},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			inst.Namespace = "/"
			next(inst)
		},
	},
	{
		name: "folds the case of names",
		red:  map[string]string{"names": "instead of", "names-bytes": "instead of"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			for i, room := range inst.Target.Rooms {
				inst.Target.Rooms[i] = strings.ToLower(room)
			}
			next(inst)
		},
	},
	{
		name: "claims that somebody was reached",
		red:  map[string]string{"deliver-nobody": "Deliver to nobody returned"},
		deliver: func(_ *faulty, next func() (crosscast.Receipt, error)) (crosscast.Receipt, error) {
			receipt, err := next()
			receipt.Nodes++
			return receipt, err
		},
	},
	{
		name: "claims that nobody was reached",
		red:  map[string]string{"deliver": "when 1 sockets of its own node and 1 peers hear it"},
		deliver: func(_ *faulty, next func() (crosscast.Receipt, error)) (crosscast.Receipt, error) {
			_, err := next()
			return crosscast.Receipt{Known: true}, err
		},
	},
	{
		name: "forgets the last of the names to subscribe to",
		red: map[string]string{
			"joined-room": "waited", "joined-connect": "waited", "joined-subscribe": "waited", "joined-add": "waited",
			"joined-many-rooms": "instead of", "joined-at-once": "did not reach it", "leave-and-join-again": "waited",
			"interest-lingers": "waited", "driver-subscribe": "waited",
		},
		subscribe: func(_ *faulty, _ context.Context, names []address, next func(...address) error) error {
			return next(names[:len(names)-1]...)
		},
	},
	{
		name: "returns from Subscribe before it is confirmed",
		red: map[string]string{
			"joined-room": "waited", "joined-subscribe": "waited", "joined-add": "waited", "joined-connect": "waited",
			"commands-awaited": "waited",
		},
		subscribe: func(f *faulty, _ context.Context, names []address, next func(...address) error) error {
			names = slices.Clone(names)
			time.AfterFunc(20*time.Millisecond, func() { next(names...) })
			return nil
		},
	},
	{
		name: "unsubscribes late",
		red: map[string]string{
			"driver-subscribe": "waited", "leave-and-join-again": "waited", "joined-error": "waited",
		},
		subscribe: func(f *faulty, ctx context.Context, names []address, next func(...address) error) error {
			err := next(names...)
			f.mu.Lock()
			late := f.late
			f.late = nil
			f.mu.Unlock()
			f.whole.Unsubscribe(ctx, late...)
			return err
		},
		unsubscribe: func(f *faulty, names []address, _ func(...address) error) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.late = append(f.late, names...)
			return nil
		},
	},
	{
		name:        "never unsubscribes",
		red:         map[string]string{"interest-ends": "receiving nothing for a room and a user without members"},
		unsubscribe: func(*faulty, []address, func(...address) error) error { return nil },
	},
	{
		name: "sends everything to everyone",
		red: map[string]string{
			"interest": "another node received 150 of them", "interest-sockets": "another node received 50 of them",
			"interest-ends": "receiving nothing",
		},
		publish: func(f *faulty, ctx context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind != kind.Emit || inst.To != "" || inst.Target.Everyone {
				return next(inst)
			}
			for _, p := range f.all() {
				if p == f {
					continue
				}
				p.mu.Lock()
				h := p.h
				p.mu.Unlock()
				if h != nil {
					h.Handle(inst)
				}
			}
			return nil
		},
	},
	{
		name: "swaps two instructions",
		red: map[string]string{
			"order-one-name": "instead of", "order-of-each": "to one room", "order-across-names": "instead of",
			"order-subscription": "instead of", "driver-order": "published in turns", "driver-order-inbox": "instead of",
		},
		handle: func(f *faulty, inst *instruction, next func(*instruction)) {
			if f.every(19) {
				f.mu.Lock()
				f.held = append(f.held, inst)
				f.mu.Unlock()
				return
			}
			next(inst)
			f.mu.Lock()
			held := f.held
			f.held = nil
			f.mu.Unlock()
			for _, inst := range held {
				next(inst)
			}
		},
	},
	{
		name: "sends what goes to one room ahead of the rest",
		red:  map[string]string{"order-across-names": "instead of"},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			f.mu.Lock()
			held := f.held
			f.held = nil
			if inst.Target.Everyone && !isFence(inst) && inst.Kind == kind.Emit {
				f.held = []*instruction{cloneInstruction(inst)}
			}
			wait := f.held != nil
			f.mu.Unlock()
			var err error
			if !wait && len(inst.Target.Rooms)+len(inst.Target.Users) == 1 {
				err = next(inst)
				wait = true
			}
			for _, inst := range held {
				err = errors.Join(err, next(inst))
			}
			if !wait {
				err = errors.Join(err, next(inst))
			}
			return err
		},
	},
	{
		name: "has no order between users and rooms",
		red:  map[string]string{"order-of-kinds": "instead of"},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			f.mu.Lock()
			held := f.held
			f.held = nil
			late := len(inst.Target.Users) == 1
			if late {
				f.held = []*instruction{cloneInstruction(inst)}
			}
			f.mu.Unlock()
			var err error
			if !late {
				err = next(inst)
			}
			for _, inst := range held {
				err = errors.Join(err, next(inst))
			}
			return err
		},
	},
	{
		name: "takes binary for JSON",
		red:  map[string]string{"payloads": "arrived on", "driver-fields": "arrived:"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			if inst.Payload.Encoding == crosscast.EncodingBinary { // as valid JSON: a node drops what is none
				inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: fmt.Appendf(nil, `"%x"`, inst.Payload.Data)}
			}
			next(inst)
		},
	},
	{
		name: "takes msgpack for binary",
		red:  map[string]string{"payloads-msgpack": "arrived on"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			if inst.Payload.Encoding == crosscast.EncodingMsgPack {
				inst.Payload.Encoding = crosscast.EncodingBinary
			}
			next(inst)
		},
	},
	{
		name: "ends payloads at a line's end",
		red:  map[string]string{"payloads": "arrived on"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			inst.Payload.Data, _, _ = bytes.Cut(inst.Payload.Data, []byte("\r\n"))
			next(inst)
		},
	},
	{
		name: "keeps the instruction after Publish",
		red: map[string]string{
			"payload-kept": "after Emit", "driver-memory": "overwritten after Publish",
			"driver-memory-sockets": "overwritten after Publish",
		},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind != kind.Emit {
				return next(inst)
			}
			f.mu.Lock()
			held := f.held
			f.held = nil
			if !isFence(inst) {
				shallow := *inst
				f.held = []*instruction{&shallow}
			}
			f.mu.Unlock()
			for _, inst := range held {
				if err := next(inst); err != nil {
					return err
				}
			}
			if isFence(inst) {
				return next(inst)
			}
			return nil
		},
	},
	{
		name:   "drops the meta pairs",
		red:    map[string]string{"message-meta": "meta pairs are []", "driver-fields-meta": "arrived:"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) { inst.Meta = nil; next(inst) },
	},
	{
		name: "is not ready when Start returns",
		red:  map[string]string{"driver-ready": "waited", "driver-ready-inbox": "waited"},
		handle: func(f *faulty, inst *instruction, next func(*instruction)) {
			f.mu.Lock()
			early := time.Since(f.since) < 50*time.Millisecond
			f.mu.Unlock()
			if !early {
				next(inst)
			}
		},
	},
	{
		name: "ignores To",
		red: map[string]string{
			"driver-to": "instead of", "driver-fields-inbox": "arrived:", "requests-some": "handlers of",
		},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			c := *inst
			c.To = ""
			return next(&c)
		},
	},
	{
		name:  "claims to have an empty queue too early",
		red:   map[string]string{"driver-flush": "bytes are queued"},
		stats: func(s *crosscast.AdapterStats) { s.QueueBytes = 17 },
	},
	{
		name: "refuses large instructions with an error of its own",
		red:  map[string]string{"driver-too-large": "does not match ErrTooLarge"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if len(inst.Payload.Data) > 2<<20 {
				return errors.New("too much")
			}
			return next(inst)
		},
	},
	{
		name: "loses large instructions",
		red:  map[string]string{"driver-too-large": "instead of"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if len(inst.Payload.Data) > 2<<20 {
				return nil
			}
			return next(inst)
		},
	},
	{
		name: "loses silently what a full queue does not take",
		red:  map[string]string{"driver-slow-peer": "there was no gap"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			next(inst)
			return nil
		},
		gap: func(*faulty, crosscast.Gap, func(crosscast.Gap)) {},
	},
	{
		name: "handles one origin's instructions concurrently",
		red:  map[string]string{"driver-slow-peer": "Handle is never called concurrently for one origin"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			go next(inst)
		},
	},
	{
		name: "reports gaps without a cause",
		on:   overWire,
		red: map[string]string{"driver-no-false-gap": "nothing went wrong", "outage-of-another": "whose links stood " +
			"all the time", "load": "a gap where nothing went wrong"},
		handle: func(f *faulty, inst *instruction, next func(*instruction)) {
			if f.every(20) {
				f.h.Gap(crosscast.Gap{Reason: reasons.GapHole})
			}
			next(inst)
		},
	},
	{
		name:  "does not count what it drops",
		on:    overWire,
		red:   map[string]string{"driver-hostile-bytes": "a node counts 0"},
		stats: func(s *crosscast.AdapterStats) { s.Dropped = nil },
	},
	{
		name: "believes strangers",
		on:   overWire,
		red:  map[string]string{"driver-hostile-bytes": "made of a stranger's bytes"},
		inject: func(all []*faulty) {
			for _, f := range all {
				f.h.Handle(&instruction{
					Kind: kind.Emit, Namespace: "/", From: "stranger", Event: "hello", Target: everyone,
				})
			}
		},
	},
	{
		name: "fails to close twice, and calls the handler when it does",
		red:  map[string]string{"close-twice": "Close: closed before"},
		close: func(f *faulty, _ context.Context, next func() error) error {
			if err := next(); err != nil || !f.every(2) {
				return err
			}
			f.h.Gap(crosscast.Gap{})
			return errors.New("closed before")
		},
	},
	{
		name: "calls the handler after Close",
		red:  map[string]string{"close-twice": "once Close has returned nil, the Handler is not called again"},
		flush: func(f *faulty, next func() error) error {
			err := next()
			f.h.Gap(crosscast.Gap{})
			return err
		},
	},
	{
		name: "takes what is published after Close",
		red:  map[string]string{"close-twice": "Publish after Close returned <nil>"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if err := next(inst); !errors.Is(err, crosscast.ErrClosed) {
				return err
			}
			return nil
		},
	},
	{
		name: "cannot be closed before it is started",
		red:  map[string]string{"close-unused": "not started"},
		close: func(f *faulty, _ context.Context, next func() error) error {
			if f.h == nil {
				return errors.New("not started")
			}
			return next()
		},
	},
	{
		name: "forgets its queue when it is closed",
		red:  map[string]string{"close-hands-over": "waited"},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind.Control() {
				return next(inst)
			}
			f.mu.Lock()
			f.held = append(f.held, cloneInstruction(inst))
			var out *instruction
			if len(f.held) > 5 {
				out, f.held = f.held[0], f.held[1:]
			}
			f.mu.Unlock()
			if out == nil {
				return nil
			}
			return next(out)
		},
	},
	{
		name: "closes everything with it",
		red:  map[string]string{"close-others": "closed"},
		close: func(f *faulty, ctx context.Context, next func() error) error {
			for _, p := range f.all() {
				p.whole.Close(ctx)
			}
			return next()
		},
	},
	{
		name: "waits for ever in Close",
		red:  map[string]string{"close-while-busy": "Close did not return"},
		close: func(_ *faulty, ctx context.Context, next func() error) error {
			<-ctx.Done()
			return next()
		},
	},
	{
		name: "leaves a goroutine behind",
		red: map[string]string{"targets": "Close leaves nothing running", "close-unused": "Close leaves nothing " +
			"running"},
		close: func(_ *faulty, _ context.Context, next func() error) error {
			forgotten := forgotten
			go func() { <-forgotten }()
			return next()
		},
	},
}

// forgotten is made at the beginning of TestFaults and closed at its end.
var forgotten chan struct{}

// noFault are the rules that no driver can break, because what they are about does not reach it.
var noFault = map[string]string{
	"local":   "a local emission is the node's own affair",
	"removed": "the node itself drops what comes after Remove",
}

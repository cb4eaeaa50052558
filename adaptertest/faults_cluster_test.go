package adaptertest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// clusterFaults are those that concern what nodes ask each other, and emitters.
var clusterFaults = []fault{
	{
		name: "loses answers",
		red: map[string]string{
			"questions": "incomplete", "commands": "incomplete", "acknowledgements": "incomplete", "requests": "incomplete",
			"emitter-asks": "incomplete",
		},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind == kind.Answer {
				return nil
			}
			return next(inst)
		},
	},
	{
		name: "loses presence",
		red: map[string]string{
			"presence": "every peer tells of its members", "presence-data": "what a member has shown from the beginning",
		},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind == kind.Presence {
				return nil
			}
			return next(inst)
		},
	},
	{
		name: "loses what members show",
		red:  map[string]string{"presence-data": "what a member has shown from the beginning"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Presence == nil {
				return next(inst)
			}
			c, p := *inst, *inst.Presence
			p.Changes = slices.Clone(p.Changes)
			for i := range p.Changes {
				p.Changes[i].Presence = nil
			}
			c.Presence = &p
			return next(&c)
		},
	},
	{
		name: "loses the reason of a disconnect",
		red:  map[string]string{"driver-fields-reason": "arrived:"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			c := *inst
			c.Reason = ""
			return next(&c)
		},
	},
	{
		name: "loses the last room of a command",
		red:  map[string]string{"driver-fields-commands": "arrived:"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			c := *inst
			c.Rooms = c.Rooms[:max(0, len(c.Rooms)-1)]
			return next(&c)
		},
	},
	{
		name: "loses goodbyes",
		red:  map[string]string{"driver-fields-nodes": "0 arrived", "nodes": "a node that has closed is forgotten"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind == kind.Goodbye {
				return nil
			}
			return next(inst)
		},
	},
	{
		name: "writes JSON anew",
		red:  map[string]string{"payloads-json": "arrived on"},
		handle: func(_ *faulty, inst *instruction, next func(*instruction)) {
			if inst.Payload.Encoding == crosscast.EncodingJSON {
				var b bytes.Buffer
				json.Compact(&b, inst.Payload.Data)
				inst.Payload.Data = b.Bytes()
			}
			next(inst)
		},
	},
	{
		name: "introduces its emitters",
		red:  map[string]string{"emitter-unknown": "takes an emitter for one"},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if f.emitOnly && inst.Kind == kind.Emit {
				hello := &instruction{
					Kind: kind.Heartbeat, Namespace: "/", From: inst.From, Target: everyone,
					Node: crosscast.NodeInfo{Name: "emitter", Heartbeat: time.Minute},
				}
				if err := next(hello); err != nil {
					return err
				}
			}
			return next(inst)
		},
	},
	{
		name: "passes emissions on to emitters",
		red:  map[string]string{"emitter-asks": "reached the emitter"},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			for _, e := range f.all() {
				if e != f && inst.Kind == kind.Emit && inst.Target.Everyone {
					e.handleAsEmitter(inst)
				}
			}
			return next(inst)
		},
	},
	{
		name: "loses what an emitter publishes to a user",
		red:  map[string]string{"emitter-emits": "instead of"},
		publish: func(f *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if f.emitOnly && inst.Kind == kind.Emit && len(inst.Target.Users) > 0 {
				return nil
			}
			return next(inst)
		},
	},
}

// without is a Subscribe that forgets the names of one space.
func without(space crosscast.Space) func(*faulty, context.Context, []address, func(...address) error) error {
	return func(_ *faulty, _ context.Context, names []address, next func(...address) error) error {
		names = slices.Clone(names)
		return next(slices.DeleteFunc(names, func(a address) bool { return a.Space == space })...)
	}
}

// foreignFaults are those of a driver that must be asked for every name and knows of peers only how many there are.
var foreignFaults = []fault{
	{
		name: "does not say who answers",
		on:   overForeign,
		red:  map[string]string{"answers-name": `answered as ""`},
	},
	{
		name:      "forgets to hear a namespace",
		on:        overForeign,
		red:       map[string]string{"joined-namespace": "waited", "driver-count": "counting 2 peers in /chat"},
		subscribe: without(crosscast.SpaceNamespace),
	},
	{
		name:      "forgets to hear a socket",
		on:        overForeign,
		red:       map[string]string{"joined-connect": "waited", "joined-namespace": "waited", "targets": "instead of"},
		subscribe: without(crosscast.SpaceSocket),
	},
	{
		name: "counts itself",
		on:   overForeign,
		red: map[string]string{
			"driver-count": "counting 2 peers in /", "questions": "nodes know each other", "emitter-asks": "nodes know",
		},
		count: func(n int) int { return n + 1 },
	},
	{
		name: "counts peers that have left",
		on:   overForeign,
		red:  map[string]string{"driver-count": "counting 2 peers in /"},
		close: func(f *faulty, ctx context.Context, next func() error) error {
			return f.whole.(*foreign).whole.Close(ctx) // and not foreign's own
		},
	},
	{
		name: "says that nobody has got an emission to reply to",
		on:   overForeign,
		red:  map[string]string{"acknowledgements": "30 clients replied"},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind == kind.Answer {
				c, a := *inst, *inst.Answer
				c.Answer, a.Count = &a, 0
				inst = &c
			}
			return next(inst)
		},
	},
	{
		name: "loses anonymous answers",
		on:   overForeign,
		red: map[string]string{
			"questions": "a peer did not answer", "acknowledgements": "a peer did not answer",
		},
		publish: func(_ *faulty, _ context.Context, inst *instruction, next func(*instruction) error) error {
			if inst.Kind == kind.Answer {
				return nil
			}
			return next(inst)
		},
	},
}

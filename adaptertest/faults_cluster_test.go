package adaptertest

import (
	"context"

	"github.com/crosscast/crosscast"
)

// clusterFaults are those that concern what nodes ask each other, and emitters.
var clusterFaults = []fault{
	{
		name: "loses answers",
		red: map[string]string{
			"questions": "incomplete", "commands": "incomplete", "acknowledgements": "incomplete", "requests": "incomplete",
			"emitter-asks": "incomplete",
		},
		publish: func(_ *faulty, _ context.Context, in *instruction, next func(*instruction) error) error {
			if in.Kind == crosscast.KindAnswer {
				return nil
			}
			return next(in)
		},
	},
	{
		name: "loses presence",
		red:  map[string]string{"presence": "incomplete"},
		publish: func(_ *faulty, _ context.Context, in *instruction, next func(*instruction) error) error {
			if in.Kind == crosscast.KindPresence {
				return nil
			}
			return next(in)
		},
	},
	{
		name: "loses what an emitter publishes to a user",
		red:  map[string]string{"emitter-emits": "instead of"},
		publish: func(f *faulty, _ context.Context, in *instruction, next func(*instruction) error) error {
			if f.emitOnly && in.Kind == crosscast.KindEmit && len(in.Target.Users) > 0 {
				return nil
			}
			return next(in)
		},
	},
}

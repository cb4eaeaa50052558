package ws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// wrapHandlers makes the handlers with which the server works.
func (o *Options) wrapHandlers() error {
	o.Events = maps.Clone(o.Events)
	if o.Wrap == nil {
		return nil
	}
	for _, event := range slices.Sorted(maps.Keys(o.Events)) {
		if o.Events[event] = o.Wrap(event, o.Events[event]); o.Events[event] == nil {
			return fmt.Errorf("crosscast/ws: Options.Wrap returned no handler for the event %q", event)
		}
	}
	if o.CatchAll != nil {
		if o.CatchAll = o.Wrap("", o.CatchAll); o.CatchAll == nil {
			return errors.New("crosscast/ws: Options.Wrap returned no handler for CatchAll")
		}
	}
	return nil
}

// EventName returns the name of the event that Options.CatchAll handles. ctx is the handler's, or made from it. The
// result is empty for other handlers.
func EventName(ctx context.Context) string {
	name, _ := ctx.Value(nameKey{}).(string)
	return name
}

// nameKey finds the name of an event in the context of CatchAll.
type nameKey struct{}

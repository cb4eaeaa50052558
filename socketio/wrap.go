package socketio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// wrapHandlers makes the handlers with which the server works.
func (n *Namespace) wrapHandlers() error {
	n.Events = maps.Clone(n.Events)
	if n.Wrap == nil {
		return nil
	}
	for _, event := range slices.Sorted(maps.Keys(n.Events)) {
		if n.Events[event] = n.Wrap(event, n.Events[event]); n.Events[event] == nil {
			return fmt.Errorf("its Wrap returned no handler for the event %q", event)
		}
	}
	if n.CatchAll != nil {
		if n.CatchAll = n.Wrap("", n.CatchAll); n.CatchAll == nil {
			return errors.New("its Wrap returned no handler for CatchAll")
		}
	}
	return nil
}

// EventName returns the name of the event that Namespace.CatchAll handles. ctx is the handler's, or made from it. The
// result is empty for other handlers.
func EventName(ctx context.Context) string {
	name, _ := ctx.Value(nameKey{}).(string)
	return name
}

// nameKey finds the name of an event in the context of CatchAll.
type nameKey struct{}

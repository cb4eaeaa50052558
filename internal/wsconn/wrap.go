package wsconn

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/crosscast/crosscast"
)

// WrapHandlers returns a copy of events whose handlers wrap has made, and what it has made of catchAll, for which the
// event is empty. Without wrap the handlers stay as they are, and so does a catchAll that is nil. option is the binding's
// name for wrap.
func WrapHandlers[A any, H ~func(context.Context, *crosscast.Socket, A) error](
	option string, wrap func(event string, next H) H, events map[string]H, catchAll H,
) (map[string]H, H, error) {
	events = maps.Clone(events)
	if wrap == nil {
		return events, catchAll, nil
	}
	for _, event := range slices.Sorted(maps.Keys(events)) {
		if events[event] = wrap(event, events[event]); events[event] == nil {
			return nil, nil, fmt.Errorf("%s returned no handler for the event %q", option, event)
		}
	}
	if catchAll != nil {
		if catchAll = wrap("", catchAll); catchAll == nil {
			return nil, nil, fmt.Errorf("%s returned no handler for CatchAll", option)
		}
	}
	return events, catchAll, nil
}

// nameKey finds the name of an event in the context of a CatchAll.
type nameKey struct{}

// WithEventName returns the context of a CatchAll.
func WithEventName(ctx context.Context, event string) context.Context {
	return context.WithValue(ctx, nameKey{}, event)
}

// EventName returns the name in a context made by WithEventName, or none.
func EventName(ctx context.Context) string {
	name, _ := ctx.Value(nameKey{}).(string)
	return name
}

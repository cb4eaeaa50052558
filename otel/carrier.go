package otelcrosscast

import (
	"slices"
	"strings"

	"github.com/crosscast/crosscast"
)

// A Carrier is Meta of a message, as a propagator reads and writes it (propagation.TextMapCarrier). In a subscription it
// continues the trace of the emission:
//
//	carrier := otelcrosscast.Carrier{Meta: m.Meta}
//	ctx := otel.GetTextMapPropagator().Extract(context.Background(), &carrier)
type Carrier struct {
	Meta []crosscast.KeyValue
}

// Get returns the last value of key, and "" if there is none. It is the last, because a message that the application has
// passed on with the Meta of another one also has the context of that one.
func (c *Carrier) Get(key string) string {
	for _, kv := range slices.Backward(c.Meta) {
		if kv.Key == key {
			return strings.Clone(kv.Value)
		}
	}
	return ""
}

// Set adds a pair. The array of Meta is not changed.
func (c *Carrier) Set(key, value string) {
	c.Meta = append(slices.Clip(c.Meta), crosscast.KeyValue{Key: key, Value: value})
}

// Keys returns the keys, each once.
func (c *Carrier) Keys() []string {
	keys := make([]string, 0, len(c.Meta))
	for _, kv := range c.Meta {
		if !slices.Contains(keys, kv.Key) {
			keys = append(keys, strings.Clone(kv.Key))
		}
	}
	return keys
}

package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
)

// A Handler handles one event that c received. data is a JSON text, nil when there was none; it may be kept. ctx ends
// with Close. c may be used before [Dial] has returned it.
//
// The result is the reply if the server waits for one ([crosscast.BoundTarget.EmitAck]), and dropped otherwise. An error
// refuses the reply, and goes to Options.OnError.
//
// [crosscast.BoundTarget.EmitAck]: https://pkg.go.dev/github.com/crosscast/crosscast#BoundTarget.EmitAck
type Handler func(ctx context.Context, c *Client, data json.RawMessage) (any, error)

// Events are the handlers by the name of the event.
type Events map[string]Handler

// Typed makes a [Handler] of a function that takes its data unmarshalled (the zero T when there was none) and replies
// without data.
func Typed[T any](f func(ctx context.Context, c *Client, data T) error) Handler {
	return TypedAnswer(func(ctx context.Context, c *Client, data T) (any, error) { return nil, f(ctx, c, data) })
}

// TypedAnswer makes a [Handler] of a function that takes its data unmarshalled, and returns the reply.
func TypedAnswer[T, R any](f func(ctx context.Context, c *Client, data T) (R, error)) Handler {
	return func(ctx context.Context, c *Client, data json.RawMessage) (any, error) {
		var v T
		if len(data) > 0 {
			if err := json.Unmarshal(data, &v); err != nil {
				return nil, fmt.Errorf("data: %w", err)
			}
		}
		return f(ctx, c, v)
	}
}

// Options of a [Client]. The zero value works. Times are above 0, and at most 1 h; sizes are 1 byte to 1 GiB.
type Options struct {
	// Events are the handlers. An event that has none is ignored, or refused when it wants a reply.
	Events Events
	// OnConnect is called at the start of each connection: to join rooms, for example. Other goroutines may use c
	// meanwhile. An error closes the connection. ctx ends when the connection does. Optional, as all of these.
	OnConnect func(ctx context.Context, c *Client) error
	// OnDisconnect is told why a connection was lost for which OnConnect had returned nil. Not called for Close.
	OnDisconnect func(c *Client, err error)
	// OnRetry is told why an attempt to connect has failed, and how long the client waits before the next one.
	OnRetry func(c *Client, err error, wait time.Duration)
	// OnGap is told that what was emitted between since and until may have been missed. since is when the last ping was
	// sent that the server answered on the connection that was lost. Without one it is two seconds before the last sign of
	// life, or the beginning of that connection, if that is later. Messages that the server held back for this client
	// because it reads slowly might be older. What a server itself may have
	// missed (crosscast.Options.OnGap) it can only tell in an event of the application's.
	OnGap func(c *Client, since, until time.Time)
	// OnError is told what a handler returned and, with an empty event, of messages that are none. Default: logs with
	// slog.Default.
	OnError func(c *Client, event string, err error)

	// Header is sent with the request of each attempt. Optional. Not for js/wasm.
	Header http.Header
	// Authorize adds to a copy of Header for each attempt, for example a token that expires. An error is a failed
	// attempt. Optional. Not for js/wasm.
	Authorize func(ctx context.Context, h http.Header) error
	// HTTPClient makes the requests: its Transport has the settings for TLS and proxies, and must speak HTTP/1.1. Default:
	// http.DefaultClient. Not for js/wasm.
	HTTPClient *http.Client
	// Subprotocols are the websocket subprotocols that the client offers. The server chooses one of them, or none.
	// Default: none.
	Subprotocols []string
	// CompressFrom is the size of the smallest message to the server that is compressed, in bytes, if the server agrees;
	// it may compress what it sends, too. Default 0: the extension permessage-deflate is not offered; at most 1 GiB. For
	// js/wasm the browser decides, and this is not used.
	CompressFrom int
	// DialTimeout bounds an attempt to connect. Default 10 s.
	DialTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause between attempts. Defaults 250 ms and 10 s.
	MinBackoff, MaxBackoff time.Duration

	// RequestTimeout is the deadline of a request whose context has none. Default 10 s.
	RequestTimeout time.Duration
	// WriteTimeout bounds the writing of one message; then the connection is given up. Default 10 s.
	WriteTimeout time.Duration
	// WriteLimit is the size of the largest message that is sent, in bytes. Default 1 MiB, which is the server's
	// default limit.
	WriteLimit int
	// ReadLimit is the size of the largest message taken from the server; a larger one ends the connection. Default
	// 4 MiB.
	ReadLimit int
	// EventBytes is how many bytes of events may wait to be handled before reading pauses, each counting 256 more than
	// its data. An event is always taken when none waits. Default 1 MiB.
	EventBytes int
	// PingInterval is the time between pings, and PingTimeout how long after one something must have come from the
	// server. Defaults 20 s and 10 s; a negative interval: no pings. For js/wasm there are none.
	PingInterval, PingTimeout time.Duration
}

// set checks the options and sets the defaults.
func (o *Options) set() error {
	for event, h := range o.Events {
		if h == nil || event == "" {
			return fmt.Errorf("crosscast/client: event %.64q: no handler, or no name", event)
		}
	}
	o.Events, o.Header, o.Subprotocols = maps.Clone(o.Events), o.Header.Clone(), slices.Clone(o.Subprotocols)
	o.DialTimeout = cmp.Or(o.DialTimeout, 10*time.Second)
	o.MinBackoff = cmp.Or(o.MinBackoff, 250*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, max(10*time.Second, o.MinBackoff))
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 10*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.WriteLimit = cmp.Or(o.WriteLimit, 1<<20)
	o.ReadLimit = cmp.Or(o.ReadLimit, 4<<20)
	o.EventBytes = cmp.Or(o.EventBytes, 1<<20)
	o.PingInterval = cmp.Or(o.PingInterval, 20*time.Second)
	o.PingTimeout = cmp.Or(o.PingTimeout, 10*time.Second)
	if err := cmp.Or(
		bounds.Size("crosscast/client: Options.CompressFrom", cmp.Or(o.CompressFrom, 1), 1),
		bounds.Time("crosscast/client: Options.DialTimeout", o.DialTimeout),
		bounds.Time("crosscast/client: Options.MinBackoff", o.MinBackoff),
		bounds.Time("crosscast/client: Options.MaxBackoff", o.MaxBackoff),
		bounds.Time("crosscast/client: Options.RequestTimeout", o.RequestTimeout),
		bounds.Time("crosscast/client: Options.WriteTimeout", o.WriteTimeout),
		bounds.Size("crosscast/client: Options.WriteLimit", o.WriteLimit, 1),
		bounds.Size("crosscast/client: Options.ReadLimit", o.ReadLimit, 1),
		bounds.Size("crosscast/client: Options.EventBytes", o.EventBytes, 1),
		bounds.Time("crosscast/client: Options.PingInterval", max(o.PingInterval, 1)), // negative: no pings
		bounds.Time("crosscast/client: Options.PingTimeout", o.PingTimeout),
	); err != nil {
		return err
	}
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	if o.OnError == nil {
		o.OnError = func(_ *Client, event string, err error) {
			slog.Error("crosscast/client: handler failed", "event", event, "error", err)
		}
	}
	return nil
}

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

// A Handler handles one event. data is a JSON text, or nil if the event has none; the handler may keep it. ctx ends
// with Close. The handler may use c before [Dial] has returned it. Bytes are a string in base64, in every subprotocol, so a
// function of [Typed] for []byte gets the bytes. A result that is a []byte replies with bytes.
//
// The result is the reply if the server waits for one ([crosscast.BoundTarget.EmitAck]), and dropped otherwise. An
// error refuses the reply, and goes to Options.OnError.
//
// [crosscast.BoundTarget.EmitAck]: https://pkg.go.dev/github.com/crosscast/crosscast#BoundTarget.EmitAck
type Handler func(ctx context.Context, c *Client, data json.RawMessage) (any, error)

// Events maps the names of events to their handlers.
type Events map[string]Handler

// Typed makes a [Handler] of a function that takes its data unmarshalled. Without data, it gets the zero T. The handler
// replies without data.
func Typed[T any](f func(ctx context.Context, c *Client, data T) error) Handler {
	return TypedAnswer(func(ctx context.Context, c *Client, data T) (any, error) { return nil, f(ctx, c, data) })
}

// TypedAnswer makes a [Handler] of a function that takes its data unmarshalled and returns the reply.
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

// Options of a [Client]. The zero value works. Times must be above 0, and at most 1 h. Sizes must be 1 byte to 1 GiB.
type Options struct {
	// Events are the handlers. An event without a handler is ignored, or refused if the server waits for a reply.
	Events Events
	// OnConnect is called at the start of each connection, for example to log in. Other goroutines may use c meanwhile.
	// An error closes the connection. ctx ends with the connection. Optional, as all hooks here.
	OnConnect func(ctx context.Context, c *Client) error
	// OnJoinError is called when the server refuses, for good, to let the client join a kept room again. The room is not
	// kept any more, and the connection goes on. The hook may call Join. Default: logs with slog.Default.
	OnJoinError func(c *Client, room string, err error)
	// OnDisconnect gets the cause when a connection is lost after OnConnect had returned nil. Close does not call it.
	OnDisconnect func(c *Client, err error)
	// OnRetry gets the error of a failed attempt to connect, and the pause before the next one.
	OnRetry func(c *Client, err error, wait time.Duration)
	// GiveUp decides after each failed attempt and each lost connection, with its error, whether the client gives up:
	// it makes no further attempt, and every call fails with an error that matches [ErrGaveUp] and the cause. Default:
	// [Refused].
	GiveUp func(err error) bool
	// OnGiveUp gets the cause for which the client has given up. It is called last, after OnDisconnect.
	OnGiveUp func(c *Client, err error)
	// OnState is called after each change of the client's state. The first state is StateConnecting.
	OnState func(c *Client, s State)
	// OnGap reports that emissions might be missing, at once and in the place of those. See "Gaps" in the package
	// documentation.
	OnGap func(c *Client, g Gap)
	// Refetch fetches what might be missing in a gap. It is called for gaps that have ended, after g.Wait, or when there is
	// a connection. Further gaps of the same room that come meanwhile become part of g. After an error, which goes to OnError with the event
	// "refetch", it is called again after a pause that grows as those of attempts to connect. ctx ends with Close.
	Refetch func(ctx context.Context, c *Client, g Gap) error
	// GapSpread is the longest Wait of a gap in which the client had no connection. The server tells the Wait of its own
	// gaps. Default 1 s, at most 1 h; negative: no wait.
	GapSpread time.Duration
	// GapMargin is how much earlier than the last sign of the lost connection such a gap begins, for messages under way,
	// and for what the server has not noticed yet: it notices what it misses within four of its heartbeats (of 1 s by
	// default). Default 6 s.
	GapMargin time.Duration
	// OnError gets the errors of handlers, and errors of malformed messages with an empty event. With the event "error" it
	// gets a [RemoteError] if the server has refused what [Client.Emit] sent, unless there is a handler of that name. Default:
	// logs with slog.Default.
	OnError func(c *Client, event string, err error)

	// Header is sent with the request of each attempt. Optional. Not for js/wasm.
	Header http.Header
	// Authorize adds headers to a copy of Header for each attempt, such as a token that expires. If it returns an
	// error, the attempt fails. Optional. Not for js/wasm.
	Authorize func(ctx context.Context, h http.Header) error
	// HTTPClient makes the requests. Its Transport has the settings for TLS and proxies, and must speak HTTP/1.1.
	// Default: http.DefaultClient. Not for js/wasm.
	HTTPClient *http.Client
	// Subprotocols are the websocket subprotocols that the client offers. The server chooses one of them, or none. Default:
	// [SubprotocolJSON]. With [SubprotocolMsgPack] all messages are msgpack. That saves traffic if the server emits bytes
	// within values of crosscast.MsgPack. Handlers get the same JSON, and Emit still sends bytes within other values as base64. A list that is not nil but empty offers none.
	Subprotocols []string
	// CompressFrom is the size in bytes from which messages to the server are compressed, if the server agrees. The
	// server may then compress its messages, too. Default 0: the extension permessage-deflate is not offered. At most 1
	// GiB. Not used for js/wasm, where the browser decides.
	CompressFrom int
	// DialTimeout is the time limit of an attempt to connect. Default 10 s.
	DialTimeout time.Duration
	// MinBackoff and MaxBackoff bound the back-off, from which the pause between attempts is drawn. Defaults 250 ms and
	// 10 s.
	MinBackoff, MaxBackoff time.Duration

	// AwayBytes is how many bytes of requests may wait for the next connection while there is none. Each counts as its
	// message and 256 bytes more. A request is sent once the rooms are joined again, and fails at its deadline. Nothing
	// that might have been sent waits. A handler or hook holds up the next connection, and waits in vain. Default 0:
	// requests fail with [ErrNotConnected].
	AwayBytes int
	// RequestTimeout is the time limit of a request whose context has no deadline. Default 10 s.
	RequestTimeout time.Duration
	// WriteTimeout is the time limit for writing one message. After that the connection is given up. Default 10 s.
	WriteTimeout time.Duration
	// WriteLimit is the largest size of a message to the server, in bytes. Default 1 MiB, which is also the server's
	// default.
	WriteLimit int
	// ReadLimit is the largest size of a message from the server, in bytes. A larger one ends the connection. Default 4
	// MiB.
	ReadLimit int
	// EventBytes is how many bytes of events may wait before reading pauses. Default 1 MiB. Each event counts as its
	// name and data and 256 bytes more. One event may always wait, whatever its size.
	EventBytes int
	// PingInterval is the time between pings. PingTimeout is how long after a ping the server must have sent something.
	// Defaults 20 s and 10 s. A negative interval means no pings. Not used for js/wasm, which has none.
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
	if o.Subprotocols == nil {
		o.Subprotocols = []string{SubprotocolJSON}
	}
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
	o.GapSpread = cmp.Or(o.GapSpread, time.Second)
	o.GapMargin = cmp.Or(o.GapMargin, 6*time.Second)
	if err := cmp.Or(
		bounds.Size("crosscast/client: Options.CompressFrom", cmp.Or(o.CompressFrom, 1), 1),
		bounds.Time("crosscast/client: Options.DialTimeout", o.DialTimeout),
		bounds.Time("crosscast/client: Options.MinBackoff", o.MinBackoff),
		bounds.Time("crosscast/client: Options.MaxBackoff", o.MaxBackoff),
		bounds.Time("crosscast/client: Options.RequestTimeout", o.RequestTimeout),
		bounds.Time("crosscast/client: Options.WriteTimeout", o.WriteTimeout),
		bounds.Size("crosscast/client: Options.WriteLimit", o.WriteLimit, 1),
		bounds.Size("crosscast/client: Options.ReadLimit", o.ReadLimit, 1),
		bounds.Size("crosscast/client: Options.AwayBytes", cmp.Or(o.AwayBytes, 1), 1),
		bounds.Size("crosscast/client: Options.EventBytes", o.EventBytes, 1),
		bounds.Time("crosscast/client: Options.PingInterval", max(o.PingInterval, 1)), // negative: no pings
		bounds.Time("crosscast/client: Options.PingTimeout", o.PingTimeout),
		bounds.Time("crosscast/client: Options.GapSpread", max(o.GapSpread, 1)), // negative: no wait
		bounds.Time("crosscast/client: Options.GapMargin", o.GapMargin),
	); err != nil {
		return err
	}
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	if o.GiveUp == nil {
		o.GiveUp = Refused
	}
	if o.OnJoinError == nil {
		o.OnJoinError = func(_ *Client, room string, err error) {
			slog.Error("crosscast/client: a room was lost", "room", room, "error", err)
		}
	}
	if o.OnError == nil {
		o.OnError = func(_ *Client, event string, err error) {
			slog.Error("crosscast/client: handler failed", "event", event, "error", err)
		}
	}
	return nil
}

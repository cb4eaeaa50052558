package otelcrosscast_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
	otelcrosscast "github.com/crosscast/crosscast/otel"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/socketioadapter"
)

// An exported span is a line of the other process.
type exported struct {
	Name    string
	Trace   string
	Span    string
	Parent  string
	Sockets any
}

// printer exports spans as lines.
type printer struct{}

func (printer) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	for _, s := range spans {
		e := exported{
			Name: s.Name(), Trace: s.SpanContext().TraceID().String(), Span: s.SpanContext().SpanID().String(),
			Parent: s.Parent().SpanID().String(),
		}
		for _, kv := range s.Attributes() {
			if kv.Key == "crosscast.sockets" {
				e.Sockets = kv.Value.AsInterface()
			}
		}
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		fmt.Printf("span %s\n", line)
	}
	return nil
}

func (printer) Shutdown(context.Context) error { return nil }

var adapters = map[string]func(url string) crosscast.Adapter{
	"redis":    func(url string) crosscast.Adapter { return redisadapter.Dial(url, redisadapter.Options{}) },
	"socketio": func(url string) crosscast.Adapter { return socketioadapter.Dial(url, socketioadapter.Options{}) },
}

const (
	redisVariable   = "CROSSCAST_TEST_REDIS"
	adapterVariable = "CROSSCAST_TEST_ADAPTER"
)

// TestTwoProcesses: an emission, its delivery to 100 sockets of another process, and what a subscription does there are
// one trace. Socket.IO's wire carries no context, so that the delivery begins a trace.
func TestTwoProcesses(t *testing.T) {
	if url := os.Getenv(redisVariable); url != "" {
		runReceiver(t, adapters[os.Getenv(adapterVariable)](url))
		return
	}
	server := redistest.Start(t, redistest.Config{})
	url := "redis://" + server.Addr()
	for name, adapter := range adapters {
		t.Run(name, func(t *testing.T) {
			c, joined := newCollector(), make(chan struct{}, 10)
			n := start(t, crosscast.Options{
				Adapter: adapter(url), Observer: otelcrosscast.NewObserver(c.o),
				OnNode: func(_ *crosscast.Node, e crosscast.NodeEvent) {
					if e.Kind == crosscast.NodeJoined {
						joined <- struct{}{}
					}
				},
			})
			p := programtest.Start(t, exec.Command(os.Args[0], "-test.run=^TestTwoProcesses$"),
				redisVariable+"="+url, adapterVariable+"="+name)
			p.Printed("ready")
			if name == "redis" { // Socket.IO's wire has no list of nodes
				<-joined
			}
			ctx, caller := c.traces.Tracer("").Start(t.Context(), "caller")
			ok(t, n.To("room").Emit(ctx, "said", nil))
			caller.End()
			var deliver, work exported
			ok(t, json.Unmarshal([]byte(p.Printed(`span (\{"Name":"deliver said".*\})`)), &deliver))
			ok(t, json.Unmarshal([]byte(p.Printed(`span (\{"Name":"work".*\})`)), &work))
			p.Stop(os.Interrupt)

			emit := named(t, c.spans.GetSpans(), "emit said")
			childOf(t, emit, caller.SpanContext())
			if deliver.Sockets != 100.0 {
				t.Errorf("delivered %+v", deliver)
			}
			if name == "redis" {
				for _, e := range []exported{deliver, work} {
					if e.Trace != caller.SpanContext().TraceID().String() || e.Parent != emit.SpanContext.SpanID().String() {
						t.Errorf("%+v is no child of %v", e, emit.SpanContext)
					}
				}
				return
			}
			none := trace.SpanID{}.String()
			if deliver.Trace == caller.SpanContext().TraceID().String() || deliver.Parent != none || work.Parent != none {
				t.Errorf("%+v and %+v do not begin a trace", deliver, work)
			}
		})
	}
}

// runReceiver is the other process.
func runReceiver(t *testing.T, adapter crosscast.Adapter) {
	ctx, cancel := signal.NotifyContext(t.Context(), os.Interrupt)
	defer cancel()
	c := newCollector(sdktrace.WithSyncer(printer{}))
	n := start(t, crosscast.Options{Adapter: adapter, Observer: otelcrosscast.NewObserver(c.o)})
	for range 100 {
		connect(t, n, client{}, "room")
	}
	_, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
		carrier := otelcrosscast.Carrier{Meta: m.Meta}
		_, span := c.traces.Tracer("").Start(c.o.Propagator.Extract(context.Background(), &carrier), "work")
		span.End()
	}}, "room")
	ok(t, err)
	fmt.Println("ready")
	<-ctx.Done()
}

package main

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/ws/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// TestTwoProcesses: what a client of one process says, a client of the other one hears, also after a third process, which
// both others knew, has come and gone.
func TestTwoProcesses(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first := run(t, ctx, "")
	second := run(t, ctx, first.bus.ClusterAddr().String())
	heard := make(chan string, 1000)
	listen(t, ctx, second, heard)
	speaker := listen(t, ctx, first, make(chan string, 1000))
	says(t, ctx, speaker, "hello", heard)
	third, err := start(ctx, options{"127.0.0.1:0", "127.0.0.1:0", second.bus.ClusterAddr().String()})
	if err != nil {
		t.Fatal(err)
	}
	says(t, ctx, listen(t, ctx, third, make(chan string, 1000)), "from the third", heard)
	if err := third.close(); err != nil {
		t.Error(err)
	}
	says(t, ctx, speaker, "bye", heard)
}

func run(t *testing.T, ctx context.Context, join string) *process {
	t.Helper()
	p, err := start(ctx, options{"127.0.0.1:0", "127.0.0.1:0", join})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func listen(t *testing.T, ctx context.Context, p *process, heard chan<- string) *client.Client {
	t.Helper()
	c, err := client.Dial(ctx, "ws://"+p.addr.String(), client.Options{Events: client.Events{
		"said": client.Typed(func(_ context.Context, _ *client.Client, text string) error {
			heard <- text
			return nil
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// says waits until what a client says is heard. It repeats it, because members come after Dial has returned, and the
// servers of a process that starts need a moment to find each other.
func says(t *testing.T, ctx context.Context, from *client.Client, text string, heard <-chan string) {
	t.Helper()
	for {
		if err := from.Request(ctx, "say", text, nil); err != nil {
			t.Fatalf("%q was not heard: %v", text, err)
		}
		for again := time.After(100 * time.Millisecond); ; {
			select {
			case got := <-heard:
				if got == text {
					return
				}
				continue
			case <-again: // poll
			}
			break
		}
	}
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A night is the sequence of faults.
type night struct {
	bed     *bed
	answers *answers
	out     io.Writer
	quiet   time.Duration
	late    lateness
	over    chan struct{} // closed when the last fault has ended

	mu      sync.Mutex // guards the fields below; held while faults change
	plan    []fault    // those to come
	present *fault
	failed  error
	text    string // what was announced last
}

// run takes orders until the night is over, or ctx ends.
func (n *night) run(ctx context.Context, control string, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := net.Listen("tcp", control)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: n.routes(ctx), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(n.out, "all is well:\n%s\ncontrol: http://%s\n"+
		"  curl -X POST http://%[2]s/next            ends the present fault, and begins the next one\n"+
		"  curl -d 'node-1 is on fire' http://%[2]s/guess   notes what you think, with the time\n"+
		"or here: next, guess TEXT\n", n.bed.places(), listener.Addr())
	go n.read(ctx, in)
	select {
	case <-n.over:
	case <-ctx.Done():
	case err = <-served:
	}
	cancel()
	stopping, stopped := context.WithTimeout(context.Background(), 5*time.Second)
	defer stopped()
	err = errors.Join(err, server.Shutdown(stopping)) // the last reply is sent before
	n.mu.Lock()
	defer n.mu.Unlock()
	return errors.Join(err, n.failed)
}

func (n *night) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		fmt.Fprintln(w, n.text)
	})
	mux.HandleFunc("POST /next", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, n.next(ctx)) })
	mux.HandleFunc("POST /guess", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
		if err == nil {
			err = n.answers.write(guess, strings.TrimSpace(string(text)))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "noted")
	})
	return mux
}

// read takes orders as lines, until there are none.
func (n *night) read(ctx context.Context, in io.Reader) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		order, text, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch order {
		case "next":
			n.next(ctx)
		case "guess":
			if err := n.answers.write(guess, text); err != nil {
				fmt.Fprintln(n.out, err)
			}
		case "":
		default:
			fmt.Fprintln(n.out, "next, or guess TEXT")
		}
	}
}

// next ends the present fault, waits until all is well, and begins the next one. It returns what it has printed.
func (n *night) next(ctx context.Context) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text, err := n.nextLocked(ctx)
	switch {
	case err != nil:
		n.failed = err
		text = "the exercise has failed: " + err.Error()
		fallthrough
	case text == "":
		if text == "" {
			text = "the night is over: firstnight -open " + n.answers.file.Name()
		}
		select {
		case <-n.over:
		default:
			close(n.over)
		}
	}
	n.text = text
	fmt.Fprintln(n.out, text)
	return text
}

func (n *night) nextLocked(ctx context.Context) (string, error) {
	if n.present != nil {
		if err := n.endLocked(ctx); err != nil {
			return "", err
		}
	}
	if len(n.plan) == 0 || n.failed != nil {
		return "", n.failed
	}
	n.present, n.plan = &n.plan[0], n.plan[1:]
	if err := n.present.on(ctx, n.bed); err != nil {
		return "", err
	}
	text, late := n.present.text, n.late.draw()
	if late > 0 {
		text = fmt.Sprintf("%s, %v before", text, late.Round(time.Second))
	}
	select {
	case <-time.After(late):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	number, err := n.answers.begin(text)
	return fmt.Sprintf("fault %d begins: look at\n%s", number, n.bed.places()), err
}

func (n *night) endLocked(ctx context.Context) error {
	if err := errors.Join(n.answers.write(ends, ""), n.present.off(ctx, n.bed)); err != nil {
		return err
	}
	n.present = nil
	if err := n.bed.healthy(ctx); err != nil {
		return err
	}
	if err := n.answers.write(healed, ""); err != nil {
		return err
	}
	if len(n.plan) == 0 {
		return nil
	}
	select {
	case <-time.After(n.quiet):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

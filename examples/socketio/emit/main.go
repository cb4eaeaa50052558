// Program emit emits an event into a cluster of Socket.IO servers, whatever language they are written in, as a worker or
// a cron job does: it has no clients, and no server need know of it. It is what @socket.io/redis-emitter is for programs
// in Node.js, and usually the first thing that is moved to Go.
//
//	go run ./examples/socketio/emit -room room1 -event roomMessage '{"text":"hi"}'
//	go run ./examples/socketio/emit -user u9 -user u10 -event done 12 '"thumbnail"' null
//	go run ./examples/socketio/emit -all -except muted -ask
//
// -room, -user and -except may be given more than once. A user is whoever the servers have put into the room
// "user:<user>". Each further argument is one of the event's, as JSON. With -ask the program prints how many sockets are
// there, before it emits; the event may then be missing. The servers use @socket.io/redis-adapter's createAdapter with the
// default key, at REDIS_URL, by default redis://localhost:6379.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/socketioadapter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	url := cmp.Or(os.Getenv("REDIS_URL"), "redis://localhost:6379")
	err := run(ctx, os.Args[1:], url, os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "emit:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, url string, out io.Writer) (err error) {
	t, err := parse(args)
	if err != nil {
		return err
	}
	node, err := crosscast.Start(ctx, crosscast.Options{
		Adapter: socketioadapter.Dial(url, socketioadapter.Options{}), EmitOnly: true,
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, node.Close(closing))
	}()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return t.do(ctx, node, out)
}

// A task is what the command line asks for.
type task struct {
	rooms, users, except []string
	all, ask             bool
	event                string // empty: nothing is emitted
	values               []any  // its arguments
}

func parse(args []string) (*task, error) {
	t := &task{}
	flags := flag.NewFlagSet("emit", flag.ContinueOnError)
	several := func(name string, to *[]string, usage string) {
		flags.Func(name, usage, func(s string) error {
			*to = append(*to, s)
			return nil
		})
	}
	several("room", &t.rooms, "emit to a `room`")
	several("user", &t.users, "emit to a `user`")
	several("except", &t.except, "but not to those in a `room`")
	flags.BoolVar(&t.all, "all", false, "emit to everyone")
	flags.BoolVar(&t.ask, "ask", false, "print how many sockets are there")
	flags.StringVar(&t.event, "event", "", "the `name` of the event")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch named := len(t.rooms)+len(t.users) > 0; {
	case t.all == named:
		return nil, errors.New("to whom? either -all, or -room and -user")
	case t.event == "" && (!t.ask || flags.NArg() > 0):
		return nil, errors.New("what? -event is missing")
	}
	for _, arg := range flags.Args() {
		if !json.Valid([]byte(arg)) {
			return nil, fmt.Errorf(`%s is not JSON; the text x is '"x"'`, arg)
		}
		t.values = append(t.values, json.RawMessage(arg))
	}
	return t, nil
}

// do asks and emits.
func (t *task) do(ctx context.Context, node *crosscast.Node, out io.Writer) error {
	target := node.To(t.rooms...).ToUser(t.users...)
	if t.all {
		target = node.Everyone()
	}
	target = target.Except(t.except...)
	if t.ask {
		n, err := target.Count(ctx) // this wire has no question for a number: servers send all that they know of each socket
		if err != nil {
			return fmt.Errorf("%d sockets or more: %w", n, err)
		}
		fmt.Fprintf(out, "%d sockets\n", n)
	}
	if t.event == "" {
		return nil
	}
	receipt, err := target.Deliver(ctx, t.event, socketio.Values(t.values...))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "emitted %s; Redis passed it on to %d subscribers\n", t.event, receipt.Nodes)
	return nil
}

// Program chat shows two chat servers that are one, with nothing to install: an embedded Redis, two servers, client
// A on the first and client B on the second. It prints what happens, and then serves a page with both servers side by
// side, and buttons that stop and start them.
//
//	go run ./examples/chat               shows the flow, then serves until it is interrupted
//	go run ./examples/chat -once         shows the flow and ends; fails when a message did not arrive
//	go run ./examples/chat -no-adapter   the same with nothing between the servers: B gets nothing
//
// The programs in server and client are the same chat in separate processes, over a Redis of yours.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/crosscast/crosscast/examples/chat/internal/wschat"
	"github.com/crosscast/crosscast/examples/internal/chat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

const room = "room1"

// A demo is one run of the program.
type demo struct {
	p       *chat.Printer
	servers [2]*chat.Server
	a, b    *member
}

// A member is a client and what it got.
type member struct {
	*wschat.Client
	joined   chan chat.Joined
	messages chan chat.Message
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	once := flags.Bool("once", false, "end after the flow")
	alone := flags.Bool("no-adapter", false, "nothing between the servers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d := &demo{p: chat.NewPrinter(out)}
	st := &stage{ctx: ctx}
	var redisURL string
	if *alone {
		d.say("there is no adapter: the two servers know nothing of each other")
	} else {
		m, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer m.Close()
		st.redis = m
		redisURL = "redis://" + m.Addr()
		d.say("an embedded Redis listens on %s", m.Addr())
	}
	defer func() { err = errors.Join(err, st.close()) }()
	for i := range d.servers {
		name, address := fmt.Sprintf("server-%d", i+1), fmt.Sprintf("localhost:%d", 5001+i)
		if *once {
			address = "localhost:0"
		}
		o := chat.ServerOptions{Name: name, Address: address, Protocol: &wschat.Protocol, RedisURL: redisURL, Printer: d.p, Framed: !*once}
		s, err := chat.StartServer(ctx, o)
		if errors.Is(err, syscall.EADDRINUSE) {
			d.say("port %d is taken: %s uses another", 5001+i, name)
			o.Address = "localhost:0"
			s, err = chat.StartServer(ctx, o)
		}
		if err != nil {
			return err
		}
		o.Address = strings.TrimPrefix(s.URL(), "http://")
		d.servers[i], st.servers[i], st.options[i] = s, s, o
	}
	clients, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	d.a, d.b = d.member("A", 0), d.member("B", 1)
	for _, m := range []*member{d.a, d.b} {
		wg.Go(func() { m.Run(clients) })
	}

	flow, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if *alone {
		err = d.showAlone(flow)
	} else {
		err = d.show(flow)
	}
	if err != nil || *once {
		return err
	}
	return st.run(ctx, d.say)
}

func closeServer(s *chat.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Close(ctx)
}

func (d *demo) say(format string, args ...any) { d.p.Print("demo", format, args...) }

func (d *demo) member(name string, server int) *member {
	m := &member{joined: make(chan chat.Joined, 1), messages: make(chan chat.Message, 16)}
	m.Client = &wschat.Client{
		Name: name, Room: room, ServerURL: d.servers[server].URL(), Printer: d.p,
		// The flow takes what it waits for; later nobody does, and the client must not wait.
		OnJoined:  func(j chat.Joined) { offer(m.joined, j) },
		OnMessage: func(msg chat.Message) { offer(m.messages, msg) },
	}
	return m
}

func offer[T any](ch chan T, v T) {
	select {
	case ch <- v:
	default:
	}
}

// expect waits for the next message of m.
func (m *member) expect(ctx context.Context, text, node string) error {
	select {
	case got := <-m.messages:
		if got.Text != text || got.FromNode != node {
			return fmt.Errorf("%s got %q from %s, want %q from %s", m.Name, got.Text, got.FromNode, text, node)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not get %q from %s: %w", m.Name, text, node, ctx.Err())
	}
}

func (d *demo) join(ctx context.Context) error {
	for _, m := range []*member{d.a, d.b} {
		select {
		case <-m.joined:
		case <-ctx.Done():
			return fmt.Errorf("%s did not join: %w", m.Name, ctx.Err())
		}
	}
	return nil
}

// show is the flow with an adapter.
func (d *demo) show(ctx context.Context) error {
	if err := d.join(ctx); err != nil {
		return err
	}
	d.p.Print("adapter", "both servers have a client in %s, and are subscribed to it at Redis", room)
	for i, m := range []*member{d.a, d.b} {
		from, to := d.servers[i], d.servers[1-i]
		// It has told its client that it is connected and in the room; the first has also served what that client said.
		before, err := delivered(ctx, to, uint64(2+i))
		if err != nil {
			return err
		}
		text := "hi from " + m.Name
		if err := m.Say(ctx, text); err != nil {
			return err
		}
		if err := d.both(ctx, text, from.Node().Name()); err != nil {
			return err
		}
		after, err := delivered(ctx, to, before+1)
		if err != nil {
			return err
		}
		d.p.Print("adapter", "%s served its own clients and published the message once; Redis passed it on to %s, "+
			"which delivered it to %d of its clients", from.Node().Name(), to.Node().Name(), after-before)
	}
	if err := d.emitOverHTTP(ctx, 1, "hello from HTTP"); err != nil {
		return err
	}
	if err := d.both(ctx, "hello from HTTP", "server-2"); err != nil {
		return err
	}
	d.say("every message reached both clients, whichever server they are connected to")
	return nil
}

// delivered is how many messages the server has delivered, once that is at least n. The count follows the message, which
// may be seen first.
func delivered(ctx context.Context, s *chat.Server, n uint64) (uint64, error) {
	for ctx.Err() == nil {
		if now := s.Node().Stats().Delivered; now >= n {
			return now, nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, ctx.Err()
}

// both waits until both members got text.
func (d *demo) both(ctx context.Context, text, node string) error {
	return errors.Join(d.a.expect(ctx, text, node), d.b.expect(ctx, text, node))
}

// showAlone is the flow without an adapter.
func (d *demo) showAlone(ctx context.Context) error {
	if err := d.join(ctx); err != nil {
		return err
	}
	if err := d.a.Say(ctx, "hi from A"); err != nil {
		return err
	}
	if err := d.a.expect(ctx, "hi from A", "server-1"); err != nil {
		return err
	}
	// What B hears next is what was sent after that on its own server.
	if err := d.emitOverHTTP(ctx, 1, "is anybody there?"); err != nil {
		return err
	}
	if err := d.b.expect(ctx, "is anybody there?", "server-2"); err != nil {
		return err
	}
	d.say("B got nothing from A: they are in the same room, on servers without an adapter between them")
	return nil
}

// emitOverHTTP is what a backend does: curl -d '{"text":"…"}' <url>/emit/room1.
func (d *demo) emitOverHTTP(ctx context.Context, server int, text string) error {
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return err
	}
	url := d.servers[server].URL() + "/emit/" + room
	d.say("POST %s %s", url, body)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s: %s", url, resp.Status, answer)
	}
	d.say("answer: %s", bytes.TrimSpace(answer))
	return nil
}

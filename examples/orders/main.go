// Program orders is publish and subscribe without a websocket: one service publishes that an order was created, and
// three others act on it.
//
//	go run ./examples/orders              everything in one process, over an embedded Redis
//	go run ./examples/orders email        one subscriber (also: inventory, analytics), until it is interrupted
//	go run ./examples/orders publish      one order
//
// The services meet at REDIS_URL, by default redis://localhost:6379.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
)

// orderCreated is the room that the services meet in, and the event.
const orderCreated = "order.created"

type order struct {
	OrderID string `json:"orderId"`
	UserID  string `json:"userId"`
	Amount  int    `json:"amount"`
}

// A role is one subscribing service: what it does with an order.
type role struct {
	name string
	act  func(order) string
}

func (r role) tag() string { return strings.ToUpper(r.name) }

var roles = []role{
	{"email", func(o order) string {
		return fmt.Sprintf("Sending confirmation for order %s to user %s", o.OrderID, o.UserID)
	}},
	{"inventory", func(o order) string {
		return fmt.Sprintf("Reducing stock for order %s (amount=%d)", o.OrderID, o.Amount)
	}},
	{"analytics", func(o order) string {
		return fmt.Sprintf("Logging metric: order_created orderId=%s amount=%d", o.OrderID, o.Amount)
	}},
}

var errUsage = errors.New("usage: orders [email | inventory | analytics | publish]")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	url := cmp.Or(os.Getenv("REDIS_URL"), "redis://localhost:6379")
	if err := run(ctx, os.Args[1:], url, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, url string, out io.Writer) error {
	p := &printer{out: out}
	if len(args) == 0 {
		return all(ctx, p)
	}
	i := slices.IndexFunc(roles, func(r role) bool { return r.name == args[0] })
	if len(args) > 1 || i < 0 && args[0] != "publish" {
		return errUsage
	}
	s, err := start(ctx, url, args[0])
	if err != nil {
		return err
	}
	if i < 0 {
		_, err = s.publish(ctx, p)
	} else if err = s.subscribe(ctx, roles[i], p, func() {}); err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, s.close())
}

// A service is a node.
type service struct {
	node *crosscast.Node
}

func start(ctx context.Context, url, name string) (*service, error) {
	node, err := crosscast.Start(ctx, crosscast.Options{
		Name: name, Adapter: redisadapter.Dial(url, redisadapter.Options{}),
	})
	if err != nil {
		return nil, err
	}
	return &service{node}, nil
}

func (s *service) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.node.Close(ctx)
}

// subscribe acts on the orders that are published from now on, until s is closed; done is called after each.
func (s *service) subscribe(ctx context.Context, r role, p *printer, done func()) error {
	_, err := s.node.Subscribe(ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			defer done()
			var o order
			if err := json.Unmarshal(m.Payload.Data, &o); err != nil {
				p.printf("[%s] Not an order: %v", r.tag(), err)
				return
			}
			p.printf("[%s] %s", r.tag(), r.act(o))
		},
		OnGap: func(_ *crosscast.Subscription, g crosscast.Gap) {
			p.printf("[%s] Orders may have been missed (%s): a real service would now look into its database",
				r.tag(), g.Reason)
		},
	}, orderCreated)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", orderCreated, err)
	}
	p.printf("[%s] Subscribed to %s", r.tag(), orderCreated)
	return nil
}

// publish publishes one order, and returns how many processes it was handed to.
func (s *service) publish(ctx context.Context, p *printer) (int, error) {
	o := order{OrderID: "o101", UserID: "u9", Amount: 499}
	receipt, err := s.node.To(orderCreated).Deliver(ctx, orderCreated, o)
	if err != nil {
		return 0, fmt.Errorf("publish %s: %w", orderCreated, err)
	}
	n := receipt.Nodes
	p.printf("[ORDER] Published %s -> delivered to %d subscriber(s)", orderCreated, n)
	if n == 0 {
		p.printf("[ORDER] Nobody was listening, so the message is gone: " +
			"publish and subscribe has no ack, retry or storage")
	}
	return n, nil
}

// all runs every service in this process, over an embedded Redis: first an order that nobody hears, then one that all
// three do.
func all(ctx context.Context, p *printer) (err error) {
	server, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer server.Close()
	var running []*service
	defer func() {
		for _, s := range running {
			err = errors.Join(err, s.close())
		}
	}()
	begin := func(name string) (*service, error) {
		s, err := start(ctx, "redis://"+server.Addr(), name)
		if err == nil {
			running = append(running, s)
		}
		return s, err
	}

	publisher, err := begin("publish")
	if err != nil {
		return err
	}
	if err := publisher.expect(ctx, p, 0); err != nil {
		return err
	}
	done := make(chan struct{}, 2*len(roles)) // room for orders that come twice, so that they do not block
	for _, r := range roles {
		s, err := begin(r.name)
		if err != nil {
			return err
		}
		if err := s.subscribe(ctx, r, p, func() { done <- struct{}{} }); err != nil {
			return err
		}
	}
	if err := publisher.expect(ctx, p, len(roles)); err != nil {
		return err
	}
	for range roles {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Second):
			return errors.New("a subscriber did not get the order")
		}
	}
	return nil
}

// expect publishes an order that must be handed to n processes.
func (s *service) expect(ctx context.Context, p *printer, n int) error {
	got, err := s.publish(ctx, p)
	if err == nil && got != n {
		err = fmt.Errorf("delivered to %d subscribers, not %d", got, n)
	}
	return err
}

// printer prints whole lines, from many goroutines.
type printer struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

func (p *printer) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

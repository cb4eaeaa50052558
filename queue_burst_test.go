package crosscast_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// sized is a frame that counts so many bytes.
func sized(n int) string { return strings.Repeat("x", n-cost) }

var policies = []crosscast.QueuePolicy{crosscast.QueueDisconnect, crosscast.QueueDropNewest, crosscast.QueueDropOldest}

// act checks that the policy acts on the next frame, or that it does not.
func (c *client) act(policy crosscast.QueuePolicy, want bool) {
	c.t.Helper()
	before := c.q.Stats().Dropped
	err := c.q.SendFrame([]byte(sized(100)))
	wantErr := map[crosscast.QueuePolicy]error{crosscast.QueueDisconnect: crosscast.ErrSlow, crosscast.QueueDropNewest: crosscast.ErrDropped}[policy]
	if !want {
		wantErr = nil
	}
	if acted := c.q.Stats().Dropped > before; acted != want || !errors.Is(err, wantErr) {
		c.t.Errorf("dropped: %v, error %v; want %v, %v", acted, err, want, wantErr)
	}
}

// TestQueueBurst: a client that reads may be behind by more than the limit, for a while.
func TestQueueBurst(t *testing.T) {
	const limit = 1000
	for _, policy := range policies {
		o := crosscast.QueueOptions{
			Limit: limit, Policy: policy, BurstTime: 5 * time.Second, WriteTimeout: 3 * time.Second,
			Budget: crosscast.NewQueueBudget(1 << 20),
		}
		test := func(name string, f func(c *client)) {
			queueTest(fmt.Sprint(policy, " ", name), t, func(t *testing.T) {
				c := newClient(t, true, o)
				c.stall()
				f(c)
				c.release()
				c.q.Close(crosscast.ReasonServer)
				<-c.q.Done()
				if used := o.Budget.Used(); used != 0 {
					t.Errorf("%d bytes are charged to the budget", used)
				}
			})
		}
		fill := func(c *client, bytes int) {
			for range bytes / 100 {
				c.send(sized(100), nil)
			}
		}
		test("up to Burst", func(c *client) {
			fill(c, 8*limit)
			if used := o.Budget.Used(); used != 7*limit {
				t.Errorf("%d bytes are charged to the budget", used)
			}
			c.act(policy, true)
		})
		test("up to BurstTime, while it reads", func(c *client) {
			fill(c, 2*limit)
			for range 4 {
				time.Sleep(time.Second)
				c.gate <- nil
				synctest.Wait()
			}
			time.Sleep(time.Second - 1)
			c.act(policy, false)
			time.Sleep(time.Nanosecond)
			c.act(policy, true)
		})
		test("up to WriteTimeout, while it does not", func(c *client) {
			fill(c, 2*limit)
			time.Sleep(time.Second)
			c.gate <- nil
			synctest.Wait()
			time.Sleep(3*time.Second - 1)
			c.act(policy, false)
			time.Sleep(time.Nanosecond)
			c.act(policy, true)
		})
		test("again and again", func(c *client) {
			for range 3 {
				fill(c, 8*limit)
				for range 80 {
					c.gate <- nil
				}
				synctest.Wait()
				time.Sleep(4 * time.Second)
			}
			c.wantClosed()
		})
		test("a large frame begins one", func(c *client) {
			c.send(sized(2*limit), nil)
			if used := o.Budget.Used(); used != 0 {
				t.Errorf("%d bytes are charged to the budget", used)
			}
			time.Sleep(3*time.Second - 1)
			c.act(policy, false)
		})
	}
}

// TestQueueBurstsOfReaders: what is within MaxPayload costs no client that reads all the time, with default options.
func TestQueueBurstsOfReaders(t *testing.T) {
	for _, burst := range []struct{ count, size int }{{100, 50_000}, {20_000, 100}, {3, 900_000}} {
		queueTest(fmt.Sprint(burst), t, func(t *testing.T) {
			const perSecond = 2 << 20
			q := crosscast.NewQueue(func(frame []byte) error {
				time.Sleep(time.Second * time.Duration(len(frame)) / perSecond)
				return nil
			}, crosscast.QueueOptions{})
			frame := make([]byte, burst.size)
			for range burst.count {
				if err := q.SendFrame(frame); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Second)
			if s := q.Stats(); s.WrittenFrames != uint64(burst.count) || s.Dropped > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestQueueBudget: when bursts of all clients take too much, those that are furthest behind pay.
func TestQueueBudget(t *testing.T) {
	const limit = 1000
	for _, policy := range policies {
		queueTest(fmt.Sprint(policy), t, func(t *testing.T) {
			o := crosscast.QueueOptions{
				Limit: limit, Burst: 100 * limit, BurstTime: time.Hour, WriteTimeout: time.Hour, Policy: policy,
				Budget: crosscast.NewQueueBudget(10 * limit), DropNotice: notice,
			}
			var clients []*client
			for i := range 4 { // above its limit by 0, 1, 2, 3 limits
				c := newClient(t, true, o)
				clients = append(clients, c)
				c.stall()
				for range 10 * (i + 1) {
					c.send(sized(100), nil)
				}
			}
			if used := o.Budget.Used(); used != 6*limit {
				t.Errorf("%d bytes are charged to the budget", used)
			}
			last := newClient(t, true, o)
			last.stall()
			for range 50 { // above by 4 limits, so all is spent
				last.send(sized(100), nil)
			}
			if used := o.Budget.Used(); used != 10*limit {
				t.Errorf("%d bytes are charged to the budget", used)
			}
			clients[1].send(sized(100), nil)
			synctest.Wait()
			// The last client's four limits are enough.
			var dropped []uint64
			for _, c := range append(clients, last) {
				dropped = append(dropped, c.q.Stats().Dropped)
			}
			want := uint64(40)
			if policy == crosscast.QueueDisconnect {
				want = 50
				last.wantClosed(crosscast.ReasonSlow)
				last.send("x", crosscast.ErrSlow)
			}
			if !slices.Equal(dropped, []uint64{0, 0, 0, 0, want}) || o.Budget.Used() != 6*limit+100 {
				t.Errorf("dropped %v, and %d bytes are charged to the budget", dropped, o.Budget.Used())
			}
			for _, c := range append(clients, last) {
				c.release()
			}
			switch policy {
			case crosscast.QueueDropNewest:
				last.wantGot(append(append([]string{"first"}, slices.Repeat([]string{sized(100)}, 10)...), "-40-")...)
			case crosscast.QueueDropOldest:
				last.wantGot(append([]string{"first", "-40-"}, slices.Repeat([]string{sized(100)}, 10)...)...)
			}
			if used := o.Budget.Used(); used != 0 {
				t.Errorf("%d bytes are charged to the budget", used)
			}
		})
	}
}

// TestQueueBudgetConcurrently has many senders spend a budget at once: it holds, and all is given back.
func TestQueueBudgetConcurrently(t *testing.T) {
	const senders, bytes = 8, 100_000
	for _, policy := range policies {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			budget := crosscast.NewQueueBudget(bytes)
			o := crosscast.QueueOptions{Limit: 1000, Burst: 1 << 20, Policy: policy, Budget: budget}
			var wg sync.WaitGroup
			var queues []*crosscast.Queue
			gate := make(chan struct{})
			for range senders {
				q := crosscast.NewQueue(func([]byte) error { <-gate; return nil }, o)
				queues = append(queues, q)
				wg.Go(func() {
					for range 5000 {
						_ = q.SendFrame([]byte(sized(100)))
						if used := budget.Used(); used > bytes+senders*100 {
							t.Errorf("%d bytes are charged to a budget of %d", used, bytes)
						}
					}
				})
			}
			wg.Wait()
			close(gate)
			for _, q := range queues {
				q.Close(crosscast.ReasonServer)
				<-q.Done()
			}
			if used := budget.Used(); used != 0 {
				t.Errorf("%d bytes are charged to the budget", used)
			}
		})
	}
}

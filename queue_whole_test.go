package crosscast_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
)

// TestQueueConcurrently has senders race each other, the limit and Close, with a client that now stalls, now does not.
func TestQueueConcurrently(t *testing.T) {
	const senders, each = 4, 2000
	for _, policy := range []crosscast.QueuePolicy{crosscast.QueueDisconnect, crosscast.QueueDropNewest, crosscast.QueueDropOldest} {
		for _, closing := range []bool{false, true} {
			t.Run(fmt.Sprint(policy, closing), func(t *testing.T) {
				last := map[byte]int{}
				onClose := 0
				q := crosscast.NewQueue(func(frame []byte) error {
					var n int
					if _, err := fmt.Sscan(string(frame[1:]), &n); err != nil {
						t.Errorf("%q: %v", frame, err)
					}
					if n <= last[frame[0]] { // the race detector proves that writes do not overlap
						t.Errorf("sender %c: %d came after %d", frame[0], n, last[frame[0]])
					}
					last[frame[0]] = n
					return nil
				}, crosscast.QueueOptions{Limit: 2000, BurstTime: -1, Policy: policy, OnClose: func(crosscast.Reason) { onClose++ }})

				var wg sync.WaitGroup
				var mu sync.Mutex
				offered := 0
				for s := range senders {
					wg.Go(func() {
						for i := range each {
							err := q.SendFrame(fmt.Appendf(nil, "%c%d", 'a'+s, i+1))
							if closing && s == 0 && i == each/2 {
								q.Close(crosscast.ReasonServer)
							}
							if err == nil || errors.Is(err, crosscast.ErrDropped) {
								mu.Lock()
								offered++
								mu.Unlock()
							}
						}
					})
				}
				wg.Wait()
				q.Close(crosscast.ReasonServer)
				<-q.Done()
				got := q.Stats()
				sum := int(got.WrittenFrames + got.Dropped)
				if sum != offered && sum != offered+1 { // one more: the frame that broke the limit, under Disconnect
					t.Errorf("%d frames offered, stats %+v", offered, got)
				}
				if onClose != 1 || got.QueuedFrames != 0 || got.QueuedBytes != 0 || got.HighWater > 2000 {
					t.Errorf("OnClose ran %d times, stats %+v", onClose, got)
				}
			})
		}
	}
}

// What a queue returns must make its node do the right thing with the socket.
func TestQueueEndsItsSocket(t *testing.T) {
	for _, c := range []struct {
		name   string
		write  error // of the first frame; nil: it blocks
		limit  int
		policy crosscast.QueuePolicy
		want   crosscast.Reason
	}{
		{"slow", nil, 1, crosscast.QueueDisconnect, crosscast.ReasonSlow},
		{"broken", errors.New("broken pipe"), 0, crosscast.QueueDisconnect, crosscast.ReasonLeft},
		{"dropping", nil, 1, crosscast.QueueDropNewest, crosscast.ReasonServer},
	} {
		queueTest(c.name, t, func(t *testing.T) {
			node, err := crosscast.Start(t.Context(), crosscast.Options{})
			if err != nil {
				t.Fatal(err)
			}
			client := newClient(t, true, crosscast.QueueOptions{Limit: c.limit, Policy: c.policy})
			var got []crosscast.Reason
			socket, err := node.Connect(t.Context(), client.q, crosscast.ConnectOptions{
				Rooms:   []string{"room"},
				OnClose: func(_ *crosscast.Socket, reason crosscast.Reason) { got = append(got, reason) },
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 4 {
				if err := node.To("room").Emit(t.Context(), "event", nil); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if i == 0 && c.write != nil {
					client.gate <- c.write
					synctest.Wait()
				}
			}
			close(client.gate)
			synctest.Wait()
			socket.Close(crosscast.ReasonServer)
			if err := node.Close(t.Context()); err != nil {
				t.Error(err)
			}
			client.wantClosed(c.want)
			client.wantDone(true)
			if !slices.Equal(got, []crosscast.Reason{c.want}) {
				t.Errorf("the socket was closed with %q, want %q", got, c.want)
			}
		})
	}
}

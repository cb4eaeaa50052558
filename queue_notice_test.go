package crosscast_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// timeNotice tells how many frames were dropped, and how many milliseconds ago the first of them was queued.
func timeNotice(d crosscast.QueueDrop) []byte {
	return fmt.Appendf(nil, "-%d since %d-", d.Frames, time.Since(d.Since).Milliseconds())
}

// TestQueueNoticeTime: a notice begins when the first dropped frame was queued, or a little before.
func TestQueueNoticeTime(t *testing.T) {
	o := crosscast.QueueOptions{Limit: 40 * (1 + cost), DropNotice: timeNotice, WriteTimeout: time.Hour}
	for _, policy := range []crosscast.QueuePolicy{crosscast.QueueDropNewest, crosscast.QueueDropOldest} {
		queueTest(fmt.Sprint(policy), t, func(t *testing.T) {
			o.Policy = policy
			c := newClient(t, true, o)
			c.stall()
			for range 60 * 10 { // for a minute the writer never rests
				time.Sleep(100 * time.Millisecond)
				c.send("a", nil)
				c.gate <- nil
				synctest.Wait()
			}
			for i := range 60 { // 10 a second; those from the 40th on find no room
				time.Sleep(100 * time.Millisecond)
				if err := c.q.SendFrame([]byte("b")); err != nil && !errors.Is(err, crosscast.ErrDropped) {
					t.Error(i, err)
				}
			}
			time.Sleep(time.Second)
			c.release()
			want := "-20 since 2900-"
			if policy == crosscast.QueueDropOldest { // the first one had waited
				want = "-20 since 7000-"
			}
			if got := strings.Join(c.got, " "); !strings.Contains(got, want) {
				t.Errorf("got %s, want %s among it", got[strings.Index(got, "-"):], want)
			}
		})
	}
}

// TestSendNotice: what SendNotice tells is never dropped: it is a frame of a client that keeps up, and otherwise part of
// a notice in its place.
func TestSendNotice(t *testing.T) {
	told := func(c *client, age time.Duration) {
		t.Helper()
		if err := c.q.SendNotice([]byte("told"), time.Now().Add(-age)); err != nil && err != crosscast.ErrDropped {
			t.Error(err)
		}
	}
	for _, policy := range policies {
		queueTest(fmt.Sprint(policy, " keeps up"), t, func(t *testing.T) {
			c := newClient(t, false, crosscast.QueueOptions{Limit: 3200, DropNotice: timeNotice, Policy: policy})
			told(c, time.Second)
			synctest.Wait()
			c.wantGot("told")
		})
	}
	queueTest("disconnect: a little waits", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 3200, DropNotice: timeNotice})
		c.stall()
		c.send(sized(200), nil)
		told(c, time.Second)
		c.release()
		c.wantGot("first", sized(200), "told")
	})
	queueTest("disconnect: much waits", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 3200, DropNotice: timeNotice})
		c.stall()
		c.send(sized(201), nil)
		if err := c.q.SendNotice([]byte("told"), time.Now()); err != crosscast.ErrDropped {
			t.Errorf("a notice that is merged: %v", err)
		}
		told(c, time.Second)
		told(c, 3*time.Second)
		time.Sleep(time.Second)
		c.send("b", nil)
		told(c, time.Second)
		c.release()
		c.wantGot("first", sized(201), "-0 since 4000-", "b", "-0 since 1000-")
	})
	queueTest("drop newest", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 1 + cost, DropNotice: timeNotice, Policy: crosscast.QueueDropNewest})
		c.stall()
		told(c, time.Second)
		c.send("a", nil)
		c.send("b", crosscast.ErrDropped)
		told(c, 2*time.Second)
		c.send("c", crosscast.ErrDropped)
		c.release()
		c.wantGot("first", "-0 since 1000-", "a", "-2 since 2000-")
	})
	queueTest("drop oldest", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 1 + cost, DropNotice: timeNotice, Policy: crosscast.QueueDropOldest})
		c.stall()
		c.send("a", nil)
		told(c, time.Second)
		c.send("b", nil)
		c.release()
		c.wantGot("first", "-1 since 1000-", "b")
	})
	queueTest("without a notice", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 1 + cost})
		c.stall()
		c.send("a", nil)
		if err := c.q.SendNotice([]byte("b"), time.Now()); !errors.Is(err, crosscast.ErrSlow) {
			t.Error(err)
		}
		c.release()
	})
	queueTest("a storm takes bounded memory", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{DropNotice: timeNotice})
		c.stall()
		c.send(sized(1<<17), nil)
		for range 1000 {
			told(c, time.Second)
			c.send("x", nil)
		}
		c.release()
		if n := strings.Count(strings.Join(c.got, " "), "-0 since"); n != 16 {
			t.Errorf("%d notices", n)
		}
		if at := strings.Index(strings.Join(c.got, ""), "-"); at != len("first")+1<<17-cost {
			t.Errorf("the first notice is at %d", at)
		}
	})
	queueTest("after the end", t, func(t *testing.T) {
		c := newClient(t, false, crosscast.QueueOptions{DropNotice: timeNotice})
		c.q.Close(crosscast.ReasonLeft)
		if err := c.q.SendNotice([]byte("b"), time.Now()); !errors.Is(err, crosscast.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestQueueNoticesCover: for any schedule, a frame that the client does not get, and what SendNotice told, is covered by a
// notice before the client gets anything later.
func TestQueueNoticesCover(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			policy := policies[1+r.IntN(2)]
			o := crosscast.QueueOptions{
				Limit: 10 * (5 + cost), Burst: 30 * (5 + cost), BurstTime: time.Second, WriteTimeout: time.Hour,
				Budget: crosscast.NewQueueBudget(15 * (5 + cost)), Policy: policy,
				DropNotice: func(d crosscast.QueueDrop) []byte {
					return fmt.Appendf(nil, "-%d-%d-%d", d.Frames, d.Since.UnixNano(), time.Now().UnixNano())
				},
			}
			c := newClient(t, true, o)
			other := newClient(t, true, o)
			var queued []time.Time           // by the number of the frame
			noticed := make(map[int][]int64) // times told behind a number of frames
			for range 200 {
				time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
				switch p := r.IntN(20); {
				case p < 12:
					_ = c.q.SendFrame(fmt.Appendf(nil, "%05d", len(queued)))
					queued = append(queued, time.Now())
				case p < 14:
					_ = other.q.SendFrame([]byte("other"))
				case p < 15:
					since := time.Now().Add(-time.Duration(r.IntN(5000)) * time.Millisecond)
					if err := c.q.SendNotice(fmt.Appendf(nil, "-0-%d-%d", since.UnixNano(), time.Now().UnixNano()), since); err != nil && err != crosscast.ErrDropped {
						t.Error(err)
					}
					noticed[len(queued)] = append(noticed[len(queued)], since.UnixNano())
				default:
					select {
					case c.gate <- nil:
					default:
					}
				}
				synctest.Wait()
			}
			close(other.gate)
			c.release()
			at, low, high := 0, int64(1<<62), int64(0) // the next number, and what notices in front of it cover
			var early []int64                          // what a notice told before its place
			check := func(n int) {
				for ; at <= n; at++ {
					for _, since := range noticed[at] {
						if since < low && !covered(early, since) {
							t.Errorf("seed %d: what was told before frame %d is not covered", seed, at)
						}
					}
					if at < n && at < len(queued) {
						if q := queued[at].UnixNano(); q < low || q > high {
							t.Errorf("seed %d, policy %v: frame %d is missing without a notice", seed, policy, at)
						}
					}
				}
			}
			for _, frame := range c.got {
				if parts := strings.Split(frame, "-"); len(parts) == 4 {
					since, _ := strconv.ParseInt(parts[2], 10, 64)
					until, _ := strconv.ParseInt(parts[3], 10, 64)
					low, high = min(low, since), max(high, until)
					early = append(early, since)
					continue
				}
				n, _ := strconv.Atoi(frame)
				check(n)
				low, high = 1<<62, 0
			}
			check(len(queued))
		})
	}
}

// covered reports whether a notice that begins at one of the times covers since.
func covered(times []int64, since int64) bool {
	for _, begin := range times {
		if begin <= since {
			return true
		}
	}
	return false
}

package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast/ws/client"
)

// TestGap: what the server reports of gaps comes at once, in its place, and by the client's clock.
func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		happened := newRecord()
		var began time.Time
		c, end, ends := play(t, client.Options{
			Events: client.Events{"n": client.Typed(func(_ context.Context, _ *client.Client, n int) error {
				happened.add("event %d", n)
				return nil
			})},
			OnGap: func(_ *client.Client, g client.Gap) {
				until := "goes on"
				if !g.Until.IsZero() {
					until = g.Until.Sub(began).String()
				}
				if g.Wait < 0 || g.Wait > time.Second {
					t.Errorf("wait %v", g.Wait)
				}
				happened.add("gap %q %v %s %v", g.Room, g.Since.Sub(began), until, g.Away)
			},
			OnError: func(_ *client.Client, event string, err error) { happened.add("error %q", event) },
		})
		time.Sleep(time.Minute)
		began = time.Now()
		for _, m := range []string{
			`{"event":"n","data":1}`, `{"gap":{"room":"r","ago":[4200,300],"wait":800}}`, `{"event":"n","data":2}`,
			`{"gap":{"ago":[100,0],"wait":0}}`, `{"gap":{"room":"r","ago":[10]}}`,
			`{"gap":{"ago":[]}}`, `{"gap":{"ago":[-1]}}`, `{"gap":{"ago":[1,2,3]}}`, `{"gap":{"ago":[1],"wait":-1}}`,
			`{"gap":{"ago":[9000000000000000]}}`, `{"gap":7}`, `{"event":"n","data":3,"gap":{"ago":[1]}}`,
		} {
			end.send("%s", m)
		}
		synctest.Wait()
		happened.expect(t, "event 1", `gap "r" -6.2s -300ms false`, "event 2", `gap "" -2.1s 0s false`,
			`gap "r" -2.01s goes on false`, `error ""`, `error ""`, `error ""`, `error ""`, `error ""`, `error ""`, "event 3")
		end.lose()
		<-ends
		synctest.Wait()
		happened.expect(t, `gap "" -6s `+time.Since(began).String()+` true`)
		_ = c.Close(context.Background())
	})
}

// TestRefetchOrder: a gap whose time has come does not wait for those that were reported before.
func TestRefetchOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := make(chan string, 10)
		c, end, _ := play(t, client.Options{Refetch: func(_ context.Context, _ *client.Client, g client.Gap) error {
			fetched <- g.Room
			return nil
		}})
		began := time.Now()
		for i := range 5 {
			end.send(`{"gap":{"room":"slow%d","ago":[1,0],"wait":3600000}}`, i)
		}
		end.send(`{"gap":{"room":"fast","ago":[1,0],"wait":0}}`)
		if first := <-fetched; first != "fast" || time.Since(began) > 0 {
			t.Errorf("%q was first, after %v", first, time.Since(began))
		}
		for range 5 {
			<-fetched
		}
		_ = c.Close(context.Background())
	})
}

// TestGapDraws: the waits of many clients are even over the window that the server tells.
func TestGapDraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const draws, parts = 10_000, 10
		var counts [parts]int
		c, end, _ := play(t, client.Options{OnGap: func(_ *client.Client, g client.Gap) {
			counts[min(int(g.Wait*parts/(800*time.Millisecond)), parts-1)]++
		}})
		for range draws {
			end.send(`{"gap":{"ago":[1,0],"wait":800}}`)
		}
		synctest.Wait()
		for i, n := range counts { // the standard deviation is 30
			if n < draws/parts-180 || n > draws/parts+180 {
				t.Errorf("part %d has %d of %d draws: %v", i, n, draws, counts)
			}
		}
		_ = c.Close(context.Background())
	})
}

// TestRefetch: Refetch is called after the wait, once for each room, and again after an error; it waits for a connection.
func TestRefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		happened := newRecord()
		var began time.Time
		var failing atomic.Bool
		c, end, ends := play(t, client.Options{
			MinBackoff: 8 * time.Second, MaxBackoff: 16 * time.Second, GapSpread: -1,
			Refetch: func(ctx context.Context, c *client.Client, g client.Gap) error {
				happened.add("%s %v %v", g.Room, began.Sub(g.Since), g.Away)
				if ctx.Err() != nil {
					t.Error(ctx.Err())
				}
				if failing.Load() {
					return errors.New("no luck")
				}
				return nil
			},
			OnError: func(_ *client.Client, event string, err error) { happened.add("%s %v", event, err) },
		})
		began = time.Now()
		end.send(`{"gap":{"room":"a","ago":[1000,0],"wait":60000}}`)
		end.send(`{"gap":{"room":"b","ago":[1000,0],"wait":60000}}`)
		end.send(`{"gap":{"room":"open","ago":[1000]}}`) // when it has ended
		end.send(`{"gap":{"room":"a","ago":[5000,0],"wait":60000}}`)
		end.send(`{"gap":{"room":"a","ago":[2000,1000],"wait":60000}}`)
		synctest.Wait()
		if lines := happened.now(); len(lines) > 0 {
			t.Errorf("too early: %q", lines)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		happened.sort()
		happened.expect(t, "a 7s false", "b 3s false")

		failing.Store(true)
		end.send(`{"gap":{"room":"a","ago":[60000,0]}}`)
		synctest.Wait()
		happened.expect(t, "a 2s false", "refetch no luck")
		time.Sleep(8 * time.Second) // after 4 to 8 s
		synctest.Wait()
		happened.expect(t, "a 2s false", "refetch no luck")
		end.send(`{"gap":{"room":"a","ago":[69000,0]}}`) // becomes part of what waits
		end.lose()
		synctest.Wait()
		failing.Store(false)
		<-ends
		time.Sleep(16 * time.Second)
		synctest.Wait()
		lines := happened.now()
		if want := fmt.Sprintf("a %v false", 3*time.Second); len(lines) != 2 || !slices.Contains(lines, want) {
			t.Errorf("%q, want %s and the absence", lines, want)
		}
		_ = c.Close(context.Background())
	})
}

// TestOpenGap: a gap that goes on when the connection is lost becomes part of the absence, in one gap with the earlier
// beginning. Only a message that says so ends it.
func TestOpenGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, v := range []struct {
			messages []string
			want     time.Duration // before the loss of the connection
		}{
			{nil, 6 * time.Second},
			{[]string{`{"gap":{"ago":[60000]}}`}, 62 * time.Second},
			{[]string{`{"gap":{"room":"r","ago":[60000]}}`, `{"gap":{"ago":[50000]}}`}, 62 * time.Second},
			{[]string{`{"gap":{"ago":[50000]}}`, `{"gap":{"ago":[60000]}}`, `{"gap":{"ago":[40000]}}`}, 62 * time.Second},
			{[]string{`{"gap":{"ago":[60000]}}`, `{"gap":{"ago":[1000,0]}}`, `{"gap":{"room":"r","ago":[1,0],"ends":true}}`}, 62 * time.Second},
			{[]string{`{"gap":{"ago":[60000]}}`, `{"gap":{"ago":[60000,0],"ends":true}}`}, 6 * time.Second},
			{[]string{`{"gap":{"ago":[1000]}}`}, 6 * time.Second},
		} {
			absences := make(chan client.Gap, 1)
			fetched := make(chan client.Gap, 10)
			c, end, ends := play(t, client.Options{
				GapSpread: -1,
				OnGap: func(_ *client.Client, g client.Gap) {
					if g.Away {
						absences <- g
					}
				},
				Refetch: func(_ context.Context, _ *client.Client, g client.Gap) error { fetched <- g; return nil },
			})
			time.Sleep(time.Hour)
			for _, m := range v.messages {
				end.send("%s", m)
			}
			end.send(`{"event":"x"}`)
			synctest.Wait()
			for len(fetched) > 0 {
				if g := <-fetched; g.Until.IsZero() {
					t.Errorf("%q: refetch of a gap that goes on", v.messages)
				}
			}
			lost := time.Now()
			end.lose()
			end = <-ends
			if g := <-absences; lost.Sub(g.Since) != v.want || g.Room != "" || !g.Until.Equal(time.Now()) {
				t.Errorf("%q: the absence is %+v, lost at %v", v.messages, g, lost)
			} else if f := <-fetched; f != g {
				t.Errorf("%q: refetch got %+v", v.messages, f)
			}
			time.Sleep(time.Hour)
			end.send(`{"event":"x"}`)
			synctest.Wait()
			lost = time.Now()
			end.lose()
			<-ends
			if g := <-absences; lost.Sub(g.Since) != 6*time.Second {
				t.Errorf("%q: the next absence is %+v, lost at %v", v.messages, g, lost)
			}
			_ = c.Close(context.Background())
		}
	})
}

// TestRefetchIsBounded: a server that names very many rooms costs a bounded amount.
func TestRefetchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, all := 0, 0
		c, end, _ := play(t, client.Options{Refetch: func(_ context.Context, _ *client.Client, g client.Gap) error {
			if calls++; g.Room == "" {
				all++
			}
			return nil
		}})
		for i := range 3000 {
			end.send(`{"gap":{"room":"r%d","ago":[1,0],"wait":600000}}`, i)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if calls < 1001 || calls > 1100 || all < 1 { // some are called before all have come
			t.Errorf("%d calls, %d of them for everything", calls, all)
		}
		_ = c.Close(context.Background())
	})
}

// TestGapOfALostConnection: a report that comes while the client still joins its rooms is not lost with the connection.
func TestGapOfALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connects := 0
		gaps := make(chan client.Gap, 10)
		block := make(chan struct{})
		c, end, ends := play(t, client.Options{
			OnConnect: func(ctx context.Context, _ *client.Client) error {
				if connects++; connects == 2 {
					<-block
					return ctx.Err()
				}
				return nil
			},
			OnGap: func(_ *client.Client, g client.Gap) { gaps <- g },
		})
		time.Sleep(time.Hour)
		end.send(`{"event":"x"}`)
		synctest.Wait()
		end.lose()
		end = <-ends
		told := time.Now()
		end.send(`{"gap":{"room":"r","ago":[60000,0],"wait":0}}`)
		synctest.Wait()
		end.lose()
		synctest.Wait()
		close(block)
		g := <-gaps
		if want := told.Add(-62 * time.Second); !g.Away || !g.Since.Equal(want) {
			t.Errorf("%+v, want one since %v", g, want)
		}
		_ = c.Close(context.Background())
	})
}

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

const busy = `{"id":%d,"error":"try again later","retry":true}`

// TestBusyJoin: Join tries again on the same connection, after pauses that grow, until the server decides, or Join must
// end.
func TestBusyJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end, ends := play(t, client.Options{MinBackoff: time.Second, MaxBackoff: 4 * time.Second})
		id := 0
		asked := func(room string) {
			t.Helper()
			id++
			end.expect(fmt.Sprintf(`{"join":%q,"id":%d}`, room, id))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for room, decision := range map[string]string{"good": `{"id":%d}`, "bad": `{"id":%d,"error":"members only"}`} {
			result := join(c, ctx, room)
			asked(room)
			for _, most := range []time.Duration{1, 2, 4, 4} {
				began := time.Now()
				end.send(busy, id)
				asked(room)
				if pause := time.Since(began); pause < most*time.Second/2 || pause > most*time.Second {
					t.Errorf("a pause of %v, want up to %v s", pause, most)
				}
			}
			end.send(decision, id)
			if err := <-result; (err == nil) != (room == "good") {
				t.Errorf("%s: %v", room, err)
			}
		}
		if got := c.Rooms(); !slices.Equal(got, []string{"good"}) {
			t.Errorf("rooms %q", got)
		}

		short, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		late := join(c, short, "late")
		asked("late")
		end.send(busy, id)
		if err := <-late; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "try again later") {
			t.Errorf("at the deadline: %v", err)
		}
		left := join(c, ctx, "left")
		asked("left")
		end.send(busy, id)
		synctest.Wait()
		began := time.Now()
		id++
		go func() {
			<-end.got
			end.send(`{"id":%d}`, id)
		}()
		if err := c.Leave(ctx, "left"); err != nil {
			t.Error(err)
		}
		if err := <-left; err != client.ErrLeft || time.Since(began) > 0 {
			t.Errorf("after Leave: %v, after %v", err, time.Since(began))
		}
		lost := join(c, ctx, "lost")
		asked("lost")
		end.send(busy, id)
		synctest.Wait()
		end.lose()
		end = <-ends
		for range 2 { // of lost and good
			end.send(`{"id":%d}`, idOf(t, <-end.got))
		}
		if err := <-lost; err != nil {
			t.Error(err)
		}
		_ = c.Close(context.Background())
	})
}

func idOf(t *testing.T, message string) (id int) {
	t.Helper()
	var m struct{ ID int }
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		t.Error(err)
	}
	return m.ID
}

// TestBusyRejoin: a room that cannot be joined again now holds up nothing. Its gap goes on until it is joined, on this
// connection or on the next one.
func TestBusyRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		happened := newRecord()
		began := time.Now()
		note := func(what string, g client.Gap) {
			until := "goes on"
			if !g.Until.IsZero() {
				until = g.Until.Sub(began).Truncate(time.Minute).String()
			}
			if !g.Away || g.Wait > time.Second {
				t.Errorf("%+v", g)
			}
			happened.add("%s %q %v %s", what, g.Room, g.Since.Sub(began).Truncate(time.Minute), until)
		}
		c, end, ends := play(t, client.Options{
			MinBackoff: 10 * time.Minute, MaxBackoff: 10 * time.Minute,
			Events: client.Events{"n": func(context.Context, *client.Client, json.RawMessage) (any, error) {
				happened.add("event")
				return nil, nil
			}},
			OnGap:       func(_ *client.Client, g client.Gap) { note("gap", g) },
			Refetch:     func(_ context.Context, _ *client.Client, g client.Gap) error { note("refetch", g); return nil },
			OnJoinError: func(_ *client.Client, room string, err error) { happened.add("lost %q: %v", room, err) },
		})
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		for i, room := range []string{"a", "b"} {
			result := join(c, ctx, room)
			end.send(`{"id":%d}`, i+1)
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		end.expect(`{"join":"a","id":1}`, `{"join":"b","id":2}`)
		// reconnect answers the joins of a new connection.
		reconnect := func(rooms int, reply string) {
			end.lose()
			end = <-ends
			for range rooms {
				if m := <-end.got; strings.Contains(m, `"a"`) {
					end.send(reply, idOf(t, m))
				} else {
					end.send(`{"id":%d}`, idOf(t, m))
				}
			}
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		reconnect(2, busy)
		end.send(`{"event":"n"}`)
		first := time.Since(began).Truncate(time.Minute).String()
		lost := "0s" // the last sign of life was the reply to the joins
		synctest.Wait()
		happened.expect(t, fmt.Sprintf(`gap "" %s %s`, lost, first), fmt.Sprintf(`gap "a" %s goes on`, lost), "event")
		m := <-end.got
		happened.expect(t, fmt.Sprintf(`refetch "" %s %s`, lost, first))
		end.send(busy, idOf(t, m))
		m = <-end.got
		end.send(`{"event":"n"}`)
		end.send(`{"id":%d}`, idOf(t, m))
		end.send(`{"event":"n"}`)
		synctest.Wait()
		joined := time.Since(began).Truncate(time.Minute).String()
		second := (time.Since(began) - 6*time.Second).Truncate(time.Minute) // when the next gap begins, by GapMargin
		happened.expect(t, "event", fmt.Sprintf(`gap "a" %s %s`, lost, joined), "event")
		time.Sleep(time.Minute)
		happened.expect(t, fmt.Sprintf(`refetch "a" %s %s`, lost, joined))

		// The connection is lost before the room is joined: the gap of the next absence begins with it.
		reconnect(2, busy)
		synctest.Wait()
		happened.sort()
		if got := happened.now(); len(got) != 2 || !strings.HasPrefix(got[1], fmt.Sprintf(`gap "a" %v goes on`, second)) {
			t.Errorf("%q", got)
		}
		time.Sleep(time.Minute)
		happened.expect(t, happened.now()...)
		reconnect(2, `{"id":%d,"error":"members only"}`)
		synctest.Wait()
		got := happened.now()
		if len(got) != 2 || got[0] != `lost "a": members only` || !strings.HasPrefix(got[1], fmt.Sprintf(`gap "" %v`, second)) {
			t.Errorf("%q", got)
		}
		happened.expect(t, got...)

		// A refusal that comes later is final, too.
		time.Sleep(time.Minute)
		happened.expect(t, happened.now()...)
		result := join(c, ctx, "a")
		end.send(`{"id":%d}`, idOf(t, <-end.got))
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		reconnect(2, busy)
		end.send(`{"id":%d,"error":"members only"}`, idOf(t, <-end.got))
		synctest.Wait()
		if got = happened.now(); got[len(got)-1] != `lost "a": members only` {
			t.Errorf("%q", got)
		}
		if got := c.Rooms(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("rooms %q", got)
		}
		_ = c.Close(context.Background())
	})
}

// TestManyBusyRooms: at most 100 joins of rooms that come late are under way, and a room that was left is not joined.
func TestManyBusyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rooms, most = 250, 100
		c, end, ends := play(t, client.Options{MinBackoff: time.Second, MaxBackoff: time.Second})
		for i := range rooms {
			result := join(c, t.Context(), fmt.Sprint(i))
			end.send(`{"id":%d}`, i+1)
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		end.lose()
		end = <-ends
		for range rooms {
			end.send(busy, idOf(t, <-end.got))
		}
		synctest.Wait()
		left := make(chan error, 1)
		go func() { left <- c.Leave(t.Context(), "7") }()
		end.send(`{"id":%d}`, idOf(t, <-end.got))
		if err := <-left; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		seen := make(map[string]bool)
		for answered := range rooms - 1 {
			synctest.Wait()
			if n := len(end.got); n != min(most, rooms-1-answered) {
				t.Fatalf("after %d answers, %d joins are under way", answered, n)
			}
			m := <-end.got
			if seen[m] || strings.Contains(m, `"7"`) {
				t.Errorf("joined again: %s", m)
			}
			seen[m] = true
			end.send(`{"id":%d}`, idOf(t, m))
		}
		synctest.Wait()
		if len(end.got) > 0 || len(c.Rooms()) != rooms-1 {
			t.Errorf("%d joins are left, %d rooms", len(end.got), len(c.Rooms()))
		}
		_ = c.Close(context.Background())
	})
}

// TestBusyServer: with a real server whose database times out now and then.
func TestBusyServer(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, ws.Options{
		OnError: func(*crosscast.Socket, string, error) {},
		AllowJoin: func(context.Context, *crosscast.Socket, string) error {
			if asked.Add(1)%3 != 0 {
				return fmt.Errorf("query: %w", context.DeadlineExceeded)
			}
			return nil
		},
	})
	happened := newRecord()
	c := dial(t, s.url, client.Options{OnGap: func(_ *client.Client, g client.Gap) { happened.add("gap %q %v", g.Room, g.Until.IsZero()) }})
	if err := c.Join(t.Context(), "room"); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d joins", err, asked.Load())
	}
	(<-s.sockets).Close(crosscast.ReasonServer)
	happened.expect(t, `gap "" false`, `gap "room" true`, `gap "room" false`)
	if rooms := (<-s.sockets).Rooms(); !slices.Equal(rooms, []string{"room"}) || asked.Load() != 6 {
		t.Errorf("rooms %q after %d joins", rooms, asked.Load())
	}
}

package ws_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

// TestGapOfAnOutage: clients hear of an outage while it lasts, also those that connect meanwhile. What else comes
// meanwhile does not end it.
func TestGapOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{})
		early := s.client("", "r")
		s.emit("r", "before")
		early.Expect(`{"event":"before"}`)
		s.outage(3*time.Second, false)
		early.Expect(`{"gap":{"ago":[3000],"wait":1}}`)
		time.Sleep(time.Second)
		late := s.client("", "r")
		late.Expect(`{"gap":{"ago":[4000],"wait":0}}`)
		s.gap(9*time.Second, 0)
		for _, c := range []*client{early, late} {
			c.Expect(`{"gap":{"ago":[9000,0],"wait":2}}`)
		}
		time.Sleep(time.Second)
		s.outage(5*time.Second, true)
		s.emit("r", "after")
		later := s.client("", "r")
		s.emit("r", "last")
		for _, c := range []*client{early, late} {
			c.Expect(`{"gap":{"ago":[5000,0],"wait":2,"ends":true}}`, `{"event":"after"}`, `{"event":"last"}`)
		}
		later.Expect(`{"event":"last"}`)
	})
}

// TestGapOfADenial: the end of a room's denial says that it is one.
func TestGapOfADenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{})
		c := s.client("", "r")
		now := time.Now()
		g := crosscast.Gap{Since: now.Add(-time.Second), Names: roomNames("r"), Reason: "denied"}
		s.h.Gap(g)
		g.Until = now
		s.h.Gap(g)
		c.Expect(`{"gap":{"room":"r","ago":[1000],"wait":1}}`, `{"gap":{"room":"r","ago":[1000,0],"wait":1,"ends":true}}`)
	})
}

// TestGapOfADenialOfASlowClient: a client that does not keep up when the denial of a room begins, or ends, hears of that
// with the notice of what its queue has dropped. Further rooms than 16 become a gap of everything.
func TestGapOfADenialOfASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{
			WriteTimeout: time.Hour, PingInterval: -1,
			Queue: crosscast.QueueOptions{Limit: 1, BurstTime: -1, Policy: crosscast.QueueDropNewest},
		})
		var rooms []string
		for i := range 18 {
			rooms = append(rooms, fmt.Sprint("r", i))
		}
		c := s.client("", rooms...)
		deny := func(room string, ended bool) {
			synctest.Wait() // the writer is idle, or waits for the client
			g := crosscast.Gap{Since: time.Now().Add(-time.Second), Names: roomNames(room), Reason: "denied"}
			if ended {
				g.Until = time.Now()
			}
			s.h.Gap(g)
		}
		// slow has the queue drop something, calls f, and reads up to the notice.
		slow := func(f func()) {
			for _, event := range []string{"written", "waits", "dropped"} {
				s.emit("r1", event)
				synctest.Wait()
			}
			f()
			c.Expect(`{"event":"written"}`, `{"event":"waits"}`, `{"gap":{"ago":[1000,0],"wait":1000,"ends":true}}`)
		}
		slow(func() { deny("r1", false) })
		c.Expect(`{"gap":{"room":"r1","ago":[1000],"wait":1}}`)
		deny("r1", true)
		c.Expect(`{"gap":{"room":"r1","ago":[1000,0],"wait":1,"ends":true}}`)

		deny("r1", false)
		c.Expect(`{"gap":{"room":"r1","ago":[1000],"wait":1}}`)
		slow(func() { deny("r1", true) })
		c.Expect(`{"gap":{"room":"r1","ago":[1000,0],"wait":1,"ends":true}}`)

		slow(func() { // both meanwhile
			deny("r1", false)
			deny("r1", true)
		})
		c.Expect(`{"gap":{"room":"r1","ago":[1000,0],"wait":1,"ends":true}}`)

		slow(func() {
			for _, room := range rooms {
				deny(room, false)
			}
			deny("r17", true)
		})
		told := make(map[string]bool)
		for range 17 {
			m, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			told[m] = true
		}
		if !told[`{"gap":{"ago":[1000],"wait":1}}`] || !told[`{"gap":{"room":"r15","ago":[1000],"wait":1}}`] || len(told) != 17 {
			t.Errorf("told %q", slices.Collect(maps.Keys(told)))
		}
		for _, message := range []string{`{"gap":{"room":"r2","ago":[1000],"wait":1}}`, `{"gap":{"room":"r2","ago":[1000,0],"wait":1,"ends":true}}`} {
			deny("r2", strings.Contains(message, "ends"))
			c.Expect(message)
		}
		slow(func() { s.gap(time.Second, 0, roomNames("r1")...) }) // nothing is told twice
		s.emit("r1", "fence")
		c.Expect(`{"event":"fence"}`)
	})
}

// TestOutageOfASlowClient: what its queue drops during an outage goes on as the outage does, and after it the notice ends
// the outage, because the message that did might be among what was dropped.
func TestOutageOfASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{
			WriteTimeout: time.Hour, PingInterval: -1,
			Queue: crosscast.QueueOptions{Limit: 1, BurstTime: -1, Policy: crosscast.QueueDropNewest},
		})
		c := s.client("", "r")
		drop := func() {
			for _, event := range []string{"written", "waits", "dropped"} {
				s.emit("r", event)
				synctest.Wait()
			}
		}
		drop()
		s.outage(3*time.Second, false)
		time.Sleep(time.Second)
		c.Expect(`{"event":"written"}`, `{"event":"waits"}`, `{"gap":{"ago":[4000],"wait":1000}}`)
		drop()
		s.outage(4*time.Second, true)
		time.Sleep(time.Second)
		c.Expect(`{"event":"written"}`, `{"event":"waits"}`, `{"gap":{"ago":[5000,0],"wait":1000,"ends":true}}`)
	})
}

// TestOutageReconnect: nobody is sent away while the outage lasts.
func TestOutageReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{Gaps: ws.GapReconnect, PingInterval: -1})
		c := s.client("", "r")
		s.outage(time.Second, false)
		c.Expect(`{"gap":{"ago":[1000],"wait":1}}`)
		time.Sleep(time.Hour)
		s.emit("r", "x")
		c.Expect(`{"event":"x"}`)
		s.outage(time.Hour, true)
		c.ExpectClose(1012, "server restarting")
	})
}

// TestOutageIsIgnored: by choice, as is what a queue drops.
func TestOutageIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{
			Gaps: ws.GapIgnore, WriteTimeout: time.Hour, PingInterval: -1,
			Queue: crosscast.QueueOptions{Limit: 1, BurstTime: -1, Policy: crosscast.QueueDropNewest},
		})
		early := s.client("", "r")
		s.outage(time.Second, false)
		late := s.client("", "r")
		s.emit("r", "x")
		for _, c := range []*client{early, late} {
			c.Expect(`{"event":"x"}`)
		}
		synctest.Wait()
		for range 3 {
			s.emit("r", "y") // one is being written, one waits, and one is dropped
			synctest.Wait()
		}
		for _, c := range []*client{early, late} {
			c.Expect(`{"event":"y"}`, `{"event":"y"}`)
		}
		synctest.Wait()
		s.emit("r", "fence")
		for _, c := range []*client{early, late} {
			c.Expect(`{"event":"fence"}`)
		}
	})
}

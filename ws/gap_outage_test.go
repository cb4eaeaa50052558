package ws_test

import (
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

// TestOutageIsIgnored: by choice.
func TestOutageIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{Gaps: ws.GapIgnore})
		early := s.client("", "r")
		s.outage(time.Second, false)
		late := s.client("", "r")
		s.emit("r", "x")
		for _, c := range []*client{early, late} {
			c.Expect(`{"event":"x"}`)
		}
	})
}

package natsadapter_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/natsadapter"
)

// TestConformance runs the rules of a driver on one server. Each node's user has exactly the permissions of this
// package's documentation.
func TestConformance(t *testing.T) {
	adaptertest.Run(t, adaptertest.Harness{Heartbeat: heartbeat, New: func(tb testing.TB) adaptertest.Cluster {
		s := startServer(tb, server.Options{})
		u := &users{s: s}
		u.add("admin", ">")
		return nodesOn(tb, []*natsServer{s}, u)
	}})
}

// heartbeat is short because Start waits for one: NATS does not tell how many peers there are.
const heartbeat = 150 * time.Millisecond

// TestConformanceCluster does the same with each node on another server of a cluster.
func TestConformanceCluster(t *testing.T) {
	h := adaptertest.Harness{Heartbeat: heartbeat, Exceptions: map[string]string{}, New: func(tb testing.TB) adaptertest.Cluster {
		return nodesOn(tb, startCluster(tb, 3), nil)
	}}
	for name := range adaptertest.Rules() {
		kind, _, _ := strings.Cut(name, "-")
		if !slices.Contains([]string{"joined", "interest", "commands", "outage", "order", "driver", "load", "close"}, kind) && os.Getenv("CROSSCAST_NATS") != "all" {
			h.Exceptions[name] = "several servers make no difference; TestConformance checks it, and with CROSSCAST_NATS=all so does this"
		}
	}
	h.Exceptions["driver-slow-peer"] = "a peer is slow at its own server, which TestConformance checks; here the megabytes between " +
		"three servers keep heartbeats of 150 ms from coming in time"
	adaptertest.Run(t, h)
}

// nodesOn makes the adapters of nodes on servers, in turn, with users if there are any.
func nodesOn(tb testing.TB, servers []*natsServer, u *users) adaptertest.Cluster {
	var all []*lines
	c := adaptertest.Cluster{
		Adapter: func() crosscast.Adapter {
			s := servers[len(all)%len(servers)]
			l := &lines{subject: "cc.all"}
			options := []nats.Option{nats.SetCustomDialer(l), ignoreErrors}
			if u != nil {
				options = append(options, u.add(fmt.Sprint("n", len(all)), "cc.>"))
			}
			all = append(all, l)
			return natsadapter.Dial(s.url(), natsadapter.Options{PublishTimeout: patience}, options...)
		},
		Cut:     func(i int) { all[i].cut(true) },
		Restore: func(i int) { all[i].cut(false) },
		Deafen:  func(i int) { all[i].deafen() },
	}
	options := []nats.Option{ignoreErrors}
	if u != nil {
		options = append(options, nats.UserInfo("admin", "pw"))
		c.Deny = func(i int, name crosscast.Address, denied bool) {
			u.deny(fmt.Sprint("n", i), "cc.r./."+name.Name, denied)
		}
	}
	observer := servers[0].client(tb, options...)
	sub, err := observer.SubscribeSync("cc.>")
	if err != nil {
		tb.Fatal(err)
	}
	if err := observer.Flush(); err != nil {
		tb.Fatal(err)
	}
	var mu sync.Mutex
	var seen []adaptertest.Packet // guarded by mu
	c.Peek = func() []adaptertest.Packet {
		mu.Lock()
		defer mu.Unlock()
		if err := observer.Flush(); err != nil {
			tb.Error(err)
		}
		for {
			m, err := sub.NextMsg(1)
			if err != nil {
				return seen[:len(seen):len(seen)]
			}
			if !strings.HasPrefix(m.Subject, "cc.s.") {
				seen = append(seen, adaptertest.Packet{Topic: m.Subject, Data: m.Data})
			}
		}
	}
	c.Inject = func(p adaptertest.Packet) {
		if err := observer.Publish(p.Topic, p.Data); err != nil && !errors.Is(err, nats.ErrMaxPayload) {
			tb.Error(err)
		}
		if err := observer.Flush(); err != nil {
			tb.Error(err)
		}
	}
	return c
}

// ignoreErrors keeps nats.go from printing the refusals that a test makes.
func ignoreErrors(o *nats.Options) error {
	o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {}
	return nil
}

// users are those of a server.
type users struct {
	s *natsServer
}

// add adds a user that may publish and subscribe a subject.
func (u *users) add(name, subject string) nats.Option {
	u.s.o.Users = append(u.s.o.Users, &server.User{Username: name, Password: "pw", Permissions: permissions(subject)})
	u.s.reload()
	return nats.UserInfo(name, "pw")
}

func permissions(subject string, denied ...string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{subject}},
		Subscribe: &server.SubjectPermission{Allow: []string{subject}, Deny: denied},
	}
}

// deny denies a user the subscription to a subject, or allows it again.
func (u *users) deny(name, subject string, denied bool) {
	changed := make([]*server.User, len(u.s.o.Users))
	for i, user := range u.s.o.Users {
		changed[i] = user
		if user.Username == name {
			changed[i] = &server.User{Username: name, Password: "pw", Permissions: permissions("cc.>")}
			if denied {
				changed[i].Permissions = permissions("cc.>", subject)
			}
		}
	}
	u.s.o.Users = changed
	u.s.reload()
}

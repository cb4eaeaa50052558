package faults_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/redistest"
)

var _ = register(
	&row{
		number: 43, fault: "access to a room's channel is revoked from a node, and granted again after 5 s",
		expect: "an open gap of that room at that node, with its end; within 6 s of the grant it hears again; nothing else",
		kinds:  single, run: deniedRoom,
	},
	&row{
		number: 44, fault: "the password of all nodes changes, once in time and once before the nodes have the new one",
		expect: "in time: delivery is back after 1.5 s; late: 6 s after the new one is there; no error has a password",
		kinds:  single, alone: true, run: rotatedPassword,
	},
	&row{
		number: 45, fault: "TLS with an unknown authority, a wrong name, an expired certificate, to a plain port, or none to " +
			"a TLS port",
		expect: "Start fails at once, and says which", kinds: []kind{withTLS}, run: badCertificates,
		not: map[kind]string{sharded: dialledAsOne, shards: asOneRedis, natsOne: loginOfNATS, natsMany: loginOfNATS},
	},
	&row{
		number: 47, fault: "a node may not publish for 5 s",
		expect: "its link stands, and it hears the others without a gap; within 6 s of the grant it is heard again",
		kinds:  single, run: deniedPublishing,
	},
)

const loginOfNATS = "TLS is that of nats.go; TestLogin of natsadapter has it"

const (
	asOneRedis   = "as with one Redis, of which there are three"
	dialledAsOne = "each master is dialled as one Redis is"
)

const (
	grants     = "&cc:* +publish +subscribe +unsubscribe +ping +role"
	ofClusters = " +cluster|slots"
	ofShards   = " +spublish +ssubscribe +sunsubscribe"
)

// startUsers starts nodes with a user each, which has exactly the permissions of the documentation.
func (b *bed) startUsers() {
	b.Helper()
	var c siteConfig
	for _, name := range []string{"n1", "n2", "n3"} {
		c.redis.Users = append(c.redis.Users, name+" on >first-secret resetchannels "+grants)
		c.nats.Users = append(c.nats.Users, natsUser{Name: name, Password: "first-secret"})
	}
	b.startSite(c)
	if b.site.cluster != nil { // which has started without users
		more := ofClusters
		if b.kind == sharded {
			more += ofShards
		}
		for _, rules := range c.redis.Users {
			b.acl(rules + more)
		}
	}
	b.startNodes(func(c *childConfig) { c.Dial.User, c.Dial.Password = c.Name, "first-secret" })
}

// acl changes the permissions of a user of Redis.
func (b *bed) acl(rules string) {
	b.Helper()
	args := []any{"acl", "setuser"}
	for rule := range strings.FieldsSeq(rules) {
		args = append(args, rule)
	}
	for _, admin := range b.site.admin() {
		if err := admin.Do(b.Context(), args...).Err(); err != nil {
			b.Fatal(err)
		}
	}
}

// limit changes what n1 may do: with Redis by rules of its access control list, with NATS by a change of its user.
func (b *bed) limit(rules string, change func(*natsUser)) {
	b.Helper()
	if !b.kind.isNATS() {
		b.acl("n1 " + rules)
		return
	}
	for _, s := range b.site.nats {
		users := slices.Clone(s.config.Users)
		change(&users[0])
		s.change(users...)
	}
}

// deniedRoom denies n1 the channel of the room.
func deniedRoom(b *bed) {
	b.startUsers()
	kills := 1
	if b.kind == cluster { // each master learns it in turn, and n1 might go to one that has not
		kills = len(b.site.redis)
	}
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{""}, Reasons: []string{"link lost"}, Most: kills})
	b.allow(books.Allow{Nodes: []string{"n1"}, Rooms: []string{room}, Reasons: []string{"denied"}, Loose: true})
	b.allow(books.Allow{Nodes: []string{"n1"}, Rooms: []string{room}, Reasons: []string{"hole"}, Loose: true})
	b.allowLosses("n1")
	from := b.ledger.Len()
	mended := b.fault("n1 may not use the room's channel")
	b.limit("resetchannels &cc:all* &cc:n:*", func(u *natsUser) { u.Deaf = []string{subjectOf(ofRoom)} })
	b.wait(from, "an open gap", func(e *books.Entry) bool { return deniedGap(b, e) && e.Gap.Until == 0 })
	b.last(5 * time.Second)
	b.limit("&cc:*", func(u *natsUser) { u.Deaf = nil })
	mended()
	b.wait(from, "the end of the gap", func(e *books.Entry) bool { return deniedGap(b, e) && e.Gap.Until != 0 })
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(6 * time.Second)
}

var refusedLogin = regexp.MustCompile("WRONGPASS|subscribing denied .*(?i:authorization violation)")

func deniedGap(b *bed, e *books.Entry) bool {
	return e.Is == books.GapOf && e.Node == b.nodes[0].id && e.Gap.Reason == "denied"
}

// rotate gives all users a password, and ends their connections.
func (b *bed) rotate(password string) {
	b.Helper()
	for _, s := range b.site.nats { // which ends the connections of users that have changed
		users := slices.Clone(s.config.Users)
		for i := range users {
			users[i].Password = password
		}
		s.change(users...)
	}
	for _, n := range b.live() {
		if b.kind.isNATS() {
			break
		}
		b.acl(n.config.Name + " resetpass >" + password)
		for _, admin := range b.site.admin() {
			if err := admin.Do(b.Context(), "client", "kill", "user", n.config.Name).Err(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// learn tells all nodes their present password.
func (b *bed) learn(password string) {
	for _, n := range b.live() {
		n.do(command{Do: "password", Text: password})
	}
}

// rotatedPassword changes the password twice.
func rotatedPassword(b *bed) {
	b.startUsers()
	b.allow(books.Allow{Reasons: []string{"link lost"}, Origins: []string{""}, Most: 2})
	b.allowLosses()
	b.learn("second-secret")
	mended := b.fault("the password changes, and the nodes have the new one")
	b.rotate("second-secret")
	mended()
	b.meet(b.ledger.Len())
	b.last(time.Second) // what is heard first might have been emitted during the fault
	b.recovered(1500 * time.Millisecond)

	from := b.ledger.Len()
	mended = b.fault("the password changes, and the nodes do not have it")
	b.rotate("third-secret")
	for _, n := range b.live() {
		b.wait(from, "the link of "+n.String()+" is denied", func(e *books.Entry) bool {
			return e.Is == books.Link && e.Node == n.id && refusedLogin.MatchString(e.Text)
		})
	}
	b.learn("third-secret")
	mended()
	began := time.Now()
	b.meet(b.ledger.Len())
	late := time.Since(began)
	if late > 6*time.Second {
		b.Errorf("with the new password delivery was back after %v", late)
	}
	b.note = "late: " + figure(late)
	b.settle()
	for _, e := range b.ledger.Entries() {
		if strings.Contains(e.Text, "-secret") {
			b.Errorf("%s shows a password: %s", e.Node, e.Text)
		}
	}
}

// badCertificates tries to start nodes that cannot speak with the server.
func badCertificates(b *bed) {
	b.startSite(siteConfig{})
	plain := redistest.Start(b.T, redistest.Config{})
	other := redistest.Start(b.T, redistest.Config{TLS: true})
	said := map[string]string{}
	for i, try := range []struct {
		says   string
		change func(d *dialConfig)
	}{
		{"unknown authority", func(d *dialConfig) { d.Addrs = []string{other.Addr()} }},
		{"wanted to match elsewhere.example", func(d *dialConfig) { d.TLSName = "elsewhere.example" }},
		{"expired", func(d *dialConfig) { d.Clock = 48 * time.Hour }},
		{"does the server, on this port?", func(d *dialConfig) { d.Addrs = []string{plain.Addr()} }},
		{"does it want TLS?", func(d *dialConfig) { d.CA = "" }},
	} {
		n := b.process(fmt.Sprint("n", i+1), func(c *childConfig) { try.change(&c.Dial) })
		r, err := n.try(command{Do: "start", Time: patience})
		if err == nil || !strings.Contains(err.Error(), try.says) {
			b.Errorf("want %q: %v", try.says, err)
			continue
		}
		if r.Took > 3*time.Second {
			b.Errorf("%s: Start failed after %v", try.says, r.Took)
		}
		if said[err.Error()] != "" {
			b.Errorf("%q and %q have one error", try.says, said[err.Error()])
		}
		said[err.Error()] = try.says
	}
}

// publishing denies ("-") or grants ("+") what nodes publish with.
func (b *bed) publishing(sign string) (rules string) {
	rules = sign + "publish"
	if b.kind == sharded {
		rules += " " + sign + "spublish"
	}
	return rules
}

// deniedPublishing denies n1 the command that publishes, with which its heartbeats go, too.
func deniedPublishing(b *bed) {
	b.startUsers()
	b.allow(books.Allow{Origins: []string{"n1"}, Reasons: []string{"peer lost", "hole", "loss"}, Loose: true})
	before := b.nodes[0].stats().Reconnects
	mended := b.fault("n1 may not publish")
	b.limit(b.publishing("-"), func(u *natsUser) { u.Mute = true })
	b.wait(0, "publishing is denied", func(e *books.Entry) bool {
		return e.Is == books.Link && e.Node == b.nodes[0].id && strings.Contains(e.Text, "publishing denied")
	})
	b.last(5 * time.Second)
	b.limit(b.publishing("+"), func(u *natsUser) { u.Mute = false })
	mended()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(6 * time.Second)
	if now := b.nodes[0].stats().Reconnects; now != before {
		b.Errorf("n1 has connected %d times again", now-before)
	}
}

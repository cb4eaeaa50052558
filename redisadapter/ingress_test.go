package redisadapter_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// joinIngress starts a node with an ingress, and a socket of the user "u9" in the room "room1".
func joinIngress(t *testing.T, o *redis.Options) *member {
	t.Helper()
	m := &member{conn: make(conn, 100)}
	var err error
	m.Node, err = crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
		Adapter: redisadapter.New(redistest.Client(t, o), redisadapter.Options{Ingress: true}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(redistest.Within(t, redistest.Patience)) })
	m.socket, err = m.Connect(redistest.Within(t, redistest.Patience), m.conn,
		crosscast.ConnectOptions{User: "u9", Rooms: []string{"room1"}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestIngressOnEachServer(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		ctx := redistest.Within(t, redistest.Patience)
		a, b := joinIngress(t, options()), joinIngress(t, options())
		without := join(t, "without", redistest.Client(t, options()))
		rdb := redistest.Client(t, options())
		for _, text := range []string{
			`{"rooms":["room1"],"event":"one","data":{"text":"hello"}}`, `{"rooms":["room1"],"Event":"misspelt"}`,
			`{"users":["u9"],"event":"two"}`, `{"everyone":true,"event":"three","data":[1, 2]}`,
		} {
			if n, err := rdb.Publish(ctx, "cc:in", text).Result(); n != 2 || err != nil {
				t.Errorf("publish: %d, %v", n, err)
			}
		}
		for _, m := range []*member{a, b} {
			for _, want := range []string{`one {"text":"hello"}`, "two ", "three [1, 2]"} {
				m.expect(t, want)
			}
			if n := m.Stats().Adapter.Dropped["ingress member"]; n != 1 {
				t.Errorf("refused %d", n)
			}
		}
		if err := a.Emit(ctx, "fence", nil); err != nil {
			t.Fatal(err)
		}
		without.expect(t, "fence ") // and nothing before it
	})
}

// The permissions in this package's documentation are enough, and allow nothing else. What is published is in
// docs/languages.md, with the program that comes with every Redis.
func TestIngressPermissions(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"web on >secret resetchannels &cc:in +publish"}})
	ctx := redistest.Within(t, redistest.Patience)
	a := joinIngress(t, s.Options())
	o := s.Options()
	o.Username, o.Password = "web", "secret"
	web := redistest.Client(t, o)
	publish := func(channel, text string) error { return web.Publish(ctx, channel, text).Err() }
	if err := publish("cc:in", `{"rooms":["room1"],"event":"hello"}`); err != nil {
		t.Fatal(err)
	}
	a.expect(t, "hello ")
	for _, channel := range []string{"cc:all", "cc:r:/:room1", "cc:n:" + string(a.ID()), "cc:in:x", "cc:inn"} {
		if err := publish(channel, "x"); !redis.IsPermissionError(err) {
			t.Errorf("publishing on %s: %v", channel, err)
		}
	}
	emitter := redisadapter.New(web, redisadapter.Options{})
	_, err := crosscast.Start(ctx, crosscast.Options{EmitOnly: true, Adapter: emitter})
	if !errors.Is(err, crosscast.ErrDenied) {
		t.Errorf("starting an emitter: %v", err)
	}

	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("no redis-cli on the PATH")
	}
	port := s.Addr()[strings.LastIndexByte(s.Addr(), ':')+1:]
	cmd := exec.CommandContext(ctx, cli, "-p", port, "--user", "web", "--pass", "secret", "--no-auth-warning",
		"PUBLISH", "cc:in", `{"rooms":["room1"],"event":"roomMessage","data":{"text":"hi"}}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("redis-cli: %v\n%s", err, out)
	}
	a.expect(t, `roomMessage {"text":"hi"}`)
}

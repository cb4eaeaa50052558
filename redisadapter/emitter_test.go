package redisadapter_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// startEmitter starts an emitter.
func startEmitter(t *testing.T, o *redis.Options) *crosscast.Node {
	t.Helper()
	e, err := crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
		Name: "cron", EmitOnly: true, // with a short Heartbeat it would not wait for peers that are slow to be back
		Adapter: redisadapter.New(redistest.Client(t, o), redisadapter.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(redistest.Within(t, redistest.Patience)); err != nil {
			t.Errorf("close the emitter: %v", err)
		}
	})
	return e
}

// cronSubscribed returns the server's lines about connections called "cron" that are subscribed to something.
func cronSubscribed(t *testing.T, rdb *redis.Client) []string {
	t.Helper()
	list, err := rdb.ClientList(redistest.Within(t, redistest.Patience)).Result()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	seen := false
	for line := range strings.Lines(list) {
		if !strings.Contains(line, "name=cron") {
			continue
		}
		seen = true
		if !strings.Contains(line, " sub=0 ") || !strings.Contains(line, " psub=0 ") {
			lines = append(lines, line)
		}
	}
	if !seen {
		t.Errorf("the server does not know the emitter:\n%s", list)
	}
	return lines
}

// A real server does not see an emitter subscribe until it asks something, and then to its inbox.
func TestEmitterSubscribesToNothing(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	admin := s.Client()
	ctx := redistest.Within(t, redistest.Patience)
	a, b := join(t, "a", s.Client()), join(t, "b", s.Client())
	o := s.Options()
	o.ClientName = "cron"
	e := startEmitter(t, o)
	for _, event := range []string{"one", "two"} {
		if err := e.To("room").Emit(ctx, event, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.ToUser("u-a").Join(ctx, "room2"); err != nil {
		t.Fatal(err)
	}
	if err := e.Everyone().Emit(ctx, "three", nil); err != nil {
		t.Fatal(err)
	}
	r, err := e.To("room").Deliver(ctx, "four", nil)
	if err != nil || r != (crosscast.Receipt{Nodes: 2, Known: true}) {
		t.Errorf("receipt: %+v, %v", r, err)
	}
	for _, m := range []*member{a, b} {
		for _, want := range []string{"one 1", "two 1", "three ", "four "} {
			m.expect(t, want)
		}
	}
	if lines := cronSubscribed(t, admin); len(lines) > 0 {
		t.Errorf("plain emissions subscribe: %q", lines)
	}
	if n, err := e.To("room").Count(ctx); n != 2 || err != nil {
		t.Errorf("count: %d, %v", n, err)
	}
	if lines := cronSubscribed(t, admin); len(lines) != 1 || !strings.Contains(lines[0], " sub=1 ") {
		t.Errorf("after a question: %q", lines)
	}
	channels, err := admin.PubSubNumSub(ctx, "cc:all", "cc:n:"+string(e.ID())).Result()
	if err != nil || channels["cc:all"] != 2 || channels["cc:n:"+string(e.ID())] != 1 {
		t.Errorf("subscribers: %v, %v", channels, err)
	}
	if n := len(a.Nodes()); n != 1 {
		t.Errorf("a node knows %d peers", n)
	}
}

func TestEmitterOnEachServer(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		ctx := redistest.Within(t, redistest.Patience)
		a := join(t, "a", redistest.Client(t, options()))
		e := startEmitter(t, options())
		if err := e.ToSocket(a.socket.ID()).Emit(ctx, "hello", nil); err != nil {
			t.Fatal(err)
		}
		a.expect(t, "hello ")
		changed, err := e.ToUser("u-a").Do(ctx, crosscast.Command{Join: []string{"new"}})
		if err != nil || changed.Nodes[a.ID()] != 1 {
			t.Fatalf("command: %+v, %v", changed, err)
		}
		if err := e.To("new").Emit(ctx, "to new", nil); err != nil {
			t.Fatal(err)
		}
		a.expect(t, "to new ")
		if n, err := e.Everyone().CountUsers(ctx); n != 1 || err != nil {
			t.Errorf("users: %d, %v", n, err)
		}
	})
}

// The permissions in this package's documentation are enough.
func TestEmitterPermissions(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"cron on >secret resetchannels &cc:* +publish"}})
	ctx := redistest.Within(t, redistest.Patience)
	a := join(t, "a", s.Client())
	o := s.Options()
	o.Username, o.Password = "cron", "secret"
	e := startEmitter(t, o)
	if err := e.To("room").Emit(ctx, "hello", nil); err != nil {
		t.Fatal(err)
	}
	a.expect(t, "hello ")
	if _, err := e.To("room").Count(ctx); !errors.Is(err, crosscast.ErrDenied) {
		t.Errorf("a question without +subscribe and +ping: %v", err)
	}
	o = s.Options()
	o.Username, o.Password = "cron", "wrong"
	_, err := crosscast.Start(ctx, crosscast.Options{
		EmitOnly: true, Adapter: redisadapter.New(redistest.Client(t, o), redisadapter.Options{}),
	})
	if !errors.Is(err, crosscast.ErrDenied) || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("start with a wrong password: %v", err)
	}
	gone := redistest.Start(t, redistest.Config{})
	gone.Kill()
	_, err = crosscast.Start(ctx, crosscast.Options{
		EmitOnly: true, Adapter: redisadapter.New(gone.Client(), redisadapter.Options{}),
	})
	if err == nil || !strings.Contains(err.Error(), gone.Addr()) {
		t.Errorf("start without a server: %v", err)
	}
}

// On a Redis Cluster nobody knows how many nodes heard the question who is there.
func TestEmitterOnACluster(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	ctx := redistest.Within(t, redistest.Patience)
	a, b := join(t, "a", c.Client()), join(t, "b", c.Client())
	e, err := crosscast.Start(ctx, crosscast.Options{
		EmitOnly: true, Adapter: redisadapter.New(c.Client(), redisadapter.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(ctx)
	if err := e.To("room").Emit(ctx, "hello", nil); err != nil {
		t.Fatal(err)
	}
	a.expect(t, "hello ")
	b.expect(t, "hello ")
	for range 2 {
		if n, err := e.To("room").Count(ctx); n != 2 || err != nil {
			t.Errorf("count: %d, %v", n, err)
		}
	}
}

// Through a restart of the server: what is emitted meanwhile arrives once everyone is back.
func TestEmitterThroughARestart(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	ctx := redistest.Within(t, redistest.Patience)
	a, b := join(t, "a", s.Client()), join(t, "b", s.Client())
	e := startEmitter(t, s.Options())
	s.Kill()
	if _, err := e.To("room").Deliver(ctx, "what notices", nil); err == nil {
		t.Error("delivered to a server that is gone")
	}
	if err := e.To("room").Emit(ctx, "bridged", nil); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	a.expect(t, "bridged ")
	b.expect(t, "bridged ")
	for _, m := range []*member{a, b} {
		m.expectGap(t, reasons.GapLinkLost)
	}
	if n, err := e.To("room").Count(ctx); n != 2 || err != nil {
		t.Errorf("count: %d, %v", n, err)
	}
	_ = e.Flush(ctx) // takes the loss that the test made, so that Close does not report it
}

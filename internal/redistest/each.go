package redistest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Patience is for what must happen. It is never waited for in a test that passes.
const Patience = 20 * time.Second

// Within returns a context that ends after d, or with the test.
func Within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Mini runs a miniredis until the test ends, and returns what makes options of its clients.
func Mini(t testing.TB) func() *redis.Options {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	addr := m.Addr()
	return func() *redis.Options {
		return &redis.Options{
			Addr: addr, Protocol: 2, ContextTimeoutEnabled: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}
	}
}

// Strict is a server as providers run them: it speaks TLS only, closes the connections of idle clients after a second,
// and has used all the memory that it may use for data.
var Strict = Config{TLS: true, Args: []string{"--timeout", "1", "--maxmemory", "1mb", "--maxmemory-policy", "noeviction"}}

// OnEachServer runs a test on miniredis and on a real server, with both protocols. The real server is [Strict] for one of
// them. options makes client options that the test may change.
func OnEachServer(t *testing.T, run func(t *testing.T, options func() *redis.Options)) {
	for _, protocol := range []int{2, 3} {
		speaking := func(options func() *redis.Options) func() *redis.Options {
			return func() *redis.Options {
				o := options()
				o.Protocol = protocol
				return o
			}
		}
		t.Run(fmt.Sprintf("miniredis/RESP%d", protocol), func(t *testing.T) { run(t, speaking(Mini(t))) })
		name, config := "redis", Config{}
		if protocol == 2 {
			name, config = "strict redis", Strict
		}
		t.Run(fmt.Sprintf("%s/RESP%d", name, protocol), func(t *testing.T) { run(t, speaking(Start(t, config).Options)) })
	}
}

// Client makes a client that is closed when the test ends.
func Client(t testing.TB, o *redis.Options) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// KillConnections has servers close the connections of a kind, such as "pubsub" or "normal", but those of the admins. It
// waits for the first one, because a node that has lost a connection might be about to make another.
func KillConnections(t testing.TB, kind string, admins ...*redis.Client) {
	t.Helper()
	ctx := Within(t, Patience)
	for killed := 0; killed == 0; time.Sleep(time.Millisecond) {
		for _, admin := range admins {
			n, err := admin.Do(ctx, "client", "kill", "type", kind, "skipme", "yes").Int()
			if err != nil {
				t.Fatalf("killed no connection of kind %q: %v", kind, err)
			}
			killed += n
		}
	}
}

// FailToSave has a server try to save, which must fail, and returns when it has.
func FailToSave(t testing.TB, admin *redis.Client) {
	t.Helper()
	ctx := Within(t, Patience)
	_ = admin.BgSave(ctx)
	for {
		info, err := admin.Info(ctx, "persistence").Result()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info, "rdb_last_bgsave_status:err") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ClosedPort is an address at which nobody listens.
func ClosedPort() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

package redisbus_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// onEachConn runs a test with a client whose connection a link takes over, and with one that only go-redis can read.
func onEachConn(t *testing.T, run func(t *testing.T, client func(*redis.Options) redis.UniversalClient)) {
	t.Run("taken over", func(t *testing.T) {
		run(t, func(o *redis.Options) redis.UniversalClient { return redistest.Client(t, o) })
	})
	t.Run("of go-redis", func(t *testing.T) {
		run(t, func(o *redis.Options) redis.UniversalClient { return wrapped{redistest.Client(t, o)} })
	})
}

// exchange uses all that a link can.
func exchange(t *testing.T, bus wire.Bus) *listener {
	t.Helper()
	l := listen(t, bus, "cc:a", "cc:b")
	big := strings.Repeat("x\r\n", 1<<20)
	mustPublish(t, bus, append(frames("cc:a", "1", "", big), frames("cc:b", "2")...))
	l.expectData(t, "cc:a", "1")
	l.expectData(t, "cc:a", "")
	l.expectData(t, "cc:a", big)
	l.expectData(t, "cc:b", "2")
	l.ping(t, "p")
	l.expect(t, wire.Pong, "p")
	if err := l.link.Unsubscribe([]string{"cc:b", "cc:a"}); err != nil {
		t.Fatal(err)
	}
	l.expect(t, wire.Unsubscribed, "cc:b")
	l.expect(t, wire.Unsubscribed, "cc:a")
	l.ping(t, "q")
	l.expect(t, wire.Pong, "q")
	return l
}

// TestEachWayToConnect: over TLS, over a socket of Unix, with a dialer of the user's, and with all that a login sends.
func TestEachWayToConnect(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	plain := redistest.Start(t, redistest.Config{
		Args: []string{"--unixsocket", file}, Users: []string{"alice on >pw allchannels allkeys +@all"},
	})
	secure := redistest.Start(t, redistest.Config{TLS: true})
	for name, options := range map[string]func() *redis.Options{
		"TLS": secure.Options,
		"Unix": func() *redis.Options {
			o := plain.Options()
			o.Network, o.Addr = "unix", file
			return o
		},
		"dialer": func() *redis.Options {
			o := plain.Options()
			o.Addr = "nowhere:1"
			o.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", plain.Addr())
			}
			return o
		},
		"login": func() *redis.Options {
			o := plain.Options()
			o.Username, o.Password, o.ClientName, o.DB, o.ReadBufferSize = "alice", "pw", "name", 3, 128
			o.OnConnect = func(ctx context.Context, c *redis.Conn) error { return c.Info(ctx).Err() }
			return o
		},
		"new credentials": func() *redis.Options {
			o := plain.Options()
			o.StreamingCredentialsProvider = rotating{}
			return o
		},
	} {
		onEachConn(t, func(t *testing.T, client func(*redis.Options) redis.UniversalClient) {
			for _, protocol := range []int{2, 3} {
				t.Run(fmt.Sprintf("%s, RESP%d", name, protocol), func(t *testing.T) {
					o := options()
					o.Protocol = protocol
					l := exchange(t, newBus(client(o)))
					if err := l.link.Close(); err != nil {
						t.Error(err)
					}
					_ = l.expectEnd(t)
					if err := l.link.Ping("r"); err == nil {
						t.Error("a closed link can be written to")
					}
				})
			}
		})
	}
}

// rotating gives each connection new credentials, as soon as it has some.
type rotating struct{}

func (rotating) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	c := auth.NewBasicCredentials("alice", "pw")
	go l.OnNext(c)
	return c, func() error { return nil }, nil
}

// TestALinkOutlivesTheContextOfItsDial: no deadline of the dial is left on the connection.
func TestALinkOutlivesTheContextOfItsDial(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	onEachConn(t, func(t *testing.T, client func(*redis.Options) redis.UniversalClient) {
		bus := newBus(client(s.Options()))
		ctx := redistest.Within(t, 2*time.Second)
		link, err := bus.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		l := read(t, link)
		<-ctx.Done()
		l.subscribe(t, "cc:a")
	})
}

// TestForeignPushes: a connection whose login has switched on invalidations gets them beside everything else.
func TestForeignPushes(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	admin := s.Client()
	onEachConn(t, func(t *testing.T, client func(*redis.Options) redis.UniversalClient) {
		o := s.Options()
		o.Protocol = 3
		o.OnConnect = func(ctx context.Context, c *redis.Conn) error {
			return c.Process(ctx, redis.NewStatusCmd(ctx, "client", "tracking", "on", "bcast"))
		}
		l := listen(t, newBus(client(o)), "cc:a")
		for i := range 100 {
			if err := admin.MSet(t.Context(), "k1", i, "k2", i).Err(); err != nil {
				t.Fatal(err)
			}
			if i == 50 {
				if err := admin.FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
			mustPublish(t, newBus(admin), frames("cc:a", fmt.Sprint(i)))
			l.expectData(t, "cc:a", fmt.Sprint(i))
		}
	})
}

// TestBytesBehindTheGreeting: bytes that arrive together with the answer to the first PING are not lost.
func TestBytesBehindTheGreeting(t *testing.T) {
	const behind = "$1\r\na\r\n$2\r\nhi\r\n"
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	greeted := make(chan struct{})
	go func() {
		for r := bufio.NewReader(far); ; {
			args, err := redistest.ReadCommand(r)
			if err != nil {
				return
			}
			reply := "+OK\r\n"
			switch strings.ToLower(args[0]) {
			case "hello":
				reply = "-ERR unknown command\r\n"
			case "ping":
				reply = "+PONG\r\n*3\r\n$7\r\nmessage\r\n" + behind[:5]
			}
			if _, err := io.WriteString(far, reply); err != nil {
				return
			}
			if strings.EqualFold(args[0], "ping") {
				<-greeted
				_, _ = io.WriteString(far, behind[5:])
			}
		}
	}()
	o := &redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
	l := listen(t, newBus(redistest.Client(t, o)))
	close(greeted)
	l.expectData(t, "a", "hi")
}

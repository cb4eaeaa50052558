package redisbus_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// forgetful runs a server that knows no command that logs in, and says so as servers do: with its arguments.
func forgetful(t *testing.T) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					args, err := redistest.ReadCommand(r)
					if err != nil {
						return
					}
					reply := "+PONG\r\n"
					switch strings.ToLower(args[0]) {
					case "hello", "auth", "publish":
						reply = fmt.Sprintf("-ERR unknown command '%s', with args beginning with: '%s' \r\n",
							args[0], strings.Join(args[1:], "' '"))
					}
					if _, err := io.WriteString(c, reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// silent listens, and answers nobody.
func silent(t *testing.T) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// No error has the name or the password of who logs in, whatever a server answers.
func TestErrorsAreDiscreet(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >geheim resetchannels &x -@all +ping"}})
	for name, change := range map[string]func(o *redis.Options){
		"a server that does not know the command": func(o *redis.Options) { o.Addr = forgetful(t) },
		"a wrong password":                        func(o *redis.Options) { o.Password = "geheim2" },
		"nothing is allowed":                      func(*redis.Options) {},
		"no server":                               func(o *redis.Options) { o.Addr = redistest.ClosedPort() },
		"no answer":                               func(o *redis.Options) { o.Addr = silent(t) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, protocol := range []int{2, 3} {
				o := s.Options()
				o.Username, o.Password, o.Protocol = "alice", "geheim", protocol
				o.ReadTimeout = 200 * time.Millisecond
				change(o)
				bus := newBus(redistest.Client(t, o))
				ctx := redistest.Within(t, redistest.Patience)
				frames := []wire.Frame{{Topic: "topic", Data: []byte("text")}}
				bus.Publish(ctx, frames)
				var moved error
				link, err := bus.Dial(ctx)
				if err == nil {
					err = link.Subscribe([]string{"topic"})
					if err == nil {
						var ev wire.Event
						ev, err = link.Receive()
						err = errors.Join(err, ev.Err)
					}
					_, moved = bus.(wire.Mover).Moved(ctx, link)
					_ = link.Close()
				}
				for what, err := range map[string]error{"Publish": frames[0].Err, "Dial": err, "Moved": moved} {
					if err != nil && (strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), "alice")) {
						t.Errorf("RESP%d, %s: %v", protocol, what, err)
					}
				}
				if frames[0].Err == nil {
					t.Error("it could publish")
				}
			}
		})
	}
	if err := errors.New("as ever"); redisbus.Discreet(err) != err || redisbus.Discreet(nil) != nil {
		t.Error("another error was changed")
	}
}

//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
)

const room, channel, pipeline = "hot", "clients:hot", 250

func startNode(c config) (*crosscast.Node, error) {
	rdb := redis.NewClient(&redis.Options{Addr: c.Redis, Protocol: 2})
	return crosscast.Start(context.Background(), crosscast.Options{
		Adapter: redisadapter.New(rdb, redisadapter.Options{Prefix: "clients"}),
		OnGap:   func(_ *crosscast.Node, g crosscast.Gap) { fmt.Fprintf(os.Stderr, "gap: %+v\n", g) },
	})
}

// serve says its address, and answers each line with the CPU time that it has used.
func serve(c config) error {
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var handler http.Handler
	if c.Contestant == "by-hand" {
		hub := newHub(c)
		handler = hub
	} else {
		node, err := startNode(c)
		if err != nil {
			return err
		}
		server, err := ws.New(node.Namespace, ws.Options{})
		if err != nil {
			return err
		}
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := server.Accept(w, r, ws.Client{Rooms: []string{room}}); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}
	s := httptest.NewUnstartedServer(handler)
	if c.TLS {
		s.StartTLS()
	} else {
		s.Start()
	}
	fmt.Println(s.Listener.Addr())
	for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
		fmt.Println(cpu())
	}
	return nil
}

// receive connects the clients, says a line, and then how many messages each has received, on average.
func receive(c config) error {
	var total, told atomic.Int64
	news := make(chan struct{}, 1)
	failed := make(chan error, c.Clients)
	for range c.Clients {
		conn, r, err := dial(c)
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			failed <- count(r, func(n int) {
				if total.Add(int64(n)) >= told.Load() {
					select {
					case news <- struct{}{}:
					default:
					}
				}
			})
		}()
	}
	fmt.Println("ready")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for {
		select {
		case <-news:
		case err := <-failed:
			return err
		case <-ended:
			return nil
		}
		n := int(total.Load()) / c.Clients
		fmt.Println(n)
		told.Store(int64(min(n+window/8, c.Messages) * c.Clients))
	}
}

func dial(c config) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", c.Server)
	if err != nil {
		return nil, nil, err
	}
	if c.TLS {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	const request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, nil, err
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	resp, err := http.ReadResponse(r, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	return conn, r, err
}

// count calls f with the number of text frames in what has been read, again and again.
func count(r *bufio.Reader, f func(n int)) error {
	for n := 0; ; {
		head, err := r.Peek(4)
		if err != nil {
			return err
		}
		size := 2 + int(head[1])
		if head[1] == 126 {
			size = 4 + int(head[2])<<8 + int(head[3])
		}
		if head[0] != 0x81 {
			return fmt.Errorf("a frame %x", head)
		}
		if _, err := r.Discard(size); err != nil {
			return err
		}
		if n++; r.Buffered() < 4 || n == 256 {
			f(n)
			n = 0
		}
	}
}

// publish sends messages, in step with the lines that say how many have arrived.
func publish(c config) error {
	ctx := context.Background()
	var arrived atomic.Int64
	news, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
			if n, err := strconv.Atoi(sc.Text()); err == nil {
				arrived.Store(int64(n))
				select {
				case news <- struct{}{}:
				default:
				}
			}
		}
	}()
	wait := func(n int) {
		for arrived.Load() < int64(n) {
			select {
			case <-news:
			case <-ended:
				return
			}
		}
	}
	text := strings.Repeat("x", payload)
	if c.Contestant == "by-hand" {
		rdb := redis.NewClient(&redis.Options{Addr: c.Redis, Protocol: 2})
		data, _ := json.Marshal(text)
		for sent := 0; sent < c.Messages; {
			p := rdb.Pipeline()
			n := min(pipeline, c.Messages-sent)
			for range n {
				p.Publish(ctx, channel, data)
			}
			wait(sent + n - window)
			if _, err := p.Exec(ctx); err != nil {
				return err
			}
			sent += n
		}
	} else {
		node, err := startNode(c)
		if err != nil {
			return err
		}
		target := node.To(room)
		for i := range c.Messages {
			wait(i + 1 - window)
			if err := target.Emit(ctx, "roomMessage", text); err != nil {
				return err
			}
		}
		if err := node.Flush(ctx); err != nil {
			return err
		}
	}
	<-ended
	return nil
}

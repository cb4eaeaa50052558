package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/crosscast/crosscast/examples/internal/chat"
)

// A stage is a page that shows both servers side by side, with buttons that end and start them, and Redis.
type stage struct {
	ctx     context.Context       // of the program
	redis   *miniredis.Miniredis  // nil: the servers have none
	options [2]chat.ServerOptions // with the addresses that the servers have had

	mu      sync.Mutex // held by whoever changes something
	servers [2]*chat.Server
	noRedis bool
}

//go:embed stage.html
var stageHTML []byte

func (st *stage) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; img-src data:; "+
			"script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-src http://localhost:*; frame-ancestors 'none'")
		_, _ = w.Write(stageHTML)
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { st.serveState(w) })
	mux.HandleFunc("POST /server/{i}", func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.Atoi(r.PathValue("i"))
		if err != nil || i < 0 || i >= len(st.servers) {
			http.NotFound(w, r)
			return
		}
		st.serve(w, func() error { return st.toggleServer(i) })
	})
	mux.HandleFunc("POST /redis", func(w http.ResponseWriter, _ *http.Request) { st.serve(w, st.toggleRedis) })
	return http.NewCrossOriginProtection().Handler(mux)
}

// serve changes something, and answers with the state.
func (st *stage) serve(w http.ResponseWriter, change func() error) {
	st.mu.Lock()
	err := change()
	st.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	st.serveState(w)
}

func (st *stage) serveState(w http.ResponseWriter) {
	st.mu.Lock()
	defer st.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	redis := "null"
	if st.redis != nil {
		redis = strconv.FormatBool(!st.noRedis)
	}
	fmt.Fprintf(w, `{"servers":[%t,%t],"urls":["http://%s","http://%s"],"redis":%s}`,
		st.servers[0] != nil, st.servers[1] != nil, st.options[0].Address, st.options[1].Address, redis)
}

// toggleServer ends a server, or starts it again.
func (st *stage) toggleServer(i int) error {
	if s := st.servers[i]; s != nil {
		st.servers[i] = nil
		return closeServer(s)
	}
	ctx, cancel := context.WithTimeout(st.ctx, 10*time.Second)
	defer cancel()
	s, err := chat.StartServer(ctx, st.options[i])
	st.servers[i] = s
	return err
}

// toggleRedis ends the embedded Redis, or starts it again.
func (st *stage) toggleRedis() error {
	if st.redis == nil {
		return errors.New("the servers have no Redis")
	}
	if st.noRedis {
		st.noRedis = false
		return st.redis.Restart()
	}
	st.noRedis = true
	st.redis.Close()
	return nil
}

// close ends the servers that run.
func (st *stage) close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	var errs []error
	for i, s := range st.servers {
		if s != nil {
			errs = append(errs, closeServer(s))
			st.servers[i] = nil
		}
	}
	return errors.Join(errs...)
}

// run serves the page until ctx ends.
func (st *stage) run(ctx context.Context, say func(format string, args ...any)) error {
	listener, err := net.Listen("tcp", "localhost:5000")
	if err != nil {
		listener, err = net.Listen("tcp", "localhost:0")
	}
	if err != nil {
		return err
	}
	server := &http.Server{Handler: st.handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	say("open http://localhost:%d: both servers, side by side; Ctrl-C ends", listener.Addr().(*net.TCPAddr).Port)
	select {
	case err = <-served:
		return err
	case <-ctx.Done():
	}
	err = server.Close()
	<-served
	return err
}

package main

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// bareServer is the limit of what an idle connection costs below net/http: one goroutine, which reads.
func bareServer() contestant {
	return contestant{
		name: "bare", what: "limit: a goroutine that reads, nothing else", slow: true,
		roles: map[string]role{"publisher": publish(publishPipeline), "server": serve(serveBare), "clients": clients},
	}
}

func serveBare(p *proc) (http.Handler, error) {
	var mu sync.Mutex
	var conns []net.Conn
	write := func(frame []byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			if _, err := c.Write(frame); err != nil {
				p.fail(err)
			}
		}
	}
	if p.Ping > 0 {
		go func() {
			for range time.Tick(p.Ping) {
				write([]byte{0x89, 0})
			}
		}()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, err := accept(w)
		if err != nil {
			return
		}
		mu.Lock()
		conns = append(conns, conn)
		mu.Unlock()
		go func() { // the stack of the handler has grown
			b := make([]byte, 128)
			for {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		}()
	}), hear(p, func(message []byte) { write(frame(message)) })
}

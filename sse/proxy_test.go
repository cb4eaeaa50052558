package sse_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// TestNginx: with nothing but its defaults, and compression, nginx passes each event on at once, and POSTs as well. The
// headers of the stream ask for that.
func TestNginx(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI is set, and there is no nginx to test with")
		}
		t.Skip("SKIPPED: no nginx on the PATH")
	}
	n := wstest.StartNode(t, crosscast.Options{})
	server := serve(t, newServer(t, n, ws.Options{Events: echo, OnConnect: welcome}, sse.Options{}))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	dir := t.TempDir()
	_ = os.Chmod(dir, 0o755) // for nginx's workers
	config := fmt.Sprintf(`worker_processes 1; error_log stderr;
events { worker_connections 64; }
http {
  access_log off; gzip on; gzip_types text/event-stream; gzip_min_length 1; gzip_proxied any;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  server { listen %[2]s; location / { proxy_pass %[3]s; } }
}
`, dir, address, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	programtest.Start(t, exec.Command("nginx", "-p", dir, "-c", file, "-e", "stderr", "-g", "daemon off; pid "+dir+"/pid;"))
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // poll
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Since(begin) > wstest.Patience {
			t.Fatal(err)
		}
	}
	c := open(t, "http://"+address+"/?room=r", "ann")
	c.expect(`{"event":"welcome"}`)
	if err := n.To("r").Emit(t.Context(), "said", strings.Repeat("x", 100)); err != nil {
		t.Fatal(err)
	}
	c.expect(`{"event":"said","data":"` + strings.Repeat("x", 100) + `"}`)
	c.send(`{"event":"echo","data":1,"id":1}`)
	c.expect(`{"id":1,"data":1}`)
}

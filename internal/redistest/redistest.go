// Package redistest runs real Redis servers for tests: one process each, on a free port of 127.0.0.1, without
// persistence, ended with the test.
//
// Without a redis-server on the PATH a test is skipped, as loudly as go test lets it (with -v, or where one package is
// tested); where the environment variable CI is set it fails, because a green run must mean that the tests ran. A test with
// another program, such as valkey-server, is skipped without it everywhere.
package redistest

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config is how a server is started. The zero value is a plain server without a password.
type Config struct {
	Program  string   // one that takes the arguments of redis-server; default: redis-server
	Args     []string // more arguments, as on the command line: "--maxmemory", "10mb"
	Password string   // of the default user
	Users    []string // ACL users, as in a configuration file: "alice on >secret &cc:* +@all"
	TLS      bool     // the port speaks TLS only, with a certificate of an authority of its own
	Cluster  bool     // cluster mode; see [StartCluster]
}

const theProgram = "redis-server"

// Server is a Redis process and its port, which stays the same over restarts.
type Server struct {
	tb     testing.TB
	config Config
	dir    string
	port   int
	bus    int // the port of the cluster bus
	tls    *tls.Config
	proc   *process // the one that runs, or ran last
}

// Start runs a server until the test ends. It returns when the server takes connections.
func Start(tb testing.TB, c Config) *Server {
	tb.Helper()
	c.Program = cmp.Or(c.Program, theProgram)
	if _, err := exec.LookPath(c.Program); err != nil {
		if c.Program != theProgram {
			tb.Skipf("NOT RUN: no %s on the PATH", c.Program)
		}
		if os.Getenv("CI") != "" {
			tb.Fatalf("redistest: CI is set, and there is no redis-server to test with: %v", err)
		}
		fmt.Fprintf(os.Stderr, "\n*** redistest: SKIPPING %s: no redis-server on the PATH ***\n", tb.Name())
		tb.Skip("SKIPPED: no redis-server on the PATH")
	}
	s := &Server{tb: tb, config: c, dir: tb.TempDir()}
	if c.TLS {
		s.tls = s.makeCertificates()
	}
	// Another process may take a free port between our look and the server's start.
	var err error
	for range 5 {
		s.port, s.bus = freePort(tb), freePort(tb)
		if err = s.start(); err == nil {
			tb.Cleanup(s.Kill)
			return s
		}
	}
	tb.Fatalf("redistest: %v", err)
	return nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Options are client options for the server, with the settings that package redisadapter recommends.
func (s *Server) Options() *redis.Options {
	return &redis.Options{
		Addr:                     s.Addr(),
		Password:                 s.config.Password,
		TLSConfig:                s.TLS(),
		Protocol:                 2,
		DialTimeout:              2 * time.Second,
		DialerRetries:            1,
		ReadTimeout:              2 * time.Second,
		WriteTimeout:             2 * time.Second,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Client is a client with [Server.Options], closed when the test ends.
func (s *Server) Client() *redis.Client {
	rdb := redis.NewClient(s.Options())
	s.tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// TLS is the configuration of a client that trusts the server, nil when the server is plain.
func (s *Server) TLS() *tls.Config {
	if s.tls == nil {
		return nil
	}
	return s.tls.Clone()
}

// CA is the file with the certificate, in PEM, of the authority of a server with TLS.
func (s *Server) CA() string { return s.path("ca.pem") }

// Kill ends the server with SIGKILL, also when it is paused, and waits.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server with SIGTERM, as an administrator would, and waits.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Restart starts the server, ended before, again on the same port. It has forgotten everything.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := s.start(); err != nil {
		s.tb.Fatalf("redistest: restart: %v", err)
	}
}

func (s *Server) signal(sig syscall.Signal) {
	if err := s.proc.cmd.Process.Signal(sig); err != nil && err != os.ErrProcessDone {
		s.tb.Errorf("redistest: %v: %v", sig, err)
	}
}

func (s *Server) end(sig syscall.Signal) {
	s.signal(sig)
	<-s.proc.exited
}

func (s *Server) start() error {
	port, plain := strconv.Itoa(s.port), strconv.Itoa(s.port)
	args := []string{"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir, "--daemonize", "no"}
	if s.config.TLS {
		plain = "0"
		args = append(args, "--tls-port", port, "--tls-auth-clients", "no", "--tls-ca-cert-file", s.path("ca.pem"),
			"--tls-cert-file", s.path("server.pem"), "--tls-key-file", s.path("server.key"))
	}
	args = append(args, "--port", plain)
	if s.config.Password != "" {
		args = append(args, "--requirepass", s.config.Password)
	}
	for _, u := range s.config.Users {
		args = append(append(args, "--user"), strings.Fields(u)...)
	}
	if s.config.Cluster {
		args = append(args, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--enable-debug-command", "local",
			"--repl-diskless-sync-delay", "0",
			"--cluster-port", strconv.Itoa(s.bus), "--cluster-config-file", "nodes-"+port+".conf")
	}
	p, err := startProcess(s.config.Program, append(args, s.config.Args...))
	s.proc = p
	return err
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// process is one run of a server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended and was waited for
}

// startProcess returns when the server says that it is ready.
func startProcess(program string, args []string) (*process, error) {
	cmd := exec.Command(program, args...)
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = in, in
	endWithParent(cmd)

	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Where the kernel is asked to end the server with its parent, it means the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		_ = in.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		_ = out.Close()
		return p, err
	}

	log := &readyLog{ready: make(chan struct{})}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer out.Close()
		log.read(out) // until the process ends
	}()
	select {
	case <-log.ready:
		return p, nil
	case <-drained:
		<-p.exited
		return p, fmt.Errorf("%s ended at once:\n%s", program, log.text())
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-p.exited
		return p, fmt.Errorf("%s is not ready after 20 s:\n%s", program, log.text())
	}
}

// readyLog reads a server's log, notices when it is ready and keeps the beginning for an error message.
type readyLog struct {
	ready chan struct{}

	mu    sync.Mutex
	lines []string // guarded by mu
}

func (l *readyLog) read(r io.Reader) {
	once := sync.OnceFunc(func() { close(l.ready) })
	for sc := bufio.NewScanner(r); sc.Scan(); {
		l.mu.Lock()
		if len(l.lines) < 50 {
			l.lines = append(l.lines, sc.Text())
		}
		l.mu.Unlock()
		if strings.Contains(sc.Text(), "Ready to accept connections") || strings.Contains(sc.Text(), "Sentinel ID is") {
			once()
		}
	}
}

func (l *readyLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func freePort(tb testing.TB) int {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

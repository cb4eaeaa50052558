package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/faultproxy"
)

const (
	nodes     = 3
	userName  = "crosscast"
	userRules = "resetchannels &cc:* +publish +subscribe +unsubscribe +ping +role" // as docs/redis.md has them
)

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

// A bed is the cluster. Its methods are for one goroutine.
type bed struct {
	dir      string
	password string // of the nodes' user, and of the operator
	redis    *redisServer
	admin    *redis.Client
	proxies  [nodes]*faultproxy.Proxy // between each node and Redis
	nodes    [nodes]*node
}

// A node is one process of examples/production.
type node struct {
	*process
	address, admin string
	log            string
}

// startBed returns when the nodes serve. An error leaves nothing behind but files.
func startBed(ctx context.Context, dir string) (b *bed, err error) {
	b = &bed{dir: dir, password: rand.Text()}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	root, err := b.build(ctx)
	if err != nil {
		return b, err
	}
	addresses, err := freeAddresses(1 + 2*nodes)
	if err != nil {
		return b, err
	}
	b.redis = &redisServer{address: addresses[0], args: []string{
		"--include", filepath.Join(root, "recipes", "redis.conf"), "--dir", dir,
		"--user", "default", "off",
		"--user", "operator", "on", ">" + b.password, "~*", "&*", "+@all",
		"--user", userName, "on", ">" + b.password,
	}}
	b.redis.args = append(b.redis.args, strings.Fields(userRules)...)
	if err := b.redis.start(); err != nil {
		return b, err
	}
	b.admin = redis.NewClient(&redis.Options{Addr: b.redis.address, Username: "operator", Password: b.password})
	for i := range b.nodes {
		if b.proxies[i], err = faultproxy.Listen(b.redis.address); err != nil {
			return b, err
		}
		b.nodes[i] = &node{
			address: addresses[1+2*i], admin: addresses[2+2*i],
			log: filepath.Join(dir, nodeName(i)+".log"),
		}
		if err := b.startNode(i); err != nil {
			return b, err
		}
	}
	return b, b.healthy(ctx)
}

// build builds the server and the command crosscast from the repository that this program is from.
func (b *bed) build(ctx context.Context) (root string, err error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/crosscast/crosscast").Output()
	if err != nil {
		return "", fmt.Errorf("run it in examples/production: %w", err)
	}
	root = strings.TrimSpace(string(out))
	for program, dir := range map[string]string{"server": "examples/production", "crosscast": "cmd/crosscast"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.dir, program), ".")
		cmd.Dir = filepath.Join(root, filepath.FromSlash(dir))
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return root, nil
}

// stop ends everything.
func (b *bed) stop() {
	var all sync.WaitGroup
	for _, n := range b.nodes {
		if n != nil {
			all.Go(n.end)
		}
	}
	all.Wait()
	for _, p := range b.proxies {
		if p != nil {
			p.Close()
		}
	}
	if b.admin != nil {
		_ = b.admin.Close()
	}
	if b.redis != nil {
		b.redis.kill()
	}
}

// killRedis makes the proxies refuse connections, too, as a port does that nobody listens on.
func (b *bed) killRedis() {
	for _, p := range b.proxies {
		p.Refuse()
	}
	b.redis.kill()
}

func (b *bed) restartRedis() error {
	err := b.redis.start()
	for _, p := range b.proxies {
		err = errors.Join(err, p.Admit())
	}
	return err
}

// setUser changes the rules of the nodes' user.
func (b *bed) setUser(ctx context.Context, rules string) error {
	args := []any{"acl", "setuser", userName}
	for rule := range strings.FieldsSeq(rules) {
		args = append(args, rule)
	}
	return b.admin.Do(ctx, args...).Err()
}

// startNode runs a node, whose log goes on.
func (b *bed) startNode(i int) error {
	n := b.nodes[i]
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(b.dir, "server"), "-name", nodeName(i), "-address", n.address, "-admin", n.admin,
		"-notice", "100ms", "-window", "100ms")
	cmd.Env = append(os.Environ(), "REDIS_URL="+b.url(userName, b.proxies[i].Addr()))
	cmd.Stderr = log
	n.process, err = startProcess(cmd)
	return err
}

func (b *bed) killNode(i int) error {
	b.nodes[i].kill()
	return nil
}

func (b *bed) url(user, address string) string {
	return fmt.Sprintf("redis://%s:%s@%s", user, b.password, address)
}

// places says where an operator looks.
func (b *bed) places() string {
	var s strings.Builder
	for i, n := range b.nodes {
		fmt.Fprintf(&s, "  %s  metrics http://%s/metrics  page http://%[2]s/cluster/  health http://%[2]s/details  log %s\n",
			nodeName(i), n.admin, n.log)
	}
	for _, user := range []string{userName, "operator"} {
		fmt.Fprintf(&s, "  doctor, as %s: REDIS_URL=%s %s doctor\n", user, b.url(user, b.redis.address), filepath.Join(b.dir, "crosscast"))
	}
	return strings.TrimSuffix(s.String(), "\n")
}

// healthy waits until all nodes hear each other.
func (b *bed) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i, n := range b.nodes {
		for {
			why := n.ill(ctx)
			if why == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is not well: %w", nodeName(i), why)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// ill says what is wrong with a node.
func (n *node) ill(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+"/details", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var d struct {
		Ready string
		Link  struct{ DeniedChannels int }
		Peers []struct{ Suspect bool }
	}
	if err := json.NewDecoder(response.Body).Decode(&d); err != nil {
		return err
	}
	if d.Ready != "ready" || d.Link.DeniedChannels > 0 {
		return fmt.Errorf("it is %s, with %d denied channels", d.Ready, d.Link.DeniedChannels)
	}
	heard := 0
	for _, p := range d.Peers {
		if !p.Suspect {
			heard++
		}
	}
	if heard != nodes-1 {
		return fmt.Errorf("it hears %d peers", heard)
	}
	return nil
}

// A redisServer is a Redis on one address.
type redisServer struct {
	*process
	address string
	args    []string
}

// start returns when the server accepts connections.
func (r *redisServer) start() (err error) {
	_, port, err := net.SplitHostPort(r.address)
	if err != nil {
		return err
	}
	cmd := exec.Command("redis-server", append([]string{"--bind", "127.0.0.1", "--port", port}, r.args...)...)
	if r.process, err = startProcess(cmd); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return errors.Join(err, errors.New("redis-server does not start"))
		}
	}
}

func (r *redisServer) signal(sig syscall.Signal) error { return r.cmd.Process.Signal(sig) }

// A process is a child that does not outlive this program, where the kernel helps with that.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	endWithParent(cmd)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // which is the parent, for the kernel
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process at once, also when it is paused.
func (p *process) kill() {
	if p != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// end gives the process time to end by itself.
func (p *process) end() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.kill()
	}
}

// freeAddresses returns addresses of the loopback interface that nobody uses now.
func freeAddresses(n int) (all []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // all at the end, so that they differ
		all = append(all, ln.Addr().String())
	}
	return all, nil
}

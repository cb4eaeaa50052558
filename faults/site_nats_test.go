package faults_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/faultproxy"
)

// A natsServer is a NATS server in a process of its own: this test binary again, with serverVariable in the environment.
// It keeps its ports.
type natsServer struct {
	*process
	tb     testing.TB
	config natsConfig
}

// serverVariable makes a process a NATS server.
const serverVariable = "CROSSCAST_FAULTS_NATS"

// A natsConfig is how a NATS server is started. The zero value has no users, and no limits but those of nats-server.
type natsConfig struct {
	Port       int // 0: any, which is then kept
	Users      []natsUser
	MaxPending int64
	MaxPayload int32
	CertPEM    string // with KeyPEM: the port speaks TLS only
	KeyPEM     string

	// Of a server in a cluster.
	Name      string
	Cluster   int // port
	Advertise string
	Routes    []string
}

// A natsUser may use all subjects below cc, but those that are denied.
type natsUser struct {
	Name, Password string
	Deaf           []string // subjects that may not be subscribed
	Mute           bool     // may not publish
}

// A natsConn is a client's connection, as a server knows it.
type natsConn struct {
	ID       uint64
	Addr     string
	Subjects []string
}

// startNATS runs a server until the test ends.
func startNATS(tb testing.TB, c natsConfig) *natsServer {
	tb.Helper()
	s := &natsServer{tb: tb, config: c}
	s.Restart()
	return s
}

// startNATSCluster runs servers that reach each other through proxies, one before each.
func startNATSCluster(tb testing.TB, n int, c natsConfig) (servers []*natsServer, proxies []*faultproxy.Proxy) {
	tb.Helper()
	for range n {
		proxies = append(proxies, faultproxy.Start(tb, "127.0.0.1:1"))
	}
	for i := range n {
		c.Name, c.Advertise, c.Routes = fmt.Sprint("s", i), proxies[i].Addr(), nil
		for j, p := range proxies {
			if j != i {
				c.Routes = append(c.Routes, "nats://"+p.Addr())
			}
		}
		c.Cluster = -1
		s := startNATS(tb, c)
		proxies[i].Lead(fmt.Sprint("127.0.0.1:", s.config.Cluster))
		servers = append(servers, s)
	}
	for _, s := range servers {
		s.awaitRoutes(n - 1)
	}
	return servers, proxies
}

// Restart starts the server, again if it has been killed.
func (s *natsServer) Restart() {
	s.tb.Helper()
	name := "nats-server " + s.config.Name
	s.process = startProcess(s.tb, name, "", serverVariable, s.config, func(books.Entry) {})
	ports := strings.Fields(s.do(command{Do: "serve"}).Text)
	_, _ = fmt.Sscan(ports[0], &s.config.Port)
	_, _ = fmt.Sscan(ports[1], &s.config.Cluster)
}

func (s *natsServer) Addr() string { return fmt.Sprint("127.0.0.1:", s.config.Port) }
func (s *natsServer) Kill()        { s.kill() }
func (s *natsServer) Pause()       { s.pause() }
func (s *natsServer) Resume()      { s.resume() }

// change changes the users of the running server.
func (s *natsServer) change(users ...natsUser) {
	s.tb.Helper()
	s.config.Users = users
	text, err := json.Marshal(s.config)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.do(command{Do: "reload", Text: string(text)})
}

// awaitRoutes returns when the server is connected to so many others.
func (s *natsServer) awaitRoutes(want int) {
	s.tb.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // poll
		n := s.do(command{Do: "routes"}).N
		if int(n) == want {
			return
		}
		if time.Now().After(until) {
			s.tb.Fatalf("%s has connections to %d other servers instead of %d", s.name, n, want)
		}
	}
}

// conns are the connections of nodes.
func (s *natsServer) conns() (all []natsConn) {
	s.tb.Helper()
	if err := json.Unmarshal([]byte(s.do(command{Do: "conns"}).Text), &all); err != nil {
		s.tb.Fatal(err)
	}
	return all
}

// links are the connections of nodes that subscribe; none, if the server has gone.
func (s *natsServer) links() []natsConn {
	if s.hasEnded() {
		return nil
	}
	return slices.DeleteFunc(s.conns(), func(c natsConn) bool { return !c.subscribes() })
}

// everyones is the subject that each link subscribes, and no other connection.
const everyones = "cc.all"

func (c *natsConn) subscribes() bool { return slices.Contains(c.Subjects, everyones) }

// A natsBus is the bus of a site with NATS servers.
type natsBus struct{ *site }

// strangers is the name of the connections of the test itself.
const strangers = "stranger"

// stranger connects to a server.
func (s natsBus) stranger() *nats.Conn {
	s.tb.Helper()
	o := []nats.Option{nats.Name(strangers), nats.NoReconnect()}
	if len(s.nats[0].config.Users) > 0 {
		o = append(o, nats.UserInfo(strangers, strangers))
	}
	nc, err := nats.Connect("nats://"+s.nats[0].Addr(), o...)
	if err != nil {
		s.tb.Fatal(err)
	}
	return nc
}

func subjectOf(topic string) string { return strings.ReplaceAll(topic, ":", ".") }

func (s natsBus) publish(topic string, all [][]byte) {
	s.tb.Helper()
	nc := s.stranger()
	defer nc.Close()
	for _, data := range all {
		if err := nc.Publish(subjectOf(topic), data); err != nil {
			s.tb.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(patience); err != nil {
		s.tb.Fatal(err)
	}
}

func (s natsBus) capture(topic string, n int) (frames [][]byte) {
	s.tb.Helper()
	nc := s.stranger()
	defer nc.Close()
	sub, err := nc.SubscribeSync(subjectOf(topic))
	if err != nil {
		s.tb.Fatal(err)
	}
	for len(frames) < n {
		m, err := sub.NextMsg(patience)
		if err != nil {
			s.tb.Fatal(err)
		}
		frames = append(frames, m.Data)
	}
	return frames
}

// each calls f with all connections of nodes.
func (s natsBus) each(f func(*natsServer, *natsConn)) {
	s.tb.Helper()
	for _, server := range s.nats {
		if server.hasEnded() {
			continue
		}
		for _, c := range server.conns() {
			f(server, &c)
		}
	}
}

func (s natsBus) rooms() (n int) {
	s.each(func(_ *natsServer, c *natsConn) {
		for _, subject := range c.Subjects {
			if strings.HasPrefix(subject, "cc.r.") {
				n++
			}
		}
	})
	return n
}

func (s natsBus) subscribers() (addrs []string) {
	s.each(func(_ *natsServer, c *natsConn) {
		if c.subscribes() {
			addrs = append(addrs, c.Addr)
		}
	})
	return addrs
}

// endAll ends the connections that are as wanted, those of a server at once.
func (s natsBus) endAll(wanted func(*natsConn) bool) (ended int) {
	all := map[*natsServer]string{}
	s.each(func(server *natsServer, c *natsConn) {
		if wanted(c) {
			all[server] += fmt.Sprint(c.ID, " ")
		}
	})
	for server, ids := range all {
		ended += int(server.do(command{Do: "end", Text: ids}).N)
	}
	return ended
}

func (s natsBus) end(addr string) int {
	return s.endAll(func(c *natsConn) bool { return c.Addr == addr })
}

func (s natsBus) endSubscribers() { s.endAll((*natsConn).subscribes) }
func (s natsBus) endOthers()      { s.endAll(func(c *natsConn) bool { return !c.subscribes() }) }

func (s natsBus) endOthersOf(ports map[string]bool) int {
	return s.endAll(func(c *natsConn) bool { return ports[c.Addr] && !c.subscribes() })
}

// serve is the main function of a NATS server's process. It obeys commands until its input ends.
func serve(config string) {
	n := &serving{}
	must(json.Unmarshal([]byte(config), &n.config))
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var cmd command
		must(json.Unmarshal(lines.Bytes(), &cmd))
		r, err := n.do(&cmd)
		r.ID = cmd.ID
		if err != nil {
			r.Err = err.Error()
		}
		must(out.Encode(line{Reply: &r}))
	}
	os.Exit(0)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// A serving is a NATS server, in its process.
type serving struct {
	config natsConfig
	*natsd.Server
}

func (n *serving) do(cmd *command) (r reply, err error) {
	switch cmd.Do {
	case "serve":
		r.Text, err = n.serve()
	case "reload":
		if err = json.Unmarshal([]byte(cmd.Text), &n.config); err == nil {
			err = n.ReloadOptions(n.config.options())
		}
	case "conns":
		r.Text, err = n.list()
	case "end":
		for id := range strings.FieldsSeq(cmd.Text) {
			if n.DisconnectClientByID(uint64(parse(id))) == nil { // else it is gone already
				r.N++
			}
		}
	case "routes":
		var z *natsd.Routez
		if z, err = n.Routez(nil); err == nil {
			remote := map[string]bool{}
			for _, route := range z.Routes {
				remote[route.RemoteID] = true
			}
			r.N = int64(len(remote))
		}
	case "lame duck": // it ends then
		go n.LameDuckShutdown()
	default:
		err = fmt.Errorf("no command %s", cmd.Do)
	}
	return r, err
}

// serve starts the server, and returns its ports.
func (n *serving) serve() (ports string, err error) {
	if n.Server, err = natsd.NewServer(n.config.options()); err != nil {
		return "", err
	}
	n.Start()
	if !n.ReadyForConnections(patience) {
		return "", fmt.Errorf("nats-server is not ready")
	}
	n.config.Port = n.Addr().(*net.TCPAddr).Port
	if a := n.ClusterAddr(); a != nil {
		n.config.Cluster = a.Port
	}
	return fmt.Sprint(n.config.Port, " ", n.config.Cluster), nil
}

// list returns the connections, without those of the test itself.
func (n *serving) list() (string, error) {
	z, err := n.Connz(&natsd.ConnzOptions{Subscriptions: true, Limit: 10_000})
	if err != nil {
		return "", err
	}
	all := []natsConn{}
	for _, c := range z.Conns {
		if c.Name != strangers {
			all = append(all, natsConn{c.Cid, net.JoinHostPort(c.IP, fmt.Sprint(c.Port)), c.Subs})
		}
	}
	text, err := json.Marshal(all)
	return string(text), err
}

func (c *natsConfig) options() *natsd.Options {
	o := &natsd.Options{
		ServerName: c.Name, Host: "127.0.0.1", Port: c.Port, NoSigs: true, NoLog: true, MaxPending: c.MaxPending,
		MaxPayload: c.MaxPayload, LameDuckDuration: time.Second, LameDuckGracePeriod: 100 * time.Millisecond,
		MaxControlLine: 4096,
	}
	if c.Port == 0 {
		o.Port = natsd.RANDOM_PORT
	}
	if c.Cluster != 0 {
		o.Cluster = natsd.ClusterOpts{Name: "faults", Host: "127.0.0.1", Port: c.Cluster, Advertise: c.Advertise}
		o.Routes = natsd.RoutesFromStr(strings.Join(c.Routes, ","))
	}
	if c.CertPEM != "" {
		certificate, err := tls.X509KeyPair([]byte(c.CertPEM), []byte(c.KeyPEM))
		must(err)
		o.TLS, o.TLSTimeout = true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	for _, u := range c.Users {
		may := &natsd.Permissions{
			Publish:   &natsd.SubjectPermission{Allow: []string{"cc.>"}},
			Subscribe: &natsd.SubjectPermission{Allow: []string{"cc.>"}, Deny: u.Deaf},
		}
		if u.Mute {
			may.Publish = &natsd.SubjectPermission{Deny: []string{">"}}
		}
		o.Users = append(o.Users, &natsd.User{Username: u.Name, Password: u.Password, Permissions: may})
	}
	if len(c.Users) > 0 {
		o.Users = append(o.Users, &natsd.User{Username: strangers, Password: strangers})
	}
	return o
}

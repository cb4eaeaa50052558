package redistest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pair is a master and its replica, which three Sentinels look after.
type Pair struct {
	Master, Replica *Server // as they were in the beginning
	Sentinels       []string

	tb testing.TB
}

// masterName is what the Sentinels call the master.
const masterName = "crosscast"

// StartReplica runs a replica of master until the test ends. It returns when the replica is in step.
func StartReplica(tb testing.TB, master *Server) *Server {
	tb.Helper()
	host, port, _ := strings.Cut(master.Addr(), ":")
	s := Start(tb, Config{Args: []string{"--replicaof", host, port, "--repl-diskless-sync-delay", "0"}})
	waitFor(tb, "the replica is not in step", func(ctx context.Context) bool {
		info, _ := s.Client().Info(ctx, "replication").Result()
		return strings.Contains(info, "master_link_status:up")
	})
	return s
}

// StartPair runs a pair and its Sentinels until the test ends. It returns when they agree on the master, and know of the
// replica and of each other.
func StartPair(tb testing.TB) *Pair {
	tb.Helper()
	p := &Pair{Master: Start(tb, Config{Args: []string{"--repl-diskless-sync-delay", "0"}}), tb: tb}
	p.Replica = StartReplica(tb, p.Master)
	host, port, _ := strings.Cut(p.Master.Addr(), ":")
	var clients []*redis.SentinelClient
	for i := range 3 {
		file := filepath.Join(tb.TempDir(), fmt.Sprintf("sentinel%d.conf", i))
		config := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s 1000\n"+
			"sentinel failover-timeout %[1]s 5000\n", masterName, host, port)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			tb.Fatal(err)
		}
		at := freePort(tb)
		proc, err := startProcess(theProgram, []string{file, "--sentinel", "--bind", "127.0.0.1", "--port", fmt.Sprint(at)})
		if err != nil {
			tb.Fatalf("redistest: sentinel: %v", err)
		}
		tb.Cleanup(func() {
			_ = proc.cmd.Process.Kill()
			<-proc.exited
		})
		addr := fmt.Sprint("127.0.0.1:", at)
		p.Sentinels = append(p.Sentinels, addr)
		c := redis.NewSentinelClient(&redis.Options{Addr: addr})
		tb.Cleanup(func() { _ = c.Close() })
		clients = append(clients, c)
	}
	for _, c := range clients {
		waitFor(tb, "the Sentinels do not know everybody", func(ctx context.Context) bool {
			m, err := c.Master(ctx, masterName).Result()
			return err == nil && m["num-slaves"] == "1" && m["num-other-sentinels"] == "2" && m["flags"] == "master"
		})
	}
	return p
}

// Options are those of a client that finds the master through the Sentinels.
func (p *Pair) Options() *redis.FailoverOptions {
	o := p.Master.Options()
	return &redis.FailoverOptions{
		MasterName: masterName, SentinelAddrs: p.Sentinels,
		Protocol: o.Protocol, DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries,
		ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, ContextTimeoutEnabled: true,
	}
}

// Client is a client with [Pair.Options], closed when the test ends.
func (p *Pair) Client() *redis.Client {
	rdb := redis.NewFailoverClient(p.Options())
	p.tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Failover makes the replica the master, while the old master goes on to serve until the Sentinels demote it some seconds
// later. It returns when all Sentinels name the new one.
func (p *Pair) Failover() {
	p.tb.Helper()
	for i, addr := range p.Sentinels {
		c := redis.NewSentinelClient(&redis.Options{Addr: addr})
		defer c.Close()
		if i == 0 {
			waitFor(p.tb, "no failover", func(ctx context.Context) bool { return c.Failover(ctx, masterName).Err() == nil })
		}
		waitFor(p.tb, "the failover does not end", func(ctx context.Context) bool {
			at, err := c.GetMasterAddrByName(ctx, masterName).Result()
			return err == nil && at[0]+":"+at[1] == p.Replica.Addr()
		})
	}
}

// Demote makes s a replica of another server, at once. Its connections stand.
func (s *Server) Demote(master *Server) { s.DemoteTo(master.Addr()) }

// DemoteTo makes s a replica of whatever is at an address, at once. Its connections stand.
func (s *Server) DemoteTo(addr string) {
	s.tb.Helper()
	host, port, _ := strings.Cut(addr, ":")
	c := redis.NewClient(s.Options())
	defer c.Close()
	if err := c.ReplicaOf(context.Background(), host, port).Err(); err != nil {
		s.tb.Fatalf("redistest: demote: %v", err)
	}
}

// Promote makes s a master.
func (s *Server) Promote() {
	s.tb.Helper()
	c := redis.NewClient(s.Options())
	defer c.Close()
	if err := c.ReplicaOf(context.Background(), "no", "one").Err(); err != nil {
		s.tb.Fatalf("redistest: promote: %v", err)
	}
}

// waitFor returns when done reports true.
func waitFor(tb testing.TB, otherwise string, done func(ctx context.Context) bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !done(ctx) {
		if ctx.Err() != nil {
			tb.Fatalf("redistest: %s", otherwise)
		}
		time.Sleep(20 * time.Millisecond) // there is nothing to wait for but the state itself
	}
}

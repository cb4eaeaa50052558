package faults_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/natsadapter"
	"github.com/crosscast/crosscast/redisadapter"
)

// A dialConfig is how a process reaches the servers. It is plain data, so that it can be passed to a child.
type dialConfig struct {
	Addrs     []string // of the server, the Sentinels or the servers
	Master    string   // of Sentinel
	Cluster   bool
	Sharded   bool              // sharded Pub/Sub of the cluster
	Shards    bool              // several Redises
	NATS      bool              //
	Protocol  int               // 2 or 3
	CA        string            // in PEM; empty: no TLS
	User      string            // of the access control list
	Password  string            //
	Instead   map[string]string // proxies, by the address that they are dialled instead of
	ReadAfter time.Duration     // go-redis's time-out; default 2 s
	TLSName   string            // that the server's certificate must have; default: its own
	Clock     time.Duration     // by which the clock that checks certificates is ahead
}

// adapter makes an adapter, and what ends the connections that it leaves open.
func (d dialConfig) adapter(o redisadapter.Options) (a crosscast.Adapter, hangUp func()) {
	switch {
	case d.NATS:
		return d.nats(natsadapter.Options{
			Prefix: o.Prefix, QueueBytes: o.QueueBytes, MaxAge: o.MaxAge, PublishTimeout: o.PublishTimeout, Seal: o.Seal,
		}), func() {}
	case d.Shards:
		var all []redisadapter.Shard
		for i, addr := range d.Addrs {
			one := d
			one.Addrs = []string{addr}
			all = append(all, redisadapter.Shard{Name: fmt.Sprint("redis", i), Client: one.client()})
		}
		return redisadapter.NewShards(all, o), func() {
			for _, s := range all {
				_ = s.Client.Close()
			}
		}
	}
	rdb := d.client()
	o.Sharded = d.Sharded
	return redisadapter.New(rdb, o), func() { _ = rdb.Close() }
}

// nats makes an adapter over NATS. Without a choice of its own, nats.go would begin with any server.
func (d dialConfig) nats(o natsadapter.Options) crosscast.Adapter {
	present.CompareAndSwap(nil, &d.Password)
	client := []nats.Option{nats.DontRandomize(), nats.SkipHostLookup(), nats.SetCustomDialer(natsDialer(d.dialer(nil))), silentNATS}
	if d.User != "" {
		client = append(client, nats.UserInfoHandler(func() (user, password string) { return d.User, *present.Load() }))
	}
	if secure := d.secure(); secure != nil {
		client = append(client, nats.Secure(secure))
	}
	return natsadapter.Dial("nats://"+strings.Join(d.Addrs, ",nats://"), o, client...)
}

// A natsDialer is a nats.CustomDialer.
type natsDialer func(ctx context.Context, network, addr string) (net.Conn, error)

func (d natsDialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

// silentNATS keeps nats.go from printing what a server refuses.
func silentNATS(o *nats.Options) error {
	o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {}
	return nil
}

// secure is nil without TLS.
func (d dialConfig) secure() *tls.Config {
	if d.CA == "" {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(d.CA))
	return &tls.Config{
		RootCAs: pool, MinVersion: tls.VersionTLS12, ServerName: cmp.Or(d.TLSName, "127.0.0.1"),
		Time: func() time.Time { return time.Now().Add(d.Clock) },
	}
}

// client makes a client of Redis with the settings that package redisadapter recommends.
func (d dialConfig) client() redis.UniversalClient {
	secure := d.secure()
	present.CompareAndSwap(nil, &d.Password)
	credentials := func(context.Context) (user, password string, err error) { return d.User, *present.Load(), nil }
	timeout := 2 * time.Second
	if d.ReadAfter > 0 {
		timeout = d.ReadAfter
	}
	var dialer func(ctx context.Context, network, addr string) (net.Conn, error)
	if d.Instead != nil {
		dialer = d.dialer(secure)
	}
	off := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch {
	case d.Cluster: // only the adapter itself fetches the slots again
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: d.Addrs, Protocol: d.Protocol, CredentialsProviderContext: credentials, TLSConfig: secure, Dialer: dialer,
			DialTimeout: 2 * time.Second, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
			ContextTimeoutEnabled: true, ClusterStateReloadInterval: time.Hour, MaintNotificationsConfig: off,
		})
	case d.Master != "":
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: d.Master, SentinelAddrs: d.Addrs, Protocol: d.Protocol, CredentialsProviderContext: credentials,
			TLSConfig: secure, Dialer: dialer,
			DialTimeout: 2 * time.Second, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
			ContextTimeoutEnabled: true,
		})
	}
	return redis.NewClient(&redis.Options{
		Addr: d.Addrs[0], Protocol: d.Protocol, CredentialsProviderContext: credentials, TLSConfig: secure, Dialer: dialer,
		DialTimeout: 2 * time.Second, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
		ContextTimeoutEnabled: true, MaintNotificationsConfig: off,
	})
}

var (
	present   atomic.Pointer[string] // the password, which the parent can change
	redirects sync.Map               // addresses by address, as of a name that leads elsewhere
)

// dialer dials the proxies. go-redis leaves TLS to a dialer that it is given.
func (d dialConfig) dialer(secure *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if proxy := d.Instead[addr]; proxy != "" {
			addr = proxy
		}
		if to, ok := redirects.Load(addr); ok {
			addr = to.(string)
		}
		plain := &net.Dialer{Timeout: 2 * time.Second}
		if secure == nil {
			return plain.DialContext(ctx, network, addr)
		}
		return (&tls.Dialer{NetDialer: plain, Config: secure}).DialContext(ctx, network, addr)
	}
}

package faults_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A dialConfig is how a process reaches Redis. It is plain data, so that it can be passed to a child.
type dialConfig struct {
	Addrs     []string // of the server, the Sentinels or the cluster's servers
	Master    string   // of Sentinel
	Cluster   bool
	Protocol  int               // 2 or 3
	CA        string            // in PEM; empty: no TLS
	User      string            // of the access control list
	Password  string            //
	Instead   map[string]string // proxies, by the address that they are dialled instead of
	ReadAfter time.Duration     // go-redis's time-out; default 2 s
}

// client makes a client with the settings that package redisadapter recommends.
func (d dialConfig) client() redis.UniversalClient {
	var secure *tls.Config
	if d.CA != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(d.CA))
		secure = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}
	}
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
	case d.Cluster:
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: d.Addrs, Protocol: d.Protocol, Username: d.User, Password: d.Password, TLSConfig: secure, Dialer: dialer,
			DialTimeout: 2 * time.Second, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
			ContextTimeoutEnabled: true, ClusterStateReloadInterval: 2 * time.Second, MaintNotificationsConfig: off,
		})
	case d.Master != "":
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: d.Master, SentinelAddrs: d.Addrs, Protocol: d.Protocol, Username: d.User, Password: d.Password,
			TLSConfig: secure, Dialer: dialer,
			DialTimeout: 2 * time.Second, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
			ContextTimeoutEnabled: true,
		})
	}
	return redis.NewClient(&redis.Options{
		Addr: d.Addrs[0], Protocol: d.Protocol, Username: d.User, Password: d.Password, TLSConfig: secure, Dialer: dialer,
		DialTimeout: 2 * time.Second, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout,
		ContextTimeoutEnabled: true, MaintNotificationsConfig: off,
	})
}

// dialer dials the proxies. go-redis leaves TLS to a dialer that it is given.
func (d dialConfig) dialer(secure *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if proxy := d.Instead[addr]; proxy != "" {
			addr = proxy
		}
		plain := &net.Dialer{Timeout: 2 * time.Second}
		if secure == nil {
			return plain.DialContext(ctx, network, addr)
		}
		return (&tls.Dialer{NetDialer: plain, Config: secure}).DialContext(ctx, network, addr)
	}
}

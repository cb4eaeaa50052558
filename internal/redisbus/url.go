package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/crosscast/crosscast/internal/errtext"
)

// Credentials returns a user and a password for one connection.
type Credentials = func(ctx context.Context) (user, password string, err error)

// Open returns a client for a URL, with the recommended settings. It does not connect, and uses database 0: Pub/Sub
// ignores the number, and a user might lack the permission to select another one. Each connection logs in with what
// credentials return or, if that is nil, with the user and password of the URL.
func Open(rawURL string, credentials Credentials) (redis.UniversalClient, error) {
	o, err := ParseURL(rawURL)
	if err != nil {
		return nil, err
	}
	o.DB = 0
	o.CredentialsProviderContext = credentials
	if !o.IsClusterMode {
		return redis.NewUniversalClient(o), nil
	}
	cluster := o.Cluster()
	cluster.ClusterStateReloadInterval = 2 * time.Second // after the death of a master
	return redis.NewClusterClient(cluster), nil
}

// ParseURL returns options with the recommended settings for a URL; see redisadapter.Dial for its forms. Its errors
// contain no part of the URL but the scheme, because any other part might be a piece of a password.
func ParseURL(rawURL string) (*redis.UniversalOptions, error) {
	o, err := parseURL(rawURL)
	if err != nil {
		return nil, errtext.Errorf("crosscast: the Redis URL %w", err)
	}
	return o, nil
}

func parseURL(rawURL string) (*redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return nil, errUnlike
	}
	s, ok := schemes[scheme]
	if !ok {
		return nil, fmt.Errorf("has another scheme than %s", strings.Join(slices.Sorted(maps.Keys(schemes)), ", "))
	}
	authority, rest := before(rest, "/?#")
	userinfo, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, hosts = authority[:i], authority[i+1:]
	}
	if strings.ContainsAny(rest, "@#") || strings.Contains(userinfo, "@") {
		return nil, errEscape // a password with one of /?# has ended the authority, or is ambiguous
	}
	path, query, _ := strings.Cut(rest, "?")
	o := recommended()
	if s.tls {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} // go-redis sets the name of each server
	}
	for _, parse := range []func() error{
		func() error { return parseUser(userinfo, authority != hosts, o) },
		func() error { return s.parsePlace(hosts, path, o) },
		func() error { return parseQuery(query, s, o) },
	} {
		if err := parse(); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// before cuts s in front of the first of the given bytes.
func before(s, any string) (head, tail string) {
	if i := strings.IndexAny(s, any); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

var (
	errUnlike = errors.New("is none, such as redis://user:password@host:6379")
	errEscape = errors.New("cannot be understood: a password must have its special characters escaped, such as " +
		"% (%25), # (%23), / (%2F), ? (%3F) and @ (%40)")
	errHost = fmt.Errorf("has no list of host:port after its scheme, or %w", errEscape)
)

// recommended returns the settings that the documentation of package redisadapter recommends.
func recommended() *redis.UniversalOptions {
	return &redis.UniversalOptions{
		DialTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		DialerRetries:            1,
		ConnMaxIdleTime:          4 * time.Minute, // before servers and load balancers close idle connections
		ContextTimeoutEnabled:    true,
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// A scheme is a kind of Redis.
type scheme struct {
	kind kind
	tls  bool
}

type kind int

const (
	server kind = iota
	socket
	cluster
	sentinel
)

var schemes = map[string]scheme{
	"redis": {server, false}, "rediss": {server, true}, "unix": {socket, false},
	"redis+cluster": {cluster, false}, "rediss+cluster": {cluster, true},
	"redis+sentinel": {sentinel, false}, "rediss+sentinel": {sentinel, true},
}

func parseUser(userinfo string, has bool, o *redis.UniversalOptions) error {
	if !has {
		return nil
	}
	u, err := url.Parse("redis://" + userinfo + "@host")
	if err != nil || u.User == nil {
		return errEscape
	}
	o.Username = u.User.Username()
	if o.Password, _ = u.User.Password(); o.Password == "" {
		return errors.New("has a user without a password; a password alone has a colon in front, as in redis://:password@host")
	}
	return nil
}

// parsePlace enters the addresses, and what the path means.
func (s scheme) parsePlace(hosts, path string, o *redis.UniversalOptions) error {
	if s.kind == socket {
		if hosts != "" || strings.TrimLeft(path, "/") == "" {
			return errors.New("has no path of a socket, as in unix:///run/redis.sock or unix://user:password@/run/redis.sock")
		}
		var err error
		if path, err = url.PathUnescape(path); err != nil {
			return errEscape
		}
		o.Addrs = []string{path}
		return nil
	}
	port := "6379"
	if s.kind == sentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		address, err := parseHost(host, port)
		if err != nil {
			return err
		}
		o.Addrs = append(o.Addrs, address)
	}
	if s.kind == server && len(o.Addrs) > 1 {
		return errors.New("has several hosts: with redis+cluster they are some of a Redis Cluster, with redis+sentinel the Sentinels")
	}
	o.IsClusterMode = s.kind == cluster
	path = strings.TrimPrefix(path, "/")
	if s.kind == sentinel {
		var err error
		name, database, _ := strings.Cut(path, "/")
		if o.MasterName, err = url.PathUnescape(name); err != nil || name == "" {
			return errors.New("has no name of the master, as in redis+sentinel://host1:26379,host2:26379/mymaster")
		}
		path = database
	}
	return parseDatabase(path, o)
}

// parseHost returns host:port.
func parseHost(s, port string) (string, error) {
	u, err := url.Parse("redis://" + s)
	if err != nil || u.Host != s || u.User != nil {
		return "", errHost
	}
	host := u.Hostname()
	if host == "" {
		host = "localhost"
	}
	if p := u.Port(); p != "" {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return "", errHost
		}
		port = p
	}
	return net.JoinHostPort(host, port), nil
}

// parseDatabase reads a number, which may be missing.
func parseDatabase(s string, o *redis.UniversalOptions) error {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return fmt.Errorf("has something else than the number of a database behind its hosts, or %w", errEscape)
	}
	o.DB = int(n)
	return nil
}

// A parameter is one of a URL's query.
type parameter func(value string, o *redis.UniversalOptions) error

var parameters = map[string]parameter{
	"db":                parseDatabase,
	"dial_timeout":      timeout(func(o *redis.UniversalOptions) *time.Duration { return &o.DialTimeout }),
	"read_timeout":      timeout(func(o *redis.UniversalOptions) *time.Duration { return &o.ReadTimeout }),
	"write_timeout":     timeout(func(o *redis.UniversalOptions) *time.Duration { return &o.WriteTimeout }),
	"pool_size":         number(1, 10_000, func(o *redis.UniversalOptions) *int { return &o.PoolSize }),
	"protocol":          number(2, 3, func(o *redis.UniversalOptions) *int { return &o.Protocol }),
	"client_name":       text(func(o *redis.UniversalOptions) *string { return &o.ClientName }),
	"sentinel_username": text(func(o *redis.UniversalOptions) *string { return &o.SentinelUsername }),
	"sentinel_password": text(func(o *redis.UniversalOptions) *string { return &o.SentinelPassword }),
	"server_name": func(value string, o *redis.UniversalOptions) error {
		o.TLSConfig.ServerName = value
		return nil
	},
	"skip_verify": func(value string, o *redis.UniversalOptions) (err error) {
		if o.TLSConfig.InsecureSkipVerify, err = strconv.ParseBool(value); err != nil {
			return errors.New("is neither true nor false")
		}
		return nil
	},
}

// has reports whether the scheme has a parameter.
func (s scheme) has(name string) bool {
	switch name {
	case "server_name", "skip_verify":
		return s.tls
	case "sentinel_username", "sentinel_password":
		return s.kind == sentinel
	}
	return parameters[name] != nil
}

func parseQuery(query string, s scheme, o *redis.UniversalOptions) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errEscape
	}
	for name, value := range values {
		if !s.has(name) {
			known := slices.DeleteFunc(slices.Sorted(maps.Keys(parameters)), func(n string) bool { return !s.has(n) })
			return fmt.Errorf("has an unknown parameter behind its question mark; this scheme has %s", strings.Join(known, ", "))
		}
		if len(value) > 1 {
			return fmt.Errorf("has the parameter %s twice", name)
		}
		if err := parameters[name](value[0], o); err != nil {
			return fmt.Errorf("has a wrong parameter: %s %w", name, err)
		}
	}
	return nil
}

func timeout(field func(*redis.UniversalOptions) *time.Duration) parameter {
	return func(value string, o *redis.UniversalOptions) error {
		d, err := time.ParseDuration(value)
		if n, notNumber := strconv.ParseUint(value, 10, 16); notNumber == nil {
			d, err = time.Duration(n)*time.Second, nil
		}
		if err != nil || d <= 0 || d > time.Hour {
			return errors.New("is not a time such as 500ms or 2s, above 0 and at most 1h")
		}
		*field(o) = d
		return nil
	}
}

func number(least, most int, field func(*redis.UniversalOptions) *int) parameter {
	return func(value string, o *redis.UniversalOptions) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("is not a number from %d to %d", least, most)
		}
		*field(o) = n
		return nil
	}
}

func text(field func(*redis.UniversalOptions) *string) parameter {
	return func(value string, o *redis.UniversalOptions) error {
		*field(o) = value
		return nil
	}
}

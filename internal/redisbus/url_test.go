package redisbus_test

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
)

func TestParseURL(t *testing.T) {
	for _, tt := range []struct {
		url  string
		want redis.UniversalOptions // only what differs from the recommended settings
	}{
		{"redis://", redis.UniversalOptions{Addrs: []string{"localhost:6379"}}},
		{"redis://localhost", redis.UniversalOptions{Addrs: []string{"localhost:6379"}}},
		{"redis://:7000/", redis.UniversalOptions{Addrs: []string{"localhost:7000"}}},
		{"redis://localhost:7000/3?pool_size=5", redis.UniversalOptions{Addrs: []string{"localhost:7000"}, DB: 3, PoolSize: 5}},
		{"redis://localhost?db=3", redis.UniversalOptions{Addrs: []string{"localhost:6379"}, DB: 3}},
		{"redis://:secret@[::1]:6379", redis.UniversalOptions{Addrs: []string{"[::1]:6379"}, Password: "secret"}},
		{"redis://:secret@[fe80::1]", redis.UniversalOptions{Addrs: []string{"[fe80::1]:6379"}, Password: "secret"}},
		{"rediss://user:p%40ss%2F%23%25%20word@redis.example.com:6380/?server_name=other", redis.UniversalOptions{
			Addrs: []string{"redis.example.com:6380"}, Username: "user", Password: "p@ss/#% word",
			TLSConfig: &tls.Config{ServerName: "other"},
		}},
		{"rediss://host?skip_verify=true", redis.UniversalOptions{
			Addrs: []string{"host:6379"}, TLSConfig: &tls.Config{InsecureSkipVerify: true},
		}},
		{"unix:///run/redis.sock", redis.UniversalOptions{Addrs: []string{"/run/redis.sock"}}},
		{"unix://user:secret@/run/redis%20one.sock?db=1", redis.UniversalOptions{
			Addrs: []string{"/run/redis one.sock"}, Username: "user", Password: "secret", DB: 1,
		}},
		{"redis+cluster://one", redis.UniversalOptions{Addrs: []string{"one:6379"}, IsClusterMode: true}},
		{"rediss+cluster://:a,b@one,two:7000,[::1]:7001", redis.UniversalOptions{
			Addrs: []string{"one:6379", "two:7000", "[::1]:7001"}, IsClusterMode: true, Password: "a,b", TLSConfig: &tls.Config{},
		}},
		{"redis+sentinel://user:secret@one,two:7000/my%20master?sentinel_username=s&sentinel_password=s%40", redis.UniversalOptions{
			Addrs: []string{"one:26379", "two:7000"}, MasterName: "my master", Username: "user", Password: "secret",
			SentinelUsername: "s", SentinelPassword: "s@",
		}},
		{"rediss+sentinel://one/main/2", redis.UniversalOptions{
			Addrs: []string{"one:26379"}, MasterName: "main", DB: 2, TLSConfig: &tls.Config{},
		}},
		{"redis://host?dial_timeout=1s&read_timeout=5&write_timeout=250ms&protocol=3&client_name=a%26b", redis.UniversalOptions{
			Addrs: []string{"host:6379"}, DialTimeout: time.Second, ReadTimeout: 5 * time.Second,
			WriteTimeout: 250 * time.Millisecond, Protocol: 3, ClientName: "a&b",
		}},
	} {
		o, err := redisbus.ParseURL(tt.url)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if !o.ContextTimeoutEnabled || o.DialerRetries != 1 || o.ConnMaxIdleTime != 4*time.Minute || o.MaintNotificationsConfig == nil {
			t.Errorf("%s: not the recommended settings: %+v", tt.url, o)
		}
		w := tt.want
		for _, d := range []*time.Duration{&w.DialTimeout, &w.ReadTimeout, &w.WriteTimeout} {
			if *d == 0 {
				*d = 2 * time.Second
			}
		}
		w.Protocol = max(w.Protocol, 2)
		if got, want := fmt.Sprint(shown(o)), fmt.Sprint(shown(&w)); got != want {
			t.Errorf("%s:\n%s, want\n%s", tt.url, got, want)
		}
	}
}

// shown lists the settings that a URL has.
func shown(o *redis.UniversalOptions) []any {
	var server string
	var skip bool
	if c := o.TLSConfig; c != nil {
		server, skip = c.ServerName, c.InsecureSkipVerify
	}
	return []any{
		o.Addrs, o.IsClusterMode, o.MasterName, o.Username, o.Password, o.SentinelUsername, o.SentinelPassword, o.DB, o.DialTimeout,
		o.ReadTimeout, o.WriteTimeout, o.PoolSize, o.Protocol, o.ClientName, o.TLSConfig != nil, server, skip,
	}
}

// wrongURLs are URLs with a mistake, and what their errors contain.
var wrongURLs = map[string]string{
	"":                                     "such as redis://",
	"localhost:6379":                       "such as redis://",
	"http://localhost":                     "rediss+sentinel",
	"geheim://localhost":                   "rediss+sentinel",
	"redis://localhost/0?nothing=1":        "client_name, db, dial_timeout",
	"redis://localhost/0/1":                "number of a database",
	"redis://localhost/70000":              "number of a database",
	"redis://geheim@localhost":             "user without a password",
	"redis://user:@localhost":              "user without a password",
	"redis://@localhost":                   "user without a password",
	"redis://one,two":                      "several hosts",
	"redis://one:70000":                    "host:port",
	"redis://one two":                      "host:port",
	"redis://[::1":                         "host:port",
	"redis+sentinel://one,two":             "name of the master",
	"redis+sentinel://one/main/geheim":     "number of a database",
	"redis+cluster://one,two/geheim":       "number of a database",
	"unix://host/run/redis.sock":           "path of a socket",
	"unix://":                              "path of a socket",
	"redis://user:geheim/42@host":          "escaped",
	"redis://user:geheim#42@host":          "escaped",
	"redis://user:geheim%zz@host":          "escaped",
	"redis://user:geheim 42@host":          "escaped",
	"redis://user:geheim?42@host":          "escaped",
	"redis://user:42/geheim@host":          "escaped",
	"redis://user:42#geheim@host":          "escaped",
	"redis://user:42?geheim@host":          "escaped",
	"redis://user:4@geheim/2@host":         "escaped",
	"redis://user:4@geheim@host":           "escaped",
	"redis://user:geheim@host:port":        "host:port",
	"redis://user:geheim@host/geheim":      "escaped",
	"redis://user:geheim":                  "escaped",
	"redis://user:42#geheim":               "escaped",
	"redis://user:42/geheim":               "escaped",
	"redis://user:42?geheim":               "unknown parameter",
	"redis://user:geheim@host?%zz":         "escaped",
	"redis://host?db=geheim":               "db",
	"redis://host?read_timeout=geheim":     "read_timeout is not a time",
	"redis://host?read_timeout=0":          "read_timeout is not a time",
	"redis://host?write_timeout=2h":        "write_timeout is not a time",
	"redis://host?pool_size=0":             "pool_size is not a number",
	"redis://host?protocol=1":              "protocol is not a number",
	"redis://host?protocol=2&protocol=2":   "twice",
	"redis://host?skip_verify=true":        "unknown parameter",
	"redis://host?sentinel_password=gehei": "unknown parameter",
	"rediss://host?skip_verify=geheim":     "skip_verify is neither",
}

// TestURLErrors: an error says what is wrong, and shows no piece of a password, wherever the password ended up.
func TestURLErrors(t *testing.T) {
	for raw, want := range wrongURLs {
		o, err := redisbus.ParseURL(raw)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "crosscast: ") ||
			strings.Contains(err.Error(), "gehei") {
			t.Errorf("%s: %+v, %v, want an error with %q", raw, o, err, want)
		}
	}
}

// FuzzParseURL: whatever the password is, it arrives if it is escaped, and no error has a piece of it if it is not.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"secret", "p@ss/#% word", "a:b", "1234567", "?db=12345678", "]", "%41BCDEF", "redis://x"} {
		for i := range 7 {
			f.Add(seed, byte(i))
		}
	}
	schemes := []string{"redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"}
	texts := make(map[string]bool) // of the errors for other passwords
	for raw := range wrongURLs {
		_, err := redisbus.ParseURL(raw)
		texts[err.Error()] = true
	}
	f.Fuzz(func(t *testing.T, password string, which byte) {
		scheme := schemes[int(which)%len(schemes)]
		host := "host/main"
		switch {
		case scheme == "unix":
			host = "/redis.sock"
		case !strings.HasSuffix(scheme, "sentinel"):
			host = "host"
		}
		if password != "" {
			o, err := redisbus.ParseURL(scheme + "://" + url.UserPassword("user", password).String() + "@" + host)
			if err != nil || o.Password != password || o.Username != "user" || len(o.Addrs) != 1 {
				t.Errorf("%s with %q: %+v, %v", scheme, password, o, err)
			}
		}
		_, err := redisbus.ParseURL(scheme + "://user:" + password + "@" + host)
		if err != nil && !texts[err.Error()] {
			t.Errorf("the error for the password %q is not one of those that know nothing of it: %v", password, err)
		}
	})
}

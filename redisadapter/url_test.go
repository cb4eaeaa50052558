package redisadapter_test

import (
	"strings"
	"testing"

	"github.com/crosscast/crosscast/redisadapter"
)

func TestParseURL(t *testing.T) {
	for _, tt := range []struct{ url, address, password string }{
		{"redis://localhost", "localhost:6379", ""},
		{"redis://localhost:7000/3?pool_size=5", "localhost:7000", ""},
		{"rediss://user:p%40ss%2F%23%25%20word@redis.example.com:6380/", "redis.example.com:6380", "p@ss/#% word"},
		{"redis://:secret@[::1]:6379", "[::1]:6379", "secret"},
		{"unix://user:secret@/run/redis.sock?db=1", "/run/redis.sock", "secret"},
	} {
		o, err := redisadapter.ParseURL(tt.url)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if o.Addr != tt.address || o.Password != tt.password {
			t.Errorf("%s: %s with %q", tt.url, o.Addr, o.Password)
		}
		if !o.ContextTimeoutEnabled || o.Protocol != 2 || o.ReadTimeout == 0 {
			t.Errorf("%s: not the recommended settings: %+v", tt.url, o)
		}
	}
	for url, want := range map[string]string{
		"":                                "invalid URL scheme",
		"http://localhost":                "invalid URL scheme",
		"redis://localhost/0?nothing=1":   "unexpected option",
		"redis://localhost/0/1":           "not a URL",
		"redis://user:geheim/42@host":     "escaped",
		"redis://user:geheim#42@host":     "escaped",
		"redis://user:geheim%zz@host":     "escaped",
		"redis://user:geheim 42@host":     "escaped",
		"redis://user:geheim?42@host":     "escaped",
		"redis://user:42/geheim@host":     "escaped",
		"redis://user:42#geheim@host":     "escaped",
		"redis://user:42?geheim@host":     "escaped",
		"redis://user:4@geheim/2@host":    "escaped",
		"redis://user:4@geheim@host":      "escaped",
		"redis://user:geheim@host:port":   "escaped",
		"redis://user:geheim@host/geheim": "escaped",
	} {
		_, err := redisadapter.ParseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v, want one with %q", url, err, want)
		}
	}
}

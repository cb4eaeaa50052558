package redisadapter

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ParseURL parses a URL such as redis://user:password@host:6379/0, as [redis.ParseURL] does, and returns options with
// the settings that this package recommends. Its errors contain no part of the password. Those of [redis.ParseURL] do,
// if a %, #, /, ? or @ in the password is not escaped.
func ParseURL(s string) (*redis.Options, error) {
	if !understood(s) {
		return nil, errURL
	}
	o, err := redis.ParseURL(s)
	if err != nil {
		return nil, fmt.Errorf("crosscast/redisadapter: %w", err)
	}
	o.Protocol = 2
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

var errURL = errors.New("crosscast/redisadapter: not a URL such as redis://user:password@host:6379/0, " +
	"or one whose password has characters that are not escaped, such as % (%25), # (%23), / (%2F), ? (%3F) and @ (%40)")

var database = regexp.MustCompile(`^/?[0-9]*$`)

// understood reports whether no piece of the password was taken for another part of the URL.
func understood(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Fragment != "" {
		return false
	}
	ats := strings.Count(s, "@")
	if u.User != nil {
		ats--
	}
	return ats == 0 && (u.Scheme == "unix" || database.MatchString(u.Path))
}

package wsconn

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

// AllowsOrigin reports whether a request may come from the page that it names, by the rule of the handshake: a request
// without Origin is not a browser's.
func (c *Config) AllowsOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	if strings.EqualFold(r.Host, u.Host) {
		return true
	}
	for _, pattern := range c.Origins {
		page := u.Host
		if strings.Contains(pattern, "://") {
			page = u.Scheme + "://" + u.Host
		}
		if ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(page)); ok { // Check has looked at the pattern
			return true
		}
	}
	return false
}

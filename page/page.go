package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/latest"
)

// Options of a [Page]. The zero value works.
type Options struct {
	// Who returns the name of the person who sends a request, for the log. If it is set, the page can send notices and
	// disconnect users. An empty name refuses that, with status 403. Default: the page changes nothing.
	Who func(r *http.Request) string
	// NoticeEvent is the event of a notice. Its payload is the text, a string. Default "notice".
	NoticeEvent string
	// Namespaces are the namespaces whose rooms and users are shown. Default "/".
	Namespaces []string
	// Logger gets a line for each change that somebody makes. Default: slog.Default.
	Logger *slog.Logger
}

// A Page shows the cluster of one node. Its methods may be called concurrently.
type Page struct {
	o      Options
	events latest.List[event]
}

// New returns a Page. The error is one about an option.
func New(o Options) (*Page, error) {
	if o.NoticeEvent == "" {
		o.NoticeEvent = "notice"
	}
	if len(o.NoticeEvent) > 255 {
		return nil, errors.New("crosscast/page: NoticeEvent has more than 255 bytes")
	}
	if len(o.Namespaces) == 0 {
		o.Namespaces = []string{"/"}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Page{o: o, events: latest.List[event]{Most: kept}}, nil
}

//go:embed index.html
var index []byte

// policy allows the page its own script and style, by their hashes, and requests to its own server. Nothing else.
var policy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; "+
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hashOf("script"), hashOf("style"))

func hashOf(element string) string {
	content := regexp.MustCompile(`(?s)<` + element + `>(.*?)</` + element + `>`).FindSubmatch(index)[1]
	sum := sha256.Sum256(content)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Handler returns the handler of the page for a node. Its paths are relative, so mount it with http.StripPrefix at a
// path that ends with a slash.
func (p *Page) Handler(n *crosscast.Node) http.Handler {
	v := &viewer{page: p, node: n, turn: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(index)
	})
	mux.HandleFunc("GET /state", v.serveState)
	mux.HandleFunc("GET /rooms", v.serveRooms)
	mux.HandleFunc("GET /user", v.serveUser)
	if p.o.Who != nil {
		mux.HandleFunc("POST /notice", v.serveNotice)
		mux.HandleFunc("POST /disconnect", v.serveDisconnect)
	}
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r)
	})
}

// reply writes v as JSON.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// timeout is how long a query to the other nodes may take.
const timeout = 2 * time.Second

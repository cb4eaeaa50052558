package socketio

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/crosscast/crosscast/internal/admission"
)

// A Handshake is the request of a client that connects to a namespace. Its JSON is that of socket.handshake on Node.js,
// without [Options.HiddenHeaders]. [crosscast.SocketInfo].Handshake has this JSON, on all nodes. A Handshake must not
// be changed.
type Handshake struct {
	// Headers of the request, by name in lower case. Values of a repeated header are joined, or only the first is kept,
	// as on Node.js.
	Headers map[string]string `json:"headers"`
	// Time of the client's connection to the namespace, as JavaScript prints it.
	Time string `json:"time"`
	// Address is the IP address of the other end of the connection, which might be a proxy.
	Address string `json:"address"`
	// XDomain reports whether the request has a header Origin, as requests from pages do.
	XDomain bool `json:"xdomain"`
	// Secure reports whether the connection uses TLS.
	Secure bool `json:"secure"`
	// Issued is Time in milliseconds since 1970.
	Issued int64 `json:"issued"`
	// URL of the request, without the host.
	URL string `json:"url"`
	// Query of the URL, with the last value of each name.
	Query map[string]string `json:"query"`
	// Auth is the client's option auth, a JSON object.
	Auth json.RawMessage `json:"auth"`

	// Namespace is the namespace that the client connects to.
	Namespace string `json:"-"`
	// Request is the websocket request.
	Request *http.Request `json:"-"`

	hidden map[string]bool // headers that are left out of the JSON
}

// MarshalJSON implements json.Marshaler.
func (h Handshake) MarshalJSON() ([]byte, error) {
	type members Handshake // without this method
	all := h.Headers
	h.Headers = make(map[string]string, len(all))
	for name, value := range all {
		if !h.hidden[name] {
			h.Headers[name] = value
		}
	}
	return json.Marshal(members(h))
}

// newHandshake makes the part of a handshake that all namespaces share.
func newHandshake(r *http.Request, hidden map[string]bool) Handshake {
	h := Handshake{
		Headers: headers(r), Address: r.RemoteAddr, XDomain: r.Header.Get("Origin") != "", Secure: r.TLS != nil,
		URL: r.RequestURI, Query: make(map[string]string), Request: r, hidden: hidden,
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		h.Address = host
	}
	if h.URL == "" {
		h.URL = r.URL.RequestURI()
	}
	for name, values := range r.URL.Query() {
		h.Query[name] = values[len(values)-1]
	}
	return h
}

// of returns the handshake of a namespace.
func (h Handshake) of(namespace string, auth json.RawMessage) *Handshake {
	now := time.Now().UTC()
	h.Namespace, h.Auth, h.Issued = namespace, auth, now.UnixMilli()
	h.Time = now.Format("Mon Jan 02 2006 15:04:05 GMT-0700 (Coordinated Universal Time)")
	if h.Auth == nil {
		h.Auth = json.RawMessage("{}")
	}
	return &h
}

// once are the headers of which Node.js keeps only the first.
var once = map[string]bool{
	"age": true, "authorization": true, "content-length": true, "content-type": true, "etag": true, "expires": true,
	"from": true, "host": true, "if-modified-since": true, "if-unmodified-since": true, "last-modified": true,
	"location": true, "max-forwards": true, "proxy-authorization": true, "referer": true, "retry-after": true,
	"server": true, "user-agent": true,
}

// headers returns a request's headers in the form of Node.js.
func headers(r *http.Request) map[string]string {
	all := make(map[string]string, len(r.Header)+1)
	for name, values := range r.Header {
		name = strings.ToLower(name)
		switch {
		case len(values) == 0:
		case once[name]:
			all[name] = values[0]
		case name == "cookie":
			all[name] = strings.Join(values, "; ")
		default:
			all[name] = strings.Join(values, ", ")
		}
	}
	if r.Host != "" {
		all["host"] = r.Host
	}
	return all
}

// A refusal is the error with which Engine.IO refuses a request.
type refusal struct {
	Code    int                `json:"code"`
	Message string             `json:"message"`
	cause   string             // for Stats.Refused
	limit   *admission.Refusal // nil: not of a limit
}

// tooMany returns the refusal for that of a limit, or nil.
func tooMany(why *admission.Refusal) *refusal {
	if why == nil {
		return nil
	}
	return &refusal{4, why.Text, why.Cause, why}
}

// cure is what the log says about a refusal, if that does not say it itself.
func (f *refusal) cure() string {
	if f.limit != nil {
		return f.limit.Cure
	}
	return ""
}

// The messages of Node.js, each followed by a cure.
var (
	unknownTransport = &refusal{Code: 0, Message: "Transport unknown: the server has websocket only. Set the client's option " +
		`transports: ["websocket"]`, cause: "transport"}
	unknownSession = &refusal{Code: 1, Message: "Session ID unknown: the server has websocket only. Set the client's option " +
		`transports: ["websocket"]`, cause: "session"}
	badMethod  = &refusal{Code: 2, Message: "Bad handshake method: websockets begin with GET", cause: "method"}
	badRequest = &refusal{Code: 3, Message: "Bad request: no websocket upgrade. A proxy must pass on the headers " +
		"Connection and Upgrade", cause: "upgrade"}
	badVersion = &refusal{Code: 5, Message: "Unsupported protocol version: the server speaks EIO=4. " +
		"Use socket.io-client of version 3 or 4", cause: "version"}
)

// check returns the refusal of a request, or nil. The order of the checks is that of Node.js.
func check(r *http.Request) *refusal {
	q := r.URL.Query()
	switch {
	case q.Get("transport") != "websocket":
		return unknownTransport
	case q.Get("sid") != "": // a session of polling that goes on over websocket
		return unknownSession
	case r.Method != http.MethodGet:
		return badMethod
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		return badRequest
	case q.Get("EIO") != "4":
		return badVersion
	}
	return nil
}

// hasToken reports whether a token is in a header's lists.
func hasToken(h http.Header, header, token string) bool {
	for _, list := range h.Values(header) {
		for t := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// headTooLarge returns the refusal of a request whose URL and headers are larger than most, or nil.
func headTooLarge(r *http.Request, most int) *refusal {
	size := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size <= most {
		return nil
	}
	why := fmt.Sprintf("Bad request: URL and headers of %d bytes. The server's Options.MaxHeaders is %d", size, most)
	return &refusal{Code: 3, Message: why, cause: "headers"}
}

// status is the HTTP status of the answer.
func (f *refusal) status() int {
	if f.limit != nil {
		return f.limit.Status
	}
	if f.cause == "headers" {
		return http.StatusRequestHeaderFieldsTooLarge
	}
	return http.StatusBadRequest
}

// answer sends the refusal.
func (f *refusal) answer(w http.ResponseWriter) {
	b, _ := json.Marshal(f) // two plain fields
	w.Header().Set("Content-Type", "application/json")
	if f.limit != nil {
		f.limit.SetHeader(w.Header())
	}
	w.WriteHeader(f.status())
	_, _ = w.Write(b) // the client might be gone
}

package sse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// header has the token of a POST. A URL would be in the logs of proxies, and a page of another origin cannot set it
// without being asked about.
const header = "Crosscast-Stream"

// forwarded is the name of the request between nodes.
const forwarded = "crosscast.sse"

type tally = wsconn.Tally

// A delivery is a POST on its way to its stream. It has only the hash of the secret, so that the secret never leaves the
// node that got the POST.
type delivery struct {
	Stream string
	Hash   []byte
	User   string
	Body   string
}

// An outcome is that of a delivery. The values travel between nodes.
type outcome string

const (
	delivered outcome = "delivered"
	gone      outcome = "gone"
	foreign   outcome = "secret"
	otherUser outcome = "user"
	busy      outcome = "busy"
	large     outcome = "size"
)

var refusals = map[outcome]*refusal{
	gone:      {"gone", "the stream has ended", http.StatusGone, 0},
	foreign:   {"secret", "not the secret of this stream", http.StatusForbidden, 0},
	otherUser: {"user", "not the user of this stream", http.StatusForbidden, 0},
	large:     {"size", "the body is too large", http.StatusRequestEntityTooLarge, 0},
	busy:      {"busy", "the stream's events wait", http.StatusTooManyRequests, time.Second},
}

func hashOf(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// post serves a POST of a user.
func (s *Server) post(w http.ResponseWriter, r *http.Request, user string) error {
	// Also the body of a POST that is refused is read, by net/http.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.o.PostTimeout))
	to, d, ok := parseToken(r.Header.Get(header))
	if !ok {
		return s.refuse(w, &refusal{"token", "no token of a stream in the header " + header, http.StatusBadRequest, 0})
	}
	select {
	case s.posts <- struct{}{}:
		defer func() { <-s.posts }()
	default:
		return s.refuse(w, &refusal{"posts", "too many POSTs", http.StatusServiceUnavailable, time.Second})
	}
	d.User = user
	who, here, why := caller(r, user), to == s.node.ID(), delivered
	if here {
		why = s.find(d) // before the body is read
	}
	if !here || why != delivered { // a flood holds up nobody who has a stream here
		if wait := s.misses.wait(who); wait > 0 {
			return s.refuse(w, &refusal{"misses", "too many POSTs were refused", http.StatusTooManyRequests, wait})
		}
	}
	if why != delivered {
		return s.miss(w, who, why)
	}
	if why := s.readBody(w, r, &d); why != nil {
		return s.refuse(w, why)
	}
	if here {
		why = s.deliver(d)
	} else {
		var err error
		if why, err = s.forward(r.Context(), to, d); err != nil {
			return s.refuse(w, notForwarded(err))
		}
	}
	if why != delivered {
		return s.miss(w, who, why)
	}
	if !here {
		s.stats.forwarded.Add(1)
	}
	s.stats.posts.Add(1)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// miss refuses a POST, which counts if its token was wrong, or if the client sends more than is handled.
func (s *Server) miss(w http.ResponseWriter, who string, why outcome) error {
	if why != large {
		s.misses.add(who)
	}
	return s.refuse(w, refusals[why])
}

// parseToken reads a token, of which anybody could be the author.
func parseToken(token string) (to crosscast.NodeID, d delivery, ok bool) {
	node, rest, _ := strings.Cut(token, ".")
	id, secret, _ := strings.Cut(rest, ".")
	if len(node) != 8 || len(id) != len(encode(make([]byte, idBytes))) || len(secret) != len(encode(make([]byte, secretBytes))) {
		return "", delivery{}, false
	}
	hash := hashOf(secret)
	return crosscast.NodeID(node), delivery{Stream: id, Hash: hash[:]}, true
}

// readBody reads the body of a POST.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, d *delivery) *refusal {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.o.PostLimit)))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return refusals[large]
	case err != nil:
		return &refusal{"body", "the body was not read", http.StatusBadRequest, 0}
	case !utf8.Valid(body) || len(bytes.TrimSpace(body)) == 0:
		return &refusal{"body", "want messages, one a line, in UTF-8", http.StatusBadRequest, 0}
	}
	d.Body = string(body)
	return nil
}

// find reports whether a stream of this node takes a delivery.
func (s *Server) find(d delivery) outcome {
	_, why := lookUp(s.node.ID(), s.inside.Namespace.Name(), d)
	return why
}

func (s *Server) deliver(d delivery) outcome {
	return deliver(s.node.ID(), s.inside.Namespace.Name(), d)
}

func lookUp(node crosscast.NodeID, namespace string, d delivery) (*stream, outcome) {
	streams.RLock()
	st := streams.m[d.Stream]
	streams.RUnlock()
	switch {
	case st == nil || st.node != node || st.namespace != namespace:
		return nil, gone
	case subtle.ConstantTimeCompare(st.hash[:], d.Hash) != 1:
		return nil, foreign
	case st.user != d.User:
		return nil, otherUser
	}
	return st, delivered
}

func deliver(node crosscast.NodeID, namespace string, d delivery) outcome {
	st, why := lookUp(node, namespace, d)
	if st == nil {
		return why
	}
	if len(d.Body) > st.limit { // another node has another limit
		return large
	}
	ended, full := st.receive([]byte(d.Body))
	switch {
	case ended:
		return gone
	case full:
		return busy
	}
	return delivered
}

// forward asks the node of the stream to deliver.
func (s *Server) forward(ctx context.Context, to crosscast.NodeID, d delivery) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.PostTimeout)
	defer cancel()
	answers := s.inside.Namespace.Servers().Only(to).Ask(ctx, forwarded, d)
	looked := make(chan struct{})
	timer := time.AfterFunc(lookAfter, func() {
		defer close(looked)
		if !s.isThere(ctx, to) {
			cancel()
		}
	})
	defer func() {
		if cancel(); !timer.Stop() {
			<-looked
		}
	}()
	why := gone // a node without an answer: this one has no adapter
	for answer := range answers.All() {
		if err := json.Unmarshal(answer.Payload.Data, &why); err != nil {
			return "", err
		}
	}
	if err := answers.Err(); err != nil {
		return "", err
	}
	if _, known := refusals[why]; !known && why != delivered {
		why = gone
	}
	return why, nil
}

// lookAfter is how long a node may take for its answer before this one asks the bus whether it is there. A node that was
// killed is only taken for dead some heartbeats later.
const lookAfter = 250 * time.Millisecond

// isThere reports whether somebody hears what is addressed to a node, as far as the bus can tell.
func (s *Server) isThere(ctx context.Context, to crosscast.NodeID) bool {
	nobody := crosscast.SocketID(string(to) + "000000000000") // a socket that it does not have
	receipt, err := s.inside.Namespace.ToSocket(nobody).Deliver(ctx, forwarded, nil)
	return err != nil || !receipt.Known || receipt.Nodes > 0
}

// notForwarded is the refusal of a POST whose node has not answered, or could not be asked. The client cannot know
// whether its messages arrived, and must not send them again.
func notForwarded(err error) *refusal {
	if errors.Is(err, crosscast.ErrTooLarge) {
		return &refusal{"size", "the body is larger than the bus carries", http.StatusRequestEntityTooLarge, 0}
	}
	return &refusal{"gone", "the stream's server does not answer", http.StatusBadGateway, 0}
}

// handleForwarded delivers a POST that another node got. It never waits. It does not depend on s, because the streams of
// all servers of a node have the same handler.
func (s *Server) handleForwarded(_ context.Context, r *crosscast.Request) (any, error) {
	var d delivery
	if err := json.Unmarshal(r.Payload.Data, &d); err != nil {
		return nil, errors.New("crosscast/sse: not a POST")
	}
	return deliver(s.node.ID(), r.Namespace, d), nil
}

// caller is whom misses are counted for.
func caller(r *http.Request, user string) string {
	if user != "" {
		return "user " + user
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address " + host
}

package chat

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
)

func (s *Server) handler() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("POST /emit/{roomId}", s.emitOverHTTP)
	mux.HandleFunc("GET /stats", s.stats)
	if err := s.protocol.Clients(s, mux); err != nil {
		return nil, err
	}
	return http.NewCrossOriginProtection().Handler(mux), nil
}

//go:embed page/index.html
var page []byte

func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	ancestors := "'none'"
	if s.framed {
		ancestors = "http://localhost:*"
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; img-src data:; "+
		"script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; "+
		"frame-ancestors "+ancestors+"; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(page)
}

// Script serves a script of the page.
func Script(source []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(source)
	}
}

// maxBody is the size of the largest body of POST /emit.
const maxBody = 1 << 20

func (s *Server) emitOverHTTP(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("roomId")
	var body struct {
		Text string `json:"text"`
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &body)
	}
	if err == nil {
		body.Text = cmp.Or(body.Text, "hello from HTTP")
		err = s.broadcast(r.Context(), room, body.Text, "HTTP", "HTTP")
	}
	if err != nil {
		writeJSON(w, statusOf(err), map[string]any{"ok": false, "error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, struct {
		OK     bool   `json:"ok"`
		Node   string `json:"node"`
		RoomID string `json:"roomId"`
		Text   string `json:"text"`
	}{true, s.name, room, body.Text})
}

func statusOf(err error) int {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), errors.Is(err, crosscast.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &syntax), errors.As(err, &typ), errors.Is(err, crosscast.ErrInvalidName),
		errors.Is(err, io.ErrUnexpectedEOF):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable // the link to Redis, or this server, is down
}

// stats answers with the counters of this server, and with the names of everybody in the room of the query, on all
// servers. During an outage these are the clients of this server.
func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	answer := struct {
		Node   string           `json:"node"`
		ID     crosscast.NodeID `json:"id"`
		Stats  crosscast.Stats  `json:"stats"`
		Online []string         `json:"online,omitempty"`
	}{Node: s.name, ID: s.node.ID(), Stats: s.node.Stats()}
	if room := r.FormValue("room"); room != "" {
		answer.Online = s.online(r.Context(), room)
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) online(ctx context.Context, room string) (names []string) {
	target := s.node.To(room)
	if !s.node.Link().Live() {
		target = target.Local() // a query would only wait
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for socket := range target.Sockets(ctx, crosscast.Fields{User: true}).All() {
		if len(names) < 1000 {
			names = append(names, socket.User)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

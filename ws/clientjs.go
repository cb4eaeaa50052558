package ws

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

//go:embed client.js
var script []byte

// module makes an ES module of script. A file with exports cannot be a plain script as well.
const module = "export const { Client, ClientError } = globalThis.crosscast;\n"

// ClientJS serves a client for browsers, one file without dependencies. The top of the file has its documentation.
//
//	mux.HandleFunc("GET /client.js", ws.ClientJS)   // <script src="/client.js"></script>, then crosscast.Client
//	mux.HandleFunc("GET /client.mjs", ws.ClientJS)  // import { Client } from "/client.mjs"
//
// With a bundler, import client.js from this package's directory, as a module with side effects.
func ClientJS(w http.ResponseWriter, r *http.Request) {
	body := script
	if strings.HasSuffix(r.URL.Path, ".mjs") {
		body = append(bytes.Clone(script), module...)
	}
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache") // validate each time; mostly the answer is 304
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

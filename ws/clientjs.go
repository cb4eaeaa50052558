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

// module is what makes an ES module with exports of script. A file with exports cannot be a plain script as well.
const module = "export const { Client, ClientError } = globalThis.crosscast;\n"

// ClientJS serves a client for browsers, one file without dependencies, whose documentation is at its top:
//
//	mux.HandleFunc("GET /client.js", ws.ClientJS)   // <script src="/client.js"></script>, then crosscast.Client
//	mux.HandleFunc("GET /client.mjs", ws.ClientJS)  // import { Client } from "/client.mjs"
//
// Whoever bundles scripts takes client.js from this package's directory, as a module with side effects.
func ClientJS(w http.ResponseWriter, r *http.Request) {
	body := script
	if strings.HasSuffix(r.URL.Path, ".mjs") {
		body = append(bytes.Clone(script), module...)
	}
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache") // ask each time, and be answered 304 mostly
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

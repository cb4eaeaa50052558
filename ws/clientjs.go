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

var (
	//go:embed client.js
	script []byte
	//go:embed client.d.ts
	types []byte
)

// module makes an ES module of script, and moduleTypes of types. A file with exports cannot be a plain script as well.
const (
	module      = "export const { Client, ClientError } = globalThis.crosscast;\n"
	moduleTypes = "export import Client = crosscast.Client;\n" +
		"export import ClientError = crosscast.ClientError;\n" +
		"export import Options = crosscast.Options;\n" +
		"export import Presence = crosscast.Presence;\n" +
		"export import State = crosscast.State;\n"
)

// ClientJS serves a client for browsers, one file without dependencies. The top of the file has its documentation.
//
//	mux.HandleFunc("GET /client.js", ws.ClientJS)   // <script src="/client.js"></script>, then crosscast.Client
//	mux.HandleFunc("GET /client.mjs", ws.ClientJS)  // import { Client } from "/client.mjs"
//
// A path that ends with .d.ts or .d.mts gets the types for TypeScript. With a bundler, import client.js from this
// package's directory, as a module with side effects; its types are beside it.
func ClientJS(w http.ResponseWriter, r *http.Request) {
	body, typ := script, "text/javascript; charset=utf-8"
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, ".mjs"):
		body = append(bytes.Clone(script), module...)
	case strings.HasSuffix(path, ".d.ts"):
		body, typ = types, "text/plain; charset=utf-8"
	case strings.HasSuffix(path, ".d.mts"):
		body, typ = append(bytes.Clone(types), moduleTypes...), "text/plain; charset=utf-8"
	}
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", typ)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache") // validate each time; mostly the answer is 304
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

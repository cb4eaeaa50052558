// Package wsinside shows package sse what it needs of a server of package ws, and its users do not.
package wsinside

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// A Server is a server of package ws, seen from within.
type Server struct {
	Namespace *crosscast.Namespace
	Config    *wsconn.Config // which must not be changed
	Binary    bool           // its messages are not text
	GapSpread time.Duration
	// Gap makes the message of a notice; none: clients are not told.
	Gap func(wsconn.GapNotice) []byte
}

// Of returns the inside of a *ws.Server, whose package sets it.
var Of func(server any) Server

// Package crosscast makes many websocket servers behave like one.
package crosscast

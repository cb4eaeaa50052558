package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/socketioadapter"
)

// W8: the wires of Socket.IO's Redis adapters, Go to Go and Node.js to Node.js. The payload is a text, as such servers
// send it. One that is binary would cost crosscast less.
func foreignWire() []workload {
	return []workload{{
		name: "W8", title: "one hot room over Socket.IO's wires",
		config: config{Window: 16 << 10, Size: 128, JSON: true},
		metrics: []metric{
			{"rate", "messages/s", 0, false}, {"cpu", "µs of CPU each, both processes", 2, true},
		},
		contestants: []contestant{
			{name: ownName, what: "**crosscast**: package socketioadapter, classic", roles: foreignPair(socketioadapter.Classic)},
			{name: "nodejs", what: "Socket.IO on Node.js, classic Redis adapter", command: nodeJS},
			{name: "nodejs-ioredis", what: "the same with ioredis", command: nodeJS, slow: true},
			{name: "crosscast-sharded", what: "**crosscast**: package socketioadapter, sharded", slow: true,
				roles: foreignPair(socketioadapter.Sharded)},
			{name: "nodejs-sharded", what: "Socket.IO on Node.js, sharded Redis adapter", command: nodeJS, slow: true},
		},
		goals: []goal{
			{"rate", "nodejs", false, 2, ""}, {"rate", "nodejs-ioredis", false, 2, ""},
			{"rate", "nodejs-sharded", false, 2, "crosscast-sharded"},
		},
		measure: stream("receiver", "publisher", "receiver"),
	}}
}

// nodeJS is Socket.IO's own server. Its packages are installed by: npm ci --prefix ../interop
var nodeJS = []string{"node", "../interop/bench.mjs"}

func serveSocketIO(p *proc) (http.Handler, error) {
	node, err := startNode(p)
	if err != nil {
		return nil, err
	}
	return socketio.New(node, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {
		Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
			return socketio.Client{Rooms: p.roomNames()}, nil
		},
	}}})
}

// foreignPair are a publisher and a receiver over one of the wires.
func foreignPair(wire socketioadapter.Mode) map[string]role {
	return pair(
		func(p *proc) (sender, error) { return publishForeign(p, wire) }, false,
		func(p *proc, got func(payload []byte, k int)) error { return receiveForeign(p, wire, got) },
	)
}

func startForeign(p *proc, wire socketioadapter.Mode) (*crosscast.Node, error) {
	return crosscast.Start(context.Background(), crosscast.Options{
		Adapter: socketioadapter.New(newRedis(p), socketioadapter.Options{Key: p.Run, Mode: wire}),
		OnGap:   func(_ *crosscast.Node, g crosscast.Gap) { p.fail(fmt.Errorf("gap: %+v", g)) },
	})
}

func publishForeign(p *proc, wire socketioadapter.Mode) (sender, error) {
	node, err := startForeign(p, wire)
	if err != nil {
		return sender{}, err
	}
	return publishTo(p, node, p.roomNames()...), nil
}

// framingConn frames each message, as a binding does, and counts it.
type framingConn struct{ countingConn }

func (c framingConn) Send(m *crosscast.Message) error {
	if _, err := m.Frame(crosscast.JSONEnvelope{}); err != nil {
		return err
	}
	return c.countingConn.Send(m)
}

func receiveForeign(p *proc, wire socketioadapter.Mode, got func(payload []byte, k int)) error {
	node, err := startForeign(p, wire)
	if err != nil {
		return err
	}
	_, err = node.Connect(context.Background(), framingConn{countingConn{got}}, crosscast.ConnectOptions{Rooms: p.roomNames()})
	return err
}

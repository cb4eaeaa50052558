package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/socketioadapter"
)

// W8: the wire of Socket.IO's classic Redis adapter, Go to Go and Node.js to Node.js. The payload is a text, as such servers
// send it. One that is binary would cost crosscast less.
func foreignWire() []workload {
	return []workload{{
		name: "W8", title: "one hot room over Socket.IO's classic wire",
		config: config{Window: 16 << 10, Size: 128, JSON: true},
		metrics: []metric{
			{"rate", "messages/s", 0, false}, {"cpu", "µs of CPU each, both processes", 2, true},
		},
		contestants: []contestant{
			{name: ownName, what: "**crosscast**: package socketioadapter", roles: pair(publishForeign, false, receiveForeign)},
			{name: "nodejs", what: "Socket.IO on Node.js, classic Redis adapter", command: nodeJS},
		},
		goals:   []goal{{"rate", "nodejs", false, 2, ""}},
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

func startForeign(p *proc) (*crosscast.Node, error) {
	return crosscast.Start(context.Background(), crosscast.Options{
		Adapter: socketioadapter.New(newRedis(p), socketioadapter.Options{Key: p.Run}),
		OnGap:   func(_ *crosscast.Node, g crosscast.Gap) { p.fail(fmt.Errorf("gap: %+v", g)) },
	})
}

func publishForeign(p *proc) (sender, error) {
	node, err := startForeign(p)
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

func receiveForeign(p *proc, got func(payload []byte, k int)) error {
	node, err := startForeign(p)
	if err != nil {
		return err
	}
	_, err = node.Connect(context.Background(), framingConn{countingConn{got}}, crosscast.ConnectOptions{Rooms: p.roomNames()})
	return err
}

package main

import (
	"fmt"
	"time"
)

// W0: to the last client. One hot room has real websocket clients on the receiving server. Publisher, server and clients
// are a process each.
func lastClient() []workload {
	var all []workload
	for _, c := range []struct {
		clients int
		tls     bool
	}{{1, false}, {100, false}, {1000, false}, {100, true}} {
		w := workload{
			name:   fmt.Sprintf("W0-%d", c.clients),
			title:  fmt.Sprintf("one hot room, %d websocket clients", c.clients),
			quick:  c.clients <= 100 && !c.tls,
			config: config{Window: 2048, Size: 128, JSON: true, Clients: c.clients, TLS: c.tls},
			metrics: []metric{
				{"rate", "deliveries/s", 0, false}, {"cpu", "µs of the server's CPU each", 3, true},
			},
			contestants: websocketServers(),
			measure:     stream("clients", "server"),
		}
		if c.tls {
			w.name += "-tls"
			w.title += ", TLS"
		}
		if c.clients > 100 {
			w.config.Window = 256
		}
		switch {
		case c.clients == 1:
			w.title = "one hot room, 1 websocket client"
			w.goals = []goal{{"rate", "centrifuge", false, 1.7, ""}, {"rate", "by-hand", false, 1.2, ""}}
		case c.clients == 100 && !c.tls:
			w.goals = []goal{
				{"rate", "by-hand", false, 0.7, ""}, {"cpu", "by-hand", true, 1.5, ""},
				{"rate", "centrifuge", false, 3.5, ""}, {"rate", "centrifuge-best", false, 2.5, ""},
				{"rate", "centrifuge-delay", false, 2.5, ""},
			}
		}
		all = append(all, w)
	}
	return all
}

// socketIOClients are W0 with 100 clients of Socket.IO.
func socketIOClients() []workload {
	w := lastClient()[1]
	w.name, w.title, w.quick = "W0-socketio", "one hot room, 100 clients of Socket.IO over websockets", false
	ws := w.contestants[0]
	own := ws
	own.what = "**crosscast**: `Emit`, package socketio"
	own.roles = map[string]role{"publisher": publish(publishOwn), "server": serve(serveSocketIO), "clients": clients}
	own.set = func(c *config) {
		c.Path, c.Hello, c.Answers = "/socket.io/?EIO=4&transport=websocket", "40", 2
	}
	ws.name = "ws"
	w.contestants = []contestant{own, ws}
	w.goals = []goal{{"rate", "ws", false, 0.8, ""}}
	return []workload{w}
}

// websocketServers are the contestants of workloads with websocket clients.
func websocketServers() []contestant {
	roles := func(publisher, server role) map[string]role {
		return map[string]role{"publisher": publisher, "server": server, "clients": clients}
	}
	pipeline := publish(publishPipeline)
	centrifuge := publish(publishCentrifuge(512))
	return []contestant{
		{name: ownName, what: "**crosscast**: `Emit`, package ws",
			roles: roles(publish(publishOwn), serve(serveOwn))},
		{name: "by-hand", what: "limit: frames by hand, one write for all that waits",
			roles: roles(pipeline, serve(serveByHand))},
		{name: "centrifuge", what: "centrifuge, defaults", set: overCentrifuge,
			roles: roles(centrifuge, serve(serveCentrifuge(0, 0)))},
		{name: "centrifuge-best", what: "centrifuge, no cap of frames", set: overCentrifuge, slow: true,
			roles: roles(centrifuge, serve(serveCentrifuge(-1, 0)))},
		{name: "centrifuge-delay", what: "centrifuge, no cap, writes delayed by 1 ms", set: overCentrifuge, slow: true,
			roles: roles(centrifuge, serve(serveCentrifuge(-1, time.Millisecond)))},
		{name: "gorilla", what: "gorilla's hub, go-redis by hand", slow: true,
			roles: roles(pipeline, serve(serveGorilla))},
		{name: "melody", what: "melody, go-redis by hand", slow: true,
			roles: roles(pipeline, serve(serveMelody))},
	}
}

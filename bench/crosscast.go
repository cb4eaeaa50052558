package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

const ownName = "crosscast"

// newRedis has the settings that package redisadapter recommends.
func newRedis(p *proc) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: p.Redis, Protocol: 2,
		DialTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		DialerRetries: 1, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// startNode fails the run at each gap.
func startNode(p *proc) (*crosscast.Node, error) {
	return crosscast.Start(context.Background(), crosscast.Options{
		Adapter:  p.adapter(),
		MaxRooms: max(p.N, 10_000),
		OnGap:    func(_ *crosscast.Node, g crosscast.Gap) { p.fail(fmt.Errorf("gap: %+v", g)) },
	})
}

func publishOwn(p *proc) (sender, error) {
	node, err := startNode(p)
	if err != nil {
		return sender{}, err
	}
	return publishTo(p, node, p.roomNames()...), nil
}

// publishTo emits to rooms, round robin: JSON as a value of Go, unless it is Raw.
func publishTo(p *proc, node *crosscast.Node, rooms ...string) sender {
	ctx := context.Background()
	p.atEnd = func() { _ = node.Close(ctx) } // or its peers would report a gap
	var targets []crosscast.BoundTarget
	for _, room := range rooms {
		targets = append(targets, node.To(room))
	}
	payload := p.newPayload()
	var value any // Emit keeps nothing of it, so one will do
	switch {
	case !p.JSON:
		value = crosscast.Bytes(payload)
	case p.Raw:
		value = json.RawMessage(payload)
	}
	return sender{
		batch: min(32, max(p.Window/8, 1)),
		send: func(first, n int) error {
			for i := first; i < first+n; i++ {
				p.stamp(payload, i)
				v := value
				if v == nil {
					v = string(payload[1 : len(payload)-1])
				}
				if err := targets[i%len(targets)].Emit(ctx, "roomMessage", v); err != nil {
					return err
				}
			}
			return nil
		},
		flush: func() error { return node.Flush(ctx) }, // reports losses
	}
}

// countingConn is a socket's connection that only counts.
type countingConn struct{ got func(payload []byte, k int) }

func (c countingConn) Send(m *crosscast.Message) error {
	c.got(m.Payload.Data, 1)
	return nil
}

func (countingConn) Close(crosscast.Reason) {}

func receiveOwn(p *proc, got func(payload []byte, k int)) error {
	node, err := startNode(p)
	if err != nil {
		return err
	}
	_, err = node.Connect(context.Background(), countingConn{got}, crosscast.ConnectOptions{Rooms: p.roomNames()})
	return err
}

func serveOwn(p *proc) (http.Handler, error) {
	node, err := startNode(p)
	if err != nil {
		return nil, err
	}
	server, err := ws.New(node.Namespace, ws.Options{
		PingInterval: p.Ping,
		Events:       ws.Events{"hello": ws.Typed(func(context.Context, *crosscast.Socket, string) error { return nil })},
	})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := server.Accept(w, r, ws.Client{Rooms: p.roomNames()}); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}), nil
}

package main

import (
	"context"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
)

// startCentrifuge returns a node that does not run yet, and its Redis broker.
func startCentrifuge(p *proc) (*centrifuge.Node, *centrifuge.RedisBroker, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, nil, err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: p.Redis})
	if err != nil {
		return nil, nil, err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{
		Prefix: p.Run, Shards: []*centrifuge.RedisShard{shard},
	})
	if err != nil {
		return nil, nil, err
	}
	node.SetBroker(broker)
	return node, broker, nil
}

// publishCentrifuge publishes from so many goroutines, whose messages the broker's client gathers.
func publishCentrifuge(goroutines int) func(p *proc) (sender, error) {
	return func(p *proc) (sender, error) {
		node, _, err := startCentrifuge(p)
		if err != nil {
			return sender{}, err
		}
		if err := node.Run(); err != nil {
			return sender{}, err
		}
		return concurrently(p, goroutines, func(channel string, payload []byte) error {
			_, err := node.Publish(channel, payload)
			return err
		}), nil
	}
}

// withinBuffer lets no more messages be under way than the broker's buffer of 4,096 holds: it drops what comes on top.
func withinBuffer(c *config) { c.Window = min(c.Window, 4096) }

// receiveCentrifuge hears what the broker hears, without a hub.
func receiveCentrifuge(p *proc, got func(payload []byte, k int)) error {
	_, broker, err := startCentrifuge(p)
	if err != nil {
		return err
	}
	if err := broker.RegisterBrokerEventHandler(publications{got}); err != nil {
		return err
	}
	return broker.Subscribe(p.roomNames()...)
}

type publications struct{ got func(payload []byte, k int) }

func (h publications) HandlePublication(_ string, pub *centrifuge.Publication, _ centrifuge.StreamPosition, _ bool,
	_ *centrifuge.Publication) error {
	h.got(pub.Data, 1)
	return nil
}

func (publications) HandleJoin(string, *centrifuge.ClientInfo) error  { return nil }
func (publications) HandleLeave(string, *centrifuge.ClientInfo) error { return nil }

// serveCentrifuge serves websockets, which are subscribed by the server. perFrame is how many messages a frame has at most
// (0: the default, 16; -1: any number); delay is how long the writer waits for more.
func serveCentrifuge(perFrame int, delay time.Duration) func(p *proc) (http.Handler, error) {
	return func(p *proc) (http.Handler, error) {
		node, _, err := startCentrifuge(p)
		if err != nil {
			return nil, err
		}
		pings := &centrifuge.PingPongConfig{PingInterval: p.Ping, PongTimeout: -1} // our clients do not answer
		node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
			subscriptions := make(map[string]centrifuge.SubscribeOptions)
			for _, room := range p.roomNames() {
				subscriptions[room] = centrifuge.SubscribeOptions{}
			}
			return centrifuge.ConnectReply{
				Credentials: &centrifuge.Credentials{}, Subscriptions: subscriptions,
				PingPongConfig:     pings,
				MaxMessagesInFrame: perFrame, WriteDelay: delay,
			}, nil
		})
		if err := node.Run(); err != nil {
			return nil, err
		}
		return centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}), nil
	}
}

// overCentrifuge is what clients of centrifuge do: they send a command first, and a frame has several messages, or none.
func overCentrifuge(c *config) {
	c.Hello = `{"id":1,"connect":{}}`
	c.Answers = 1
	c.Each = `{"push":`
}

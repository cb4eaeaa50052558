package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/crosscast/crosscast"
)

// Members with a queue and a writer of their own. A broadcast has ended when all writers have written it, to nowhere.

// allWritten measures a broadcast until each of the members has added to the count.
func allWritten(p *proc, written *atomic.Int64, broadcast func() error) func(span time.Duration) (values, error) {
	return broadcasts(p, func() error {
		due := written.Load() + int64(p.N)
		if err := broadcast(); err != nil {
			return err
		}
		for written.Load() < due {
			time.Sleep(5 * time.Microsecond)
		}
		return nil
	})
}

func walkQueues(p *proc) (func(span time.Duration) (values, error), error) {
	var written atomic.Int64
	target, err := shuffledRoom(p, func() crosscast.Conn {
		return crosscast.NewQueue(func([]byte) error { written.Add(1); return nil }, crosscast.QueueOptions{})
	})
	var payload any = crosscast.Bytes(make([]byte, 128))
	return allWritten(p, &written, func() error { return target.Emit(context.Background(), "roomMessage", payload) }), err
}

func walkCentrifuge(p *proc) (func(span time.Duration) (values, error), error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{},
			Subscriptions: map[string]centrifuge.SubscribeOptions{"hot": {}},
		}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	var written atomic.Int64
	for _, t := range shuffled(p.N, func() *nowhere { return &nowhere{written: &written} }) {
		client, _, err := centrifuge.NewClient(context.Background(), node, t)
		if err != nil {
			return nil, err
		}
		client.Connect(centrifuge.ConnectRequest{})
	}
	payload := p.newPayload()
	return allWritten(p, &written, func() error {
		_, err := node.Publish("hot", payload)
		return err
	}), nil
}

// nowhere is a transport of centrifuge.
type nowhere struct{ written *atomic.Int64 }

func (t *nowhere) Write([]byte) error { t.written.Add(1); return nil }

func (t *nowhere) WriteMany(messages ...[]byte) error {
	t.written.Add(int64(len(messages)))
	return nil
}

func (*nowhere) Close(centrifuge.Disconnect) error           { return nil }
func (*nowhere) Name() string                                { return "nowhere" }
func (*nowhere) AcceptProtocol() string                      { return "" }
func (*nowhere) Protocol() centrifuge.ProtocolType           { return centrifuge.ProtocolTypeJSON }
func (*nowhere) ProtocolVersion() centrifuge.ProtocolVersion { return centrifuge.ProtocolVersion2 }
func (*nowhere) Unidirectional() bool                        { return true }
func (*nowhere) Emulation() bool                             { return false }
func (*nowhere) DisabledPushFlags() uint64                   { return centrifuge.PushFlagConnect }
func (*nowhere) PingPongConfig() centrifuge.PingPongConfig {
	return centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
}

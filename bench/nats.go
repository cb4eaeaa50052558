package main

import (
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/natsadapter"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/wire"
)

// natsRole is played beside a run over NATS: a child that is a NATS server.
const natsRole = "nats"

func playNATS(p *proc) error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("nats-server is not ready")
	}
	p.addr, p.atEnd = s.Addr().String(), s.Shutdown
	return nil
}

// adapter is that of a node: over Redis, or over NATS.
func (p *proc) adapter() crosscast.Adapter {
	if p.OverNATS {
		return natsadapter.Dial("nats://"+p.NATS, natsadapter.Options{Prefix: p.Run})
	}
	o := redisadapter.Options{Prefix: p.Run}
	if p.Sealed {
		o.Seal = wire.Seal{Keys: [][]byte{make([]byte, 32)}, Require: true}
	}
	return redisadapter.New(newRedis(p), o)
}

func overNATS(c *config) { c.OverNATS = true }

// besideRedis are workloads of others, over NATS beside Redis.
func besideRedis() []workload {
	var all []workload
	for _, other := range []workload{hotRoom()[0], manyRooms()[0], latency()[2], subscriptions()[0]} {
		own := other.contestants[0]
		own.what += ", over Redis"
		nats := other.contestants[0]
		nats.name, nats.set = "nats", overNATS
		nats.what += ", over NATS"
		contestants := []contestant{own, nats}
		if other.name == "W6" {
			contestants = append(contestants, contestant{name: "raw", what: "limit: nats.go, a subscription each, and a `Flush`", set: overNATS,
				roles: solo(subscribeRawNATS)})
		} else {
			contestants = append(contestants, contestant{name: "by-hand", what: "nats.go by hand: `Publish`, `Subscribe`", set: overNATS,
				roles: pair(publishNATS, false, receiveNATS)})
		}
		goals := []goal{}
		if other.metrics[0].key == "rate" {
			goals = append(goals, goal{"rate", ownName, false, 0.8, "nats"})
		}
		other.name, other.title, other.quick = "NATS-"+other.name, other.title+", over NATS beside Redis", false
		other.contestants, other.goals = contestants, goals
		all = append(all, other)
	}
	return all
}

func (p *proc) dialNATS() (*nats.Conn, error) { return nats.Connect("nats://" + p.NATS) }

func publishNATS(p *proc) (sender, error) {
	nc, err := p.dialNATS()
	if err != nil {
		return sender{}, err
	}
	rooms, payload := p.roomNames(), p.newPayload()
	return sender{
		batch: min(32, max(p.Window/8, 1)),
		send: func(first, n int) error {
			for i := first; i < first+n; i++ {
				p.stamp(payload, i)
				if err := nc.Publish(p.Run+"."+rooms[i%len(rooms)], payload); err != nil {
					return err
				}
			}
			return nil
		},
		flush: nc.Flush,
	}, nil
}

func receiveNATS(p *proc, got func(payload []byte, k int)) error {
	nc, err := p.dialNATS()
	if err != nil {
		return err
	}
	events := make(chan *nats.Msg, p.Window)
	go func() {
		for m := range events {
			got(m.Data, 1)
		}
	}()
	for _, room := range p.roomNames() {
		if _, err := nc.ChanSubscribe(p.Run+"."+room, events); err != nil {
			return err
		}
	}
	return nc.Flush()
}

func subscribeRawNATS(p *proc) (func(span time.Duration) (values, error), error) {
	nc, err := p.dialNATS()
	if err != nil {
		return nil, err
	}
	names := manyNames(p.N)
	events := make(chan *nats.Msg, 1)
	return once(p, func() error {
		for _, name := range names {
			if _, err := nc.ChanSubscribe(p.Run+"."+name, events); err != nil {
				return err
			}
		}
		return nc.Flush()
	}), nil
}

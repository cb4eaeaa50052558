package main

import "github.com/crosscast/crosscast/bench/internal/redisserver"

// redisRole is played beside all workloads: a child that runs redis-server, and ends it when this program ends, however
// that happens.
const redisRole = "redis"

func playRedis(p *proc) error {
	server, err := redisserver.Start()
	if err != nil {
		return err
	}
	p.addr, p.atEnd = server.Addr, server.Stop
	return nil
}

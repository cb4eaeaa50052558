//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketioadapter"
)

// The contestants over Socket.IO's classic wire. Their payload is a text that begins with the number of the message, in
// decimal, because that is what such servers send; one that is binary would cost crosscast less.

const digits = 16

// nodeJS makes a process of Socket.IO's own server; its packages are installed by: npm ci --prefix interop
func nodeJS(ctx context.Context) *exec.Cmd {
	return exec.CommandContext(ctx, "node", "interop/hotroom.mjs")
}

func startForeign(c config, o crosscast.Options) (*crosscast.Node, *redis.Client, error) {
	rdb, err := client(c.URL)
	if err != nil {
		return nil, nil, err
	}
	o.Adapter = socketioadapter.New(rdb, socketioadapter.Options{Key: "hotroom"})
	node, err := crosscast.Start(context.Background(), o)
	if err != nil {
		return nil, nil, errors.Join(err, rdb.Close())
	}
	return node, rdb, nil
}

// framingConn frames each message, as a binding does, and counts it.
type framingConn struct{ t *tally }

func (c framingConn) Send(m *crosscast.Message) error {
	if _, err := m.Frame(crosscast.JSONEnvelope{}); err != nil {
		return err
	}
	n, err := strconv.Atoi(string(m.Payload.Data[1 : 1+digits]))
	if err != nil {
		return err
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	c.t.add(b[:], 1)
	return nil
}

func (framingConn) Close(crosscast.Reason) {}

func receiveForeign(c config, t *tally) (func(), error) {
	ctx := context.Background()
	node, rdb, err := startForeign(c, crosscast.Options{
		Name:  "receiver",
		OnGap: func(_ *crosscast.Node, g crosscast.Gap) { t.fail(fmt.Errorf("gap: %+v", g)) },
	})
	if err != nil {
		return nil, err
	}
	_, err = node.Connect(ctx, framingConn{t}, crosscast.ConnectOptions{Rooms: []string{room}})
	return func() {
		_ = node.Close(ctx)
		_ = rdb.Close()
	}, err
}

func publishForeign(c config, p *pace) (func(from, to int) error, func() error, error) {
	ctx := context.Background()
	node, rdb, err := startForeign(c, crosscast.Options{Name: "publisher"})
	if err != nil {
		return nil, nil, err
	}
	target := node.To(room)
	filler := strings.Repeat("x", max(c.Size-digits, 0))
	send := func(from, to int) error {
		for i := from; i < to; i++ {
			if err := p.ready(i + 1); err != nil {
				return err
			}
			if err := target.Emit(ctx, "roomMessage", fmt.Sprintf("%0*d%s", digits, i, filler)); err != nil {
				return err
			}
		}
		return node.Flush(ctx) // reports losses
	}
	return send, func() error { return errors.Join(node.Close(ctx), rdb.Close()) }, nil
}

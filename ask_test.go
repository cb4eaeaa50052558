package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// replier replies to acknowledged messages, unless it is silent.
type replier struct {
	silent bool
	socket chan *crosscast.Socket
}

func (r *replier) Send(m *crosscast.Message) error {
	if m.Ack != 0 && !r.silent {
		s := <-r.socket
		r.socket <- s
		ack := m.Ack
		go s.Reply(ack, "ok from "+string(s.ID()))
	}
	return nil
}

func (r *replier) Close(crosscast.Reason) {}

func threeNodes(t *testing.T) []*crosscast.Node {
	t.Helper()
	cl := crosscast.NewCluster()
	var nodes []*crosscast.Node
	for i := range 3 {
		n, err := crosscast.Start(t.Context(), crosscast.Options{Name: fmt.Sprint("n", i), Adapter: cl.Adapter()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close(context.Background()) })
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		for len(n.Nodes()) < 2 {
			time.Sleep(time.Millisecond)
		}
	}
	return nodes
}

func connectReplier(t *testing.T, n *crosscast.Node, o crosscast.ConnectOptions, silent bool) *crosscast.Socket {
	r := &replier{silent: silent, socket: make(chan *crosscast.Socket, 1)}
	s, err := n.Connect(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	r.socket <- s
	return s
}

func TestQuestions(t *testing.T) {
	nodes := threeNodes(t)
	var sockets []*crosscast.Socket
	for i := range 9 {
		sockets = append(sockets, connectReplier(t, nodes[i%3], crosscast.ConnectOptions{
			User: fmt.Sprint("u", i%4), Rooms: []string{"all", fmt.Sprint("r", i%2)}, Data: i,
		}, i == 8))
	}
	ctx := t.Context()
	if n, err := nodes[0].To("all").Count(ctx); n != 9 || err != nil {
		t.Error(n, err)
	}
	if n, err := nodes[0].To("r0").Count(ctx); n != 5 || err != nil {
		t.Error(n, err)
	}
	if n, err := nodes[0].Everyone().CountUsers(ctx); n != 4 || err != nil {
		t.Error(n, err)
	}
	if ok, err := nodes[0].ToUser("u3").Has(ctx); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := nodes[0].To("nothing").Has(ctx); ok || err != nil {
		t.Error(ok, err)
	}
	a := nodes[1].To("all").Except("r1").Sockets(ctx, crosscast.AllFields)
	seen := 0
	for s := range a.All() {
		seen++
		if !slices.Contains(s.Rooms, "r0") || s.User == "" || len(s.Data) == 0 {
			t.Errorf("%+v", s)
		}
	}
	if seen != 5 || a.Err() != nil {
		t.Error(seen, a.Err())
	}
	rooms := map[string]int{}
	for r := range nodes[2].Everyone().Rooms(ctx).All() {
		rooms[r.Room] += r.Sockets
	}
	if rooms["all"] != 9 || rooms["r0"] != 5 || rooms["r1"] != 4 {
		t.Error(rooms)
	}
	changed, err := nodes[0].ToUser("u0").Do(ctx, crosscast.Command{Join: []string{"new"}})
	if err != nil || changed.Sockets != 3 {
		t.Error(changed, err)
	}
	if n, err := nodes[2].To("new").Count(ctx); n != 3 || err != nil {
		t.Error(n, err)
	}
	ackCtx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	replies := nodes[0].To("all").EmitAck(ackCtx, "hi", nil)
	got := 0
	for r := range replies.All() {
		got++
		if string(r.Payload.Data) != `"ok from `+string(r.Socket)+`"` {
			t.Errorf("%+v", r)
		}
	}
	var inc *crosscast.IncompleteError
	if got != 8 || !errors.As(replies.Err(), &inc) || len(inc.Silent) != 1 || inc.Silent[0] != sockets[8].ID() {
		t.Error(got, replies.Err())
	}
	nodes[1].OnRequest("echo", func(_ context.Context, r *crosscast.Request) (any, error) { return r.Payload, nil })
	nodes[2].OnRequest("echo", func(context.Context, *crosscast.Request) (any, error) { panic("no") })
	resp := nodes[0].Servers().Ask(ctx, "echo", "hello")
	for r := range resp.All() {
		if r.Node != nodes[1].ID() || string(r.Payload.Data) != `"hello"` {
			t.Errorf("%+v", r)
		}
	}
	if !errors.As(resp.Err(), &inc) || len(inc.Nodes) != 1 || inc.Nodes[0] != nodes[2].ID() {
		t.Error(resp.Err())
	}
	if changed, err := nodes[0].To("all").Do(ctx, crosscast.Command{Disconnect: "bye"}); err != nil || changed.Sockets != 9 || len(changed.Nodes) != 3 {
		t.Error(changed, err)
	}
	if n, err := nodes[1].Everyone().Count(ctx); n != 0 || err != nil {
		t.Error(n, err)
	}
}

package crosscast

import (
	"context"
	"testing"
	"time"
)

type nullConn struct{}

func (nullConn) Send(*Message) error { return nil }
func (nullConn) Close(Reason)        {}

// TestRepliesThatWereGuessed: a client that replies before it was asked leaves nothing behind.
func TestRepliesThatWereGuessed(t *testing.T) {
	ctx := context.Background()
	n, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(ctx)
	s, err := n.Connect(ctx, nullConn{}, ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &ackWait{wake: make(chan struct{}, 1), missing: make(map[SocketID]*Socket)}
	other := &Socket{id: newSocketID(n.id), ns: s.ns}
	other.mu.Lock() // await gets no further than this one
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.await([]*Socket{other, s})
	}()
	for !w.misses(s) {
		time.Sleep(time.Millisecond) // poll
	}
	if !w.settle(s, Reply{Socket: s.id}) {
		t.Error("the reply was not taken")
	}
	other.mu.Unlock()
	<-done
	if s.awaiting.one != nil {
		t.Error("the socket is still awaited")
	}
}

// TestAFollowerThatBeginsAmidAChange: what is not handed to the watch yet is told of as a change, and not before.
func TestAFollowerThatBeginsAmidAChange(t *testing.T) {
	ctx := context.Background()
	n, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(ctx)
	w, err := n.Watch(ctx, "r", WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := new(follower)
	w.followers = []*follower{f}
	w.queued = true // nobody is called
	eve := memberKey{newSocketID(n.id), "eve"}
	w.view.own.changes.noteLast(eve, entry{}, entry{here: true})
	if e := w.begin(f); len(e.Joined) != 0 {
		t.Error("told of", e.Joined, "before")
	}
	w.view.handOver()
	if len(w.pending) != 1 || !w.pending[eve].is.here {
		t.Error("to be told of:", w.pending)
	}
}

// TestReadingAWatchHoldsNothingUp: joins and emissions do not wait for whoever reads or changes what a watch knows, which
// takes long for very many members.
func TestReadingAWatchHoldsNothingUp(t *testing.T) {
	ctx := context.Background()
	n, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(ctx)
	s, err := n.Connect(ctx, nullConn{}, ConnectOptions{User: "ann", Rooms: []string{"r"}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := n.Watch(ctx, "r", WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.view.mu.Lock()
	done := make(chan error, 1)
	go func() {
		s.Leave("r")
		s.Join(ctx, "r")
		done <- n.To("r").Emit(ctx, "x", nil)
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a join or an emission waits for a watch")
	}
	w.view.mu.Unlock()
	if got := len(w.Members()); got != 1 {
		t.Error(got, "members")
	}
}

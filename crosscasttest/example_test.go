package crosscasttest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
)

// chat is the application: what its handlers do when a client connects, joins, says something and leaves. Something
// else reads the connection and calls them, such as package ws.
type chat struct{ node *crosscast.Node }

func (c chat) connect(ctx context.Context, conn crosscast.Conn, user string) (*crosscast.Socket, error) {
	left := func(s *crosscast.Socket, _ crosscast.Reason) {
		for _, room := range s.Rooms() {
			c.node.To(room).Emit(context.Background(), "left", user)
		}
	}
	return c.node.Connect(ctx, conn, crosscast.ConnectOptions{User: user, OnClose: left})
}

func (c chat) join(ctx context.Context, s *crosscast.Socket, room string) error {
	if err := s.Join(ctx, room); err != nil {
		return err
	}
	return s.To(room).Emit(ctx, "joined", s.User())
}

var errNotThere = errors.New("you are not in this room")

func (c chat) say(ctx context.Context, s *crosscast.Socket, room, text string) error {
	if !slices.Contains(s.Rooms(), room) {
		return errNotThere
	}
	return s.To(room).Emit(ctx, "said", map[string]string{"by": s.User(), "text": text})
}

// testChat is what would be TestChat(t *testing.T).
func testChat(t testing.TB) {
	ctx := context.Background()
	cluster := crosscasttest.NewCluster(t, 2)
	one, two := chat{cluster.Nodes[0]}, chat{cluster.Nodes[1]}

	// Ann is on one server, Bob and Eve are on the other.
	annConn, bobConn, eveConn := crosscasttest.NewConn(t), crosscasttest.NewConn(t), crosscasttest.NewConn(t)
	ann, err := one.connect(ctx, annConn, "ann")
	check(t, err)
	bob, err := two.connect(ctx, bobConn, "bob")
	check(t, err)
	eve, err := two.connect(ctx, eveConn, "eve")
	check(t, err)

	check(t, one.join(ctx, ann, "lobby"))
	check(t, two.join(ctx, bob, "lobby"))
	fmt.Printf("ann sees that %s is there\n", annConn.Event(ctx, "joined").Payload.Data) // waits for it

	if err := two.say(ctx, eve, "lobby", "let me in"); !errors.Is(err, errNotThere) {
		t.Errorf("eve could talk to a room that she is not in: %v", err)
	}
	check(t, one.say(ctx, ann, "lobby", "hello"))
	cluster.Settle(ctx) // everything has arrived that ever will
	bobConn.Want(`said {"by":"ann","text":"hello"}`)
	eveConn.Want() // nothing
	annConn.Want(`joined "bob"`)

	bob.Close(crosscast.ReasonLeft) // what bobConn.HangUp does, if it knows its socket
	cluster.Settle(ctx)
	fmt.Println("ann sees:", annConn.Lines())
	annConn.Want(`left "bob"`)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The test of a small chat. Two servers run in this process.
func Example() {
	t := new(exampleT) // your test has a *testing.T
	testChat(t)
	t.end()
	// Output:
	// ann sees that "bob" is there
	// ann sees: [left "bob"]
}

// exampleT makes an Example do what a test does.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()                           {}
func (t *exampleT) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Errorf(format string, args ...any) { fmt.Printf("FAIL: "+format+"\n", args...) }
func (t *exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleT) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleT) end() {
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}

// A server whose link breaks has its clients fetch again when the link is back.
func ExampleCluster_Cut() {
	t := new(exampleT) // your test has a *testing.T
	ctx := context.Background()
	cluster := crosscasttest.NewCluster(t, 2, crosscast.Options{
		OnGap: func(n *crosscast.Node, g crosscast.Gap) { n.EmitAffected(g, "refetch", nil) },
	})
	ann := cluster.Connect(ctx, 0, crosscast.ConnectOptions{Rooms: []string{"lobby"}})
	bob := cluster.Connect(ctx, 1, crosscast.ConnectOptions{Rooms: []string{"lobby"}})

	cluster.Cut(0)
	check(t, cluster.Nodes[0].To("lobby").Emit(ctx, "said", "waits for the link"))
	check(t, cluster.Nodes[1].To("lobby").Emit(ctx, "said", "is missed"))
	cluster.Heal(0)
	cluster.Settle(ctx)
	fmt.Println("ann:", ann.Lines())
	fmt.Println("bob:", bob.Lines())
	t.end()
	// Output:
	// ann: [said "waits for the link" refetch]
	// bob: [said "is missed" said "waits for the link"]
}

// A server learns of emissions that the bus has lost, and so do its peers.
func ExampleCluster_Lose() {
	t := new(exampleT)
	ctx := context.Background()
	cluster := crosscasttest.NewCluster(t, 2,
		crosscast.Options{OnLoss: func(_ *crosscast.Node, l crosscast.Loss) { fmt.Println("lost:", l.Instructions, l.Reason) }},
		crosscast.Options{OnGap: func(_ *crosscast.Node, g crosscast.Gap) { fmt.Println("missed in:", g.Names[0].Name) }},
	)
	ann := cluster.Connect(ctx, 0, crosscast.ConnectOptions{Rooms: []string{"lobby"}})
	bob := cluster.Connect(ctx, 1, crosscast.ConnectOptions{Rooms: []string{"lobby"}})

	cluster.Lose(1)
	check(t, cluster.Nodes[0].To("lobby").Emit(ctx, "said", "one"))
	check(t, cluster.Nodes[0].To("lobby").Emit(ctx, "said", "two"))
	cluster.Settle(ctx)
	fmt.Println("ann:", ann.Lines())
	fmt.Println("bob:", bob.Lines())
	t.end()
	// Unordered output:
	// lost: 1 uncertain
	// missed in: lobby
	// ann: [said "one" said "two"]
	// bob: [said "two"]
}

// Program admin shows what somebody who looks after a cluster can see and do from any of its nodes: who is in which
// room on all of them, by asking and by watching; moving a user, asking clients, and what a node's death looks like.
//
//	go run ./examples/admin          shows the flow, then the rooms when they change, until it is interrupted
//	go run ./examples/admin -once    shows the flow and ends
//
// It checks what it claims, and exits non-zero when something is not so. The three nodes meet at REDIS_URL, or in an
// embedded Redis when it is not set.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	redis.SetLogger(quiet{})
	err := run(ctx, os.Args[1:], os.Getenv("REDIS_URL"), os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "admin:", err)
		os.Exit(1)
	}
}

// quiet is go-redis's log: it would tell of each attempt to connect of the node that is cut off.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// clients are a user and the server that its connection is to.
var clients = []struct {
	user   string
	server int
}{{"ann", 0}, {"ann", 1}, {"bob", 1}, {"cid", 2}, {"mute", 2}}

// A demo is one run of the program. The admin sits at the first server's node: any would do.
type demo struct {
	*cluster
	out   io.Writer
	admin *crosscast.Node

	lobby chan []string // capacity 1: who is in the lobby now
	users string        // who was in it when that was looked at last
}

func newDemo(url string, out io.Writer) *demo {
	return &demo{cluster: newCluster(url), out: out, lobby: make(chan []string, 1)}
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func run(ctx context.Context, args []string, url string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("admin", flag.ContinueOnError)
	once := flags.Bool("once", false, "end after the flow")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if url == "" {
		m, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer m.Close()
		url = "redis://" + m.Addr()
	}
	d := newDemo(url, out)
	defer func() { err = errors.Join(err, d.close()) }()
	flow, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := d.start(flow); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.look, d.move, d.ask, d.lose, d.heal, d.comeBack} {
		if err := step(flow); err != nil {
			return err
		}
	}
	if !*once {
		d.say("\nCtrl-C ends")
		d.watch(ctx)
	}
	return nil
}

// start starts three servers, and the clients.
func (d *demo) start(ctx context.Context) error {
	for i := range 3 {
		if err := d.startServer(ctx, i, "localhost:0"); err != nil {
			return err
		}
	}
	d.admin = d.servers[0].node
	for _, c := range clients {
		if err := d.connect(ctx, c.user, c.server); err != nil {
			return err
		}
	}
	d.say("%d servers, %d clients; each client has joined the lobby", len(d.servers), len(clients))
	watch, err := d.admin.Watch(ctx, "lobby", crosscast.WatchOptions{Users: true})
	if err != nil {
		return err
	}
	// First it is told who is in the lobby, and then who comes and goes. It must not block, so it hands on a copy.
	lobby := make(map[string]bool)
	watch.Follow(func(e crosscast.PresenceEvent) (more bool) {
		for _, m := range e.Joined {
			lobby[m.User] = true
		}
		for _, m := range e.Left {
			delete(lobby, m.User)
		}
		select {
		case <-d.lobby: // nobody has looked at the former one
		default:
		}
		d.lobby <- slices.Sorted(maps.Keys(lobby))
		return true
	})
	return nil
}

// present waits until these are the users in the lobby.
func (d *demo) present(ctx context.Context, want string) error {
	for {
		if d.users == want {
			d.say("  who is in the lobby, without asking: %s", want)
			return nil
		}
		select {
		case users := <-d.lobby:
			d.users = strings.Join(users, ", ")
		case <-ctx.Done():
			return fmt.Errorf("in the lobby are %s, want %s: %w", d.users, want, ctx.Err())
		}
	}
}

// A view is what the admin sees of the cluster.
type view struct {
	nodes   int // that are known, the admin's included
	sockets int
	users   int
	rooms   map[string]int // sockets, by room
}

func (v *view) String() string {
	var rooms []string
	for room, n := range v.rooms {
		rooms = append(rooms, fmt.Sprintf("%s %d", room, n))
	}
	slices.Sort(rooms)
	return fmt.Sprintf("%d nodes, %d sockets of %d users; rooms: %s", v.nodes, v.sockets, v.users, strings.Join(rooms, ", "))
}

// view takes a view: three questions to all nodes. Each has what was answered also beside an error.
func (d *demo) view(ctx context.Context) (*view, error) {
	v := &view{nodes: 1 + len(d.admin.Nodes()), rooms: make(map[string]int)}
	everyone := d.admin.Everyone()
	var errs [3]error
	v.sockets, errs[0] = everyone.Count(ctx)
	v.users, errs[1] = everyone.CountUsers(ctx)
	rooms := everyone.Rooms(ctx)
	for r := range rooms.All() {
		v.rooms[r.Room] += r.Sockets
	}
	errs[2] = rooms.Err()
	return v, errors.Join(errs[:]...)
}

// expect takes a view, shows it, and compares it with what it must be.
func (d *demo) expect(ctx context.Context, want string) error {
	v, err := d.view(ctx)
	if err != nil {
		return err
	}
	d.say("  %s", v)
	if v.String() != want {
		return fmt.Errorf("the admin sees %s; want %s", v, want)
	}
	return nil
}

func (d *demo) look(ctx context.Context) error {
	d.say("\nThe admin looks:")
	if err := d.present(ctx, "ann, bob, cid, mute"); err != nil {
		return err
	}
	return d.expect(ctx, "3 nodes, 5 sockets of 4 users; rooms: lobby 5")
}

// move takes all of a user's sockets from one room to another, and emits to it: nothing of that is lost.
func (d *demo) move(ctx context.Context) error {
	d.say("\nThe admin moves ann from the lobby to support:")
	changed, err := d.admin.ToUser("ann").Do(ctx, crosscast.Command{Join: []string{"support"}, Leave: []string{"lobby"}})
	if err != nil {
		return err
	}
	d.say("  %d sockets on %d nodes", changed.Sockets, len(changed.Nodes))
	if changed.Sockets != 2 || len(changed.Nodes) != 2 {
		return fmt.Errorf("moved %+v, want 2 sockets on 2 nodes", changed)
	}
	if err := d.admin.To("support").Emit(ctx, "notice", "how can we help?"); err != nil {
		return err
	}
	for range changed.Sockets {
		select {
		case n := <-d.notices:
			d.say("  %s got: %s", n.user, n.text)
			if n.user != "ann" {
				return fmt.Errorf("%s got what was for support", n.user)
			}
		case <-ctx.Done():
			return fmt.Errorf("ann did not get what was emitted to support: %w", ctx.Err())
		}
	}
	if err := d.present(ctx, "bob, cid, mute"); err != nil {
		return err
	}
	return d.expect(ctx, "3 nodes, 5 sockets of 4 users; rooms: lobby 3, support 2")
}

// ask has the clients in the lobby reply. One does not know the question, and says so.
func (d *demo) ask(ctx context.Context) error {
	d.say("\nThe admin asks the lobby who is ready:")
	answers := d.admin.To("lobby").EmitAck(ctx, "ready?", nil)
	var replies []string
	for r := range answers.All() {
		replies = append(replies, string(r.Payload.Data))
	}
	slices.Sort(replies)
	d.say("  replies: %s", strings.Join(replies, ", "))
	var incomplete *crosscast.IncompleteError
	if err := answers.Err(); !errors.As(err, &incomplete) || len(incomplete.Missing) > 0 || len(incomplete.Silent) != 1 {
		return fmt.Errorf("asking: %w; want one silent client", err)
	}
	silent := incomplete.Silent[0]
	d.say("  silent: %s, on %s", silent, d.nameOf(silent.Node()))
	if got := strings.Join(replies, " "); got != `"bob is" "cid is"` || d.nameOf(silent.Node()) != "node-3" {
		return fmt.Errorf("replies %s, and silent on %s", got, d.nameOf(silent.Node()))
	}
	return nil
}

// lose kills the third server. Until the others know, a question that needs all of them ends at its deadline, with what
// the living have said.
func (d *demo) lose(ctx context.Context) error {
	d.say("\nnode-3 dies, without a word:")
	d.servers[2].kill()
	short, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	count, err := d.admin.Everyone().Count(short)
	var incomplete *crosscast.IncompleteError
	if !errors.As(err, &incomplete) || len(incomplete.Missing) != 1 || !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("counting: %d, %w; want one node missing", count, err)
	}
	missing := d.nameOf(incomplete.Missing[0].ID)
	d.say("  %d sockets, and no answer from %s", count, missing)
	if count != 3 || missing != "node-3" {
		return fmt.Errorf("counted %d without %s, want 3 without node-3", count, missing)
	}
	return nil
}

// heal waits until the dead node has expired: questions are complete again, and do not wait for it.
func (d *demo) heal(ctx context.Context) error {
	select {
	case name := <-d.expired:
		d.say("  %s is taken for dead", name)
	case <-ctx.Done():
		return fmt.Errorf("node-3 did not expire: %w", ctx.Err())
	}
	if err := d.present(ctx, "bob"); err != nil {
		return err
	}
	return d.expect(ctx, "2 nodes, 3 sockets of 2 users; rooms: lobby 1, support 2")
}

// comeBack starts the server again: its clients connect by themselves, and join.
func (d *demo) comeBack(ctx context.Context) error {
	d.say("\nnode-3 is started again, and its clients come back by themselves:")
	if err := d.startServer(ctx, 2, d.servers[2].address); err != nil {
		return err
	}
	for back := 0; back < 2; {
		select {
		case user := <-d.joined:
			d.say("  %s is in the lobby again", user)
			back++
		case <-ctx.Done():
			return fmt.Errorf("%d clients came back: %w", back, ctx.Err())
		}
	}
	if err := d.present(ctx, "bob, cid, mute"); err != nil {
		return err
	}
	return d.expect(ctx, "3 nodes, 5 sockets of 4 users; rooms: lobby 3, support 2")
}

// watch shows the view whenever it has changed, until ctx ends.
func (d *demo) watch(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for last := ""; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		v, err := d.view(ctx)
		if now := fmt.Sprint(v, err); now != last && ctx.Err() == nil {
			last = now
			d.say("  %s", v)
			if err != nil {
				d.say("  %v", err)
			}
		}
	}
}

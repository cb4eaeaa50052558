package crosscast_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// What an empty namespace holds ends when it has lingered, and comes back with its next use; who has kept it notices
// nothing.
func TestEmptyNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := selectiveNode(t)
		peer := crosscast.NodeInfo{ID: "aaaaaaaa", Heartbeat: time.Hour}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		ns, err := n.Of("/chat")
		ok(t, err)
		for name, use := range map[string]func(){
			"connect": func() { connectUser(t, ns, &recorder{}, "u", "r").Close(crosscast.ReasonLeft) },
			"subscribe": func() {
				s, err := ns.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r")
				ok(t, err)
				ok(t, s.Close())
			},
			"ask": func() {
				if _, err := ns.Everyone().Count(timeout(t, time.Second)); err == nil {
					t.Error("a peer that does not answer has answered")
				}
			},
			"watch": func() {
				if _, err := ns.Watch(ctx, "r", crosscast.WatchOptions{}); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("a watch where peers are not known by ID: %v", err)
				}
			},
			"look": func() {
				ok(t, ns.Emit(ctx, "e", nil))
				ok(t, ns.Everyone().Join(ctx, "r"))
				equal(t, "members", len(ns.Members("r"))+len(ns.Rooms()), 0)
			},
		} {
			began := time.Now()
			use()
			synctest.Wait()
			in := n.Stats().Namespaces
			if name == "look" || name == "watch" {
				equal(t, name+": in use", in, 1)
			} else {
				equal(t, name+": in use", in, 2)
				time.Sleep(4*time.Second - time.Since(began))
				equal(t, name+": in use before it has lingered", n.Stats().Namespaces, 2)
			}
			time.Sleep(7 * time.Second) // its rooms have lingered before it does itself
			synctest.Wait()
			equal(t, name+": in use after it has lingered", n.Stats().Namespaces, 1)
			equal(t, name+": heard", d.hears(), "")
		}
		// It is what it was.
		var r recorder
		s := connect(t, ns, &r, "r")
		equal(t, "heard", d.hears(), sorted([]string{"/chat:#" + string(s.ID()), "/chat:*", "/chat:r"}))
		ok(t, ns.To("r").Emit(ctx, "own", nil))
		d.h.Handle(&crosscast.Instruction{
			Kind: kind.Emit, Namespace: "/chat", From: "aaaaaaaa", Event: "remote",
			Target: crosscast.Target{Everyone: true},
		})
		equal(t, "got", r.take(), "own remote")
		again, err := n.Of("/chat")
		ok(t, err)
		equal(t, "the same", again, ns)
		equal(t, "the socket's", s.Namespace(), ns)
	})
}

// A question holds its namespace until it has ended, however short the lingering is.
func TestQuestionHoldsItsNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := selectiveNode(t)
		peer := crosscast.NodeInfo{ID: "aaaaaaaa", Heartbeat: time.Hour}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		ns, err := n.Of("/chat")
		ok(t, err)
		asked := make(chan error, 1)
		go func() {
			_, err := ns.Everyone().Count(timeout(t, time.Minute))
			asked <- err
		}()
		time.Sleep(50 * time.Second)
		equal(t, "heard while the question is open", d.hears(), "/chat:*")
		<-asked
		time.Sleep(6 * time.Second)
		equal(t, "heard afterwards", d.hears(), "")
	})
}

// Namespaces cost what is in use. That there are many is nothing to a new one.
func TestManyNamespaces(t *testing.T) {
	const many = 5000
	n := start(t, crosscast.Options{})
	use := func(i int) *crosscast.Socket {
		ns, err := n.Of(fmt.Sprint("ns", i))
		ok(t, err)
		return connect(t, ns, silentConn{}, "r")
	}
	use(0).Close(crosscast.ReasonLeft)
	before := memtest.Heap()
	sockets := make([]*crosscast.Socket, many)
	for i := range sockets {
		sockets[i] = use(i)
	}
	var start, end runtime.MemStats
	runtime.ReadMemStats(&start)
	for i := range 100 {
		use(many + i).Close(crosscast.ReasonLeft)
	}
	runtime.ReadMemStats(&end)
	if each := (end.TotalAlloc - start.TotalAlloc) / 100; each > 16<<10 {
		t.Errorf("a new namespace beside %d allocates %d bytes", many, each)
	}
	equal(t, "in use", n.Stats().Namespaces, 1+many)
	for _, s := range sockets {
		s.Close(crosscast.ReasonLeft)
	}
	clear(sockets)
	equal(t, "in use", n.Stats().Namespaces, 1)
	memtest.Heap() // what the collector finds free is forgotten by name soon after
	deadline := time.Now().Add(10 * time.Second)
	for left := 0.0; ; time.Sleep(10 * time.Millisecond) { // poll
		if left = float64(memtest.Heap()-before) / many; left < 64 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%.0f bytes are left of each of %d namespaces", left, many)
		}
	}
	runtime.KeepAlive(n)
}

// What strangers name makes nothing.
func TestNamespacesOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		for k := kind.Emit; k <= kind.Presence; k++ {
			for i, ref := range []string{"", "1"} {
				d.h.Handle(&crosscast.Instruction{
					Kind: k, From: "aaaaaaaa", Namespace: fmt.Sprint("strange", k, i), Ref: ref, Event: "e",
					Target: crosscast.Target{Everyone: true}, Rooms: []string{"r"}, TTL: time.Minute,
					Question: &crosscast.Question{Kind: kind.AskSockets}, Answer: &crosscast.Answer{Last: true},
					Presence: &crosscast.Presence{},
				})
			}
		}
		d.h.Gap(crosscast.Gap{Reason: reasons.GapDenied, Names: []crosscast.Address{
			{Namespace: "strange", Space: crosscast.SpaceNamespace},
		}})
		synctest.Wait()
		equal(t, "in use", n.Stats().Namespaces, 1)
	})
}

// A watch of a peer's is of the room, whether or not there is anybody in the namespace.
func TestWatchedNamespaceEndsAndBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		there, err := a.Of("/chat")
		ok(t, err)
		here, err := b.Of("/chat")
		ok(t, err)
		w, l := present(t, there, "r", false)
		seen(t, l, "= ")
		for range 3 {
			s := connectUser(t, here, &recorder{}, "bob", "r")
			seen(t, l, "+ bob")
			s.Close(crosscast.ReasonLeft)
			seen(t, l, "- bob")
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		w.Close()
		time.Sleep(time.Minute)
		equal(t, "in use", a.Stats().Namespaces+b.Stats().Namespaces, 2)
		w, l = present(t, there, "r", false)
		seen(t, l, "= ")
		connectUser(t, here, &recorder{}, "zoe", "r")
		seen(t, l, "+ zoe")
		w.Close()
	})
}

// Namespaces end and begin under way: who has connected is heard of, and in the end nothing is left.
func TestNamespacesUnderChurn(t *testing.T) {
	for _, every := range []bool{false, true} {
		d := newDriver(t)
		var a crosscast.Adapter = d
		if every {
			a = selective{foreignDriver{driver: d}}
		}
		n := start(t, crosscast.Options{Adapter: a, Linger: time.Nanosecond})
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 400 {
					name := fmt.Sprint("ns", i%3)
					ns, err := n.Of(name)
					if err != nil {
						t.Error(err)
						return
					}
					r := &recorder{}
					s, err := ns.Connect(ctx, r, crosscast.ConnectOptions{Rooms: []string{"r"}})
					if err != nil {
						t.Error(err)
						return
					}
					if !d.isHeard(name+":r") || every && !d.isHeard(name+":*") {
						t.Errorf("not heard: %s", name)
					}
					if g%2 == 0 {
						n.Stats()
						d.h.Gap(crosscast.Gap{Reason: reasons.GapDenied, Names: []crosscast.Address{
							{Namespace: name, Space: crosscast.SpaceRoom, Name: "another"},
						}})
					}
					if ns.To("r").Emit(ctx, "e", nil); r.take() == "" {
						t.Error("an emission has missed a member")
					}
					if ns.Socket(s.ID()) != s {
						t.Error("a socket is not found")
					}
					s.Close(crosscast.ReasonLeft)
				}
			})
		}
		wg.Wait()
		deadline := time.Now().Add(10 * time.Second)
		for d.hears() != "" || n.Stats().Namespaces != 1 {
			if time.Now().After(deadline) {
				t.Fatalf("%d namespaces in use, heard: %s", n.Stats().Namespaces, d.hears())
			}
			time.Sleep(time.Millisecond) // poll
		}
	}
}

// A namespace that is kept is heard without anybody in it, for as long as the node lives.
func TestKeptNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := selectiveNode(t)
		ns, err := n.Of("/chat")
		ok(t, err)
		ns.Keep()
		ns.Keep()
		n.Keep() // "/" is kept anyway
		synctest.Wait()
		equal(t, "heard", d.hears(), "/chat:*")
		connect(t, ns, &recorder{}, "r").Close(crosscast.ReasonLeft)
		time.Sleep(time.Hour)
		synctest.Wait()
		equal(t, "heard after an hour", d.hears(), "/chat:*")
		equal(t, "in use", n.Stats().Namespaces, 2)
	})
}

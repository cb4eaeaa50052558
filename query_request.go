package crosscast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// Requests between servers: named handlers on nodes, called by their peers.

// Request is the argument of the handler of [Node.OnRequest].
type Request struct {
	From      NodeID
	Name      string
	Namespace string  // of the Servers that sent the request
	Payload   Payload // may be kept by the handler
}

// requestHandler is the application's, see [Node.OnRequest].
type requestHandler = func(ctx context.Context, r *Request) (any, error)

// handlers are a node's handlers, by name.
type handlers struct {
	mu sync.RWMutex // guards m
	m  map[string]requestHandler
}

// OnRequest registers the handler of requests with the given name, of all namespaces; nil removes it. A node without a
// handler answers a request with an error. It may be called concurrently.
//
// Each call of the handler runs on a goroutine of its own, beside at most 255 others. Further requests are refused. The
// context of a call ends at the first of these moments. Then the asking node gets an error, even if the handler does
// not return:
//
//   - a little before the deadline of [Servers.Ask]; 5 s after a [Servers.Tell]
//   - when this node closes
//
// The returned value is marshalled as by [BoundTarget.Emit]. An error is sent back as text. If the handler panics, the
// asking node gets an error, the panic is logged, and this node goes on.
//
// With package socketioadapter, and every other [ForeignAdapter], a node always hears the requests of "/". It hears
// those of another namespace only while it uses the namespace: while that has a socket, a subscription or a watch here,
// or was kept ([Namespace.Keep]).
func (n *Node) OnRequest(name string, h func(ctx context.Context, r *Request) (any, error)) error {
	if err := checkName("request", name); err != nil {
		return err
	}
	if n.deaf != nil {
		return n.deaf
	}
	n.handlers.mu.Lock()
	defer n.handlers.mu.Unlock()
	if n.handlers.m == nil {
		n.handlers.m = make(map[string]requestHandler)
	}
	if h == nil {
		delete(n.handlers.m, name)
	} else {
		n.handlers.m[name] = h
	}
	return nil
}

// Servers is the target of a request: peers, never this node itself. It is a small value. It may be kept and used
// concurrently; its methods return changed copies.
type Servers struct {
	ns    *Namespace
	ids   []NodeID // nil: all
	rooms []string // nil: with and without members
}

// Servers targets all peers. Peers that do not use the namespace might not hear the request: see [Node.OnRequest].
func (ns *Namespace) Servers() Servers { return Servers{ns: ns, ids: ns.node.everyPeer} }

// Only limits the target to the given peers. Without IDs it is nobody.
func (s Servers) Only(ids ...NodeID) Servers {
	chosen := make([]NodeID, 0, len(ids))
	for _, id := range ids {
		if !slices.Contains(chosen, id) && (s.ids == nil || slices.Contains(s.ids, id)) {
			chosen = append(chosen, id)
		}
	}
	s.ids = chosen
	return s
}

// With limits the target to the peers with a socket in at least one of rooms. Without rooms it is nobody.
func (s Servers) With(rooms ...string) Servers {
	s.rooms = with(s.rooms, rooms)
	if len(s.rooms) == 0 {
		s.ids = []NodeID{}
	}
	return s
}

// Response is one peer's answer to a request.
type Response struct {
	Node    NodeID // empty if the adapter does not know it
	Payload Payload
}

// Tell sends a request that needs no answer. It returns as [BoundTarget.Emit] does.
func (s Servers) Tell(ctx context.Context, name string, payload any) error {
	inst, err := s.instruction(name, payload)
	if err != nil {
		return err
	}
	n := s.ns.node
	switch {
	case n.state.Load() == nodeClosed:
		return ErrClosed
	case s.ids == nil:
		return n.publish(ctx, inst)
	}
	for _, id := range s.ids {
		one := *inst
		one.To = id
		err = errors.Join(err, n.publish(ctx, &one))
	}
	return err
}

// Ask sends a request and collects the peers' answers. The deadline is ctx's, or 5 s. The [*IncompleteError] holds the
// peers whose handler failed, that have no such handler, that did not answer in time, or that Only names and this node
// does not know. A peer without a socket in the rooms of With adds nothing to the result.
func (s Servers) Ask(ctx context.Context, name string, payload any) *Answers[Response] {
	var q *query
	if inst, err := s.instruction(name, payload); err != nil {
		q = &query{failure: err}
	} else {
		q = s.ns.node.query(ctx, inst, s.ids, nil)
	}
	return &Answers[Response]{q, func(from NodeID, a *Answer) []Response {
		if !a.Handled || a.Err != "" {
			return nil
		}
		return []Response{{from, a.Payload}}
	}}
}

func (s *Servers) instruction(name string, payload any) (*Instruction, error) {
	if err := checkName("request", name); err != nil {
		return nil, err
	}
	target, err := s.target()
	if err != nil {
		return nil, err
	}
	n := s.ns.node
	p, err := n.payload(payload)
	if err != nil {
		return nil, err
	}
	return &Instruction{
		Kind: kind.Request, Namespace: s.ns.name, From: n.id, Event: name, Payload: p,
		Target: target,
	}, nil
}

// target returns the nodes with a socket in one of the rooms as a target.
func (s *Servers) target() (Target, error) {
	if err := checkNames("room", s.rooms); err != nil {
		return Target{}, err
	}
	if len(s.rooms) > limit.Names {
		return Target{}, &limit.Error{What: "rooms", Len: len(s.rooms), Max: limit.Names}
	}
	return Target{Everyone: len(s.rooms) == 0, Rooms: s.rooms}, nil
}

// handleRequest answers a peer's request.
func (n *Node) handleRequest(inst *Instruction) {
	r := &Request{From: inst.From, Name: inst.Event, Namespace: inst.Namespace, Payload: inst.Payload}
	r.Payload.Data = slices.Clone(r.Payload.Data)
	n.handlers.mu.RLock()
	h := n.handlers.m[inst.Event]
	n.handlers.mu.RUnlock()
	switch {
	case !inst.Target.Everyone && !n.hasMember(inst.Namespace, inst.Target.Rooms):
		n.reply(inst, &Answer{Last: true})
	case h == nil:
		n.reply(inst, &Answer{Last: true, Err: fmt.Sprintf("no handler for %q", inst.Event)})
	case !r.Payload.known():
		n.stats.drop(dropEncoding)
		n.reply(inst, &Answer{Last: true, Err: "the payload is of an encoding that this node does not know"})
	case !r.Payload.valid():
		n.stats.drop(dropInvalid)
		n.reply(inst, &Answer{Last: true, Err: "the payload is not valid JSON in UTF-8"})
	default:
		n.work(n.jobs.serving, inst, func(ctx context.Context, w *answerer) { n.serveRequest(ctx, h, r, w) })
	}
}

// serveRequest calls h, and answers with its result. If ctx ends first, it answers with an error.
func (n *Node) serveRequest(ctx context.Context, h requestHandler, r *Request, w *answerer) {
	var once sync.Once
	answer := func(ctx context.Context, a *Answer) {
		once.Do(func() {
			if w.ref != "" {
				w.send(ctx, a)
			}
		})
	}
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		answer(atOnce, &Answer{Last: true, Err: "the handler did not return in time"})
	})
	a := &Answer{Last: true, Err: "the handler did not return"} // if it ends this goroutine
	defer func() {
		if !stop() {
			<-told
		}
		answer(ctx, a)
	}()
	a = n.callRequestHandler(ctx, h, r)
}

// callRequestHandler calls h. h, the marshalling of its result and the text of its error are code of the application.
func (n *Node) callRequestHandler(ctx context.Context, h requestHandler, r *Request) *Answer {
	a := &Answer{Last: true}
	if !n.call(fmt.Sprintf("the handler of requests %q", r.Name), func() {
		v, err := h(ctx, r)
		if err == nil {
			a.Payload, err = n.payload(v)
			a.Payload.Data = slices.Clone(a.Payload.Data) // an answer may be kept, and the result is the handler's
		}
		if err == nil {
			a.Handled = true
		} else if a.Err = truncate(err.Error(), 1024); a.Err == "" {
			a.Err = "failed"
		}
	}) {
		return &Answer{Last: true, Err: "the handler panicked"}
	}
	return a
}

// truncate returns at most the first n bytes of s, in whole characters.
func truncate(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }

func (n *Node) hasMember(namespace string, rooms []string) bool {
	ns := n.spaces.get(namespace)
	if ns == nil {
		return false
	}
	for _, room := range rooms {
		sh := ns.shardOf(room)
		sh.mu.Lock()
		g := sh.groupLocked(SpaceRoom, room)
		has := g != nil && len(g.sockets) > 0
		sh.mu.Unlock()
		if has {
			return true
		}
	}
	return false
}

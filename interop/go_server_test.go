package interop

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/socketioadapter"
)

// goSpeaker is a node of this process that emits.
type goSpeaker struct{ node *crosscast.Node }

// goServer is a node with Socket.IO's clients.
type goServer struct {
	goSpeaker
	label    string
	adapter  *socketioadapter.Adapter
	web      *httptest.Server
	listens  int
	told     *log
	incoming *log
	spaces   []string     // the namespaces that clients may connect to
	settled  atomic.Int64 // how often it was settled
}

var _ server = (*goServer)(nil)

// adapterOptions are those of a column.
func adapterOptions(col column, key string) socketioadapter.Options {
	// On Node.js a socket may join any room.
	o := socketioadapter.Options{Key: key, AllowNames: func(string) bool { return true }}
	if col.sharded {
		o.Mode = socketioadapter.Sharded
		o.Subscription = map[string]socketioadapter.SubscriptionMode{
			"dynamic": socketioadapter.Dynamic, "static": socketioadapter.Static,
			"dynamic-private": socketioadapter.DynamicPrivate,
		}[col.mode]
	}
	return o
}

// openGo starts a server with the behaviour of server.mjs.
func openGo(name string, col column, key string, rdb redis.UniversalClient, namespaces []string) (*goServer, error) {
	s := &goServer{label: name, told: newLog(name), incoming: newLog(name + ", from clients"), spaces: namespaces}
	s.adapter = socketioadapter.New(rdb, adapterOptions(col, key))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	node, err := crosscast.Start(ctx, crosscast.Options{Name: name, Adapter: s.adapter})
	if err != nil {
		return nil, err
	}
	s.node = node
	for event, h := range map[string]func(context.Context, *crosscast.Request) (any, error){
		"told":  s.hears,
		"fence": s.hears,
		"asked": func(ctx context.Context, r *crosscast.Request) (any, error) {
			if _, err := s.hears(ctx, r); err != nil {
				return nil, err
			}
			args, err := values(r.Payload)
			return map[string]any{"name": name, "args": args}, err
		},
		"silent": func(ctx context.Context, r *crosscast.Request) (any, error) {
			args, err := values(r.Payload)
			if err == nil && equal(args, []any{name}) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return name, err
		},
	} {
		if err := node.OnRequest(event, h); err != nil {
			return nil, err
		}
	}
	o := socketio.Options{Namespaces: map[string]*socketio.Namespace{}}
	for _, nsp := range namespaces {
		o.Namespaces[nsp] = &socketio.Namespace{
			Authenticate: authenticate,
			Events:       socketio.Events{"plain": s.receives, "echo": socketio.Answered(echo)},
		}
	}
	binding, err := socketio.New(node, o)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", binding)
	s.web = httptest.NewServer(mux)
	u, err := url.Parse(s.web.URL)
	if err != nil {
		return nil, err
	}
	s.listens, err = strconv.Atoi(u.Port())
	return s, err
}

// authenticate does what a client asks for in its hello.
func authenticate(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
	var auth struct {
		Data   any
		Rooms  []string
		Refuse string
	}
	if err := json.Unmarshal(h.Auth, &auth); err != nil {
		return socketio.Client{}, err
	}
	if auth.Refuse != "" {
		return socketio.Client{}, &socketio.ConnectError{Message: auth.Refuse}
	}
	c := socketio.Client{Data: auth.Data}
	for _, room := range auth.Rooms {
		if user, ok := strings.CutPrefix(room, "user:"); ok && user != "" {
			c.User = user
		} else {
			c.Rooms = append(c.Rooms, room)
		}
	}
	return c, nil
}

func (s *goServer) receives(_ context.Context, _ *crosscast.Socket, args socketio.Args) error {
	v, err := values(args.Payload())
	s.incoming.add(event{"plain", v})
	return err
}

func echo(_ context.Context, _ *crosscast.Socket, args socketio.Args) (any, error) {
	return args.Payload(), nil
}

// hears is the handler of a server side event.
func (s *goServer) hears(_ context.Context, r *crosscast.Request) (any, error) {
	args, err := values(r.Payload)
	s.told.add(serverEvent(r.Namespace, r.Name, args...))
	return nil, err
}

// bound is a target of the node's.
func (s goSpeaker) bound(t target) (crosscast.BoundTarget, error) {
	ns, err := s.node.Of(t.namespace())
	if err != nil {
		return crosscast.BoundTarget{}, err
	}
	b := ns.Everyone()
	if len(t.rooms)+len(t.sockets)+len(t.users) > 0 {
		b = ns.ToUser(t.users...).ToSocket(ids(t.sockets)...)
	}
	for _, room := range t.rooms {
		b = b.To(fmt.Sprint(room))
	}
	b = b.Except(t.except...).ExceptSocket(ids(t.exceptID)...)
	if t.local {
		b = b.Local()
	}
	if t.volatile {
		b = b.Volatile()
	}
	return b, nil
}

func ids(texts []string) []crosscast.SocketID {
	out := make([]crosscast.SocketID, len(texts))
	for i, text := range texts {
		out[i] = crosscast.SocketID(text)
	}
	return out
}

// on runs f for a target, with a context that ends with the target's timeout, or with the test's patience.
func (s goSpeaker) on(t target, f func(context.Context, crosscast.BoundTarget) error) error {
	b, err := s.bound(t)
	if err != nil {
		return err
	}
	timeout := t.timeout
	if timeout == 0 {
		timeout = patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return f(ctx, b)
}

func (s goSpeaker) emit(to target, event string, args ...any) error {
	return s.on(to, func(ctx context.Context, b crosscast.BoundTarget) error { return b.Emit(ctx, event, payload(args)) })
}

func (s goSpeaker) join(who target, rooms ...string) error {
	return s.on(who, func(ctx context.Context, b crosscast.BoundTarget) error { return b.Join(ctx, rooms...) })
}

func (s goSpeaker) leave(who target, rooms ...string) error {
	return s.on(who, func(ctx context.Context, b crosscast.BoundTarget) error { return b.Leave(ctx, rooms...) })
}

func (s goSpeaker) disconnect(who target, closing bool) error {
	reason := crosscast.Reason("sent away")
	if closing {
		reason = socketio.ReasonForced
	}
	return s.on(who, func(ctx context.Context, b crosscast.BoundTarget) error { return b.Disconnect(ctx, reason) })
}

func (s goSpeaker) serverSideEmit(nsp, event string, args ...any) error {
	ns, err := s.node.Of(nsp)
	if err != nil {
		return err
	}
	return ns.Servers().Tell(context.Background(), event, payload(args))
}

func (s *goServer) name() string   { return s.label }
func (s *goServer) port() int      { return s.listens }
func (s *goServer) heard() *log    { return s.told }
func (s *goServer) received() *log { return s.incoming }

func (s *goServer) emitAck(to target, event string, args ...any) (replies []any, err error) {
	err = s.on(to, func(ctx context.Context, b crosscast.BoundTarget) error {
		answers := b.EmitAck(ctx, event, payload(args))
		for r := range answers.All() {
			v, err := value(r.Payload)
			if err != nil {
				return err
			}
			replies = append(replies, v)
		}
		return answers.Err()
	})
	return replies, err
}

func (s *goServer) fetch(who target) (found []remoteSocket, err error) {
	err = s.on(who, func(ctx context.Context, b crosscast.BoundTarget) error {
		answers := b.Sockets(ctx, crosscast.Fields{})
		for info := range answers.All() {
			r := remoteSocket{id: string(info.ID), rooms: append(info.Rooms, string(info.ID))} // as Node.js has it
			if err := errors.Join(decode(info.Data, &r.data), decode(info.Handshake, &r.handshake)); err != nil {
				return err
			}
			found = append(found, r)
		}
		return answers.Err()
	})
	return found, err
}

func decode(text json.RawMessage, into any) error {
	if text == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

func (s *goServer) serverSideEmitAck(in target, event string, args ...any) (replies []any, err error) {
	err = s.on(in, func(ctx context.Context, _ crosscast.BoundTarget) error {
		ns, err := s.node.Of(in.namespace())
		if err != nil {
			return err
		}
		answers := ns.Servers().Ask(ctx, event, payload(args))
		for r := range answers.All() {
			v, err := value(r.Payload)
			if err != nil {
				return err
			}
			replies = append(replies, v)
		}
		return answers.Err()
	})
	return replies, err
}

func (s *goServer) allRooms(nsp string) (rooms []string, err error) {
	err = s.on(all().in(nsp), func(ctx context.Context, b crosscast.BoundTarget) error {
		answers := b.Rooms(ctx)
		for r := range answers.All() {
			if !slices.Contains(rooms, r.Room) {
				rooms = append(rooms, r.Room)
			}
		}
		return answers.Err()
	})
	return rooms, err
}

func (s *goServer) count(nsp string) (int, error) {
	in := &crosscast.Instruction{Kind: kind.Ask, Namespace: nsp}
	peers, err := s.adapter.CountPeers(context.Background(), in, false)
	return peers + 1, err
}

// pending tells nothing: a node forgets a question when who asked it returns.
func (s *goServer) pending(string) (questions, acks int, err error) { return 0, 0, nil }

func (s *goServer) socket(nsp, id string) (*crosscast.Socket, error) {
	ns, err := s.node.Of(nsp)
	if err != nil {
		return nil, err
	}
	socket := ns.Socket(crosscast.SocketID(id))
	if socket == nil {
		return nil, fmt.Errorf("%s has no socket %s in %s", s.label, id, nsp)
	}
	return socket, nil
}

func (s *goServer) socketJoin(nsp, id string, rooms ...any) error {
	socket, err := s.socket(nsp, id)
	if err != nil {
		return err
	}
	names := make([]string, len(rooms))
	for i, room := range rooms {
		names[i] = fmt.Sprint(room)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return socket.Join(ctx, names...)
}

func (s *goServer) socketLeave(nsp, id string, rooms ...string) error {
	socket, err := s.socket(nsp, id)
	if err != nil {
		return err
	}
	return socket.Leave(rooms...)
}

func (s *goServer) broadcast(id string, to target, event string, args ...any) error {
	return s.emit(to.butID(id), event, args...)
}

// settle subscribes to a name that nobody used before: when that is confirmed, what was to come before it on the
// connection that hears has come.
func (s *goServer) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, socket := range s.sockets() {
		if err := socket.Join(ctx, socket.Rooms()...); err != nil && !errors.Is(err, crosscast.ErrClosed) {
			return err
		}
	}
	ns, err := s.node.Of(fmt.Sprintf("/settle%d", s.settled.Add(1)))
	if err != nil {
		return err
	}
	sub, err := ns.Subscribe(ctx, crosscast.Receiver{
		OnMessage: func(*crosscast.Subscription, *crosscast.Message) {},
	}, "nothing")
	if err != nil {
		return err
	}
	return sub.Close()
}

// sockets are those of the node.
func (s *goServer) sockets() (all []*crosscast.Socket) {
	for _, nsp := range s.spaces {
		ns, err := s.node.Of(nsp)
		if err != nil {
			continue
		}
		found := ns.Everyone().Local().Sockets(context.Background(), crosscast.Fields{ID: true})
		for info := range found.All() {
			if socket := ns.Socket(info.ID); socket != nil {
				all = append(all, socket)
			}
		}
	}
	return all
}

func (s *goServer) drained() error {
	sockets := s.sockets()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(time.Millisecond) { // poll
		if sockets = slices.DeleteFunc(sockets, (*crosscast.Socket).Closed); len(sockets) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s: %d sockets are not closed", s.label, len(sockets))
}

func (s *goServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := s.node.Close(ctx)
	s.web.Close()
	return err
}

// openGoEmitter starts a node that emits only, and ends with the test.
func openGoEmitter(t *testing.T, col column, key string, rdb redis.UniversalClient) speaker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	node, err := crosscast.Start(ctx, crosscast.Options{
		EmitOnly: true, Adapter: socketioadapter.New(rdb, adapterOptions(col, key)),
	})
	must(t, err)
	t.Cleanup(func() { must(t, node.Close(context.Background())) })
	return goSpeaker{node}
}

// payload is what an application gives to Emit.
func payload(args []any) any {
	if len(args) == 1 {
		switch v := args[0].(type) {
		case string, int, float64, bool:
			return v
		}
	}
	args = slices.Clone(args)
	for i, v := range args {
		if b, ok := v.([]byte); ok {
			args[i] = crosscast.Bytes(b)
		}
	}
	return socketio.Values(args...)
}

// values are the arguments in a payload.
func values(p crosscast.Payload) ([]any, error) {
	args, err := socketio.ArgsOf(p)
	if err != nil {
		return nil, err
	}
	all := make([]any, args.Len())
	for i := range all {
		if all[i], err = argument(p, args, i); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// argument is one of them, with the bytes inside.
func argument(p crosscast.Payload, args socketio.Args, i int) (v any, err error) {
	if p.Encoding != crosscast.EncodingArgs {
		return v, args.Decode(i, &v)
	}
	c := mpack.NewCursor(p.Data)
	c.Array()
	c.Skip(i)
	text, _, err := mpack.AppendJSON(nil, c.Value(), func(dst, b []byte) []byte {
		return append(base64.StdEncoding.AppendEncode(append(dst, `{"$bin":"`...), b), `"}`...)
	})
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(text, &v)
	return decodeValue(v), err
}

// value is the one argument of an answer, null when there is none.
func value(p crosscast.Payload) (any, error) {
	all, err := values(p)
	if len(all) == 0 {
		return nil, err
	}
	return all[0], err
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/socketioadapter"
	"github.com/crosscast/crosscast/wire"
)

// The modes.
const (
	modeCrosscast = "crosscast"
	modeClassic   = "socketio"
	modeSharded   = "socketio-sharded"
)

// A session is one run of a command: a client of Redis, and an emitter.
type session struct {
	*flags
	out, log io.Writer
	rdb      redis.UniversalClient
	master   string // its address, if Sentinels name it
	topics   []int  // Options.Topics of the nodes, and perhaps AlsoTopics; empty: 0
	sharded  bool   // Options.Sharded of the nodes
	seal     wire.Seal
	unheard  bool            // nobody has subscribed to a room or user of the command: only nodes with Topics 1 might hear it
	node     *crosscast.Node // an emitter
	ns       *crosscast.Namespace
}

// connect connects to Redis, which must answer.
func (s *session) connect(ctx context.Context) error {
	if s.Timeout <= 0 || s.Timeout > time.Hour {
		return fail(exitUsage, "--timeout is %v: it must be above 0, and at most 1h", s.Timeout)
	}
	if s.Prefix == "" {
		s.Prefix = "cc"
		if s.Mode != modeCrosscast {
			s.Prefix = "socket.io"
		}
	}
	if err := s.readKeys(); err != nil {
		return &failure{exitUsage, err}
	}
	o, err := redisadapter.ParseURL(s.Redis)
	if err != nil {
		return &failure{exitUsage, err}
	}
	o.DB = 0
	s.rdb = redis.NewUniversalClient(o)
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	// A user without the permission to ping is logged in, too.
	if err := s.rdb.Ping(ctx).Err(); err != nil && !redis.IsPermissionError(err) {
		return s.unreachable(err)
	}
	if o.MasterName != "" {
		s.master = masterOf(ctx, o)
	}
	return nil
}

// readKeys reads the keys of the seal, from the file or the environment. Other users see a command line, so none are there.
func (s *session) readKeys() error {
	text := os.Getenv("CROSSCAST_KEYS")
	if s.KeyFile != "" {
		file, err := os.ReadFile(s.KeyFile)
		if err != nil {
			return err
		}
		text = string(file)
	}
	if text == "" || s.Mode != modeCrosscast {
		return nil
	}
	keys, err := wire.ParseKeys(text)
	s.seal = wire.Seal{Keys: keys, Require: true}
	return err
}

// sealHint says what else might be wrong if nobody answers.
func (s *session) sealHint() string {
	if len(s.seal.Keys) > 0 {
		return "; do they have the keys of this command: " + s.seal.String() + "?"
	}
	return "; if they have a seal, this command needs its keys: see --key-file"
}

// masterOf asks the Sentinels for the address of the master; "the master" if none of them says it.
func masterOf(ctx context.Context, o *redis.UniversalOptions) string {
	for _, addr := range o.Addrs {
		sentinel := redis.NewSentinelClient(&redis.Options{
			Addr: addr, Username: o.SentinelUsername, Password: o.SentinelPassword, TLSConfig: o.TLSConfig,
			ContextTimeoutEnabled: true, DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries,
		})
		found, err := sentinel.GetMasterAddrByName(ctx, o.MasterName).Result()
		_ = sentinel.Close()
		if err == nil && len(found) == 2 {
			return net.JoinHostPort(found[0], found[1])
		}
	}
	return "the master"
}

// addr is the address of one of the servers.
func (s *session) addr(rdb *redis.Client) string { return cmp.Or(s.master, rdb.Options().Addr) }

// start makes the emitter.
func (s *session) start(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	if len(s.seal.Keys) > 0 && !s.sharded { // what is sealed for a part of the adapter is good nowhere else
		if err := s.learnSharded(limited); err != nil {
			return err
		}
	}
	var adapter crosscast.Adapter
	switch s.Mode {
	case modeCrosscast:
		o := redisadapter.Options{Prefix: s.Prefix, Seal: s.seal, Sharded: s.sharded}
		if len(s.topics) > 0 {
			o.Topics, o.AlsoTopics = s.topics[0], s.topics[1:]
		}
		adapter = redisadapter.New(s.rdb, o)
	default:
		o := socketioadapter.Options{Key: s.Prefix}
		if s.Mode == modeSharded {
			o.Mode = socketioadapter.Sharded
		}
		o.Subscription = map[string]socketioadapter.SubscriptionMode{
			"static": socketioadapter.Static, "dynamic-private": socketioadapter.DynamicPrivate,
		}[s.Subscription]
		adapter = socketioadapter.New(s.rdb, o)
	}
	var err error
	s.node, err = crosscast.Start(limited, crosscast.Options{
		Name: "crosscast command", EmitOnly: true, Adapter: adapter, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return &failure{exitUnreachable, err}
	}
	if s.ns, err = s.node.Of(s.Namespace); err != nil {
		return &failure{exitUsage, err}
	}
	return nil
}

// meet connects, and makes sure that there are nodes to be asked, or to emit to these rooms and users.
func (s *session) meet(ctx context.Context, names ...crosscast.Address) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.expectNodes(ctx); err != nil {
		return err
	}
	if err := s.learnTopics(ctx, names); err != nil {
		return err
	}
	if s.unheard {
		s.topics = []int{1}
	}
	return s.start(ctx)
}

func (s *session) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	if s.node != nil {
		err = s.node.Close(ctx)
	}
	if s.rdb != nil {
		err = errors.Join(err, s.rdb.Close())
	}
	return err
}

// where names the server, without a password.
func (s *session) where() string {
	scheme, rest, _ := strings.Cut(s.Redis, "://")
	rest, _, _ = strings.Cut(rest[strings.LastIndexByte(rest, '@')+1:], "?")
	return scheme + "://" + rest
}

// patient returns a context for one query.
func (s *session) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.Timeout)
}

func (s *session) peers() map[crosscast.NodeID]crosscast.Peer {
	all := make(map[crosscast.NodeID]crosscast.Peer)
	for _, p := range s.node.Nodes() {
		all[p.ID] = p
	}
	return all
}

// missing are the nodes that did not answer.
type missing struct {
	ID    crosscast.NodeID `json:"id,omitempty"`
	Name  string           `json:"name,omitempty"`
	Error string           `json:"error"`
}

func (m missing) String() string {
	if m.ID == "" {
		return "a node: " + m.Error
	}
	return fmt.Sprintf("%s (%s): %s", m.Name, m.ID, m.Error)
}

// absent takes an answer's error apart: into the nodes that did not answer, and any other error. That nobody at all has
// answered is such an error.
func (s *session) absent(err error) ([]missing, error) {
	var incomplete *crosscast.IncompleteError
	if !errors.As(err, &incomplete) {
		return []missing{}, err
	}
	all := make([]missing, 0, len(incomplete.Missing))
	for _, m := range incomplete.Missing {
		all = append(all, missing{m.ID, m.Name, clean(m.Err)})
	}
	if s.Mode == modeCrosscast && len(s.node.Nodes()) == 0 {
		return nil, fail(exitNobody, "no node with the prefix %q has answered at %s: %s (a user with +pubsub would see "+
			"which prefixes are in use)%s", s.Prefix, s.where(), all[0].Error, s.sealHint())
	}
	slices.SortFunc(all, func(a, b missing) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// incomplete is the failure of an answer that lacks nodes, nil if none is missing.
func incomplete(all []missing) error {
	if len(all) == 0 {
		return nil
	}
	var list []string
	for _, m := range all {
		list = append(list, m.String())
	}
	return fail(exitFault, "the answer is incomplete; without an answer: %s", strings.Join(list, "; "))
}

// clean is the text of an error on one line, without the library's name.
func clean(err error) string {
	if err == nil {
		return ""
	}
	return strings.NewReplacer("\n", "; ", "crosscast: ", "").Replace(err.Error())
}

// json prints a value as JSON, indented.
func (s *session) json(v any) error {
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// progress says each second, to a person at a terminal, what the command waits for, until stop is called.
func (s *session) progress(text func() string) (stop func()) {
	f, ok := s.log.(*os.File)
	if !ok {
		return func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for shown := false; ; shown = true {
			select {
			case <-tick.C:
				fmt.Fprintf(f, "\r\x1b[K%s", text())
			case <-done:
				if shown {
					fmt.Fprint(f, "\r\x1b[K")
				}
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// waiting is a progress without news.
func (s *session) waiting(what string) (stop func()) {
	began := time.Now()
	return s.progress(func() string { return fmt.Sprintf("%s: %v", what, time.Since(began).Round(time.Second)) })
}

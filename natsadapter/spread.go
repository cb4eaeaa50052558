package natsadapter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// The servers of a cluster tell each other which subjects they want, and confirm nothing. A server that does not know
// yet of a subscription at another server passes messages on to nobody, in silence.
//
// A link therefore asks the other servers after it has subscribed. Between two servers, all that concerns one account
// goes over one connection, in order. So a question that arrives at a server comes behind the subscription. Any
// connection of this package at that server answers; the server's queue group picks one.
//
// Every message names the server of its publisher, as the subject for replies. So a link knows the servers that matter:
// those from which something has arrived. A new link first asks all servers who is there.
//
// A server that does not answer is forgotten until something arrives from it again, and the subscription's confirmation
// says that it is unproven.
type spread struct {
	*line
	met     bool   // the servers had time to say who is there
	own     string // the subject for questions to the link's own server
	inbox   string // begins the subjects of answers; the name of the server that was asked follows
	asked   uint64 // the number of the last question
	answers chan *nats.Msg
}

const (
	askAgain   = 250 * time.Millisecond
	askFor     = 2 * time.Second
	meetFor    = 250 * time.Millisecond // how long the servers of a cluster may take to say who is there
	maxServers = 1024                   // that are known; a cluster has fewer
)

// newSpread subscribes to the answers.
func newSpread(ctx context.Context, l *line) (*spread, error) {
	own := l.bus.atServer(l.server)
	s := &spread{line: l, own: own, inbox: own + "." + nuid.Next() + ".", answers: make(chan *nats.Msg, maxServers)}
	if _, err := l.nc.ChanSubscribe(s.inbox+"*", s.answers); err != nil {
		return nil, l.bus.explain(err)
	}
	if err := l.allowed(ctx, s.inbox+"*"); err != nil {
		return nil, err
	}
	return s, l.nc.PublishRequest(l.bus.everywhere(), s.inbox+who, nil)
}

// who is the name for answers of any server.
const who = "who"

// everywhere returns the subject for questions to all servers.
func (b *bus) everywhere() string { return b.o.Prefix + ".s" }

// atServer returns the subject for questions to a server.
func (b *bus) atServer(server string) string { return b.o.Prefix + ".s." + server }

// answer makes the line answer the questions to its server, and to all servers. Then messages may name that server.
func (l *line) answer(ctx context.Context) error {
	subject := l.bus.atServer(l.server)
	_, err := l.nc.QueueSubscribe(subject, "s", func(m *nats.Msg) { _ = l.nc.Publish(m.Reply, m.Data) })
	if err == nil {
		_, err = l.nc.Subscribe(l.bus.everywhere(), func(m *nats.Msg) {
			if link, ok := strings.CutPrefix(m.Reply, l.bus.atServer("")); ok {
				server, _, _ := strings.Cut(link, ".")
				l.bus.noteServer(l.bus.atServer(server))
				_ = l.nc.PublishRequest(m.Reply, subject, nil)
			}
		})
	}
	if err != nil {
		return l.bus.explain(err)
	}
	if err = l.allowed(ctx, subject, l.bus.everywhere()); err == nil {
		l.reply = subject
	}
	return err
}

// allowed returns when the server has done what was written, and the error with which it has refused one of these subscriptions.
func (l *line) allowed(ctx context.Context, subjects ...string) error {
	if err := l.flushNow(ctx); err != nil {
		return l.bus.explain(err)
	}
	l.settle(ctx)
	for _, d := range l.take(func(d denial) bool { return d.subscribe && slices.Contains(subjects, d.subject) }) {
		return d.err
	}
	return nil
}

// heardFrom notes the server that a message names.
func (s *spread) heardFrom(reply string) {
	if reply == s.own || !strings.HasPrefix(reply, s.bus.atServer("")) {
		return
	}
	s.bus.noteServer(reply)
}

// prove returns nil when the known servers know of all that the link has subscribed to. Otherwise the error names a
// server of which that is not sure.
func (s *spread) prove() error {
	s.meet()
	waiting := s.bus.knownServers(s.own)
	if len(waiting) == 0 {
		return nil
	}
	s.asked++
	number := fmt.Sprint(s.asked)
	again := time.NewTicker(askAgain)
	defer again.Stop()
	timeout := time.NewTimer(askFor)
	defer timeout.Stop()
	var unproven error
	lose := func(server string, why error) {
		delete(waiting, server)
		s.bus.forgetServer(server)
		unproven = fmt.Errorf("the NATS server %s might not know of the subscription: %w", server, why)
	}
	s.question(waiting, number)
	for len(waiting) > 0 {
		select {
		case m := <-s.answers:
			server := s.bus.atServer(strings.TrimPrefix(m.Subject, s.inbox))
			switch {
			case !waiting[server]:
			case string(m.Data) == number:
				delete(waiting, server)
			case m.Header.Get("Status") == "503":
				lose(server, nats.ErrNoResponders)
			}
		case <-again.C:
			s.question(waiting, number)
		case <-timeout.C:
			for server := range waiting {
				lose(server, nats.ErrTimeout)
			}
		case <-s.done:
			return nil
		}
	}
	return unproven
}

// meet waits until all servers of the cluster have said who is there, or have had time to.
func (s *spread) meet() {
	if s.met {
		return
	}
	s.met = true
	if s.nc.ConnectedClusterName() == "" {
		return
	}
	timeout := time.NewTimer(meetFor)
	defer timeout.Stop()
	for others := len(s.nc.Servers()) - 1; others == 0 || len(s.bus.knownServers(s.own)) < others; {
		select {
		case m := <-s.answers:
			s.heardFrom(m.Reply)
		case <-timeout.C:
			return
		case <-s.done:
			return
		}
	}
}

// question asks servers.
func (s *spread) question(servers map[string]bool, number string) {
	for server := range servers {
		_ = s.nc.PublishRequest(server, s.inbox+strings.TrimPrefix(server, s.bus.atServer("")), []byte(number))
	}
}

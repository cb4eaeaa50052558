package crosscast

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// Stats queries the peers for their [Node.Stats]. Stats.Node says whose each is. The deadline is ctx's, or 5 s. The
// [*IncompleteError] holds the peers that did not answer in time, that are of a version without the query, or that Only
// names and this node does not know. A peer without a socket in the rooms of With adds nothing to the result. With a
// [ForeignAdapter] the error matches errors.ErrUnsupported.
//
// A [LinkHalf].Err of a peer has only its text.
func (s Servers) Stats(ctx context.Context) *Answers[Stats] {
	q := s.askStats(ctx)
	return &Answers[Stats]{q, func(from NodeID, a *Answer) []Stats {
		if a.Payload.Encoding == EncodingNone {
			return nil
		}
		stats, err := readStats(&a.Payload)
		if err != nil {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.failLocked(from, err)
			return nil
		}
		stats.Node = from
		return []Stats{stats}
	}}
}

func (s *Servers) askStats(ctx context.Context) *query {
	target, err := s.target()
	if err != nil {
		return &query{failure: err}
	}
	n := s.ns.node
	if n.foreign != nil {
		return &query{failure: errtext.Errorf("crosscast: Stats of peers: %w", errors.ErrUnsupported)}
	}
	return n.query(ctx, &Instruction{
		Kind: kind.Ask, Namespace: s.ns.name, Target: target, Question: &Question{Kind: kind.AskStats},
	}, s.ids, nil)
}

// answerStats answers the query AskStats.
func (n *Node) answerStats(inst *Instruction) {
	if !inst.Target.Everyone && !n.hasMember(inst.Namespace, inst.Target.Rooms) {
		n.reply(inst, &Answer{Last: true})
		return
	}
	n.work(n.jobs.answering, inst, func(ctx context.Context, r *answerer) {
		a := &Answer{Last: true}
		if p, err := n.Stats().payload(); err != nil {
			a.Err = err.Error()
		} else {
			a.Payload = p
		}
		_ = r.send(ctx, a) // it fails only if nobody waits any more
	})
}

// maxStats is the largest text of Stats, in bytes. Only an adapter with thousands of reasons makes it longer.
const maxStats = 64 << 10

// statsText is Stats as JSON, which other versions can read too: they skip fields that they do not know. Errors are
// texts.
type statsText struct {
	Stats
	Publishing, Subscribing string
}

func (s Stats) payload() (Payload, error) {
	link := &s.Adapter.Link
	t := statsText{Publishing: errorText(link.Publishing.Err), Subscribing: errorText(link.Subscribing.Err)}
	link.Publishing.Err, link.Subscribing.Err = nil, nil
	t.Stats = s
	text, err := json.Marshal(&t)
	if err == nil && len(text) > maxStats {
		err = &limit.Error{What: "Stats", Len: len(text), Max: maxStats, Bytes: true}
	}
	return Payload{EncodingJSON, text}, err
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return truncate(err.Error(), 1024)
}

// readStats reads what payload has made, or anything else that a peer has sent.
func readStats(p *Payload) (Stats, error) {
	if p.Encoding != EncodingJSON || len(p.Data) > maxStats {
		return Stats{}, errBadStats
	}
	var t statsText
	if err := json.Unmarshal(p.Data, &t); err != nil {
		return Stats{}, errtext.Errorf("%w: %w", errBadStats, err)
	}
	link := &t.Stats.Adapter.Link
	link.Publishing.Err, link.Subscribing.Err = textError(t.Publishing), textError(t.Subscribing)
	return t.Stats, nil
}

var errBadStats = errors.New("crosscast: no Stats")

func textError(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

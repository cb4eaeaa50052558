package wire

import (
	"hash/maphash"
	"iter"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/nameset"
)

// topic is one subscription. There may be 100,000, so it is small: what most topics lack is behind a pointer, and what
// most topics share is in the site. Its name on the bus is site.prefix and tail.
type topic struct {
	site    *site
	tail    string
	label   *string  // the name of the room or user; nil: tail, which needs no escapes
	more    names    // other names beside that: a topic may be shared, and a dialect may have one for several
	waiters *waiter  // the latest one
	missing *missing // nil: nothing is missing, or the gap of an outage covers it

	books        *books        // nil: nothing has arrived. Guarded by receiver.mu, like confirmation and confirmedAt
	confirmation uint64        // the number of the latest confirmation: ledger.confirmations
	confirmedAt  time.Duration // when, counted from subscriptions.began

	epoch   uint32 // counts confirmations
	state   topicState
	request topicRequest // at most one at a time on each link
	flags
}

// flags are in five bytes.
type flags struct {
	home bool // the adapter cannot do without it
	gone bool // not wanted any more, and in no set; a request for it might still be under way
	// promised: it was confirmed once, or ErrNotConnected was returned for it, so missing messages must be reported.
	promised bool
	queued   bool // in denials.queue
	unproven bool // a server of the bus might not know of the subscription
}

type topicState uint8

const (
	unheard topicState = iota
	confirmed
	denied
)

// topicRequest is the request for a topic that is in flight, or waits to be written.
type topicRequest uint8

const (
	idle       topicRequest = iota // there is none
	asking                         // there is one
	askedFirst                     // there is one, and the link has to confirm or refuse it before it resumes
)

// site is what topics have in common: the topics of the rooms of one namespace, for example.
type site struct {
	to     destination // without the name of the room or user, if the topics have tails
	prefix string
}

// has reports whether the topic of d, which is a name's own, belongs to s.
func (s *site) has(d *destination) bool {
	return s.to.name.Namespace == d.name.Namespace && s.to.name.Space == d.name.Space
}

// to returns the destination of t.
func (t *topic) to() destination {
	d := t.site.to
	switch {
	case t.label != nil:
		d.name.Name = *t.label
	case t.tail != "":
		d.name.Name = t.tail
	}
	return d
}

// name returns t's name on the bus, and allocates it.
func (t *topic) name() string { return t.site.prefix + t.tail }

// named reports whether name is the name of t.
func (t *topic) named(name string) bool {
	n := len(t.site.prefix)
	return len(name) == n+len(t.tail) && name[n:] == t.tail && name[:n] == t.site.prefix
}

// rename replaces the name of a room or user. The topic is a dialect's.
func (t *topic) rename(to crosscast.Address) {
	own := *t.site
	own.to.name = to
	t.site = &own
}

// names is a set of names. Most topics have none.
type names map[crosscast.Address]struct{}

// addName adds a name to the topic. The caller holds subscriptions.mu.
func (t *topic) addName(name crosscast.Address) {
	if t.more == nil {
		t.more = names{}
	}
	t.more[name] = struct{}{}
}

// removeName removes a name, and reports whether no name is left. The caller holds subscriptions.mu.
func (t *topic) removeName(name crosscast.Address) (none bool) {
	to := t.to()
	if _, is := t.more[name]; is || to.isShared() {
		delete(t.more, name)
		return to.isShared() && len(t.more) == 0
	}
	if to.name != name {
		return false
	}
	for other := range t.more {
		t.rename(other)
		delete(t.more, other)
		return false
	}
	return true
}

// appendNames appends all names of the topic. The caller holds subscriptions.mu.
func (t *topic) appendNames(dst []crosscast.Address) []crosscast.Address {
	if to := t.to(); !to.isShared() {
		dst = append(dst, to.name)
	}
	for name := range t.more {
		dst = append(dst, name)
	}
	return dst
}

// topicSet finds topics by their names. It has parts, so that growing takes no long time while a delivery waits.
type topicSet struct {
	seed  maphash.Seed
	parts [64]nameset.Set[*topic]
	sites [2]*site // the latest ones of rooms and of users, which the next topic probably shares
}

func newTopicSet() topicSet { return topicSet{seed: maphash.MakeSeed()} }

func (s *topicSet) part(name string) (part *nameset.Set[*topic], hash uint32) {
	h := maphash.String(s.seed, name)
	return &s.parts[h%uint64(len(s.parts))], uint32(h >> 32)
}

func (s *topicSet) get(name string) *topic {
	part, hash := s.part(name)
	return part.Get(hash, name, (*topic).named)
}

// add adds a topic with the name key.
func (s *topicSet) add(t *topic, key string) {
	part, hash := s.part(key)
	part.Add(hash, t)
}

func (s *topicSet) remove(t *topic) {
	part, hash := s.part(t.name())
	part.Remove(hash, t)
}

func (s *topicSet) all() iter.Seq[*topic] {
	return func(yield func(*topic) bool) {
		for i := range s.parts {
			for t := range s.parts[i].All() {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// newTopic returns a topic for d, named key. It keeps nothing of key.
func (s *topicSet) newTopic(prefix string, d *destination, key string) *topic {
	if d.foreign != "" || d.name.Name == "" {
		own := *d
		own.foreign = strings.Clone(d.foreign)
		return &topic{site: &site{own, strings.Clone(key)}}
	}
	name := d.name.Name
	recent := &s.sites[0]
	if d.name.Space == crosscast.SpaceUser {
		recent = &s.sites[1]
	}
	if *recent == nil || !(*recent).has(d) {
		base := *d
		base.name.Name = ""
		*recent = &site{base, base.topic(prefix)}
	}
	t := &topic{site: *recent, tail: key[len((*recent).prefix):]}
	if t.tail == name {
		t.tail = name // the caller has it anyway
	} else {
		label := name
		t.tail, t.label = strings.Clone(t.tail), &label
	}
	return t
}

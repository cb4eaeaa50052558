package wire

import (
	"time"

	"github.com/crosscast/crosscast"
)

// ParseIngress reads a message to the ingress. After an error, reason is the name of the counter.
func ParseIngress(text []byte) (inst *crosscast.Instruction, reason string, err error) {
	inst, _, why, err := parseIngress(text, false)
	if err != nil {
		reason = dropNames[why]
	}
	return inst, reason, err
}

// InstructionBound returns the largest size of an instruction in a frame.
func InstructionBound(inst *crosscast.Instruction) int { return instructionBound(inst) }

// Waiters is how many entries of waiting calls the topics of a hold.
func Waiters(a *Adapter) (n int) {
	a.run.Load().subs.mu.Lock()
	defer a.run.Load().subs.mu.Unlock()
	for t := range a.run.Load().subs.topics.all() {
		for w := t.waiters; w != nil; w = w.next {
			n++
		}
	}
	return n
}

// ReadQuiet reads the quiet topics in the frame with this number.
func ReadQuiet(number uint64, data []byte) bool {
	_, taken := readQuiet(number, data)
	return taken
}

// QuietTold is until when an origin has told what was missed, after it has named topics.
func QuietTold(data []byte) (told time.Time, taken bool) {
	o, taken := readQuiet(100, data)
	return o.announced.reportedUntil, taken
}

func readQuiet(number uint64, data []byte) (o *origin, taken bool) {
	a := New(nil, Options{})
	a.run.Load().ground.patchy = true
	o = &origin{}
	o.announced.known = true // and nothing counted
	a.run.Load().self.Heartbeat = time.Second
	a.run.Load().handler = noGaps{}
	return o, a.run.Load().receiver.ledger.handleQuiet(o, &topic{site: &site{}}, number, data)
}

type noGaps struct{ crosscast.AdapterHandler }

func (noGaps) Gap(crosscast.Gap) {}

// HashedTopics are topics by their hash.
type HashedTopics struct {
	topics hashedTopics
	named  map[string]*topic
}

func NewHashedTopics() *HashedTopics {
	return &HashedTopics{newHashedTopics(), map[string]*topic{}}
}

func (h *HashedTopics) Add(hash uint64, name string) {
	h.named[name] = &topic{site: &site{prefix: name}}
	h.topics.addTopic(hash, h.named[name])
}

func (h *HashedTopics) Remove(hash uint64, name string) { h.topics.removeTopic(hash, h.named[name]) }

func (h *HashedTopics) Found(hash uint64, name string) bool {
	t := h.topics.find(hash)
	return t != nil && t.named(name)
}

func (h *HashedTopics) Len() int { return len(h.topics.m) }

// ResumeLate has a link resume that was given up meanwhile.
func ResumeLate(a *Adapter) {
	a.run.Load().receiver.mu.Lock()
	defer a.run.Load().receiver.mu.Unlock()
	a.run.Load().receiver.resumeLocked(&link{receiver: a.run.Load().receiver, subs: a.run.Load().subs, outage: &outage{}, resumed: make(chan struct{}), broken: make(chan struct{})})
}

// MostHeld is how many topics a call with names acts on at most, before whoever delivers gets the lock.
func MostHeld(a *Adapter, names []crosscast.Address) (most int) {
	a.run.Load().subs.each(names, func(part []sought) { most = max(most, len(part)) })
	return most
}

// DeniedQueue is how many topics wait to be asked for again.
func DeniedQueue(a *Adapter) int {
	a.run.Load().subs.mu.Lock()
	defer a.run.Load().subs.mu.Unlock()
	return len(a.run.Load().subs.denials.queue)
}

// PartOf returns the name of the part of an address; for the zero Address, of that of everyone.
func PartOf(p *Parts, a crosscast.Address) string { return p.names[p.partOf(a)] }

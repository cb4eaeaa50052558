package wire

import (
	"crypto/cipher"
	"encoding/binary"
	"time"

	"github.com/crosscast/crosscast"
)

// Seals, as tests make and break them.

type (
	Sealer = sealer
	Opener = opener
)

const (
	SealOverhead = sealOverhead
	SealNumberAt = sealNumberAt
	SealRunAt    = sealRunAt
	MaxRuns      = maxRuns
	MaxClocks    = maxClocks
)

func NewSealer(s Seal, part string, origin crosscast.NodeID, run [16]byte) *Sealer {
	g, err := s.check(false)
	if err != nil {
		panic(err)
	}
	return newSealer(g, part, origin, run)
}

func NewOpener(s Seal, part string) *Opener {
	g, err := s.check(false)
	if err != nil {
		panic(err)
	}
	o := newOpener(g, part)
	return &o
}

func CheckSeal(s Seal, ingress bool) error {
	_, err := s.check(ingress)
	return err
}

func KeyName(secret []byte) string { return nameKey(secret).String() }

// BareCipher is what a frame would cost without anything else.
func BareCipher(secret []byte) cipher.AEAD { return cipherOf(secret, runID{}) }

func (s *sealer) Append(dst []byte, topic string, frame []byte, number uint64, at time.Time) []byte {
	return s.appendSealed(dst, topic, frame, number, at)
}

// OpenFrame opens a frame. reason is the name of the counter if it does not open.
func (o *opener) OpenFrame(topic string, sealed []byte, now time.Time) (frame []byte, reason string) {
	f, why, ok := o.open(topic, sealed, now)
	if !ok {
		return nil, dropNames[why]
	}
	return f.frame, ""
}

// Fill adds runs until there is no room.
func (o *opener) Fill(heard time.Time) {
	one := o.newRun(runID{1}, o.first)
	one.heard = heard
	for id := (runID{2}); len(o.runs) < maxRuns; id[1]++ {
		if id[1] == 0 {
			id[2]++
		}
		o.runs[id] = one
	}
}

func (o *opener) Runs() int { return len(o.runs) }

// Known is how many runs, origins and strangers an adapter remembers.
func Known(a *Adapter) [3]int {
	r := a.run.Load().receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	return [3]int{len(r.ledger.opener.runs), len(r.ledger.origins.m), len(r.ledger.strangers.all)}
}

// FillSeen makes an adapter remember as many signed messages as it can.
func FillSeen(a *Adapter) {
	a.seen.mu.Lock()
	defer a.seen.mu.Unlock()
	for i := uint32(0); len(a.seen.latest) < maxSeen; i++ {
		var id [16]byte
		binary.BigEndian.PutUint32(id[:], i)
		a.seen.latest[id] = struct{}{}
	}
}

// OpenIngress checks and parses a message to the ingress, which was not seen before.
func OpenIngress(s Seal, topic string, text []byte, now time.Time) (inst *crosscast.Instruction, reason string, err error) {
	g, err := s.check(true)
	if err != nil {
		panic(err)
	}
	body, signed, why, err := g.verify(topic, text)
	if err != nil {
		return nil, dropNames[why], err
	}
	inst, at, why, err := parseIngress(body, signed)
	if err == nil && signed {
		why, err = new(seenIDs).enter(at, now, g.fresh)
	}
	if err != nil {
		return nil, dropNames[why], err
	}
	return inst, "", nil
}

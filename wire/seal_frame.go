package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// A sealed frame has a frame (frame.go) between a head and a tag. This file specifies it; numbers are big-endian.
//
//	offset  bytes     meaning
//	0       c1 63 63  c1 begins no msgpack value, so a frame without a seal never begins so
//	3       01        the version of the seal
//	4       00 or 01  flags: bit 0 is set if the frame is only signed
//	5       8 bytes   the name of the key: HKDF of it with the info "crosscast/1 key"
//	13      8 bytes   the origin, a node's ID
//	21      16 bytes  the run: random bits that the origin draws at each start
//	37      8 bytes   the number of the frame
//	45      8 bytes   when it was sent, in milliseconds since 1970
//	53                the frame, encrypted or, if it is only signed, as it is
//	end-16  16 bytes  the tag of AES-256-GCM
//
// The key of AES is HKDF of the secret, with the info "crosscast/1 frame " and the run. HKDF is that of RFC 5869 with
// SHA-256 and no salt. The nonce is 4 zero bytes and the number. The origin uses each number once in a run, on all parts
// (see NewParts) together, and never for other bytes, so no nonce has two texts. The additional data are the name of the
// part, a zero byte, the topic, a zero byte, the head and, if the frame is only signed, the frame. So a frame is only good
// on its topic, of its part, from its origin, in its run, with its number.
//
// Nothing is parsed before the tag is right. The frame inside repeats the origin and the number.
const (
	sealMagic   = "\xc1cc"
	sealVersion = 1
	sealSigned  = 1 // of the flags

	sealVersionAt = 3
	sealFlagsAt   = 4
	sealKeyAt     = 5
	sealOriginAt  = 13
	sealRunAt     = 21
	sealNumberAt  = 37
	sealTimeAt    = 45
	sealHead      = 53
	tagLen        = 16
	nonceLen      = 12
	sealOverhead  = sealHead + tagLen

	// maxRuns is the largest number of runs that a node knows. The memory of one is about 1 KiB.
	maxRuns = 1 << 14
	// keptScratch is the most memory in bytes that is kept for the next frames.
	keptScratch = 1 << 20
)

// runID names a run of a node.
type runID [16]byte

func drawRun() (id runID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// cipherOf returns the cipher of one run. This is the only expensive step.
func cipherOf(secret []byte, id runID) cipher.AEAD {
	aead, err := newCipher(secret, id)
	if err != nil {
		panic(err) // Seal.check has made one
	}
	return aead
}

func newCipher(secret []byte, id runID) (cipher.AEAD, error) {
	block, err := aes.NewCipher(expand(secret, "crosscast/1 frame "+string(id[:]), keyBytes))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// isSealed reports whether a message begins as a sealed frame does.
func isSealed(message []byte) bool {
	return len(message) >= len(sealMagic) && string(message[:len(sealMagic)]) == sealMagic
}

// context begins the additional data of a frame.
func appendContext(dst []byte, part, topic string) []byte {
	dst = append(append(dst, part...), 0)
	return append(append(dst, topic...), 0)
}

// sealer seals the frames of one run. It is not for concurrent use.
type sealer struct {
	aead   cipher.AEAD
	part   string
	signed bool

	head  [sealHead]byte
	nonce [nonceLen]byte
	data  []byte // scratch: the additional data
	batch []byte // scratch: the sealed frames of a batch
}

func newSealer(g *sealing, part string, origin crosscast.NodeID, id runID) *sealer {
	s := &sealer{aead: cipherOf(g.keys[g.first], id), part: part, signed: g.signOnly}
	copy(s.head[:], sealMagic)
	s.head[sealVersionAt] = sealVersion
	if s.signed {
		s.head[sealFlagsAt] = sealSigned
	}
	copy(s.head[sealKeyAt:], g.first[:])
	copy(s.head[sealOriginAt:sealRunAt], origin)
	copy(s.head[sealRunAt:], id[:])
	return s
}

// appendSealed appends a frame, sealed for a topic, to dst.
func (s *sealer) appendSealed(dst []byte, topic string, frame []byte, number uint64, at time.Time) []byte {
	binary.BigEndian.PutUint64(s.head[sealNumberAt:], number)
	binary.BigEndian.PutUint64(s.head[sealTimeAt:], uint64(at.UnixMilli()))
	binary.BigEndian.PutUint64(s.nonce[nonceLen-8:], number)
	s.data = append(appendContext(s.data[:0], s.part, topic), s.head[:]...)
	dst = append(dst, s.head[:]...)
	if !s.signed {
		return s.aead.Seal(dst, s.nonce[:], frame, s.data)
	}
	s.data = append(s.data, frame...)
	return s.aead.Seal(append(dst, frame...), s.nonce[:], nil, s.data)
}

// sealBatch replaces the frames in out, which are those of batch, by sealed ones, and returns how many bytes they have.
// They are valid until the next call.
func (s *sealer) sealBatch(batch []*frame, out []Frame, at time.Time) (size int) {
	for _, f := range batch {
		size += len(f.buf) + sealOverhead
	}
	if cap(s.batch) < size || cap(s.batch) > keptScratch && cap(s.batch) > 4*size {
		s.batch = make([]byte, 0, size)
	}
	all := s.batch[:0]
	for i, f := range batch {
		from := len(all)
		all = s.appendSealed(all, f.topic.name, f.buf, f.number, at)
		out[i].Data = all[from:len(all):len(all)]
	}
	if cap(s.data) > keptScratch {
		s.data = nil
	}
	return size
}

// opener opens the frames of peers. It is not for concurrent use.
//
// A stranger without a key makes it derive one cipher for each run that he invents, and remember nothing.
type opener struct {
	*sealing
	part string
	runs map[runID]*sealedRun // at most maxRuns
	last *sealedRun           // that a frame of was opened

	latest opened
	nonce  [nonceLen]byte
	data   []byte // scratch: the additional data
	text   []byte // scratch: the frame
}

// sealedRun is what is known about a run of a node: some frame of it was opened.
type sealedRun struct {
	id      runID
	key     keyName
	aead    cipher.AEAD
	highest uint64    // number of a frame that was opened
	heard   time.Time // when the latest frame came
	opened  *atomic.Uint64
}

func newOpener(g *sealing, part string) opener {
	return opener{sealing: g, part: part, runs: map[runID]*sealedRun{}}
}

func (o *opener) isFresh(f *opened, now time.Time) bool { return now.Sub(f.sent).Abs() <= o.fresh }

// newRun returns a run that is sealed with one of the keys.
func (o *opener) newRun(id runID, key keyName) *sealedRun {
	return &sealedRun{id: id, key: key, aead: cipherOf(o.keys[key], id), opened: o.opened[key]}
}

// know adds this node's own run, whose frames come back to it.
func (o *opener) know(id runID) { o.runs[id] = o.newRun(id, o.first) }

// opened is a sealed frame as far as it was read. It is valid until the next one is read.
type opened struct {
	origin []byte
	number uint64
	key    keyName
	id     runID
	sent   time.Time

	frame []byte     // what is inside
	run   *sealedRun // nil: it was not opened
	first bool       // it is the first frame of the run
}

// readHead reads what anybody might have written. It returns false if it can be no sealed frame, and why.
func (f *opened) readHead(sealed []byte) (why dropReason, ok bool) {
	*f = opened{}
	if len(sealed) > sealVersionAt && sealed[sealVersionAt] != sealVersion {
		return dropVersion, false
	}
	if len(sealed) < sealOverhead || sealed[sealFlagsAt] > sealSigned {
		return dropBroken, false
	}
	f.origin, f.key, f.id = sealed[sealOriginAt:sealRunAt], keyName(sealed[sealKeyAt:]), runID(sealed[sealRunAt:])
	f.number = binary.BigEndian.Uint64(sealed[sealNumberAt:])
	f.sent = time.UnixMilli(int64(binary.BigEndian.Uint64(sealed[sealTimeAt:])))
	return 0, true
}

// open opens a sealed frame that came on a topic. If it returns false, why is the reason to drop it. A run that is not
// known yet must be fresh, and is known from then on.
func (o *opener) open(topic string, sealed []byte, now time.Time) (f *opened, why dropReason, ok bool) {
	f = &o.latest
	if why, ok = f.readHead(sealed); !ok {
		return f, why, false
	}
	r := o.last
	if r == nil || r.id != f.id {
		r = o.runs[f.id]
	}
	f.first = r == nil
	if f.first {
		if o.keys[f.key] == nil {
			return f, dropUnknownKey, false
		}
		r = o.newRun(f.id, f.key)
	}
	if r.key != f.key || !o.decrypt(f, r.aead, topic, sealed) {
		return f, dropBroken, false
	}
	if f.first {
		switch {
		case !o.isFresh(f, now):
			return f, dropStale, false
		case !o.makeRoom(now):
			return f, dropRuns, false
		}
		o.runs[f.id] = r
	}
	r.heard, f.run, o.last = now, r, r
	r.opened.Add(1)
	return f, 0, true
}

// decrypt sets f.frame, unless the tag is wrong.
func (o *opener) decrypt(f *opened, aead cipher.AEAD, topic string, sealed []byte) bool {
	if cap(o.data)+cap(o.text) > keptScratch && len(sealed) < keptScratch/4 {
		o.data, o.text = nil, nil
	}
	binary.BigEndian.PutUint64(o.nonce[nonceLen-8:], f.number)
	o.data = append(appendContext(o.data[:0], o.part, topic), sealed[:sealHead]...)
	if sealed[sealFlagsAt] == sealSigned {
		end := len(sealed) - tagLen
		o.data = append(o.data, sealed[sealHead:end]...)
		_, err := aead.Open(nil, o.nonce[:], sealed[end:], o.data)
		f.frame = sealed[sealHead:end]
		return err == nil
	}
	text, err := aead.Open(o.text[:0], o.nonce[:], sealed[sealHead:], o.data)
	if err != nil {
		return false
	}
	o.text, f.frame = text, text
	return true
}

// makeRoom makes room for one more run. It forgets only the run of a node whose frames are not fresh any more, so none of
// them is accepted again. It returns false if there is none.
func (o *opener) makeRoom(now time.Time) bool {
	if len(o.runs) < maxRuns {
		return true
	}
	for id, r := range o.runs {
		if now.Sub(r.heard) > 2*o.fresh { // twice, because a clock may be ahead
			delete(o.runs, id)
		}
	}
	return len(o.runs) < maxRuns
}

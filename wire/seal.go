package wire

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/errtext"
)

// A Seal protects the frames of a bus that strangers may use: those who may publish on it, read it, or alter what passes.
// They can then neither read a frame, nor forge, change or move one. docs/security.md says what is left, what it costs,
// and how to change keys. The zero Seal protects nothing.
//
// A frame above MaxFrame of the node that gets it is a gap, as without a seal, up to 64 MiB. So nodes with a MaxFrame above
// that need the same one.
//
// A Seal holds secrets. Its String does not show them, but other ways to print it do.
type Seal struct {
	// Keys are the secrets of the cluster: 32 random bytes each, at most 8 of them. The first one seals, and all of them
	// open. So each node and emitter needs the first keys of all others. [ParseKeys] reads keys from a text.
	Keys [][]byte
	// Require refuses what has no seal. Without it, frames of nodes that have no keys are accepted, and so are forged ones:
	// leave it out only while you give keys to a running cluster. If the node has an Ingress, Require covers that too, and
	// needs IngressKeys.
	Require bool
	// SignOnly leaves the frames readable, as for redis-cli, and protects them from forgery alone. Nodes accept both.
	SignOnly bool
	// Fresh is how old the first frame of another node may be, or how far ahead, by this node's clock. A captured frame of
	// a node that is not known is refused when it is older. So is a node whose clock differs by more: see
	// AdapterStats.Unopened. Default 2 min, above 0, and at most 1 h.
	Fresh time.Duration
	// IngressKeys are the secrets of programs that publish to the ingress: 32 bytes each, at most 8, and none of Keys. With
	// one of them a message is accepted if it is signed: see docs/languages.md.
	IngressKeys [][]byte
}

// String names the keys, without their secrets. The names are those in frames, in Stats and in the log.
func (s Seal) String() string {
	names := []string{}
	for _, k := range s.Keys {
		names = append(names, nameKey(k).String())
	}
	return fmt.Sprintf("Seal(keys %s, require %t, sign only %t, ingress keys %d)",
		strings.Join(names, " "), s.Require, s.SignOnly, len(s.IngressKeys))
}

// GoString is String.
func (s Seal) GoString() string { return s.String() }

// ErrSealed means that a frame is sealed, and no key opens it; or that it is not sealed, and must be.
var ErrSealed = errors.New("crosscast: frame that is refused because of the seal")

const (
	keyBytes = 32
	maxKeys  = 8
)

// ParseKeys reads keys for a [Seal] from a text, such as an environment variable or a file. Each is 32 bytes in base64,
// as `openssl rand -base64 32` prints them. Commas or white space separate them. Its errors contain no part of the text.
func ParseKeys(text string) (keys [][]byte, err error) {
	for i, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r <= ' ' }) {
		k, err := base64.StdEncoding.DecodeString(word)
		if err != nil || len(k) != keyBytes {
			return nil, fmt.Errorf("crosscast/wire: key %d of %d characters is not %d bytes in base64", i+1, len(word), keyBytes)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("crosscast/wire: there is no key in the text")
	}
	return keys, nil
}

// keyName names a key in frames. It is made from the secret and says nothing about it, so nobody chooses it, and two
// different secrets never have the same one.
type keyName [8]byte

func (n keyName) String() string { return hex.EncodeToString(n[:]) }

func nameKey(secret []byte) (n keyName) {
	copy(n[:], expand(secret, "crosscast/1 key", len(n)))
	return n
}

// expand is HKDF-SHA256 without a salt.
func expand(secret []byte, info string, n int) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, info, n)
	if err != nil { // only for a length that is too large, or a key that a policy forbids
		panic(err)
	}
	return key
}

// sealing is a checked Seal.
type sealing struct {
	require, signOnly bool
	fresh             time.Duration
	first             keyName
	keys              map[keyName][]byte
	ingress           [][]byte
	opened            map[keyName]*atomic.Uint64 // frames
}

// seals reports whether frames are sealed.
func (s *sealing) seals() bool { return s != nil && len(s.keys) > 0 }

// signs reports whether messages to the ingress may be signed.
func (s *sealing) signs() bool { return s != nil && len(s.ingress) > 0 }

// count returns how many frames each key has opened; nil: there are no keys.
func (s *sealing) count() map[string]uint64 {
	if !s.seals() {
		return nil
	}
	all := make(map[string]uint64, len(s.opened))
	for name, n := range s.opened {
		all[name.String()] = n.Load()
	}
	return all
}

// check returns the Seal as it is used; nil: it protects nothing.
func (s *Seal) check(ingress bool) (*sealing, error) {
	if len(s.Keys) == 0 && (s.Require || s.SignOnly) {
		return nil, errors.New("crosscast/wire: Options.Seal has no Keys")
	}
	if len(s.Keys)+len(s.IngressKeys) == 0 {
		return nil, nil
	}
	if s.Require && ingress && len(s.IngressKeys) == 0 {
		return nil, errors.New("crosscast/wire: Options.Seal.Require covers the ingress too: set Options.Seal.IngressKeys, or no Ingress")
	}
	g := &sealing{
		require: s.Require, signOnly: s.SignOnly, fresh: s.Fresh,
		keys: map[keyName][]byte{}, opened: map[keyName]*atomic.Uint64{},
	}
	if g.fresh == 0 {
		g.fresh = 2 * time.Minute
	}
	if err := bounds.Time("crosscast/wire: Options.Seal.Fresh", g.fresh); err != nil {
		return nil, err
	}
	if err := errors.Join(checkKeys("Keys", s.Keys), checkKeys("IngressKeys", s.IngressKeys)); err != nil {
		return nil, err
	}
	for i, k := range s.Keys {
		name := nameKey(k)
		if i == 0 {
			g.first = name
			if _, err := newCipher(k, runID{}); err != nil {
				return nil, errtext.Errorf("crosscast/wire: Options.Seal cannot be used with GODEBUG=fips140=only (fips140=on is fine): %w", err)
			}
		}
		g.keys[name], g.opened[name] = bytes.Clone(k), new(atomic.Uint64)
	}
	for i, k := range s.IngressKeys {
		if g.keys[nameKey(k)] != nil {
			return nil, fmt.Errorf("crosscast/wire: Options.Seal.IngressKeys[%d] is one of Keys: "+
				"whoever may publish to the ingress could then do all that a node may", i)
		}
		g.ingress = append(g.ingress, bytes.Clone(k))
	}
	return g, nil
}

func checkKeys(field string, keys [][]byte) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("crosscast/wire: Options.Seal.%s has %d keys: it may have %d", field, len(keys), maxKeys)
	}
	for i, k := range keys {
		if len(k) != keyBytes {
			return fmt.Errorf("crosscast/wire: Options.Seal.%s[%d] has %d bytes: it must have %d", field, i, len(k), keyBytes)
		}
		if slices.ContainsFunc(keys[:i], func(other []byte) bool { return bytes.Equal(k, other) }) {
			return fmt.Errorf("crosscast/wire: Options.Seal.%s[%d] comes twice", field, i)
		}
	}
	return nil
}

package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A signed message to the ingress is a signature, a space, and the JSON:
//
//	7c7d…e2 {"time":1795953600,"id":"b1946ac92492d2347c6235b4d2611184","rooms":["a"],"event":"said","data":"hi"}
//
// The signature is 64 hexadecimal digits: HMAC-SHA256, with one of Seal.IngressKeys, of the topic, a line feed and the
// JSON, byte for byte. So a message is only good for one prefix, and whoever may write to the ingress need not have the
// key of the nodes. It is checked before anything is parsed. The JSON has two more members:
//
//   - time: when it was signed, in whole seconds since 1970. It may differ from the node's time by Seal.Fresh.
//   - id: 16 to 64 bytes that no other message has, such as 32 random hexadecimal digits. A node accepts each once, on
//     all its parts together.
//
// The memory of the IDs is about 40 bytes for each message of the last 4 to 8 minutes, if Fresh is the default. After maxSeen
// messages in twice Fresh a node refuses more of them, until that time is over.

// A stamp makes a signed message one that can be accepted once only.
type stamp struct {
	time int64
	id   string
}

const (
	signatureLen = 2 * sha256.Size
	maxSeen      = 1 << 20 // IDs in a generation
)

var (
	errUnsigned  = errors.New("it is not signed")
	errSignature = errors.New("the signature is wrong: is it of the topic, a line feed and the JSON, with the right key?")
	errNoStamp   = errors.New(`it is signed, and lacks "time" or "id"`)
	errSeen      = errors.New("a message with this id came before")
	errFull      = errors.New("too many signed messages came in the last minutes")
)

// verify returns the JSON of a message on a topic, and whether it is signed.
func (s *sealing) verify(topic string, text []byte) (body []byte, signed bool, why dropReason, err error) {
	switch {
	case !s.signs():
		return text, false, 0, nil
	case len(text) <= signatureLen || text[signatureLen] != ' ' || text[0] == '{':
		if s.require {
			return nil, false, dropIngressUnsigned, errUnsigned
		}
		return text, false, 0, nil
	}
	var given [sha256.Size]byte
	body = text[signatureLen+1:]
	if _, err := hex.Decode(given[:], text[:signatureLen]); err == nil {
		for _, key := range s.ingress {
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(topic + "\n"))
			mac.Write(body)
			signed = hmac.Equal(mac.Sum(nil), given[:]) || signed
		}
	}
	if !signed {
		return nil, false, dropIngressForged, errSignature
	}
	return body, true, 0, nil
}

func (s *stamp) set(name string, value json.RawMessage) error {
	if name == "time" {
		if err := json.Unmarshal(value, &s.time); err != nil || value[0] == 'n' {
			return errors.New(`"time" is not in whole seconds since 1970`)
		}
		return nil
	}
	if err := json.Unmarshal(value, &s.id); err != nil || value[0] != '"' || len(s.id) < 16 || len(s.id) > 64 {
		return errors.New(`"id" is not a text of 16 to 64 bytes`)
	}
	return nil
}

// seenIDs has the IDs of the messages that were accepted, for at least as long as they would be accepted again.
type seenIDs struct {
	mu            sync.Mutex // guards the fields below
	latest, older map[[16]byte]struct{}
	turned        time.Time // when latest was begun
}

// enter accepts a message once, while it is fresh.
func (s *seenIDs) enter(at stamp, now time.Time, fresh time.Duration) (why dropReason, err error) {
	if off := now.Sub(time.Unix(at.time, 0)); off.Abs() > fresh {
		return dropIngressStale, fmt.Errorf("it was signed %v ago, and may differ by %v", off.Round(time.Second), fresh)
	}
	sum := sha256.Sum256([]byte(at.id))
	id := [16]byte(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil || now.Sub(s.turned) > 2*fresh { // as long as a message from the future is accepted
		s.latest, s.older, s.turned = make(map[[16]byte]struct{}), s.latest, now
	}
	_, known := s.latest[id]
	if _, before := s.older[id]; known || before {
		return dropIngressSeen, errSeen
	}
	if len(s.latest) >= maxSeen {
		return dropIngressFull, errFull
	}
	s.latest[id] = struct{}{}
	return 0, nil
}

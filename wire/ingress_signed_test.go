package wire_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// signed signs the JSON of a message.
func signed(key []byte, topic, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(topic + "\n" + text))
	return hex.EncodeToString(mac.Sum(nil)) + " " + text
}

// stamped is a message of now, or then, with an id.
func stamped(id, event string, age time.Duration) string {
	return fmt.Sprintf(`{"time":%d,"id":"%s","everyone":true,"event":"%s"}`, time.Now().Add(-age).Unix(), id, event)
}

var withIngressKeys = wire.Options{Ingress: true, Seal: wire.Seal{
	Keys: [][]byte{sealKey(1)}, Require: true, IngressKeys: [][]byte{sealKey(8), sealKey(9)},
}}

func (b *sealedBus) outside(topic string, texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.inject(wire.Frame{Topic: topic, Data: []byte(text)})
	}
}

// TestSignedIngress: a message that is signed with any of the keys is accepted once, while it is fresh, on its own prefix.
func TestSignedIngress(t *testing.T) {
	onSealedBus(t, 2, withIngressKeys, func(t *testing.T, b *sealedBus) {
		const id, id2, id3 = "0123456789abcdef", "0123456789abcdef2", "0123456789abcdef3"
		b.forget()
		one := signed(sealKey(8), "cc:in", stamped(id, "one", 0))
		accepted := []string{one, signed(sealKey(9), "cc:in", stamped(id2, "two", 2*time.Minute)),
			signed(sealKey(9), "cc:in", stamped(id3, "three", -2*time.Minute))}
		b.outside("cc:in", accepted...)
		var want []string
		for _, event := range []string{"one", "two", "three"} {
			want = append(want, fmt.Sprintf("%d  %s", kind.Emit, event))
		}
		for _, n := range b.nodes {
			if got := n.took(); !slices.Equal(got, want) || n.dropped("") > 0 {
				t.Errorf("%s got %q, dropped %v", n.id, got, n.a.AdapterStats().Dropped)
			}
		}
		const other = "fedcba9876543210"
		fresh := stamped(other, "forged", 0)
		refused := map[string][]string{
			"ingress seen": accepted,
			"ingress stale": {
				signed(sealKey(8), "cc:in", stamped(other, "e", 122*time.Second)), signed(sealKey(8), "cc:in", stamped(other, "e", -122*time.Second)),
				signed(sealKey(8), "cc:in", `{"time":9223372036854775807,"id":"`+other+`","everyone":true,"event":"e"}`),
				signed(sealKey(8), "cc:in", `{"time":-9223372036854775808,"id":"`+other+`","everyone":true,"event":"e"}`),
			},
			"ingress unsigned": {fresh, `{"everyone":true,"event":"e"}`, "", "hello", " " + fresh, strings.Repeat("a", 64), "\xff"},
			"ingress forged": {
				signed(sealKey(1), "cc:in", fresh), signed(sealKey(7), "cc:in", fresh), signed(sealKey(8), "dd:in", fresh),
				signed(sealKey(8), "cc:in", fresh) + " ", strings.Repeat("0", 64) + " " + fresh, strings.Repeat("x", 64) + " " + fresh,
				one[:65] + fresh, strings.ToUpper(one[:65]) + fresh,
			},
			"ingress member": {
				signed(sealKey(8), "cc:in", `{"everyone":true,"event":"e"}`), signed(sealKey(8), "cc:in", `{"time":1,"everyone":true,"event":"e"}`),
				signed(sealKey(8), "cc:in", strings.Replace(fresh, other, "short", 1)), signed(sealKey(8), "cc:in", strings.Replace(fresh, other, strings.Repeat("l", 65), 1)),
				signed(sealKey(8), "cc:in", strings.Replace(fresh, `{"time":`, `{"time":0.`, 1)), signed(sealKey(8), "cc:in", `{"time":null,"id":"`+other+`","everyone":true,"event":"e"}`),
			},
		}
		for bit := range 8 * 64 { // of the signature
			bad := []byte(signed(sealKey(8), "cc:in", fresh))
			bad[bit/8] ^= 1 << (bit % 8)
			if bad[bit/8]^' ' == one[bit/8] || strings.EqualFold(string(bad), signed(sealKey(8), "cc:in", fresh)) {
				continue // a capital letter is the same digit
			}
			refused["ingress forged"] = append(refused["ingress forged"], string(bad))
		}
		count := map[string]uint64{}
		for reason, texts := range refused {
			b.outside("cc:in", texts...)
			count[reason] = uint64(len(texts))
		}
		b.refused("the ingress")
		for _, n := range b.nodes {
			got := n.a.AdapterStats().Dropped
			// A first byte may become a brace or the space may move: then it is not signed.
			if got["ingress forged"]+got["ingress unsigned"] != count["ingress forged"]+count["ingress unsigned"] {
				t.Errorf("%v, and not %v", got, count)
			}
			for reason, want := range count {
				if !strings.HasPrefix(reason, "ingress forged") && reason != "ingress unsigned" && got[reason] != want {
					t.Errorf("%s: %d, and not %d", reason, got[reason], want)
				}
			}
		}
		// Seen stays seen, as long as it is fresh.
		for i := range 8 { // the last one is from the future, and fresh for 4 min
			b.beat(29)
			b.forget()
			b.outside("cc:in", accepted[2], signed(sealKey(8), "cc:in", stamped(fmt.Sprintf("another message %d", i), "more", 0)))
			for _, n := range b.nodes {
				if got := n.took(); len(got) != 1 {
					t.Errorf("after %d s: %q", 29*(i+1), got)
				}
			}
		}
	})
}

// TestIngressMayBeSigned: without Require both forms are accepted, and the members of a signed one are no others'.
func TestIngressMayBeSigned(t *testing.T) {
	o := wire.Options{Ingress: true, Seal: wire.Seal{IngressKeys: [][]byte{sealKey(8)}}}
	onSealedBus(t, 2, o, func(t *testing.T, b *sealedBus) {
		b.forget()
		b.outside("cc:in", `{"everyone":true,"event":"plain"}`, signed(sealKey(8), "cc:in", stamped("0123456789abcdef", "signed", 0)))
		b.outside("cc:in", stamped("0123456789abcdef", "e", 0), signed(sealKey(7), "cc:in", stamped("0123456789abcdef", "e", 0)))
		want := []string{fmt.Sprintf("%d  plain", kind.Emit), fmt.Sprintf("%d  signed", kind.Emit)}
		for _, n := range b.nodes {
			if got := n.took(); !slices.Equal(got, want) {
				t.Errorf("%q", got)
			}
			if got := n.a.AdapterStats().Dropped; !maps.Equal(got, map[string]uint64{"ingress member": 1, "ingress forged": 1}) {
				t.Error(got)
			}
		}
	})
}

// TestTooManyAreSigned: what is refused then is counted as that, until there is room again. What came before still did.
func TestTooManyAreSigned(t *testing.T) {
	onSealedBus(t, 1, withIngressKeys, func(t *testing.T, b *sealedBus) {
		n := b.nodes[0]
		b.outside("cc:in", signed(sealKey(8), "cc:in", stamped("0123456789abcdef", "first", 0)))
		wire.FillSeen(n.a)
		more := func() {
			b.outside("cc:in", signed(sealKey(8), "cc:in", stamped("0123456789abcdef", "first", 0)),
				signed(sealKey(8), "cc:in", stamped("fedcba9876543210", "second", 0)))
		}
		b.forget()
		more()
		b.refused("the ingress")
		if got := n.a.AdapterStats().Dropped; !maps.Equal(got, map[string]uint64{"ingress seen": 1, "ingress full": 1}) {
			t.Error(got)
		}
		time.Sleep(4*time.Minute + time.Second) // lasts
		n.tookGaps()                            // its link is silent
		more()
		if got := n.took(); !slices.Equal(got, []string{fmt.Sprintf("%d  second", kind.Emit)}) {
			t.Error(got)
		}
	})
}

// TestSignedOnceOverParts: what is published on one part, and captured, is nothing on another.
func TestSignedOnceOverParts(t *testing.T) {
	inPartBubble(t, 2, withIngressKeys, func(t *testing.T, c *partCluster) {
		text := signed(sealKey(8), "cc:in", stamped("0123456789abcdef", "once", 0))
		for _, hub := range c.hubs {
			hub.Port("outside").Publish(t.Context(), []wire.Frame{{Topic: "cc:in", Data: []byte(text)}})
			synctest.Wait()
		}
		for _, n := range c.nodes {
			if got := n.took(); !slices.Equal(got, []string{"once"}) || n.Stats().Adapter.Dropped["ingress seen"] != 2 {
				t.Errorf("%s got %v, and dropped %v", n.Name(), got, n.Stats().Adapter.Dropped)
			}
		}
	})
}

// TestSigningInOtherLanguages runs the programs of examples/ingress where their language is installed.
func TestSigningInOtherLanguages(t *testing.T) {
	for program, file := range map[string]string{"sh": "sign.sh", "python3": "sign.py", "php": "sign.php", "node": "sign.js"} {
		t.Run(file, func(t *testing.T) {
			path, err := exec.LookPath(program)
			if err != nil {
				t.Skip("NOT RUN: ", err)
			}
			const message = `{"rooms":["room \"1\"","ä"],"event":"said","data":{"text":"hi","list":[1.5,{}]}}`
			sign := exec.Command(path, "../examples/ingress/"+file, "app:in", message)
			sign.Env = append(sign.Environ(), "CROSSCAST_INGRESS_KEY="+base64.StdEncoding.EncodeToString(sealKey(9)))
			text, err := sign.Output()
			if err != nil {
				t.Fatal(err)
			}
			o := withIngressKeys
			inst, reason, err := wire.OpenIngress(o.Seal, "app:in", text, time.Now())
			if err != nil {
				t.Fatalf("%s: %v: %s", reason, err, text)
			}
			if !slices.Equal(inst.Target.Rooms, []string{`room "1"`, "ä"}) || inst.Event != "said" ||
				inst.Payload.Encoding != crosscast.EncodingJSON || strings.ReplaceAll(string(inst.Payload.Data), " ", "") != `{"text":"hi","list":[1.5,{}]}` {
				t.Errorf("%+v, %s", inst, inst.Payload.Data)
			}
		})
	}
}

// FuzzSignedIngress: no bytes are accepted that were not signed.
func FuzzSignedIngress(f *testing.F) {
	now := time.Unix(1_795_953_600, 0)
	genuine := signed(sealKey(8), "cc:in", `{"time":1795953600,"id":"0123456789abcdef","everyone":true,"event":"e"}`)
	f.Add([]byte(genuine))
	f.Add([]byte(genuine[:64]))
	f.Add([]byte(genuine[65:]))
	f.Add([]byte(strings.Repeat("0", 64) + " {}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		inst, _, err := wire.OpenIngress(withIngressKeys.Seal, "cc:in", text, now)
		if (err == nil) != (inst != nil) || err == nil && !strings.EqualFold(string(text), genuine) {
			t.Errorf("%q: %+v, %v", text, inst, err)
		}
	})
}

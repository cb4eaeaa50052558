package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// sealKey is a secret for tests.
func sealKey(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

var sealedAt = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func TestSealOptions(t *testing.T) {
	key, other := sealKey(1), sealKey(2)
	for _, c := range []struct {
		seal    wire.Seal
		ingress bool
		want    string // part of the error; empty: there is none
	}{
		{wire.Seal{}, true, ""},
		{wire.Seal{Keys: [][]byte{key}, Require: true}, false, ""},
		{wire.Seal{Keys: [][]byte{key, other}}, true, ""},
		{wire.Seal{Keys: [][]byte{key}, Require: true, IngressKeys: [][]byte{other}}, true, ""},
		{wire.Seal{Require: true}, false, "Options.Seal has no Keys"},
		{wire.Seal{SignOnly: true}, false, "Options.Seal has no Keys"},
		{wire.Seal{Keys: [][]byte{key, key[:16]}}, false, "Options.Seal.Keys[1] has 16 bytes: it must have 32"},
		{wire.Seal{Keys: [][]byte{key, nil}}, false, "Options.Seal.Keys[1] has 0 bytes"},
		{wire.Seal{Keys: [][]byte{key, other, key}}, false, "Options.Seal.Keys[2] comes twice"},
		{wire.Seal{Keys: make([][]byte, 9)}, false, "Options.Seal.Keys has 9 keys"},
		{wire.Seal{IngressKeys: [][]byte{key[:31]}}, false, "Options.Seal.IngressKeys[0] has 31 bytes"},
		{wire.Seal{Keys: [][]byte{key}, IngressKeys: [][]byte{key}}, false, "Options.Seal.IngressKeys[0] is one of Keys"},
		{wire.Seal{Keys: [][]byte{key}, Require: true}, true, "set Options.Seal.IngressKeys"},
		{wire.Seal{Keys: [][]byte{key}, Fresh: -1}, false, "Options.Seal.Fresh"},
		{wire.Seal{Keys: [][]byte{key}, Fresh: 2 * time.Hour}, false, "Options.Seal.Fresh"},
	} {
		a := wire.New(membus.New().Port("p"), wire.Options{Seal: c.seal, Ingress: c.ingress})
		p := &peer{id: "node0000"}
		err := a.Start(t.Context(), starting(crosscast.NodeInfo{ID: p.id}, p))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, and not %q", c.seal, err, c.want)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Error("Close:", err)
		}
	}
}

// TestSealInStrictFIPS: where Go forbids nonces that are counted, a Seal is an error of the start, and no panic.
func TestSealInStrictFIPS(t *testing.T) {
	const strict = "fips140=only"
	if os.Getenv("GODEBUG") == strict {
		err := wire.CheckSeal(wire.Seal{Keys: [][]byte{sealKey(1)}}, false)
		if err == nil || !strings.Contains(err.Error(), "fips140=on is fine") {
			t.Error(err)
		}
		return
	}
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSealInStrictFIPS$", "-test.count=1", "-test.v")
	self.Env = append(os.Environ(), "GODEBUG="+strict)
	out, err := self.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSealShowsNoSecret: whoever prints options, or gets an error, learns no key.
func TestSealShowsNoSecret(t *testing.T) {
	key := []byte("a secret of thirty-two bytes ...")
	seal := wire.Seal{Keys: [][]byte{key}, IngressKeys: [][]byte{sealKey(9)}}
	text := base64.StdEncoding.EncodeToString(key)
	_, err := wire.ParseKeys(text + "=")
	for _, s := range []string{fmt.Sprint(seal), fmt.Sprintf("%+v %#v", wire.Options{Seal: seal}, seal), err.Error()} {
		if strings.Contains(s, "secret") || strings.Contains(s, text[:8]) || strings.Contains(s, fmt.Sprint(key[:8])[1:8]) {
			t.Error("it has the key:", s)
		}
		if err.Error() != s && !strings.Contains(s, wire.KeyName(key)) {
			t.Error("it does not name the key:", s)
		}
	}
}

func TestParseKeys(t *testing.T) {
	a, b := base64.StdEncoding.EncodeToString(sealKey(1)), base64.StdEncoding.EncodeToString(sealKey(2))
	for _, text := range []string{a + "\n" + b + "\n", a + "," + b, " " + a + " , " + b} {
		keys, err := wire.ParseKeys(text)
		if err != nil || len(keys) != 2 || !bytes.Equal(keys[0], sealKey(1)) || !bytes.Equal(keys[1], sealKey(2)) {
			t.Errorf("%q: %v, %v", text, keys, err)
		}
	}
	for _, text := range []string{"", " \n", "hello", a[:40], a + "x", a + ";" + b} {
		if keys, err := wire.ParseKeys(text); err == nil {
			t.Errorf("%q: %v", text, keys)
		}
	}
}

// TestSealedBytes: the bytes are those of the specification. They were computed with another program, so a change of them
// is another version.
func TestSealedBytes(t *testing.T) {
	s := wire.NewSealer(wire.Seal{Keys: [][]byte{sealKey(1)}}, "", "AAAAAAAA", [16]byte(sealKey(7)))
	got := s.Append(nil, "cc:all", []byte(hostileHeader), 2, sealedAt)
	if want := goldenSealed; fmt.Sprintf("%x", got) != want {
		t.Errorf("%x, and not %s", got, want)
	}
}

// eachMode runs f with and without encryption.
func eachMode(t *testing.T, f func(t *testing.T, seal wire.Seal)) {
	for _, signOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("sign only %t", signOnly), func(t *testing.T) {
			f(t, wire.Seal{Keys: [][]byte{sealKey(1)}, Require: true, SignOnly: signOnly})
		})
	}
}

// TestSealOpens: both modes are opened by a node of either, with any of its keys.
func TestSealOpens(t *testing.T) {
	eachMode(t, func(t *testing.T, seal wire.Seal) {
		s := wire.NewSealer(seal, "p", "node0001", [16]byte(sealKey(7)))
		o := wire.NewOpener(wire.Seal{Keys: [][]byte{sealKey(2), sealKey(1)}}, "p")
		for i, frame := range []string{"", "x", hostileHeader, strings.Repeat("long", 1<<19), "x"} {
			sealed := s.Append([]byte("before"), "cc:all", []byte(frame), uint64(i+1), sealedAt)[6:]
			if len(sealed) != len(frame)+wire.SealOverhead || seal.SignOnly != strings.Contains(string(sealed), frame) && len(frame) > 9 {
				t.Errorf("%d bytes for %d", len(sealed), len(frame))
			}
			before := slices.Clone(sealed)
			if got, why := o.OpenFrame("cc:all", sealed, sealedAt); why != "" || string(got) != frame {
				t.Errorf("frame %d: %.20q, %s", i, got, why)
			}
			if !bytes.Equal(before, sealed) {
				t.Error("the message was written to")
			}
		}
		if o.Runs() != 1 {
			t.Error(o.Runs(), "runs")
		}
	})
}

// TestSealRefuses: every byte cut, every bit flipped, every other place, key and mode.
func TestSealRefuses(t *testing.T) {
	eachMode(t, func(t *testing.T, seal wire.Seal) {
		for _, known := range []bool{false, true} { // whether the run is
			s := wire.NewSealer(seal, "p", "node0001", [16]byte(sealKey(7)))
			o := wire.NewOpener(seal, "p")
			sealed := s.Append(nil, "cc:r:/:A", []byte(hostileHeader+"\x91\x01"), 2, sealedAt)
			if known {
				if _, why := o.OpenFrame("cc:r:/:A", sealed, sealedAt); why != "" {
					t.Fatal(why)
				}
			}
			refused := func(o *wire.Opener, what, topic string, message []byte, reasons ...string) {
				t.Helper()
				if _, why := o.OpenFrame(topic, message, sealedAt); why == "" || len(reasons) > 0 && !slices.Contains(reasons, why) {
					t.Errorf("%s: %q", what, why)
				}
			}
			for n := range sealed {
				refused(o, fmt.Sprint("cut at ", n), "cc:r:/:A", sealed[:n], "broken seal")
			}
			for bit := range 8 * len(sealed) {
				if bit < 24 { // then it is no sealed frame
					continue
				}
				bad := slices.Clone(sealed)
				bad[bit/8] ^= 1 << (bit % 8)
				refused(o, fmt.Sprint("bit ", bit), "cc:r:/:A", bad, "broken seal", "version", "unknown key")
			}
			refused(o, "longer", "cc:r:/:A", append(slices.Clone(sealed), 0), "broken seal")
			refused(o, "moved to another room", "cc:r:/:B", sealed, "broken seal")
			refused(o, "moved to another user", "cc:u:/:A", sealed, "broken seal")
			refused(o, "moved to another prefix", "dd:r:/:A", sealed, "broken seal")
			refused(wire.NewOpener(seal, "q"), "moved to another part", "cc:r:/:A", sealed, "broken seal")
			refused(wire.NewOpener(seal, ""), "moved to another part", "cc:r:/:A", sealed, "broken seal")
			refused(wire.NewOpener(wire.Seal{Keys: [][]byte{sealKey(2)}}, "p"), "another key", "cc:r:/:A", sealed, "unknown key")
			if want := map[bool]int{true: 1}[known]; o.Runs() != want {
				t.Errorf("%d runs are known, and not %d", o.Runs(), want)
			}
		}
	})
}

// TestFresh: a run that is not known must be fresh, by this node's clock, in both directions; a known one need not be.
func TestFresh(t *testing.T) {
	seal := wire.Seal{Keys: [][]byte{sealKey(1)}, Fresh: time.Minute}
	sealed := wire.NewSealer(seal, "", "node0001", [16]byte(sealKey(7))).Append(nil, "cc:all", []byte("x"), 2, sealedAt)
	for at, want := range map[time.Duration]string{
		0: "", time.Minute: "", -time.Minute: "", time.Minute + time.Millisecond: "stale", -time.Minute - time.Millisecond: "stale",
		1 << 62: "stale", -1 << 62: "stale",
	} {
		if _, why := wire.NewOpener(seal, "").OpenFrame("cc:all", sealed, sealedAt.Add(at)); why != want {
			t.Errorf("after %v: %q, and not %q", at, why, want)
		}
	}
	o := wire.NewOpener(seal, "")
	for _, at := range []time.Duration{0, 10 * time.Hour} {
		if _, why := o.OpenFrame("cc:all", sealed, sealedAt.Add(at)); why != "" {
			t.Errorf("of a known run after %v: %s", at, why)
		}
	}
}

// TestInventedRuns: a stranger's runs are not remembered, and cost one derivation of a key; those of other keys cost
// nothing.
func TestInventedRuns(t *testing.T) {
	seal := wire.Seal{Keys: [][]byte{sealKey(1)}}
	s := wire.NewSealer(seal, "", "node0001", [16]byte(sealKey(7)))
	o := wire.NewOpener(seal, "")
	sealed := s.Append(nil, "cc:all", []byte("hello"), 2, sealedAt)
	forged := slices.Clone(sealed)
	n := uint64(0)
	try := func(message []byte, want string) func() {
		return func() {
			if n++; want == "broken seal" {
				binary.BigEndian.PutUint64(forged[wire.SealRunAt:], n)
			}
			if _, why := o.OpenFrame("cc:all", message, sealedAt); why != want {
				t.Fatalf("%q, and not %q", why, want)
			}
		}
	}
	derivation := testing.AllocsPerRun(100, func() { wire.BareCipher(sealKey(1)) })
	if got := testing.AllocsPerRun(1000, try(forged, "broken seal")); got > derivation+2 {
		t.Errorf("an invented run allocates %v times, and one derivation %v times", got, derivation)
	}
	other := wire.NewSealer(wire.Seal{Keys: [][]byte{sealKey(2)}}, "", "node0001", [16]byte{}).Append(nil, "cc:all", nil, 1, sealedAt)
	if got := testing.AllocsPerRun(1000, try(other, "unknown key")); got != 0 {
		t.Errorf("a frame with another key allocates %v times", got)
	}
	if o.Runs() != 0 {
		t.Error(o.Runs(), "runs are remembered")
	}
	try(sealed, "")()
}

// TestRunsAreBounded: of many nodes with the key, only those are forgotten whose frames are not fresh any more.
func TestRunsAreBounded(t *testing.T) {
	seal := wire.Seal{Keys: [][]byte{sealKey(1)}}
	o := wire.NewOpener(seal, "")
	open := func(i int, now time.Time) string {
		var run [16]byte
		binary.BigEndian.PutUint64(run[:], uint64(i))
		sealed := wire.NewSealer(seal, "", "node0001", run).Append(nil, "cc:all", nil, 1, now)
		_, why := o.OpenFrame("cc:all", sealed, now)
		return why
	}
	open(0, sealedAt)
	o.Fill(sealedAt)
	if why := open(wire.MaxRuns, sealedAt.Add(4*time.Minute)); why != "runs" || o.Runs() != wire.MaxRuns {
		t.Errorf("one more: %q, %d runs", why, o.Runs())
	}
	open(0, sealedAt.Add(5*time.Minute)) // it goes on
	if why := open(wire.MaxRuns, sealedAt.Add(5*time.Minute)); why != "" || o.Runs() != 2 {
		t.Errorf("one more after 5 min: %q, %d runs", why, o.Runs())
	}
}

// TestSealAllocatesNothing: neither to seal nor to open.
func TestSealAllocatesNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, seal wire.Seal) {
		s := wire.NewSealer(seal, "", "node0001", [16]byte(sealKey(7)))
		o := wire.NewOpener(seal, "")
		frame, sealed := make([]byte, 1000), []byte(nil)
		n := uint64(0)
		if got := testing.AllocsPerRun(1000, func() {
			n++
			sealed = s.Append(sealed[:0], "cc:r:/:room1", frame, n, sealedAt)
			if got, why := o.OpenFrame("cc:r:/:room1", sealed, sealedAt); why != "" || len(got) != 1000 {
				t.Fatal(why)
			}
		}); got != 0 {
			t.Errorf("%v allocations", got)
		}
	})
}

// FuzzOpen: bytes of strangers neither open nor do harm, and what was sealed opens.
func FuzzOpen(f *testing.F) {
	seal := wire.Seal{Keys: [][]byte{sealKey(1)}}
	genuine := func(s wire.Seal, topic, frame string, number uint64) []byte {
		return wire.NewSealer(s, "", "node0001", [16]byte(sealKey(7))).Append(nil, topic, []byte(frame), number, sealedAt)
	}
	f.Add(genuine(seal, "cc:all", hostileHeader, 2), "cc:all", uint64(2))
	f.Add(genuine(wire.Seal{Keys: seal.Keys, SignOnly: true}, "cc:r:/:A", hostileHeader, 2), "cc:r:/:A", uint64(9))
	f.Add(genuine(wire.Seal{Keys: [][]byte{sealKey(2)}}, "cc:all", "", 1), "", uint64(1<<63))
	f.Add([]byte("\xc1cc\x01"), "cc:all", uint64(0))
	f.Fuzz(func(t *testing.T, message []byte, topic string, number uint64) {
		for _, signOnly := range []bool{false, true} {
			mode := wire.Seal{Keys: seal.Keys, SignOnly: signOnly}
			o := wire.NewOpener(mode, "")
			// The seeds are genuine; anything else that opens was forged.
			if got, why := o.OpenFrame(topic, message, sealedAt); why == "" && string(got) != hostileHeader {
				t.Errorf("a forgery opens: %q", got)
			}
			sealed := genuine(mode, topic, string(message), number)
			if got, why := o.OpenFrame(topic, sealed, sealedAt); why != "" || !bytes.Equal(got, message) {
				t.Errorf("what was sealed does not open: %s", why)
			}
			bad := slices.Clone(sealed)
			bad[3+int(number%uint64(len(bad)-3))] ^= 1 << (number % 8)
			if got, why := o.OpenFrame(topic, bad, sealedAt); why == "" {
				t.Errorf("a changed frame opens: %q", got)
			}
		}
	})
}

// BenchmarkSeal compares with AES-256-GCM alone over the same bytes, in turns in the same run. The metric "x-bare" is how
// many times as long it takes; both are medians, because the machine might be busy.
func BenchmarkSeal(b *testing.B) {
	for _, mode := range []string{"seal", "sign"} {
		for _, size := range []int{128, 512, 4096} {
			seal := wire.Seal{Keys: [][]byte{sealKey(1)}, SignOnly: mode == "sign"}
			s := wire.NewSealer(seal, "", "node0001", [16]byte(sealKey(7)))
			o := wire.NewOpener(seal, "")
			bare, nonce := wire.BareCipher(sealKey(1)), make([]byte, 12)
			frame, sealed := make([]byte, size), make([]byte, 0, size+100)
			text, tag, known := make([]byte, 0, size), make([]byte, 0, size+100), make([]byte, 0, size+100)
			head := make([]byte, size+wire.SealOverhead-16+len("cc:r:/:room1")+2) // what is authenticated besides
			extra := head[:len(head)-size]
			compare := func(name string, ours, theirs func()) {
				b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
					b.ReportAllocs()
					const batch = 64
					var took [2][]time.Duration // by one batch
					for range max(1, b.N/batch) {
						for i, f := range []func(){ours, theirs} {
							began := time.Now()
							for range batch {
								f()
							}
							took[i] = append(took[i], time.Since(began))
						}
					}
					median := func(i int) float64 {
						slices.Sort(took[i])
						return float64(took[i][len(took[i])/2])
					}
					b.ReportMetric(median(0)/median(1), "x-bare")
					b.ReportMetric(median(0)/batch, "ours-ns")
				})
			}
			n := uint64(0)
			write := func() { n++; sealed = s.Append(sealed[:0], "cc:r:/:room1", frame, n, sealedAt) }
			read := func() {
				if _, why := o.OpenFrame("cc:r:/:room1", sealed, sealedAt); why != "" {
					b.Fatal(why)
				}
			}
			if mode == "seal" {
				compare("seal", write, func() { tag = bare.Seal(tag[:0], nonce, frame, extra) })
				write()
				known = bare.Seal(known[:0], nonce, frame, extra)
				compare("open", read, func() { text, _ = bare.Open(text[:0], nonce, known, extra) })
				continue
			}
			compare("sign", write, func() { tag = bare.Seal(tag[:0], nonce, nil, head) })
			write()
			known = bare.Seal(known[:0], nonce, nil, head)
			compare("verify", read, func() { text, _ = bare.Open(text[:0], nonce, known, head) })
		}
	}
}

const goldenSealed = "c16363010017472ce9ac61b7204141414141414141070707070707070707070707070707070000000000000002000001a2272d2600ff595c3d1c768e75c6c110b0eaf9a95ade351e0a522ca3af2b2dcb25a63d2fb28c3f3123f53ed08af30f6525377759297a16"

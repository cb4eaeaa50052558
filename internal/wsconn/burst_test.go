package wsconn

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// A socketReader has the bytes of some reads, like a socket, and counts the reads. After the last one it fails.
type socketReader struct {
	waiting [][]byte
	reads   int
	idle    func() // called when nothing waits
}

func (r *socketReader) Read(p []byte) (int, error) {
	if len(r.waiting) == 0 {
		if r.idle != nil {
			r.idle()
		}
		return 0, io.EOF
	}
	r.reads++
	n := copy(p, r.waiting[0])
	if r.waiting[0] = r.waiting[0][n:]; len(r.waiting[0]) == 0 {
		r.waiting = r.waiting[1:]
	}
	return n, nil
}

// TestBurst: messages that come at once need few reads, and an idle input has no large buffer.
func TestBurst(t *testing.T) {
	for _, c := range []struct{ size, count, reads int }{
		{100, 1, 1}, {100, 30, 2}, {100, 300, 9}, {2000, 1, 2}, {2000, 20, 12}, {4200, 1, 3}, {4200, 10, 22},
		{60_000, 1, 9}, {122, 1, 1}, // fills the small buffer exactly
	} {
		message := frame(0x81, strings.Repeat("x", c.size))
		from := &socketReader{waiting: [][]byte{[]byte(strings.Repeat(message, c.count)), []byte(frame(0x8a, ""))}}
		in := &input{from: from, limit: 1 << 20}
		idle := 0
		from.idle = func() {
			if idle++; in.large != nil || cap(in.unread) > inputBuffer {
				t.Errorf("%d messages of %d bytes: an idle input keeps a large buffer", c.count, c.size)
			}
		}
		if got := readFrames(in); len(got) != c.count+2 || idle != 1 {
			t.Errorf("%d messages of %d bytes: read %d, idle %d times", c.count, c.size, len(got)-2, idle)
		}
		if reads := from.reads - 1; reads > c.reads {
			t.Errorf("%d messages of %d bytes needed %d reads, want at most %d", c.count, c.size, reads, c.reads)
		}
	}
}

// TestEarlyIsNotKept: what a client has sent before the answer to its request is not kept once it is read.
func TestEarlyIsNotKept(t *testing.T) {
	from := new(socketReader)
	in := &input{from: from, limit: 1 << 20}
	from.idle = func() {
		if cap(in.unread) > inputBuffer {
			t.Errorf("%d bytes are kept", cap(in.unread))
		}
	}
	early := bytes.Clone([]byte(strings.Repeat(frame(0x81, "early"), 300) + "\x8a"))
	in.unread = early
	if got := readFrames(in); len(got) != 301 || got[299] != "early" {
		t.Errorf("read %.100q", got)
	}
}

// TestNoProgress: a connection that returns neither bytes nor an error ends, and does not keep a processor busy.
func TestNoProgress(t *testing.T) {
	for _, begin := range []string{"", "\x81", "\x81\xff\x00\x00\x00\x00\x00\x00\x60\x00\x00\x00\x00\x00", "\x81\xfe\x10\x00\x00\x00\x00\x00"} {
		in := &input{from: io.MultiReader(strings.NewReader(begin), nothing{}), limit: 1 << 20}
		if _, _, err := in.next(nil); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("%q: %v", begin, err)
		}
		in.discard()
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// TestStreams: a compressed message may consist of several streams (RFC 7692, section 7.2.3.4), with or without the byte
// that follows the last one.
func TestStreams(t *testing.T) {
	stream := func(s string) string {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.BestCompression)
		_, _ = io.WriteString(w, s)
		_ = w.Close() // with a last block
		return b.String()
	}
	for _, c := range []struct{ sent, want string }{
		{"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"}, // the example of the RFC
		{"\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"},
		{stream("a") + stream("b") + string(compressed1("c")), "abc"},
		{stream("a") + stream("") + stream("b"), "ab"},
		{strings.Repeat(stream("x"), 100) + "\x00", strings.Repeat("x", 100)},
		{stream(strings.Repeat("x", 999)) + stream("yy"), "1009 message too large"},
		{stream("a") + "\xff\xff\xff" + stream("b") + strings.Repeat("x", 10), "1007 compressed badly"},
	} {
		got := readFrames(&input{from: strings.NewReader(frame(0xc1, c.sent)), limit: 1000, inflates: true})
		if got[0] != c.want {
			t.Errorf("%.40q: read %.40q, want %.40q", c.sent, got, c.want)
		}
	}
}

// TestManyStreams: a message of many empty streams is refused, because each costs time.
func TestManyStreams(t *testing.T) {
	for streams, want := range map[int]string{maxStreams: "", maxStreams + 1: "1007 compressed badly"} {
		sent := frame(0xc1, strings.Repeat("\x03\x00", streams))
		if got := readFrames(&input{from: strings.NewReader(sent), limit: 1 << 20, inflates: true}); got[0] != want {
			t.Errorf("%d streams: read %.40q, want %q", streams, got, want)
		}
	}
}

// TestIncompressible: a message within the limit is read, although compression has made it longer. A compressor with
// little memory makes stored blocks of 2,000 bytes, for example.
func TestIncompressible(t *testing.T) {
	const limit = 1 << 20
	message := make([]byte, limit)
	_, _ = rand.Read(message)
	var blocks []byte
	for part := range slices.Chunk(message, 64) {
		n := byte(len(part))
		blocks = append(append(blocks, 0, n, 0, ^n, 0xff), part...)
	}
	sent := frame(0xc2, string(append(blocks, 0)))
	got := readFrames(&input{from: strings.NewReader(sent), limit: limit, inflates: true})
	if got[0] != "binary "+string(message) {
		t.Errorf("read %.40q", got)
	}
}

// BenchmarkInput reads messages that come at once.
func BenchmarkInput(b *testing.B) {
	for _, size := range []int{100, 2000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			message := frame(0x81, strings.Repeat("x", size))
			many := []byte(strings.Repeat(message, 64))
			from := new(socketReader)
			in := &input{from: from, limit: 1 << 20}
			b.ReportAllocs()
			for b.Loop() {
				if len(from.waiting) == 0 {
					from.waiting = append(from.waiting, many)
				}
				_, m, err := in.next(nil)
				if err != nil {
					b.Fatal(err)
				}
				release(m)
			}
		})
	}
}

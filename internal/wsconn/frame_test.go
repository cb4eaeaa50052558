package wsconn

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestFormat: the header has the shortest form of the size, and several messages can follow each other.
func TestFormat(t *testing.T) {
	for size, want := range map[int]string{
		0: "8100", 1: "8101", 125: "817d", 126: "817e007e", 65535: "817effff", 65536: "817f0000000000010000",
	} {
		payload := bytes.Repeat([]byte{'x'}, size)
		frame := Format{}.Append(nil, websocket.MessageText, payload)
		header := len(frame) - size
		if got := fmt.Sprintf("%x", frame[:header]); got != want || !bytes.Equal(frame[header:], payload) {
			t.Errorf("%d bytes: header %s, want %s", size, got, want)
		}
		two := Format{}.Append(frame, websocket.MessageBinary, nil)
		if string(two) != string(frame)+"\x82\x00" {
			t.Errorf("%d bytes: another message is %q", size, two[len(frame):])
		}
	}
}

// TestFormatCompressed: a compressed message inflates to the payload, and no large buffer is kept.
func TestFormatCompressed(t *testing.T) {
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	f := Format{compressFrom: 10}
	for _, payload := range []string{strings.Repeat("x", 10), strings.Repeat("text ", 100_000), string(random), "0123456789"} {
		frame := f.Append(nil, websocket.MessageBinary, []byte(payload))
		d := deflaters.Get().(*deflater)
		if d.out.Cap() > maxPooled {
			t.Errorf("a buffer of %d bytes is kept", d.out.Cap())
		}
		deflaters.Put(d)
		header := 2
		switch frame[1] {
		case 126:
			header = 4
		case 127:
			header = 10
		}
		r := flate.NewReader(strings.NewReader(string(frame[header:]) + "\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
		if got, err := io.ReadAll(r); frame[0] != 0xc2 || err != nil || string(got) != payload {
			t.Errorf("%.20q: first byte %x, %v", payload, frame[0], err)
		}
	}
	if frame := f.Append(nil, websocket.MessageText, []byte("123456789")); string(frame) != "\x81\x09123456789" {
		t.Errorf("%q", frame)
	}
}
